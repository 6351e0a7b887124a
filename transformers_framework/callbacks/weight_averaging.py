"""Stochastic weight averaging: the mean of the weights at the ends of the last epochs.

Izmailov, Podoprikhin, Garipov, Vetrov, Wilson 2018, "Averaging Weights Leads to Wider Optima and Better
Generalization", algorithm 1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from transformers_framework.compat.lightning import epoch_ends
from transformers_framework.runtime.loops import epoch_under_way, in_last_batch

if TYPE_CHECKING:
    from transformers_framework.pipelines.pipeline import Pipeline

logger = logging.getLogger(__name__)


class WeightAveraging(pl.Callback):
    """Average the weights at the ends of the last fifth of the epochs, which have the schedule's highest learning rate.

    The model gets the average after the last batch of the run: what follows validates, selects, saves, exports and
    tests it like any other state. Every rank has the same weights, so each averages its own.
    """

    def __init__(self) -> None:
        self.first_epoch = 0  # first epoch that is averaged
        self.count = 0
        self.mean: dict[str, Tensor] = {}  # float32, on the host
        self.is_applied = False  # whether the model has the average

    @property
    def state_key(self) -> str:
        """Name of the state in checkpoints."""
        return "WeightAveraging"

    def state_dict(self) -> dict[str, Any]:
        """Return what was averaged so far."""
        state = {"first_epoch": self.first_epoch, "count": self.count, "is_applied": self.is_applied}
        return state | {"mean": {} if self.is_applied else self.mean}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the average."""
        self.first_epoch, self.count = state_dict["first_epoch"], state_dict["count"]
        self.mean, self.is_applied = state_dict["mean"], state_dict["is_applied"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute which epochs are averaged; drop an average of other epochs."""
        before, self.first_epoch = self.first_epoch, num_epochs(trainer) * 4 // 5
        if before != self.first_epoch:
            self.count, self.mean, self.is_applied = 0, {}, False
        if num_epochs(trainer) - self.first_epoch == 1:
            logger.warning(
                "--stochastic_weight_averaging: the last fifth of %d epochs is one, so there is nothing to average. "
                "Give %s or more.",
                num_epochs(trainer),
                " and ".join(enough_epochs(trainer)),
            )
        if trainer.fit_loop.epoch_progress.current.ready:  # a resumed run, perhaps within an epoch
            self._keep_learning_rate(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the epochs that are averaged a constant learning rate."""
        self._keep_learning_rate(trainer)

    def _keep_learning_rate(self, trainer: pl.Trainer) -> None:
        if epoch_under_way(trainer) >= self.first_epoch:
            cast("Pipeline", trainer.lightning_module).keep_highest_learning_rate()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Add the weights to the average at the end of an epoch; put it into the model at the end of the run."""
        ends = in_last_batch(trainer) or 0 < trainer.max_steps <= trainer.global_step
        if epoch_under_way(trainer) < self.first_epoch or not (ends or epoch_ends(trainer)):
            return
        if self.is_applied:  # a resumed run, after its earlier end
            self.count, self.is_applied = 0, False
        self.count += 1
        for name, weight in trained(pl_module):
            found = weight.float().cpu()
            mean = self.mean.setdefault(name, torch.zeros_like(found))
            mean += (found - mean) / self.count
        if ends:
            for name, weight in trained(pl_module):
                weight.copy_(self.mean[name])
            self.mean, self.is_applied = {}, True
            logger.info("The weights are now the average of those at the ends of epochs, %d of them.", self.count)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report a run that ended before there was an average."""
        if not self.is_applied:
            logger.warning(
                "--stochastic_weight_averaging: training ended early, so the weights are those of the last step."
            )


def num_epochs(trainer: pl.Trainer) -> int:
    """Return how many epochs a run begins; ``max_steps`` may end it before ``max_epochs`` does."""
    assert trainer.max_epochs is not None
    if trainer.max_steps == -1 or math.isinf(trainer.num_training_batches):
        return trainer.max_epochs
    return min(trainer.max_epochs, -(-trainer.max_steps // steps_per_epoch(trainer)))


def steps_per_epoch(trainer: pl.Trainer) -> int:
    """Return the optimizer steps of an epoch whose length is known."""
    return -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)


def enough_epochs(trainer: pl.Trainer) -> list[str]:
    """Return the flags, with their least values, for a last fifth of two epochs: six epochs have one."""
    assert trainer.max_epochs is not None
    flags = ["--max_epochs 6"] if trainer.max_epochs < 6 else []
    if trainer.max_steps != -1 and not math.isinf(trainer.num_training_batches):
        least = 5 * steps_per_epoch(trainer) + 1
        flags += [f"--max_steps {least}"] if trainer.max_steps < least else []
    return flags


def trained(module: pl.LightningModule) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights that are trained, each once."""
    return ((name, weight.detach()) for name, weight in module.named_parameters() if weight.requires_grad)
