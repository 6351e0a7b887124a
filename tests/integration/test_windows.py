"""Batches that make one step: their gradient is that of one large batch, however their labels are spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs
from tests.tolerances import assert_gradients_close
from transformers_framework.storage.run_folders import RunFolders

NO_DROPOUT = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]
ROWS = 72  # two windows of 32, and one of 8
JOINT = {"probability": 0.1, "masked_lm_weight": 0.5, "label_weights": [1, 5, 0.5]}


def moments(run: RunFolders) -> list[torch.Tensor]:
    """Return Adam's means of the gradients: weights cannot tell a gradient from twice the gradient."""
    state = torch.load(run.last, weights_only=True)["optimizer_states"][0]["state"]
    return [state[index]["exp_avg"] for index in sorted(state)]


def assert_same_gradients(found: RunFolders, expected: RunFolders) -> None:
    ours, theirs = moments(found), moments(expected)
    assert len(ours) == len(theirs) > 10
    assert_gradients_close(*(dict(enumerate(each)) for each in (ours, theirs)))


def flags(folder: Path, pipeline: str) -> dict[str, Any]:
    data = runs.datasets(folder / "data", pipeline, (ROWS, 5, 5, 5))
    more = JOINT if pipeline == "masked_lm+seq_class" else {"probability": 0.1} if "masked" in pipeline else {}
    return {
        **more,
        "pipeline": pipeline,
        "train_dataset": data["train_dataset"],
        "additional_config_kwargs": NO_DROPOUT,
        "learning_rate": 1e-4,
        "log_every_n_steps": 1,
    }


@pytest.mark.parametrize("pipeline", ["masked_lm", "masked_lm+seq_class"])
def test_accumulated_batches_are_one_large_batch(pipeline: str, tmp_path: Path) -> None:
    given = flags(tmp_path, pipeline)
    whole = runs.run(tmp_path, name="whole", batch_size=32, **given)
    parts = runs.run(tmp_path, name="parts", batch_size=8, accumulate_grad_batches=4, **given)
    assert_same_gradients(parts, whole)
    assert len(runs.scalars(parts)["train/loss"]) == len(runs.scalars(whole)["train/loss"]) == 3


def test_processes_that_accumulate_are_one_large_batch(tmp_path: Path) -> None:
    given = flags(tmp_path, "masked_lm")
    whole = runs.run(tmp_path, name="whole", batch_size=32, **given)
    two = {"devices": 2, "strategy": "ddp", "accumulate_grad_batches": 2}
    parts, _ = runs.spawn(tmp_path, name="two", batch_size=8, **two, **given)
    assert_same_gradients(parts, whole)


def test_a_limit_of_batches_closes_the_window(tmp_path: Path) -> None:
    given = flags(tmp_path, "masked_lm") | {"max_epochs": 2, "length_bucketing": False}
    whole = runs.run(tmp_path, name="whole", batch_size=24, limit_train_batches=1, **given)
    parts = runs.run(tmp_path, name="parts", batch_size=8, accumulate_grad_batches=4, limit_train_batches=3, **given)
    assert_same_gradients(parts, whole)
