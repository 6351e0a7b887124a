"""Record in checkpoints the flags and the data with which they were trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, Timer

from transformers_framework.constants import Stage

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule

LEARNED_FROM: tuple[Stage, ...] = ("train", "valid")
KEY = "Provenance"  # of its state among those of callbacks


class Changed(Protocol):
    """A checkpoint that a run continues."""

    @property
    def changes(self) -> list[str]:
        """Changes of its optimization, each with the step from which on it holds."""


class Provenance(pl.Callback):
    """Write flags and fingerprints of the data into checkpoints, for those who continue them.

    Args:
        flags: The flags of the run, as YAML.
        data: The data of the run.
        folder: Checkpoints of the run.
        continued: The checkpoint that the run continues; it knows what was changed of the optimization.
    """

    def __init__(self, flags: str, data: DataModule, folder: Path, continued: Changed) -> None:
        self.flags, self.data, self.folder, self.continued = flags, data, folder, continued

    @property
    def state_key(self) -> str:
        """Name of the state in checkpoints."""
        return KEY

    def state_dict(self) -> dict[str, Any]:
        """Return the flags and the fingerprints of the data."""
        data = {stage: self.data.fingerprints[stage] for stage in LEARNED_FROM if self.data.has(stage)}
        return {"flags": self.flags, "data": data, "changes": self.continued.changes}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a run that starts from the checkpoint of another one have its own patience, time, metrics and files."""
        if Path(str(trainer.ckpt_path)).parent != self.folder:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, (EarlyStopping, Timer, Checkpoint)):
                    checkpoint.get("callbacks", {}).pop(callback.state_key, None)
