"""A report of how many rows of each stage were truncated."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytorch_lightning as pl

from transformers_framework.constants import ROW_IDS

logger = logging.getLogger(__name__)


class TruncationReport(pl.Callback):
    """Count the rows that were truncated and log their number once for each stage.

    Args:
        what: What a row is called in the message, as ``rows``.
        reason: Why rows were truncated, for the message.
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
