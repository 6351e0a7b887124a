"""``--iterable``: training data as a stream, the same run whoever reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs, tiny
from transformers_framework.data import loader as loading
from transformers_framework.storage.run_folders import RunFolders

BUFFER_ROWS = loading.BUFFER_ROWS


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "BUFFER_ROWS", 16)


def equal(first: RunFolders, second: RunFolders) -> bool:
    return runs.weights_are_equal(*(folders.pre_trained_models / "final" for folders in (first, second)))


def stream(folder: Path, name: str, **flags: Any) -> RunFolders:
    source = folder / "train.jsonl"
    if not source.exists():
        tiny.write_jsonl(source, tiny.pairs(44))
    given = {"train_dataset": source, "max_epochs": 2, "iterable": True, "name": name, **flags}
    return runs.run(folder, **given)


@pytest.mark.parametrize("bucketing", [None, True])
def test_workers_change_nothing(tmp_path: Path, bucketing: bool | None) -> None:
    alone = stream(tmp_path, "alone", length_bucketing=bucketing)
    assert [step for step, _ in runs.scalars(alone)["train/loss"]] == list(range(12)), "steps of 8, 8, 8, 8, 8, 4 rows"
    assert equal(stream(tmp_path, "two", length_bucketing=bucketing, num_workers=2), alone)


def test_batches_of_epochs_differ_and_each_row_is_read_once(tmp_path: Path) -> None:
    from transformers_framework.pipelines.pipeline import Pipeline

    rows: list[list[int]] = []
    original = Pipeline.training_step

    def note(self: Any, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        rows.append(batch["row_ids"].tolist())
        return original(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "training_step", note)
        stream(tmp_path, "seen", num_workers=2)
        stream(tmp_path, "seeded", seed=1, max_epochs=1)
    epochs = [[row for batch in rows[start : start + 6] for row in batch] for start in (0, 6, 12)]
    assert all(sorted(epoch) == list(range(44)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3, "another order in the second epoch, and with another seed"


def test_steps_end_a_stream_within_an_epoch_and_it_goes_on_from_there(tmp_path: Path) -> None:
    """Eight steps at once, and three of the first epoch, then the rest: dropout, rows and schedule go on."""
    flags = {"scheduler": "constant", "checkpoint_interval": 1}
    whole = stream(tmp_path, "whole", max_steps=8, **flags)
    stream(tmp_path, "parts", max_steps=3, **flags)
    parts = stream(tmp_path, "parts", max_steps=8, resume=True, num_workers=2, **flags)
    assert equal(parts, whole)
    assert [step for step, _ in runs.scalars(parts)["train/loss"]] == list(range(8)), "no step twice"


@pytest.mark.slow
def test_two_processes_read_the_batches_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "BUFFER_ROWS", BUFFER_ROWS)  # as in the processes of their own
    flags = {"additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]}
    tiny.write_jsonl(tmp_path / "train.jsonl", tiny.pairs(40))
    one = stream(tmp_path, "one", **flags)
    two, _ = runs.spawn(
        tmp_path, name="two", train_dataset=tmp_path / "train.jsonl", max_epochs=2, iterable=True, batch_size=4,
        devices=2, strategy="ddp", **flags,
    )  # fmt: skip
    runs.assert_weights_are_close(*(run.pre_trained_models / "final" for run in (one, two)))
