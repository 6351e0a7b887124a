"""A checkpoint in the middle of accumulated batches keeps the gradients that were collected so far."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

GRADIENTS = "accumulated_gradients"


class OpenWindow(pl.Callback):
    """Save and restore the gradients of a window of ``--accumulate_grad_batches`` that has not stepped yet.

    Until a window steps, each process has gradients of its own rows, so those of all processes are kept. Strategies
    that shard collect theirs out of reach: they lose the window.
    """

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the gradients when the window is open; most checkpoints are made after a step and have none."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        is_open = batches % trainer.accumulate_grad_batches and batches < trainer.num_training_batches
        if is_open and isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
            checkpoint[GRADIENTS] = {
                name: trainer.strategy.all_gather(tensor.grad).cpu().reshape(trainer.world_size, *tensor.shape)
                for name, tensor in pl_module.named_parameters()
                if tensor.grad is not None
            }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the gradients of the run that continues; they are set when training starts."""
        self.gradients = checkpoint.get(GRADIENTS, {})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the gradients back where backward adds to them."""
        for name, tensor in pl_module.named_parameters():
            if name in self.gradients:
                of_all = self.gradients[name]  # (processes, …); with another number of them each takes the mean
                mine = of_all[trainer.global_rank] if len(of_all) == trainer.world_size else of_all.mean(dim=0)
                tensor.grad = mine.to(tensor.device, copy=True)
        self.gradients = {}
