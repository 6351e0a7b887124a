"""Gradient accumulation for a number of rows per optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from transformers_framework.constants import AUTO, DEFAULT_BATCH_SIZE
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import PositiveInt

if TYPE_CHECKING:
    import pytorch_lightning as pl


def accumulated_batches(
    trainer: pl.Trainer,
    *,
    batch_size: PositiveInt | Literal["auto"] = DEFAULT_BATCH_SIZE,
    max_tokens_per_batch: PositiveInt | None = None,
    effective_batch_size: PositiveInt | None = None,
) -> int:
    """Return the number of batches per optimizer step.

    Args:
        trainer: Has the world size and ``--accumulate_grad_batches``; its default, 1, asks for no number.
        batch_size: Number of rows per batch, on each device; auto until it is found.
        max_tokens_per_batch: Limit of the tokens of a training batch, in place of `batch_size`.
        effective_batch_size: Number of rows per optimizer step, over all devices and nodes. The number of accumulated
            batches is computed from it, in place of `accumulate_grad_batches`, so that the steps of a run are the same
            on any number of devices.

    Raises:
        ConfigurationError: When the rows of a step are not a multiple of those of a batch on all ranks, or contradict
            ``--accumulate_grad_batches``.
    """
    asked, world = trainer.accumulate_grad_batches, trainer.world_size
    if effective_batch_size is None:
        return asked
    flag = f"--effective_batch_size {effective_batch_size}"
    if max_tokens_per_batch is not None:
        raise ConfigurationError(
            f"{flag}: batches of --max_tokens_per_batch differ in their number of rows. Give --batch_size instead, or "
            "--accumulate_grad_batches for a number of batches per step."
        )
    if batch_size == AUTO:
        if asked != 1:
            raise ConfigurationError(
                f"{flag}: --batch_size auto finds the number of accumulated batches, too. Remove "
                f"--accumulate_grad_batches {asked}."
            )
        if effective_batch_size % world:
            raise ConfigurationError(f"{flag}: it is not a multiple of the {world} processes. Give one that is.")
        return asked
    together = batch_size * world
    found = f"--batch_size {batch_size}" + (f" × {world} processes = {together}" if world > 1 else "")
    count, rest = divmod(effective_batch_size, together)
    if rest:
        nearest = [f"{number}" for number in (count * together, (count + 1) * together) if number]
        raise ConfigurationError(
            f"{flag}: it is not a multiple of the rows of a batch, {found}. Give {' or '.join(nearest)}, or a "
            f"--batch_size that divides it{f' with {world} processes' if world > 1 else ''}."
        )
    if asked not in (1, count):
        raise ConfigurationError(
            f"{flag}: with {found}, it needs --accumulate_grad_batches {count}, and {asked} was given. Remove one of "
            "the two flags."
        )
    return count
