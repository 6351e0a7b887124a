"""Disk space of a run that is over: which of its checkpoints stay."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import pytorch_lightning as pl

from transformers_framework.run_parts import EndsRun
from transformers_framework.storage.atomic import discard

if TYPE_CHECKING:
    from transformers_framework.run_parts import Run

Kept = Literal["last", "all", "none"]

logger = logging.getLogger(__name__)


def kept_checkpoints(run: Run, *, keep_checkpoints: Kept = "last") -> KeptCheckpoints | None:
    """Return the callback that removes checkpoints of a run that is over.

    Args:
        run: The run.
        keep_checkpoints: Checkpoints that stay when a run was trained to its end, tested and has predicted. last:
            last.ckpt, with which --resume can train more epochs, and the weights in best.ckpt; all: all of them as they
            are; none: only exports stay.
    """
    trains = run.options.get("train_dataset") is not None
    return KeptCheckpoints(keep_checkpoints) if trains and run.writes and keep_checkpoints != "all" else None


class KeptCheckpoints(pl.Callback, EndsRun):
    """Reduce the checkpoints of a run that is over; each of its steps can be interrupted and repeated.

    Args:
        keep: ``last`` removes the previous checkpoint, and all but the weights of the best one; ``none`` removes all.
    """

    def __init__(self, keep: Kept) -> None:
        self.keep, self.time_is_over = keep, False

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take note whether ``--max_time`` ended the training: a test of the best state sets the timer back to it."""
        from transformers_framework.callbacks.early_stopping import TIME_IS_OVER, reason_of_end

        self.time_is_over = reason_of_end(trainer) == TIME_IS_OVER

    def on_run_end(self, run: Run) -> None:
        """Reduce the checkpoints, unless the run was stopped by ``--max_time``."""
        trainer = run.trainer
        if trainer.strategy.broadcast(self.time_is_over):  # ranks have their own clocks
            return
        # without a shared folder each node has its own files
        for leads in (trainer.is_global_zero, trainer.local_rank == 0):
            if leads:
                try:
                    self._reduce(run)
                except Exception as error:
                    logger.warning(
                        "Checkpoints in %s were not reduced (%s). Remove those that are not needed.",
                        *(run.folders.checkpoints, error),
                    )
            trainer.strategy.barrier()

    def _reduce(self, run: Run) -> None:
        from transformers_framework.strategies.weights import keep_weights

        folders, states = run.folders, [callback.state_key for callback in described(run)]
        discard(folders.previous)
        if self.keep == "last":
            if folders.best.exists():
                keep_weights(folders.best, states)
        else:  # the last one first: without the best one, a run that resumed from it would test the last state
            discard(folders.last)
            discard(folders.best)


def described(run: Run) -> list[pl.Callback]:
    """Return the callbacks whose states say which run wrote a checkpoint, and why it is the best one."""
    from transformers_framework.callbacks.checkpoints import Checkpoints
    from transformers_framework.callbacks.run_record import RunRecord

    callbacks: list[pl.Callback] = run.trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, (Checkpoints, RunRecord))]
