"""What must not go unseen while training: losses that are not finite, texts that were cut."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from transformers_framework.constants import ROW_IDS
from transformers_framework.exceptions import RunError
from transformers_framework.pipelines.pipeline import logging_interval

REMEDY = (
    "No checkpoint was written after the last good one: continue it with --resume and a lower --learning_rate, "
    "--gradient_clip_val 1.0, or --precision bf16 or 32."
)

MOST_UNSEEN = 1000  # batches whose losses wait to be looked at

logger = logging.getLogger(__name__)


class FiniteLoss(pl.Callback):
    """Stop at a loss that is not finite, name the rows, keep the last good checkpoint.

    On a CPU every step is looked at; elsewhere losses are kept and looked at together at logging steps and before any
    checkpoint is written, for to look is to wait for the device.

    Args:
        place: Names the place of a training row.
    """

    def __init__(self, place: Callable[[int], str]) -> None:
        self.place = place
        self.unseen: list[tuple[torch.Tensor, torch.Tensor, int]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the loss of the batch, look at it when that costs nothing."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.unseen.append((loss.detach(), batch[ROW_IDS], trainer.global_step))
        if loss.device.type == "cpu" or len(self.unseen) >= min(logging_interval(trainer), MOST_UNSEEN):
            self.look()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Keep weights that are spoilt out of checkpoints."""
        self.check(trainer)

    def check(self, trainer: pl.Trainer) -> None:
        """Raise when the state is not worth keeping; a finite loss may have had a gradient that was not.

        Raises:
            RunError: With the rows of the batch when it is the loss, else with the step.
        """
        self.look()
        sums = torch.stack([tensor.detach().float().sum() for tensor in trainer.lightning_module.parameters()])
        if not bool(torch.isfinite(sums).all()):
            raise RunError(f"Weights are not finite after step {trainer.global_step}. {REMEDY}")

    def look(self) -> None:
        """Raise at the first loss that is not finite.

        Raises:
            RunError: With the rows of the batch.
        """
        unseen, self.unseen = self.unseen, []
        if not unseen or bool(torch.isfinite(torch.stack([loss for loss, _, _ in unseen])).all()):
            return
        loss, rows, step = next(entry for entry in unseen if not bool(torch.isfinite(entry[0])))
        places = ", ".join(self.place(row) for row in rows.tolist() if row >= 0)
        raise RunError(f"The loss is {loss.item()} at step {step}, in the batch of these rows: {places}. {REMEDY}")


class TruncationReport(pl.Callback):
    """Count the rows of batches that lost tokens, say it once a stage.

    Args:
        what: What these rows are.
        reason: Why they lost tokens.
    """

    def __init__(self, what: str, reason: str) -> None:
        self.what, self.reason = what, reason
        self.rows: Counter[str] = Counter()
        self.truncated: Counter[str] = Counter()
        self.reported: set[str] = set()

    def _count(self, stage: str, batch: Any) -> None:
        if stage not in self.reported:
            self.rows[stage] += len(batch[ROW_IDS])
            self.truncated[stage] += batch["num_truncated"]

    def _report(self, trainer: pl.Trainer, stage: str) -> None:
        if trainer.sanity_checking or stage in self.reported or not self.rows[stage]:
            return
        self.reported.add(stage)
        if cut := self.truncated[stage]:
            rows = self.rows[stage]
            logger.warning("%s: %d of %d %s (%.1f %%) %s.", stage, cut, rows, self.what, 100 * cut / rows, self.reason)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count a batch of training."""
        self._count("train", batch)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Count a batch of validation."""
        if not trainer.sanity_checking:
            self._count("valid", args[2])

    def on_test_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Count a batch of testing."""
        self._count("test", args[2])

    def on_predict_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Count a batch of prediction."""
        self._count("predict", args[2])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report training after its first epoch."""
        self._report(trainer, "train")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report validation."""
        self._report(trainer, "valid")

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report testing."""
        self._report(trainer, "test")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report prediction."""
        self._report(trainer, "predict")
