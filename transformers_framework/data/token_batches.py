"""Batch sampler for batches with at most a number of tokens, padding included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from transformers_framework.constants import TRAIN
from transformers_framework.data.row_groups import num_groups
from transformers_framework.data.sampler import BLOCK_STEPS, BatchRequest, BatchSampler, exchanged
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.objectives.capabilities import ChangesLengths
from transformers_framework.processing.random import Permutation
from transformers_framework.processing.token_batches import LENGTH_MULTIPLE, TokenBatches, padded_lengths

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule


class TokenBatchSampler(BatchSampler):
    """Yield the batches of :class:`TokenBatches` in random order, one per rank and step.

    Its entries are batches, not rows: ``consumed`` is a number of batches. Batches do not depend on the number of
    ranks: two ranks train on the same rows in a step as one rank in two batches. Where the last step has fewer batches
    than ranks, the other ranks have a single padding row. In epoch 0, a batch with the longest rows comes first: a run
    that needs too much memory fails at once.

    Args:
        batches: The batches.
        accumulated: Number of batches per optimizer step.
        rank: Rank of this process.
        world_size: Number of ranks.
    """

    def __init__(self, batches: TokenBatches, *, accumulated: int = 1, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(
            len(batches),
            batch_size=1,
            accumulated=accumulated,
            seed=batches.seed,
            shuffle=True,
            rank=rank,
            world_size=world_size,
        )
        self.batches = batches

    def order(self, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """Return the batches of the epoch in order, in blocks of whole steps."""
        batches_at = Permutation(self.seed, self.epoch, self.num_rows, "sampler.batches")
        first = int(batches_at(0, 1)[0]) if self.epoch == 0 and self.num_rows else 0
        size = BLOCK_STEPS * self.step_size
        for begin in range(start, self.num_rows, size):
            yield exchanged(batches_at(begin, min(begin + size, self.num_rows)), first, 0)

    def _request(self, epoch: int, entries: tuple[int, ...]) -> BatchRequest:
        (number,) = entries
        if number < 0:
            return BatchRequest(epoch, (-1 - int(self.batches.rows(epoch, -1 - number)[-1]),))
        return BatchRequest(epoch, tuple(self.batches.rows(epoch, number).tolist()))


def token_batches(data: DataModule, max_tokens: int) -> TokenBatches:
    """Return the training batches of ``--max_tokens_per_batch``.

    Args:
        data: The data, loaded.
        max_tokens: The value of the flag.

    Raises:
        ConfigurationError: When rows are grouped into lists.
        DataError: When a row is longer than a batch may be; the message has its place.
    """
    if num_groups(data, TRAIN) is not None:
        raise ConfigurationError(
            "--max_tokens_per_batch: the rows of a list are in one batch, whatever their number of tokens. Give "
            "--batch_size instead."
        )
    lengths = data.preparation.token_lengths(data.datasets[TRAIN], data.inputs, data.tokens(TRAIN))
    for objective in data.objectives:
        if isinstance(objective, ChangesLengths):
            lengths = np.maximum(lengths, objective.packed_lengths(lengths, data.inputs.max_length)[0])
    if len(lengths) and (most := int(padded_lengths(longest := lengths.max()))) > max_tokens:
        place = data.source_of(TRAIN).place(int(np.argmax(lengths)))
        raise DataError(
            f"--max_tokens_per_batch {max_tokens}: {place} has {longest} tokens, {most} when padded to a multiple of "
            f"{LENGTH_MULTIPLE}. Raise it to {most} or more, or lower --max_sequence_length."
        )
    return TokenBatches(lengths, max_tokens, data.seed)
