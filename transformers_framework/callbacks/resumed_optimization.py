"""Settings of optimizer and schedule that change when a run is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl

from transformers_framework.optimizers.continued import apply_settings, settings_of

if TYPE_CHECKING:
    from transformers_framework.pipelines.pipeline import Pipeline


class ResumedOptimization(pl.Callback):
    """Apply the optimizer and schedule settings of this run after a checkpoint was loaded.

    Optimizers and schedulers load their settings, as the learning rate, with their state: those of the run that wrote
    the checkpoint.
    """

    def __init__(self) -> None:
        self.settings: Sequence[Mapping[str, Any]] = ()
        self.loaded: dict[str, Any] | None = None
        self.continues = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the checkpoint until the optimizer is there; remove the schedule factors that it holds."""
        self.continues = trainer.training
        if self.continues and not trainer.strategy.restore_checkpoint_after_setup:
            self.loaded = checkpoint
        for state in checkpoint.get("lr_schedulers", ()):
            if "lr_lambdas" in state:
                # earlier versions counted updates, of which there is one in --scheduler_frequency intervals
                state.update(lr_lambdas=[], last_epoch=_intervals(checkpoint, cast("Pipeline", pl_module)))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the settings of the new optimizer; regroup the checkpoint's optimizer state by its parameter groups.

        Strategies that shard load checkpoints later, and regroup the state themselves.
        """
        (optimizer,) = trainer.optimizers
        self.settings = settings_of(optimizer)
        if self.loaded is not None and "optimizer_states" in self.loaded:
            regrouped = cast("Pipeline", pl_module).regrouped
            self.loaded["optimizer_states"] = [regrouped(s, optimizer) for s in self.loaded["optimizer_states"]]
        self.loaded = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply the settings."""
        if self.continues:
            apply_settings(trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler, self.settings)


def _intervals(checkpoint: Mapping[str, Any], pipeline: Pipeline) -> int:
    """Return the number of intervals of the schedule that are done in a checkpoint: steps or epochs."""
    if pipeline.scheduler_interval == "step":
        return int(checkpoint["global_step"])
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"])
