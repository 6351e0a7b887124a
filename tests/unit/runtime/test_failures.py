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


@pytest.mark.parametrize(
    ("signal", "says"),
    [
        ("Killed", "was killed. The machine is out of memory, most likely"),
        ("Terminated", r"(pid 12) was ended by a signal (Terminated)."),
        (None, "has ended. If the machine is out of memory"),
    ],
)
def test_only_a_killed_worker_is_a_lack_of_memory(tmp_path, signal, says):
    error = RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly")
    error.__cause__ = signal and RuntimeError(f"DataLoader worker (pid 12) is killed by signal: {signal}. ")
    found = str(explanation(error, tmp_path))
    assert says in found
    assert ("memory" in found) == (signal != "Terminated")
