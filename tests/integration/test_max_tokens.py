"""Runs with ``--max_tokens_per_batch``: their steps, files and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests import runs, tiny
from transformers_framework.constants import ROW_IDS
from transformers_framework.pipelines.pipeline import Pipeline

STILL = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]


def flags_of(folder: Path, pipeline: str = "seq_class") -> dict[str, Any]:
    folder.joinpath("data").mkdir(exist_ok=True)
    data = tiny.write_jsonl(folder / "data" / "train.jsonl", runs.rows_for(pipeline, 44))
    flags = {"pipeline": pipeline, "train_dataset": data, "batch_size": None, "max_tokens_per_batch": 96}
    return flags | {"scheduler": "constant", "max_epochs": 2, "additional_config_kwargs": STILL}


@pytest.mark.parametrize("pipeline", ["seq_class", "answer_selection"])
def test_a_run_that_is_continued_within_an_epoch_equals_a_whole_one(pipeline: str, tmp_path: Path) -> None:
    flags, batches = flags_of(tmp_path, pipeline), []
    original = Pipeline.training_step

    def note(self: Any, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        batches.append(batch)
        return original(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "training_step", note)
        whole = runs.run(tmp_path, name="whole", **flags)
    steps, rest = divmod(len(batches), 2)
    assert rest == 0
    for epoch in (batches[:steps], batches[steps:]):
        assert sorted(row for batch in epoch for row in batch[ROW_IDS].tolist()) == list(range(44))
    assert max(batch["input_ids"].numel() for batch in batches) <= 96
    assert len({len(batch["input_ids"]) for batch in batches}) > 1
    built = runs.build(["--config", str(whole.config)])
    assert built.steps.total == len(batches), "known before training, and the file of the run repeats it"
    assert "batch_size" not in yaml.safe_load(whole.config.read_text("utf-8"))
    parts = runs.run(tmp_path, name="parts", **flags | {"max_epochs": None}, max_steps=steps + 1)
    runs.run(tmp_path, name="parts", resume=True, **flags)
    assert runs.weights_are_equal(parts.pre_trained_models / "final", whole.pre_trained_models / "final")


@pytest.mark.slow  # two processes
def test_two_processes_train_as_one_that_accumulates(tmp_path: Path) -> None:
    flags = flags_of(tmp_path)
    alone = runs.run(tmp_path, name="alone", accumulate_grad_batches=2, **flags)
    pair, _ = runs.spawn(tmp_path, name="pair", devices=2, strategy="ddp", **flags)
    runs.assert_weights_are_close(pair.pre_trained_models / "final", alone.pre_trained_models / "final")
