"""The end of a run whose loss or weights are not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from transformers_framework import device_reads
from transformers_framework.constants import ROW_IDS
from transformers_framework.exceptions import RunError
from transformers_framework.pipelines.log_names import logging_interval

REMEDY = (
    "No checkpoint was written after the last good one: continue it with --resume and a lower --learning_rate, "
    "--gradient_clip_val 1.0, or --precision bf16 or 32."
)

MAX_PENDING = 1000  # batches whose losses are kept unchecked


class TerminateOnNonFinite(pl.Callback):
    """Terminate training when the loss or a weight is not finite, before a checkpoint of that state is written.

    On a CPU the loss of every batch is checked. On other devices a check waits for the device: losses are kept and
    checked together, at logging steps and before any checkpoint is written.

    Args:
        place: Returns ``file:line`` of a training row, for the message.
    """

    def __init__(self, place: Callable[[int], str]) -> None:
        self.place = place
        self.pending: list[tuple[torch.Tensor, torch.Tensor, int]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss of the batch; check those that are kept on a CPU and at logging steps."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.pending.append((loss.detach(), batch[ROW_IDS], trainer.global_step))
        if device_reads.are_free(loss) or len(self.pending) >= min(logging_interval(trainer), MAX_PENDING):
            self.check_losses()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Check losses and weights before they are written."""
        self.check(trainer)

    def check(self, trainer: pl.Trainer) -> None:
        """Check the losses that are kept, and the weights: a finite loss may have had a gradient that was not finite.

        Raises:
            RunError: With the rows of the batch when it is the loss, else with the step.
        """
        self.check_losses()
        sums = torch.stack([tensor.detach().float().sum() for tensor in trainer.lightning_module.parameters()])
        if not bool(torch.isfinite(sums).all()):
            raise RunError(f"Weights are not finite after step {trainer.global_step}. {REMEDY}")

    def check_losses(self) -> None:
        """Check the losses that are kept.

        Raises:
            RunError: With the rows of the batch.
        """
        pending, self.pending = self.pending, []
        if not pending or bool(torch.isfinite(torch.stack([loss for loss, _, _ in pending])).all()):
            return
        loss, rows, step = next(entry for entry in pending if not bool(torch.isfinite(entry[0])))
        places = ", ".join(self.place(row) for row in rows.tolist() if row >= 0)
        raise RunError(f"The loss is {loss.item()} at step {step}, in the batch of these rows: {places}. {REMEDY}")
