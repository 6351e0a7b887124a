"""How many batches and optimizer steps a run takes, and checks of the flags that set them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers_framework.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


DEFAULT_EPOCHS = 3  # of fine-tuning


def has_default_length(options: Mapping[str, object]) -> bool:
    """Return whether no flag says how long training is.

    Args:
        options: All flags of the run.

    Examples:
        >>> has_default_length({"max_epochs": None, "max_steps": -1}), has_default_length({"max_steps": 100})
        (True, False)
    """
    is_limited = any(options.get(name) for name in ("max_time", "fast_dev_run"))
    return not is_limited and options.get("max_epochs") is None and options.get("max_steps") in (None, -1)


def default_epochs(options: Mapping[str, object], *, pre_trains: bool) -> int:
    """Return the epochs of a training whose length no flag sets.

    Args:
        options: All flags of the run.
        pre_trains: Whether the pipeline only pre-trains models.

    Raises:
        ConfigurationError: When it does: no number of epochs is a good default.
    """
    if pre_trains:
        raise ConfigurationError(
            "--max_steps or --max_epochs is needed: how long to pre-train depends on the data and the model. Give the "
            "number of optimizer steps or of epochs (--max_epochs -1: without an end)."
        )
    least = options.get("min_epochs")
    return max(DEFAULT_EPOCHS, least) if isinstance(least, int) else DEFAULT_EPOCHS


@dataclass(frozen=True)
class Steps:
    """Sizes of a run as Lightning will count them; infinite where it is unknown.

    Args:
        epochs: Epochs at most.
        batches: Training batches of an epoch, on each rank.
        per_epoch: Optimizer steps of an epoch.
        total: Optimizer steps of the run.
    """

    epochs: float
    batches: float
    per_epoch: float
    total: float

    @classmethod
    def of(cls, trainer: Trainer, num_rows: int | None, batch_size: int) -> Steps:
        """Count before anything is loaded.

        Args:
            trainer: Has the world size, limits, epochs and accumulation.
            num_rows: Rows of the training data, None of a stream of unknown length.
            batch_size: Rows of a batch on each rank.
        """
        whole = math.inf if num_rows is None else math.ceil(num_rows / (batch_size * trainer.world_size))
        batches, limit = whole, trainer.limit_train_batches
        if isinstance(limit, int):
            batches = min(whole, limit)
        elif whole < math.inf:
            batches = int(whole * limit)
        per_epoch = batches if math.isinf(batches) else math.ceil(batches / trainer.accumulate_grad_batches)
        epochs = _epochs(trainer)
        total = per_epoch * epochs if per_epoch and epochs else 0
        return cls(epochs, batches, per_epoch, total if trainer.max_steps == -1 else min(total, trainer.max_steps))

    def __str__(self) -> str:
        """Return the length of the run in words."""
        if math.isinf(self.total):
            return "an unknown number of optimizer steps"
        steps = f"{int(self.total):,} optimizer step{'s' * (self.total != 1)}"
        epochs = 0 if math.isinf(self.per_epoch) else self.total / self.per_epoch
        return f"{steps} in {epochs:,.3g} epoch{'s' * (epochs != 1)}" if epochs else steps

    def all_batches(self, trainer: Trainer) -> float:
        """Return the batches of the run, on each rank.

        Args:
            trainer: Has the accumulation.
        """
        epochs, steps = (0, self.total) if math.isinf(self.per_epoch) else divmod(self.total, self.per_epoch)
        whole = epochs * self.batches if epochs else 0
        return whole + steps * trainer.accumulate_grad_batches

    def first_validation(self, trainer: Trainer) -> float:
        """Return the batch after which the first validation comes; 0 where validations are by time.

        Args:
            trainer: Has the intervals.
        """
        interval, epochs = trainer.val_check_interval, trainer.check_val_every_n_epoch
        if isinstance(interval, float):
            batches = self.batches if interval == 1 else max(1, int(self.batches * interval))
        elif isinstance(interval, int):
            batches = interval
        else:
            return 0
        return batches if epochs is None else (epochs - 1) * self.batches + batches

    def last_validation(self, trainer: Trainer) -> float:
        """Return the optimizer step after which the last validation comes; 0 if there is none, or they are by time.

        Args:
            trainer: Has the intervals and the accumulation.
        """
        interval, epochs = trainer.val_check_interval, trainer.check_val_every_n_epoch
        if math.isinf(self.total) or isinstance(interval, str) or interval is None:
            return 0
        if math.isinf(self.batches) or epochs is None:
            batches = self.all_batches(trainer)
            last = batches - batches % interval if isinstance(interval, int) else 0
            if math.isinf(self.batches):
                return last // trainer.accumulate_grad_batches
            epoch, batch = divmod(last, self.batches)
            return epoch * self.per_epoch + batch // trainer.accumulate_grad_batches
        every = max(1, int(self.batches * interval)) if isinstance(interval, float) else interval
        whole, steps = divmod(self.total, self.per_epoch)
        batch = steps * trainer.accumulate_grad_batches
        if (whole + 1) % epochs == 0 and batch >= every:
            return whole * self.per_epoch + (batch - batch % every) // trainer.accumulate_grad_batches
        validated = whole - whole % epochs  # epochs up to the last one with a validation
        batch = self.batches - self.batches % every
        in_epoch = self.per_epoch if batch == self.batches else batch // trainer.accumulate_grad_batches
        return (validated - 1) * self.per_epoch + in_epoch if validated and batch else 0

    def remedies(self, trainer: Trainer) -> list[str]:
        """Return the flags that give a run validations before its end, where the first one comes after it.

        Args:
            trainer: Has the intervals.
        """
        end, skipped = self.all_batches(trainer), (trainer.check_val_every_n_epoch or 1) - 1
        first = self.first_validation(trainer) - skipped * self.batches if skipped else self.first_validation(trainer)
        remedies = ["--check_val_every_n_epoch 1"] if skipped else []
        return remedies if first < end else [*remedies, f"a --val_check_interval below {end:.0f}"]

    def check(self, trainer: Trainer, *, validates: bool) -> None:
        """Raise when numbers of batches, epochs and steps contradict each other.

        Args:
            trainer: The trainer that was asked for.
            validates: Whether there are data to validate on.

        Raises:
            ConfigurationError: When nothing would be trained, or never be validated.
        """
        low, high = trainer.min_epochs or 0, trainer.max_epochs
        if high is not None and -1 < high < low:
            raise ConfigurationError(f"--min_epochs: {low} is more than --max_epochs {high}.")
        if -1 < trainer.max_steps < (trainer.min_steps or 0):
            raise ConfigurationError(f"--min_steps: {trainer.min_steps} is more than --max_steps {trainer.max_steps}.")
        if self.total == 0:
            limits = {name: getattr(trainer, name) for name in ("max_epochs", "max_steps", "limit_train_batches")}
            flags = ", ".join(f"--{name} {value}" for name, value in limits.items() if value not in (None, -1, 1.0))
            raise ConfigurationError(
                f"{flags}: nothing would be trained. Raise it, or leave --train_dataset out to test and predict only."
            )
        interval = trainer.val_check_interval
        if not validates or interval is None or isinstance(interval, str):
            return
        if isinstance(interval, int) and interval > self.batches and trainer.check_val_every_n_epoch is not None:
            raise ConfigurationError(
                f"--val_check_interval: {interval} batches are more than the {self.batches} of an epoch, so no "
                "validation would happen. Use less, a share of the epoch as 0.5, or --check_val_every_n_epoch none to "
                "count on from epoch to epoch."
            )
        if isinstance(interval, float) and interval < 1 and math.isinf(self.batches):
            raise ConfigurationError(
                f"--val_check_interval: {interval} of an epoch cannot be known of a stream of unknown length; give a "
                "number of batches."
            )


def _epochs(trainer: Trainer) -> float:
    """Return the epochs of a run, infinite where other limits end it."""
    return math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
