"""Checkpoints: the last one to resume from, the best one, and exports for transformers."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from transformers_framework.callbacks.export import Exporter
from transformers_framework.callbacks.non_finite import TerminateOnNonFinite
from transformers_framework.loggers.interface import Continues
from transformers_framework.pipelines.log_names import reproducible
from transformers_framework.runtime.loops import (
    epoch_loop,
    epoch_under_way,
    find_callback,
    in_last_batch,
    training_ends,
)
from transformers_framework.storage.atomic import discard, link_equal_files, link_file, link_folder, replace
from transformers_framework.storage.exports import export_name, surplus
from transformers_framework.storage.run_folders import RunFolders

logger = logging.getLogger(__name__)


class Checkpoints(pl.callbacks.Checkpoint):
    """Save a checkpoint after validations and epochs, every `interval` steps, and at a graceful shutdown.

    Each time ``last.ckpt`` is replaced and ``pre_trained_models/RUN/ckpt_epoch_E_step_S`` is added, of which the newest
    are kept. When the monitored metric improves, both also become ``best``.

    Args:
        folders: Where files go.
        exporter: Writes checkpoints for transformers.
        monitor: Name of the metric that decides which checkpoint is best; without it, none is.
        direction: Whether ``max`` or ``min`` of it is best.
        interval: Optimizer steps between checkpoints, besides those of epochs and validations.
        at_validation: Save after each validation.
        at_epoch: Save after each epoch.
        keep: Number of exports of single steps that are kept, the newest; None for all.
        averages: Whether the last state has averaged weights, which must be validated.
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
        keep: int | None = None,
        averages: bool = False,
    ) -> None:
        self.folders, self.exporter = folders, exporter
        self.monitor, self.sign = monitor, 1 if direction == "max" else -1
        self.interval, self.at_validation, self.at_epoch = interval, at_validation, at_epoch
        self.keep, self.averages = keep, averages
        self.best_value: float | None = None
        self.best_step = self.best_epoch = 0
        self.best_metrics: dict[str, float] = {}  # that were logged when it was found
        self.saved_step = -1
        self.validated_step: int | None = None
        self.exported: str | None = None
        self.written: tuple[int, bool] | None = None
        self.metrics: dict[str, float] = {}  # that were logged when the checkpoint was written

    @property
    def state_key(self) -> str:
        """Name of the state in checkpoints; the default holds arguments that a resumed run may change."""
        return "Checkpoints"

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and step, the last saved step and export, and what was logged and when."""
        return {
            "monitor": self.monitor,
            "sign": self.sign,
            "best_value": self.best_value,
            "best_step": self.best_step,
            "best_epoch": self.best_epoch,
            "best_metrics": self.best_metrics,
            "saved_step": self.saved_step,
            "validated_step": self.validated_step,
            "exported": self.exported,
            "metrics": self.metrics,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value where the same metric is monitored, and the last saved step and export."""
        is_same = (state_dict["monitor"], state_dict["sign"]) == (self.monitor, self.sign)
        if is_same and self.folders.best.exists():
            self.best_value, self.best_step = state_dict["best_value"], state_dict["best_step"]
            self.best_epoch = state_dict.get("best_epoch", 0)
            self.best_metrics = state_dict.get("best_metrics", {})
        self.saved_step, exported = state_dict.get("saved_step", -1), state_dict.get("exported")
        if exported is not None and (self.folders.pre_trained_models / exported).exists():
            self.exported = exported
        self.validated_step, self.metrics = state_dict.get("validated_step"), state_dict.get("metrics", {})

    @property
    def best(self) -> dict[str, Any] | None:
        """The best state: the monitored metric, its value, where it was, and the metrics that were logged then."""
        if self.best_value is None:
            return None
        return {
            "monitor": self.monitor,
            "direction": "max" if self.sign > 0 else "min",
            "value": self.best_value,
            "step": self.best_step,
            "epoch": self.best_epoch,
            "metrics": self.best_metrics,
        }

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of loggers, such as the sizes of TensorBoard's files, which are cut there on resume."""
        checkpoint.update({found.state_key: found.state() for found in trainer.loggers if isinstance(found, Continues)})

    # ---------------------------------------------------------------- events

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the logged metrics, which model cards and the end of the epoch need."""
        self._restore_metrics(trainer)

    def on_batch_done(self, trainer: pl.Trainer) -> None:
        """Save every ``interval`` optimizer steps and where training ends within an epoch, before a validation.

        The last state is validated too where the monitored metric was never logged, or weights were averaged.
        """
        step, loop = trainer.global_step, epoch_loop(trainer)
        ends = training_ends(trainer)
        if ends or in_last_batch(trainer):  # only then, as to read metrics waits for the device
            never_validated = self._monitors("valid") and self.monitor not in trainer.callback_metrics
            if never_validated or (self.averages and trainer.enable_validation):
                loop.validate_next()
        due = self.interval is not None and step % self.interval == 0
        if step and step != self.saved_step and (due or ends):
            exports_later = loop.validation_due and self.at_validation
            self.save(trainer, export=(due or self.at_epoch) and not exports_later)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after a validation."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        epoch_loop(trainer).end_validation()
        self.validated_step = trainer.global_step
        improved = self._monitors("valid") and self._improved(trainer)
        if self.at_validation or improved or training_ends(trainer):
            self.save(trainer, best=improved, export=self.at_validation)

    def on_epoch_done(self, trainer: pl.Trainer) -> None:
        """Save after an epoch that is complete, always after the last one."""
        batches = epoch_loop(trainer).batch_progress.current.ready
        if not trainer.is_last_batch and batches < trainer.num_training_batches:
            return
        improved = self._monitors("train") and self._improved(trainer)
        ends = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch
        if self.at_epoch or improved or ends:
            self.save(trainer, best=improved, export=self.at_epoch)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Export the final state, also of a resumed run that has nothing left to train."""
        if stage == "fit":
            self._restore_metrics(trainer)
            models = self.folders.pre_trained_models
            self.folders.select(best=self.best_value is not None)
            if not self.folders.selects_best and (models / "best").exists():
                logger.warning(
                    "%s is the best state by the --monitor with which this run began, and stays as it is: the last "
                    "weights are tested and used.",
                    models / "best",
                )
            self.exporter.export(trainer, models / "final", validated_step=self.validated_step)
            for name in ("best", self.exported) if trainer.is_global_zero else ():
                if name is not None and (models / name).exists():
                    link_equal_files(models / name, models / "final")
            self._remove_surplus(trainer)  # a process that was killed may have left some

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save at a graceful shutdown; after a failure or the second Ctrl-C the last checkpoint stays as it is."""
        if not isinstance(exception, SIGTERMException) or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if self.written != self._now(trainer):
            self._write(trainer)
        logger.warning("Stopped at step %d; --resume continues from %s", trainer.global_step, self.folders.last)

    # ---------------------------------------------------------------- files

    def _monitors(self, stage: str) -> bool:
        return self.monitor is not None and self.monitor.startswith(f"{stage}/")

    def _restore_metrics(self, trainer: pl.Trainer) -> None:
        for name, value in self.metrics.items():
            trainer.callback_metrics.setdefault(name, torch.tensor(value))
        self.metrics = {}

    @staticmethod
    def _now(trainer: pl.Trainer) -> tuple[int, bool]:
        """Return the batch and whether a validation is due, to compare states of a run."""
        return epoch_loop(trainer).total_batch_idx, epoch_loop(trainer).validation_due

    def _improved(self, trainer: pl.Trainer) -> bool:
        value = float(trainer.callback_metrics.get(str(self.monitor), math.nan))
        if not math.isfinite(value):
            logger.warning("%s is %s: this counts as no improvement.", self.monitor, value)
        better = self.best_value is None or self.sign * value > self.sign * self.best_value
        # rank 0 decides: ranks log training losses of their own, and all of them save
        improved = bool(trainer.strategy.broadcast(better and math.isfinite(value)))
        if improved:
            self.best_value, self.best_step = value, trainer.global_step
        return improved

    def save(self, trainer: pl.Trainer, *, best: bool = False, export: bool = True) -> None:
        """Replace the last checkpoint and, when this is the best state, that one; called by every rank.

        Args:
            trainer: The trainer.
            best: This state is the best so far.
            export: Export this step for transformers, unless no exports of steps are kept.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, TerminateOnNonFinite):
                callback.check(trainer)
        self.folders.move_earlier_aside()
        # last.ckpt comes last: a run that dies before resumes from the one before and writes all of these again
        self.saved_step = trainer.global_step
        models = self.folders.pre_trained_models
        step, export = export_name(epoch_under_way(trainer), trainer.global_step), export and self.keep != 0
        # an export of an earlier process may have other flags; rank 0 decides, as others may not see its disk
        if export and trainer.strategy.broadcast(step != self.exported):
            self.exporter.export(trainer, models / step, validated_step=self.validated_step)
            self.exported = step
        if best and not export:
            self.exporter.export(trainer, models / "best", validated_step=self.validated_step)
        elif best and trainer.is_global_zero:
            link_folder(models / step, models / "best")
        self._write(trainer, best=best)
        self._remove_surplus(trainer)

    def _remove_surplus(self, trainer: pl.Trainer) -> None:
        """Remove exports that are not kept, once a checkpoint is written after them."""
        if self.keep is not None and trainer.is_global_zero:
            for path in surplus(self.folders.pre_trained_models, keep=self.keep, step=trainer.global_step):
                discard(path)

    def _write(self, trainer: pl.Trainer, *, best: bool = False) -> None:
        """Write a checkpoint aside, as one file or a folder of shards, then rename it to the last one."""
        folders = self.folders
        folders.move_earlier_aside()
        self.metrics = reproducible(trainer.callback_metrics)
        if best:
            self.best_epoch = epoch_under_way(trainer)
            # those of training are of earlier steps
            evaluated = (name for name in self.metrics if not name.startswith("train/") or name == self.monitor)
            self.best_metrics = {name: self.metrics[name] for name in evaluated}
        aside = folders.checkpoints / ".state.part"
        trainer.save_checkpoint(aside)
        # without a shared folder each node has its own shards
        for leads in (trainer.is_global_zero, trainer.local_rank == 0):
            if leads and aside.exists():
                if best:
                    (link_folder if aside.is_dir() else link_file)(aside, folders.best)
                if folders.last.exists():
                    replace(folders.last, folders.previous)
                replace(aside, folders.last)
            trainer.strategy.barrier()
        folders.remove_earlier()
        self.written = self._now(trainer)


def best_of(trainer: pl.Trainer) -> dict[str, Any] | None:
    """Return the best state of a run, see :attr:`Checkpoints.best`."""
    found = find_callback(trainer, Checkpoints)
    return None if found is None else found.best
