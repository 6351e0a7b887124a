"""When a run is saved: the last state to go on from, the best one, and what can be shared."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.utilities.exceptions import SIGTERMException

from transformers_framework.callbacks.export import Exporter
from transformers_framework.callbacks.guards import FiniteLoss
from transformers_framework.runtime.files import link_file, link_folder, replace
from transformers_framework.runtime.run_folders import RunFolders

logger = logging.getLogger(__name__)


class Checkpoints(pl.callbacks.Checkpoint):
    """Save the run at each validation, each epoch, each so many steps, and when it is told to leave.

    Each time ``last.ckpt`` is replaced and ``pre_trained_models/RUN/ckpt_epoch_E_step_S`` is added. When the monitored
    metric improves, both also become ``best``.

    Args:
        folders: Where files go.
        exporter: Writes checkpoints for transformers.
        monitor: Name of the metric that decides which state is best; none is without it.
        direction: Whether ``max`` or ``min`` of it is best.
        interval: Optimizer steps between checkpoints, besides those of epochs and validations.
        at_validation: Save after each validation.
        at_epoch: Save after each epoch.
    """

    def __init__(
        self,
        folders: RunFolders,
        exporter: Exporter,
        *,
        monitor: str | None,
        direction: str,
        interval: int | None,
        at_validation: bool,
        at_epoch: bool,
    ) -> None:
        self.folders, self.exporter = folders, exporter
        self.monitor, self.sign = monitor, 1 if direction == "max" else -1
        self.interval, self.at_validation, self.at_epoch = interval, at_validation, at_epoch
        self.best_value: float | None = None
        self.best_step = 0
        self.saved_step = -1
        self.exported: str | None = None

    @property
    def state_key(self) -> str:
        """Name of the state in checkpoints; the default holds arguments that a resumed run may change."""
        return "Checkpoints"

    def state_dict(self) -> dict[str, Any]:
        """Return which state was best."""
        return {"monitor": self.monitor, "sign": self.sign, "best_value": self.best_value, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best state of the run that continues; that of another run or another metric is none here."""
        if (state_dict["monitor"], state_dict["sign"]) == (self.monitor, self.sign) and self.folders.best.exists():
            self.best_value, self.best_step = state_dict["best_value"], state_dict["best_step"]

    # ---------------------------------------------------------------- events

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Save every ``interval`` optimizer steps and where training stops within an epoch, behind the step itself.

        Later hooks would be too late: to Lightning's counters an epoch that was left is an epoch that is over.
        """
        step = trainer.global_step
        due = self.interval is not None and step % self.interval == 0
        if step and step != self.saved_step and (due or trainer.should_stop or 0 < trainer.max_steps <= step):
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after a validation."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        improved = self.monitor is not None and self.monitor.startswith("valid/") and self._improved(trainer)
        if self.at_validation or improved or trainer.should_stop:
            self.save(trainer, best=improved, keep=self.at_validation)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after an epoch that is complete, always after the last one."""
        if (
            not trainer.is_last_batch
            and trainer.fit_loop.epoch_loop.batch_progress.current.ready < trainer.num_training_batches
        ):
            return
        improved = self.monitor is not None and self.monitor.startswith("train/") and self._improved(trainer)
        ends = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
        if self.at_epoch or improved or ends:
            self.save(trainer, best=improved, keep=self.at_epoch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save weights that were averaged at the very end."""
        if any(isinstance(callback, StochasticWeightAveraging) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            self._write(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Export the final state, also when the run that continues had only this left to do."""
        if stage == "fit":
            self.exporter.export(trainer, self.folders.pre_trained_models / "final")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save before leaving when told to leave; after a failure the last good checkpoint stays."""
        if isinstance(exception, (SIGTERMException, KeyboardInterrupt)) and trainer.state.fn == "fit":
            self._write(trainer)
            logger.warning("Stopped at step %d; --resume goes on from %s", trainer.global_step, self.folders.last)

    # ---------------------------------------------------------------- files

    def _improved(self, trainer: pl.Trainer) -> bool:
        value = float(trainer.callback_metrics.get(str(self.monitor), math.nan))
        better = self.best_value is None or self.sign * value > self.sign * self.best_value
        # the first process decides: of training each knows its own losses, and to save takes all of them
        improved = bool(trainer.strategy.broadcast(better and math.isfinite(value)))
        if improved:
            self.best_value, self.best_step = value, trainer.global_step
        return improved

    def save(self, trainer: pl.Trainer, *, best: bool = False, keep: bool = True) -> None:
        """Replace the last checkpoint and, when it is the best, that one; every process calls this.

        Args:
            trainer: The trainer.
            best: This state is the best so far.
            keep: Leave an export of this step for transformers.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, FiniteLoss):
                callback.check(trainer)
        # last.ckpt comes last: a run that dies before it continues from the one before, and makes all of these again
        self.saved_step = trainer.global_step
        models, step = self.folders.pre_trained_models, f"ckpt_epoch_{trainer.current_epoch}_step_{trainer.global_step}"
        if keep and step != self.exported:  # what an earlier process left may be of other flags
            self.exporter.export(trainer, models / step)
            self.exported = step
        if best and not keep:
            self.exporter.export(trainer, models / "best")
        elif best and trainer.is_global_zero:
            link_folder(models / step, models / "best")
        self._write(trainer, best=best)

    def _write(self, trainer: pl.Trainer, *, best: bool = False) -> None:
        """Write the state aside, as one file or as a folder of shards, then let it be the last one."""
        folders = self.folders
        aside = folders.checkpoints / ".state.part"
        trainer.save_checkpoint(aside)
        # nodes without a folder in common have each a part of what was sharded
        for leads in (trainer.is_global_zero, trainer.local_rank == 0):
            if leads and aside.exists():
                if best:
                    (link_folder if aside.is_dir() else link_file)(aside, folders.best)
                if folders.last.exists():
                    replace(folders.last, folders.previous)
                replace(aside, folders.last)
            trainer.strategy.barrier()
