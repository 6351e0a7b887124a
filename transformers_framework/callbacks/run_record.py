"""What checkpoints record of the run that wrote them: its flags, its data, its changes of the optimization."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, Timer

from transformers_framework.constants import Stage

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule

LEARNED_FROM: tuple[Stage, ...] = ("train", "valid")
KEY = "Provenance"  # of its state among those of callbacks; checkpoints of earlier versions have it


class Changed(Protocol):
    """The checkpoint that a run continues, if there is one."""

    @property
    def changes(self) -> list[str]:
        """Changes of its optimization, each with the step from which on it holds."""


class RunRecord(pl.Callback):
    """Record the flags of a run and the fingerprints of its data in its checkpoints; they are compared on resume.

    Args:
        flags: Returns the flags of the run, as YAML; some are known when training starts.
        data: The data of the run.
        folder: Checkpoints of the run.
        continued: The checkpoint that the run continues, with earlier changes of the optimization.
    """

    def __init__(self, flags: Callable[[], str], data: DataModule, folder: Path, continued: Changed) -> None:
        self.flags, self.data, self.folder, self.continued = flags, data, folder, continued

    @property
    def state_key(self) -> str:
        """Name of the state in checkpoints."""
        return KEY

    def state_dict(self) -> dict[str, Any]:
        """Return the flags, the fingerprints of the data and the changes of the optimization."""
        data = {stage: self.data.fingerprints[stage] for stage in LEARNED_FROM if self.data.has(stage)}
        return {"flags": self.flags(), "data": data, "changes": self.continued.changes}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Drop the states of early stopping, timer and checkpoints when the checkpoint is of another run."""
        if Path(str(trainer.ckpt_path)).parent != self.folder:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, (EarlyStopping, Timer, Checkpoint)):
                    checkpoint.get("callbacks", {}).pop(callback.state_key, None)
