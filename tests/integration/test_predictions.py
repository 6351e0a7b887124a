"""Predictions of more rows than are kept in memory, and of a run that was killed while it wrote them."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import runs
from tests.integration import interrupted
from transformers_framework.callbacks import predictions
from transformers_framework.storage.run_folders import RunFolders
from transformers_framework.storage.sorted_columns import SortedColumns


def files_of(folders: RunFolders) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folders.predictions.iterdir() if path.is_file()}


@pytest.mark.parametrize("pipeline", ["answer_selection", "question_answering"])
def test_rows_sorted_on_disk_are_those_sorted_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline: str
) -> None:
    """Windows of a row are merged, wherever they are; a row that is written alone is as it is beside others."""
    flags: dict[str, Any] = {"pipeline": pipeline, "max_steps": 1, "eval_batch_size": 3}
    flags |= {"max_sequence_length": 32} if pipeline == "question_answering" else {}
    expected = files_of(runs.run(tmp_path, name="memory", **flags))
    assert len(expected) > 3
    monkeypatch.setattr(predictions, "BATCHES_TOGETHER", 1)
    monkeypatch.setattr(predictions, "SortedColumns", partial(SortedColumns, run_bytes=1))
    monkeypatch.setattr(SortedColumns.ranges, "__defaults__", (2,))
    found = files_of(runs.run(tmp_path, name="disk", **flags))
    assert {name: text.replace(b"disk", b"memory") for name, text in found.items()} == expected


@pytest.mark.parametrize(
    "place", [("callbacks.predictions:CollectedPredictions.add", 1), ("callbacks.predictions:to_json", 5)]
)
def test_a_run_killed_in_prediction_is_resumed(tmp_path: Path, place: tuple[str, int]) -> None:
    flags: dict[str, Any] = {"max_steps": 2, **runs.datasets(tmp_path / "data", "answer_selection")}
    flags |= dict.fromkeys(("valid_dataset", "test_dataset"))
    log = tmp_path / "log"
    assert interrupted.run(runs.command(tmp_path, name="whole", **flags), log) == 0, log.read_text()
    words = runs.command(tmp_path, name="killed", **flags)
    assert interrupted.run(words, log, (*place, signal.SIGKILL)) == -signal.SIGKILL, log.read_text()
    assert not (runs.folders_of(words).predictions / "predict.jsonl").exists()
    assert interrupted.run([*words, "--resume"], log) == 0, log.read_text()
    assert files_of(runs.folders_of(words)) == files_of(RunFolders(tmp_path / "out", "whole"))
