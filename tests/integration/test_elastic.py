"""A run goes on with other processes, workers and accumulation, from the same row on, as if nothing had changed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs
from tests.integration.interrupted import run

STEPS = "pipelines.pipeline:Pipeline.training_step"
STILL = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The flags of a run of 2 epochs of 44 rows in steps of 16, and the same run without interruption."""
    folder = tmp_path_factory.mktemp("elastic")
    data = runs.datasets(folder / "data", "seq_class", (44, 12, 5, 5))
    flags = {"pipeline": "seq_class", "train_dataset": data["train_dataset"], "additional_config_kwargs": STILL}
    flags |= {
        "scheduler": "constant",
        "max_epochs": 2,
        "batch_size": 8,
        "accumulate_grad_batches": 2,
        "checkpoint_interval": 1,
    }
    assert run(runs.command(folder, name="whole", **flags), folder / "log") == 0, (folder / "log").read_text()
    return folder, flags


def assert_as_whole(folder: Path, name: str) -> None:
    found, expected = (folder / f"out/pre_trained_models/{run}/final" for run in (name, "whole"))
    runs.assert_weights_are_close(found, expected, atol=2e-5)
    states = [torch.load(folder / f"out/checkpoints/{run}/last.ckpt", weights_only=True) for run in (name, "whole")]
    assert states[0]["global_step"] == states[1]["global_step"] == 6
    assert states[0]["DataModule"]["consumed"] == states[1]["DataModule"]["consumed"] == 44


@pytest.mark.parametrize(
    ("killed_at", "then"),
    [
        (6, {"batch_size": 16, "accumulate_grad_batches": 1}),  # behind the first step of the second epoch
        pytest.param(2, {"batch_size": 4, "accumulate_grad_batches": 4, "num_workers": 1}, marks=pytest.mark.slow),
        pytest.param(2, {"batch_size": 2, "accumulate_grad_batches": 8}, marks=pytest.mark.slow),
    ],
    ids=["larger batches", "smaller ones by a worker", "tiny ones"],
)
def test_other_accumulation(killed_at: int, then: dict[str, Any], begun: Any) -> None:
    folder, flags = begun
    name, log = f"killed{killed_at}-{then['batch_size']}", folder / "log"
    words = runs.command(folder, name=name, **flags)
    assert run(words, log, (STEPS, killed_at + 3, signal.SIGKILL)) == -signal.SIGKILL
    assert run(runs.command(folder, name=name, resume=True, **flags | then), log) == 0, log.read_text()
    assert_as_whole(folder, name)


@pytest.mark.parametrize(
    "then", [{"batch_size": 4, "accumulate_grad_batches": 4}, {"batch_size": 16, "accumulate_grad_batches": 1}]
)
def test_a_checkpoint_within_a_window(then: dict[str, Any], begun: Any) -> None:
    """Behind the third batch, within the second step: smaller batches go on behind it, larger ones begin it again."""
    folder, flags = begun
    name, log = f"window-{then['batch_size']}", folder / "log"
    assert run(runs.command(folder, name=name, **flags), log, (STEPS, 3, signal.SIGTERM)) == 0
    state = torch.load(folder / f"out/checkpoints/{name}/last.ckpt", weights_only=True)
    assert (state["global_step"], state["DataModule"]["consumed"]) == (1, 24)
    assert run(runs.command(folder, name=name, resume=True, **flags | then), log) == 0, log.read_text()
    assert_as_whole(folder, name)


@pytest.mark.slow
def test_other_processes(begun: Any) -> None:
    folder, flags = begun
    log = folder / "log"
    assert run(runs.command(folder, name="two", **flags), log, (STEPS, 4, signal.SIGKILL)) == -signal.SIGKILL
    two = {"devices": 2, "strategy": "ddp", "batch_size": 4, "resume": True}
    runs.spawn(folder, name="two", **flags | two)
    assert_as_whole(folder, "two")
    runs.spawn(folder, name="back", **flags | {**two, "resume": None, "max_epochs": 1})
    assert run(runs.command(folder, name="back", resume=True, **flags), log) == 0, log.read_text()
    assert_as_whole(folder, "back")


def test_other_steps_are_refused_unless_asked_for(begun: Any, capsys: Any) -> None:
    folder, flags = begun
    whole = folder / "out/checkpoints/whole/previous.ckpt"
    given = {**flags, "name": "other", "ckpt_path": whole, "batch_size": 4}
    runs.run(folder, status=2, **given)
    message = "the run made steps of 16 rows, and this command's would have 8 (4 rows on 1 processes"
    assert message in (said := capsys.readouterr().err)
    assert "--allow_other_batch_size" in said
    runs.run(folder, allow_other_batch_size=True, **given)
