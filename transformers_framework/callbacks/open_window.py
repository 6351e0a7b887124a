"""A checkpoint in the middle of accumulated batches keeps the gradients that were collected so far."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor

GRADIENTS = "accumulated_gradients"


class OpenWindow(pl.Callback):
    """Save and restore the gradients of a window of ``--accumulate_grad_batches`` that has not stepped yet."""

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the gradients when the window is open; most checkpoints are made after a step and have none."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if batches % trainer.accumulate_grad_batches and batches < trainer.num_training_batches:
            named = pl_module.named_parameters()
            checkpoint[GRADIENTS] = {name: tensor.grad for name, tensor in named if tensor.grad is not None}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the gradients of the run that continues; they are set when training starts."""
        self.gradients = checkpoint.get(GRADIENTS, {})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the gradients back where backward adds to them."""
        for name, tensor in pl_module.named_parameters():
            if name in self.gradients:
                tensor.grad = self.gradients[name].to(tensor.device)
        self.gradients = {}
