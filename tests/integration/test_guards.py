"""Losses that are not finite, texts that were cut: nothing of it goes unseen."""

import math

import pytest
import torch

from tests import runs, tiny
from transformers_framework.pipelines.pipeline import Pipeline


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(tmp_path, capsys):
    flags = {"checkpoint_interval": 1, "max_steps": 30, "num_warmup_steps": 5, "scheduler": "constant"}
    data = runs.datasets(tmp_path / "data", "answer_selection")
    flags |= {"learning_rate": 1e18, "weight_decay": 1.0, "train_dataset": data["train_dataset"]}
    folders = runs.run(tmp_path, status=1, **flags)
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "The loss is nan at step" in message or "The loss is inf at step" in message
    assert f"{data['train_dataset']}:" in message, "rows are named as file:line"
    assert "--resume" in message
    step = int(message.split(" at step ")[1].split(",")[0])
    checkpoint = torch.load(folders.last, weights_only=True)
    assert checkpoint["global_step"] < step
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())
    assert not (folders.pre_trained_models / "final").exists()


def test_a_gradient_that_is_not_finite_leaves_no_spoilt_files(tmp_path, capsys, monkeypatch):
    """The loss of the step is finite still, and a checkpoint is due right behind it."""

    def spoil(module, optimizer):
        if module.trainer.global_step == 3:
            next(parameter for parameter in module.parameters() if parameter.grad is not None).grad.fill_(torch.nan)

    monkeypatch.setattr(Pipeline, "on_before_optimizer_step", spoil)
    data = runs.datasets(tmp_path / "data", "answer_selection")
    folders = runs.run(tmp_path, status=1, train_dataset=data["train_dataset"], checkpoint_interval=2)
    assert "Weights are not finite after step 4" in capsys.readouterr().err
    assert [path.name for path in folders.pre_trained_models.iterdir()] == ["ckpt_epoch_0_step_2"]
    assert torch.load(folders.last, weights_only=True)["global_step"] == 2


def test_long_texts_are_cut_and_counted_once_a_stage(tmp_path, said):
    rows = tiny.pairs(10)
    for row in rows[:3]:
        row["answer"] = " ".join([row["answer"]] * 20)
    data = tiny.write_jsonl(tmp_path / "long.jsonl", rows)
    runs.run(tmp_path, train_dataset=data, valid_dataset=data, test_dataset=data, max_epochs=2)
    for stage in ("train", "valid", "test"):
        told = [record.getMessage() for record in said.records]
        lines = [line for line in told if line.startswith(f"{stage}: ") and "texts" in line]
        assert lines == [f"{stage}: 3 of 10 texts (30.0 %) were cut to fit --max_sequence_length 48."]


@pytest.mark.parametrize(
    ("pipeline", "flags"), [("retrieval", {"batch_size": 2}), ("masked_lm", {"batch_size": 1, "probability": 0.01})]
)
def test_steps_without_a_label_log_no_loss(pipeline, flags, tmp_path):
    """A batch of negatives alone, or without a masked token, has no mean; the other steps have."""
    data = tiny.write_jsonl(tmp_path / "train.jsonl", runs.rows_for(pipeline, 24))
    logged = runs.scalars(runs.run(tmp_path, pipeline=pipeline, train_dataset=data, **flags))
    rates, losses = logged["train/learning_rate"], logged["train/loss"]
    assert 0 < len(losses) < len(rates) == 24 // flags["batch_size"]
    assert losses == logged[f"train/{pipeline}/loss"]
    assert all(math.isfinite(loss) for _, loss in losses)
