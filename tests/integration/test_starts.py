"""What a run takes from the checkpoint of another one that it starts from, and what stays as it was until it starts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs
from transformers_framework import experiment
from transformers_framework.callbacks.checkpoints import Checkpoints
from transformers_framework.callbacks.resumed_optimization import ResumedOptimization
from transformers_framework.exceptions import ConfigurationError

LOSS = {"monitor": "valid/loss", "monitor_direction": "min"}


class Other:
    """A run of another name, of one epoch of five steps, which validated its last state."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, runs.datasets(folder / "data", "answer_selection")
        self.folders = self.run("other", max_epochs=1)

    def run(self, name: str, *, status: int = 0, **flags: Any) -> Any:
        data = {f"{stage}_dataset": self.data[f"{stage}_dataset"] for stage in ("train", "valid")}
        return runs.run(self.folder, name=name, status=status, **{**data, **LOSS, **flags})


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Other:
    return Other(tmp_path_factory.mktemp("other"))


def test_metrics_are_those_of_the_run_itself(other: Other) -> None:
    """A run that ends before its first validation validates its last state, whatever another one has validated."""
    done = other.run("own", ckpt_path=other.folders.last, max_steps=7)
    assert [step for step, _ in runs.scalars(done)["valid/loss"]] == [6]
    assert runs.weights_are_equal(done.best, done.last)
    cards = [(run.pre_trained_models / "final/README.md").read_text() for run in (other.folders, done)]
    found = [[line for line in card.splitlines() if line.startswith("| valid/loss ")] for card in cards]
    assert [len(lines) for lines in found] == [1, 1]
    assert ["| train/" in card for card in cards] == [False, False], "logged at an earlier step"
    assert [re.findall(r"the last validation, at step (\d+)", card) for card in cards] == [["5"], ["7"]]
    assert found[0] != found[1]


@pytest.mark.parametrize("flags", [{}, {"log_every_n_steps": 100}])
def test_the_end_of_an_epoch_that_another_run_trained_ends_no_run(other: Other, flags: dict[str, Any]) -> None:
    name = f"begun-{len(flags)}"
    begun = other.run(name, max_steps=5, max_epochs=None, **flags)
    flags |= {"monitor": "train/loss", "early_stopping": True, "patience": 1}
    done = other.run(f"new-{name}", ckpt_path=begun.last, max_epochs=3, **flags)
    assert torch.load(done.last, weights_only=True)["global_step"] > 5


def test_the_state_of_the_optimizer_is_not_kept_where_nothing_is_trained(other: Other) -> None:
    flags = {f"{stage}_dataset": other.data.get(f"{stage}_dataset") for stage in ("test", "predict")}
    for name, more in (("tested", {"train_dataset": None}), ("trained", {"max_epochs": 2})):
        with runs.watched() as seen:
            other.run(name, ckpt_path=other.folders.last, **flags, **more)
        (found,) = [part for part in seen.experiment.trainer.callbacks if isinstance(part, ResumedOptimization)]
        assert found.loaded is None


def test_steps_do_not_wait_for_metrics(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """To read the value of a tensor waits for the device, so it is done only where training ends."""
    count, original = [0], torch.Tensor.item
    hook, counts = Checkpoints.on_batch_done, []

    def item(tensor: torch.Tensor) -> Any:
        count[0] += 1
        return original(tensor)

    def on_batch_done(self: Checkpoints, trainer: Any) -> None:
        before = count[0]
        hook(self, trainer)
        counts.append(count[0] - before)

    monkeypatch.setattr(torch.Tensor, "item", item)
    monkeypatch.setattr(Checkpoints, "on_batch_done", on_batch_done)
    other.run("steps", max_epochs=2, check_val_every_n_epoch=2, no_epoch_checkpointing=True)
    assert counts[:-1] == [0] * 9
    assert counts[-1] > 0


def test_nothing_is_written_before_processes_agree(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = other.run("kept", max_steps=3)

    def everything() -> dict[Path, bytes]:
        files = (path for folder in folders.all for path in folder.rglob("*"))
        return {path: path.read_bytes() for path in files if path.is_file() and path.name != ".lock"}

    @contextlib.contextmanager
    def distributed_run(*_: Any) -> Iterator[None]:
        raise ConfigurationError("Process 1 has other data.")
        yield

    before = everything()
    monkeypatch.setattr(experiment, "distributed_run", distributed_run)
    other.run("kept", max_steps=5, resume=True, learning_rate=5e-4, status=2)
    assert everything() == before
