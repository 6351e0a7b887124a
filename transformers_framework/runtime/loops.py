"""Training loops that are saved between batches and remember what is still due: a validation, the end of an epoch.

Lightning's own loops guess from counters where a checkpoint was written, and lose an interrupted validation, and the
end of an epoch where ``max_steps`` ends the run.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar, cast

import pytorch_lightning as pl

from transformers_framework.compat import lightning

C = TypeVar("C", bound=pl.Callback)

logger = logging.getLogger(__name__)


def use_own_loops(trainer: pl.Trainer) -> pl.Trainer:
    """Let a trainer train with the loops of this module; return it."""
    limits = trainer.fit_loop
    trainer.fit_loop = FitLoop(trainer, limits.min_epochs, limits.max_epochs)
    trainer.fit_loop.epoch_loop = EpochLoop(trainer, limits.min_steps, limits.max_steps)
    return trainer


class EpochLoop(lightning.TrainingEpochLoop):
    """The batches of an epoch.

    Callbacks may have a hook ``on_batch_done(trainer)``: the batch is counted and logged, and a validation that follows
    has not begun. A checkpoint may be written there, at the end of a validation and at the end of an epoch. A resumed
    run first does what was due after the batch, without the batch.
    """

    validation_due = False

    @property
    def done(self) -> bool:
        """Whether the epoch is over; what was due after a batch is always done first."""
        return not self.restarting and bool(super().done)

    def reset(self) -> None:
        """Start an epoch, or stay at the batch of the checkpoint."""
        if self.restarting:
            self.val_loop.restarting = False
        else:
            super().reset()

    def advance(self, data_fetcher: Any) -> None:
        """Train on the next batch; that of the checkpoint is done."""
        if not self.restarting:
            super().advance(data_fetcher)

    def on_advance_end(self, data_fetcher: Any) -> None:
        """Do what follows a batch."""
        if not self.restarting:
            self.validation_due = super().validates_now(data_fetcher)
            call_hooks(self.trainer, "on_batch_done")
        if self.validation_due:
            self.val_loop.batch_progress.reset()  # an interrupted one starts again
        super().on_advance_end(data_fetcher)

    def validates_now(self, data_fetcher: Any) -> bool:
        """Return whether a validation is due."""
        return self.validation_due

    def validate_next(self) -> None:
        """Let a validation follow the batch that is done."""
        self.validation_due = True

    def end_validation(self) -> None:
        """Take note that the validation that was due is done."""
        self.validation_due = False

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Add what is due to the state."""
        return {**super().on_save_checkpoint(), "validation_due": self.validation_due}

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Restore what is due."""
        super().on_load_checkpoint(state_dict)
        self.validation_due = state_dict.get("validation_due", False)


class FitLoop(lightning.FitLoop):
    """The epochs; callbacks may have a hook ``on_epoch_done(trainer)``, when an epoch is counted and logged."""

    epoch_loop: EpochLoop

    @lightning.Loop.restarting.setter  # type: ignore[attr-defined]
    def restarting(self, restarting: bool) -> None:
        """Restart within an epoch; after a complete one start the next, also where ``max_steps`` limits the run."""
        progress = self.epoch_progress.current
        lightning.Loop.restarting.fset(self, restarting and progress.ready != progress.processed)  # type: ignore[attr-defined]

    @property
    def done(self) -> bool:
        """Whether training is over; an interrupted epoch that is asked for is ended, though no batch may be left."""
        progress: Any = self.epoch_progress.current
        is_asked_for = self.max_epochs is None or self.max_epochs < 0 or progress.processed < self.max_epochs
        return not (self.restarting and is_asked_for) and bool(super().done)

    def load_state_dict(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        """Take the state of a checkpoint; nothing is left to do where it has more epochs than were asked for."""
        super().load_state_dict(state_dict, prefix)
        progress: Any = self.epoch_progress.current
        done, begun = progress.processed, progress.ready
        if self.max_epochs is not None and 0 <= self.max_epochs < begun and self.max_epochs <= done:
            logger.warning("--max_epochs %d: %d epochs are done, and no more is trained.", self.max_epochs, done)
            self.max_epochs = done

    def on_advance_end(self) -> None:
        """End an epoch."""
        super().on_advance_end()
        call_hooks(self.trainer, "on_epoch_done")


def call_hooks(trainer: pl.Trainer, name: str) -> None:
    """Call a hook of all callbacks that have it, the last callback first: those that save are last."""
    for callback in reversed(trainer.callbacks):  # type: ignore[attr-defined]
        if (hook := getattr(callback, name, None)) is not None:
            hook(trainer)


def find_callback(trainer: pl.Trainer, kind: type[C]) -> C | None:
    """Return the first callback of a class, or of a subclass of it; None if the trainer has none."""
    return next((found for found in trainer.callbacks if isinstance(found, kind)), None)  # type: ignore[attr-defined]


def epoch_loop(trainer: pl.Trainer) -> EpochLoop:
    """Return the loop over batches of a trainer."""
    return cast("EpochLoop", trainer.fit_loop.epoch_loop)


def epoch_under_way(trainer: pl.Trainer) -> int:
    """Return the epoch of the last batch, from 0; ``trainer.current_epoch`` is the next one when it is over."""
    return max(0, trainer.fit_loop.epoch_progress.current.ready - 1)


def training_ends(trainer: pl.Trainer) -> bool:
    """Return whether training ends after this batch, whatever is left of the epoch."""
    stops = trainer.should_stop and lightning.can_stop_early(trainer)
    return stops or 0 < trainer.max_steps <= trainer.global_step


def in_last_batch(trainer: pl.Trainer) -> bool:
    """Return whether this is the last batch of the last epoch."""
    epochs = trainer.max_epochs
    is_last_epoch = epochs is not None and 0 <= epochs <= epoch_under_way(trainer) + 1
    return is_last_epoch and lightning.epoch_ends(trainer)
