"""What a checkpoint is continued with: its own bits, its own data, and the flags of optimization that are given now."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import runs
from tests.integration.interrupted import run_together
from tests.sharded_cpu import use_cpus
from transformers_framework.runtime.run_folders import RunFolders

SMALL: dict[str, Any] = {"pipeline": "seq_class", "batch_size": 4, "checkpoint_interval": 3}


class Begun:
    """A run of which there are checkpoints, to be continued in as many ways as there are tests."""

    def __init__(self, folder: Path, **flags: Any) -> None:
        self.folder, self.count = folder, 0
        self.flags = SMALL | flags
        self.data = runs.datasets(folder / "data", self.flags["pipeline"], (40, 12, 8, 8))
        self.flags["train_dataset"] = self.data["train_dataset"]
        runs.run(folder, name="begun", **self.flags, max_steps=6)

    def copy(self) -> str:
        """Return the name of a run that is a copy of it."""
        self.count += 1
        name = f"copy-{self.count}"
        for kind in ("checkpoints", "pre_trained_models", "tensorboard"):
            shutil.copytree(self.folder / "out" / kind / "begun", self.folder / "out" / kind / name)
        return name

    def resume(self, *, status: int = 0, name: str | None = None, **flags: Any) -> RunFolders:
        """Continue a copy of it."""
        given = {**self.flags, "max_steps": 12, **flags, "resume": True}
        return runs.run(self.folder, name=name or self.copy(), status=status, **given)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    return Begun(tmp_path_factory.mktemp("begun"))


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file, where weights are."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 16]))


@pytest.mark.parametrize("stage", ["train", "test"])
def test_a_damaged_checkpoint_is_not_used(stage: str, begun: Begun, tmp_path: Path, capsys: Any) -> None:
    damaged = tmp_path / "damaged.ckpt"
    shutil.copyfile(begun.folder / "out/checkpoints/begun/last.ckpt", damaged)
    flip_a_bit(damaged)
    flags = begun.flags | {"train_dataset": None} | {f"{stage}_dataset": begun.data[f"{stage}_dataset"]}
    runs.run(begun.folder, status=2, name=f"damaged-{stage}", ckpt_path=damaged, **flags)
    assert f"--ckpt_path: {damaged} is damaged" in capsys.readouterr().err


# --- metrics of training ---------------------------------------------------------------------------------------------


def of_training(folders: RunFolders, ends: Sequence[int] = ()) -> dict[str, dict[int, float]]:
    """Return what was logged of training, without what was logged only because a run ended."""
    found = {name: dict(values) for name, values in runs.scalars(folders).items() if name.startswith("train/")}
    return {name: {step: values[step] for step in values.keys() - {*ends}} for name, values in found.items()}


@pytest.mark.parametrize(
    "flags",
    [
        {"monitor": "train/seq_class/accuracy", "log_every_n_steps": 4},
        {"monitor": "train/loss", "monitor_direction": "min", "log_every_n_steps": 100},
        {"pipeline": "named_entity_recognition", "monitor": "train/token_class/f1", "accumulate_grad_batches": 2},
    ],
    ids=["classes", "losses", "lists"],
)
def test_metrics_of_training_are_those_of_the_whole_epoch(flags: dict[str, Any], tmp_path: Path) -> None:
    """Interrupted in the first epoch and in the second one, between two logging steps."""
    flags = SMALL | flags
    data = runs.datasets(tmp_path / "data", flags["pipeline"], (40, 1, 1, 1))
    flags |= {"train_dataset": data["train_dataset"], "scheduler": "constant"}
    per_epoch = 10 // flags.get("accumulate_grad_batches", 1)
    whole = runs.run(tmp_path, name="whole", max_epochs=2, **flags)
    ends = (per_epoch // 2, per_epoch + 3)
    for steps in ends:
        parts = runs.run(tmp_path, name="parts", max_steps=steps, resume=True, **flags)
    parts = runs.run(tmp_path, name="parts", max_epochs=2, resume=True, **flags)
    steps_of_ends = [step - 1 for step in ends]
    assert of_training(parts, steps_of_ends) == of_training(whole, steps_of_ends)
    assert runs.weights_are_equal(parts.pre_trained_models / "best", whole.pre_trained_models / "best")
    cards = [(folders.pre_trained_models / "final/README.md").read_text() for folders in (parts, whole)]
    assert len({card.partition("## Metrics")[2].partition("## Flags")[0] for card in cards}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_metrics_of_training_of_several_processes(strategy: str, tmp_path: Path) -> None:
    """Begun by two, continued by two and by one: the epoch's metrics are those of all rows."""
    still = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]
    flags = SMALL | {"scheduler": "constant", "additional_config_kwargs": still, "learning_rate": 1e-9}
    data = runs.datasets(tmp_path / "data", "named_entity_recognition", (40, 1, 1, 1))
    flags |= {"pipeline": "named_entity_recognition", "train_dataset": data["train_dataset"]}
    two = {"devices": 2, "strategy": strategy, "batch_size": 2}

    def go(name: str, **more: Any) -> RunFolders:
        words, log = runs.command(tmp_path, name=name, resume=True, **flags | more), tmp_path / f"{name}.log"
        size = more.get("devices", 1)
        assert run_together(words, log, size, use_cpus) == [0] * size, log.read_text()
        return runs.folders_of(words)

    whole = of_training(go("whole", max_epochs=1))
    for name, then in (("two", two), ("one", {})):
        go(name, max_steps=6, **two)
        parts = of_training(go(name, max_epochs=1, **then))
        metrics = {key for key in whole if "rate" not in key and "loss" not in key}
        assert len(metrics) > 3
        assert {key: parts[key][9] for key in metrics} == pytest.approx({key: whole[key][9] for key in metrics})
