from __future__ import annotations

import errno
import os

import pytest

from transformers_framework.runtime.failures import explanation


@pytest.mark.parametrize("kind", [str, os.fsencode])
def test_the_file_of_an_error_may_be_named_in_bytes(tmp_path, kind):
    error = OSError(errno.ENOSPC, "No space left on device", kind(str(tmp_path / "été")))
    assert str(explanation(error, tmp_path)).startswith(f"{tmp_path / 'été'} cannot be written (No space left")


def test_an_error_of_an_open_file_is_one_of_the_output(tmp_path):
    error = OSError(errno.ENOSPC, "No space left on device", 7)
    assert str(explanation(error, tmp_path)).startswith(f"{tmp_path} cannot be written")
