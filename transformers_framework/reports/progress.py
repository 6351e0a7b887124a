"""Progress of training: a bar on a terminal, lines in a log file."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar

from transformers_framework.pipelines.log_names import logging_interval

if TYPE_CHECKING:
    from transformers_framework.run_parts import Run

logger = logging.getLogger(__name__)


def progress(run: Run) -> ProgressBar | None:
    """Return a progress bar for a terminal, log lines elsewhere; None with ``--enable_progress_bar false``."""
    if run.options.get("enable_progress_bar") is False:
        return None
    return TQDMProgressBar() if sys.stderr.isatty() else ProgressLines()


class ProgressLines(ProgressBar):
    """Log the progress at logging steps, and the metrics of each validation."""

    def __init__(self) -> None:
        super().__init__()
        self._started = (0.0, 0)
        self._logged = 0

    def disable(self) -> None:
        """Do nothing: ranks other than 0 log nothing anyway."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started, self._logged = (time.monotonic(), trainer.global_step), trainer.global_step
        logger.info("Training starts at step %d of %s", trainer.global_step, trainer.estimated_stepping_batches)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Log epoch, step, speed and loss."""
        step = trainer.global_step
        if step == self._logged or step % logging_interval(trainer):
            return
        self._logged = step
        seconds, steps = time.monotonic() - self._started[0], step - self._started[1]
        loss = trainer.callback_metrics.get("train/loss")
        logger.info(
            "epoch %d, step %d of %s, %.2f steps/s%s",
            *(trainer.current_epoch, step, trainer.estimated_stepping_batches, steps / max(seconds, 1e-9)),
            "" if loss is None else f", train/loss {float(loss):.4f}",
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the metrics of validation."""
        if not trainer.sanity_checking:
            _log_metrics(trainer, "valid")


def _log_metrics(trainer: pl.Trainer, stage: str) -> None:
    values = {name: value for name, value in trainer.callback_metrics.items() if name.startswith(f"{stage}/")}
    logger.info("step %d: %s", trainer.global_step, ", ".join(f"{name} {float(v):.4f}" for name, v in values.items()))
