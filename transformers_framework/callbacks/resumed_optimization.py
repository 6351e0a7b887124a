"""Flags of optimization take effect when a run is continued with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl

from transformers_framework.optimizers.continued import apply_settings, settings_of

if TYPE_CHECKING:
    from transformers_framework.pipelines.pipeline import Pipeline


class ResumedOptimization(pl.Callback):
    """Go on with the state of the optimizer and the settings that this run is given.

    Those in checkpoints, which optimizers and schedules load with their state, are those of the run that wrote them.
    """

    def __init__(self) -> None:
        self.settings: Sequence[Mapping[str, Any]] = ()
        self.loaded: dict[str, Any] | None = None
        self.continues = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember that a run is continued, by schedules of its own for groups of its own."""
        self.continues = trainer.training
        if self.continues and not trainer.strategy.restore_checkpoint_after_setup:
            self.loaded = checkpoint
        for state in checkpoint.get("lr_schedulers", ()):
            if "lr_lambdas" in state:
                # earlier versions counted updates, of which there is one in --scheduler_frequency intervals
                state.update(lr_lambdas=[], last_epoch=_intervals(checkpoint, cast("Pipeline", pl_module)))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the settings of the new optimizer; sort the state that it will load into its groups.

        Strategies that shard load checkpoints later, and sort the state themselves.
        """
        (optimizer,) = trainer.optimizers
        self.settings = settings_of(optimizer)
        if self.loaded is not None and "optimizer_states" in self.loaded:
            regrouped = cast("Pipeline", pl_module).regrouped
            self.loaded["optimizer_states"] = [regrouped(s, optimizer) for s in self.loaded["optimizer_states"]]
        self.loaded = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the settings take effect."""
        if self.continues:
            apply_settings(trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler, self.settings)


def _intervals(checkpoint: Mapping[str, Any], pipeline: Pipeline) -> int:
    """Return the number of intervals of the schedule that are done in a checkpoint: steps or epochs."""
    if pipeline.scheduler_interval == "step":
        return int(checkpoint["global_step"])
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"])
