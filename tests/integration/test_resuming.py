"""What a checkpoint is continued with: its own bits, its own data, and the flags of optimization that are given now."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import runs
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
