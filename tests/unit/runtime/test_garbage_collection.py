from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from transformers_framework.cli.main import main
from transformers_framework.runtime.garbage_collection import RARELY, USUAL, collect_rarely, freeze_start_up_objects


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    assert before[0] != RARELY
    yield
    gc.set_threshold(*before)
    if not frozen:
        gc.unfreeze()


def test_what_was_built_is_kept_and_later_garbage_is_found() -> None:
    collect_rarely()
    assert gc.get_threshold()[0] == RARELY
    freeze_start_up_objects()
    frozen = gc.get_freeze_count()
    assert frozen > 10_000
    assert gc.get_threshold() == USUAL
    later: list[object] = []
    freeze_start_up_objects()
    assert gc.get_freeze_count() <= frozen, "frozen objects may be freed, none is added"
    assert any(found is later for found in gc.get_objects()), "a later object is searched"


def test_a_process_that_is_not_ours_collects_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    assert main(["--version"]) == 0
    freeze_start_up_objects()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() <= frozen, "some that another test froze may be gone, none is new"
    monkeypatch.setattr(sys, "argv", ["transformers_framework", "--version"])
    assert main() == 0
    assert gc.get_threshold()[0] == RARELY
