"""Batch sampler whose order is a function of (seed, epoch), so that one number is enough to resume.

An epoch is one global list of rows. It is split into steps of ``batch_size * world_size`` rows, and the rows of a step
are split into consecutive parts of equal size, one per rank: with the same product, any world size trains on the same
rows in each step. With packing, the same is true of bins instead of rows; a bin has the same rows in each epoch. Where
inputs group rows, it is true of groups, which may change in each epoch.

The list of a training epoch is computed in blocks while it is read: the first step of a billion rows takes no longer,
and no more memory, than that of a thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transformers_framework.processing.packing import Bins
from transformers_framework.processing.random import Permutation, keys
from transformers_framework.processing.windows import sums_by_row

BLOCK_STEPS = 100


@dataclass(frozen=True)
class BatchRequest:
    """The rows of one batch, and the epoch; a worker needs no other state to make the batch.

    Args:
        epoch: The epoch, on which random decisions about these rows depend.
        rows: Row ids. A padding row is ``-1 - row``: the row is loaded and its labels are ignored.
        sizes: Number of rows in each bin, in order, where rows are packed.
    """

    epoch: int
    rows: tuple[int, ...]
    sizes: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def row_ids(self) -> NDArray[np.int64]:
        """Ids of the rows to load, padding rows included, (B,) int64, all >= 0."""
        rows = np.array(self.rows, dtype=np.int64)
        return np.where(rows < 0, -1 - rows, rows)

    @property
    def is_padding(self) -> NDArray[np.bool_]:
        """Which rows are padding rows, (B,) bool."""
        return np.array(self.rows, dtype=np.int64) < 0


class BatchSampler:
    """Yield a :class:`BatchRequest` for each batch of this rank.

    Every row is in exactly one batch of one rank in each epoch, and all ranks have equally many batches, of equal
    sizes: the rows of the last, incomplete step are split as evenly as possible, and a rank with one row less gets a
    padding row. If the last step has fewer rows than there are ranks, some ranks have padding rows only.
    It has no ``drop_last`` on purpose: Lightning would rebuild a sampler that has ``drop_last`` and ``batch_size``.

    Args:
        num_rows: Number of rows of the data set, or of bins.
        batch_size: Number of rows, or bins, per batch on each rank.
        accumulated: Number of batches per optimizer step. With ``lengths``, the rows of an optimizer step have similar
            lengths, so that the order depends on their number alone, however batches and ranks divide them.
        seed: The run's seed.
        shuffle: New order in each epoch, for training. Without it, the order of the file, or longest first if
            ``lengths`` are given, and always epoch 0, so that random decisions about rows are the same in each
            evaluation.
        rank: Rank of this process.
        world_size: Number of ranks.
        lengths: Length of each row in any unit, (num_rows,) integers.
        bins: Rows of each bin; requests then have the rows of their bins.
        regroup: Returns the ``num_rows`` bins of an epoch, where bins change in each epoch; ``lengths`` are then
            lengths of rows, and the length of a bin is their sum.
        entries: Rows, or bins, that are used, ascending; all by default. They are not shuffled.
        epoch: Epoch of the next pass.
        consumed: Number of its rows that all ranks together have consumed.
    """

    def __init__(
        self,
        num_rows: int,
        *,
        batch_size: int,
        accumulated: int = 1,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        lengths: ArrayLike | None = None,
        bins: Bins | None = None,
        regroup: Callable[[int], Bins | None] | None = None,
        entries: NDArray[np.int64] | None = None,
        epoch: int = 0,
        consumed: int = 0,
    ) -> None:
        assert num_rows >= 0
        assert entries is None or not shuffle
        assert bins is None or len(bins) == num_rows
        assert batch_size >= 1
        assert 0 <= rank < world_size
        self.batch_size, self.accumulated, self.seed, self.shuffle = batch_size, accumulated, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.lengths = self.row_lengths = None if lengths is None else np.asarray(lengths)
        assert self.lengths is None or regroup is not None or self.lengths.shape == (num_rows,)
        self.bins, self.regroup, self.entries = bins, regroup, entries
        self.num_rows = num_rows if entries is None else len(entries)
        self.epoch, self.consumed = epoch, consumed

    @property
    def step_size(self) -> int:
        """Rows of a step over all ranks."""
        return self.batch_size * self.world_size

    @property
    def rows_of_step(self) -> int:
        """Rows of an optimizer step, over all ranks and accumulated batches."""
        return self.step_size * self.accumulated

    @property
    def sampler(self) -> BatchSampler:
        """Itself: Lightning calls ``dataloader.batch_sampler.sampler.set_epoch`` at the start of each epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, or stay where this epoch was resumed.

        Args:
            epoch: The epoch that the next pass is.
        """
        if epoch != self.epoch:
            self.epoch, self.consumed = epoch, 0

    def resume(self, epoch: int, consumed: int) -> None:
        """Continue an epoch where a run stopped: the next full pass is the rest of it, later ones are whole again.

        Args:
            epoch: The epoch that was interrupted.
            consumed: Rows that all ranks together had consumed in it, see :meth:`rows_after`. With another
                ``batch_size * world_size`` than before, a step that this number cuts is seen again. All rows: the next
                epoch starts.
        """
        self.epoch, self.consumed = (epoch, consumed) if consumed < self.num_rows else (epoch + 1, 0)

    def go_back(self, steps: int) -> None:
        """Start the next pass some steps earlier."""
        self.consumed -= steps * self.step_size

    def rows_after(self, steps: int) -> int:
        """Return the number of rows that all ranks together have consumed after ``steps`` batches."""
        return min(steps * self.step_size, self.num_rows)

    def order(self, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """Return the rows of the epoch in order, the same on all ranks.

        Args:
            start: Number of rows to leave out, those of whole steps.

        Returns:
            Blocks of row ids, int64, each of whole steps; the last one may end with an incomplete step.
        """
        if self.shuffle and self.lengths is not None:
            return bucketed_order(self.seed, self.epoch, self.lengths, self.rows_of_step, start)
        rows, size = self._rows_between(), BLOCK_STEPS * self.step_size
        return (rows(begin, min(begin + size, self.num_rows)) for begin in range(start, self.num_rows, size))

    def _rows_between(self) -> Callable[[int, int], NDArray[np.int64]]:
        """Return a function of two positions of the epoch that returns the rows between them."""
        if self.shuffle:
            return Permutation(self.seed, self.epoch, self.num_rows, "sampler.rows")
        if self.lengths is None and self.entries is None:
            return np.arange
        entries = np.arange(self.num_rows) if self.entries is None else self.entries
        if self.lengths is not None:
            entries = entries[np.argsort(-self.lengths[entries].astype(np.int64), kind="stable")]
        return lambda begin, end: entries[begin:end]

    def __len__(self) -> int:
        return -(-self.num_rows // self.step_size)

    def __iter__(self) -> Iterator[BatchRequest]:
        # the order is computed at the first `next`: Lightning creates iterators that it does not use
        return self._requests(self.epoch, self.consumed // self.step_size)

    def _requests(self, epoch: int, start: int) -> Iterator[BatchRequest]:
        random_epoch = epoch if self.shuffle else 0
        if self.regroup is not None:
            self.bins = self.regroup(random_epoch)
            assert self.bins is not None
            if self.row_lengths is not None:
                self.lengths = sums_by_row(self.row_lengths[self.bins.rows], self.bins.sizes)
        for block in self.order(start * self.step_size):
            for begin in range(0, len(block), self.step_size):
                yield self._request(random_epoch, self._rows_of_rank(block[begin : begin + self.step_size]))
        if epoch == self.epoch:
            self.consumed = 0

    def _request(self, epoch: int, rows_of_rank: tuple[int, ...]) -> BatchRequest:
        if self.bins is None:
            return BatchRequest(epoch, rows_of_rank)
        bins = [-1 - number if number < 0 else number for number in rows_of_rank]
        contents = [self.bins[number] for number in bins]
        rows = [
            -1 - row if number < 0 else row
            for number, content in zip(rows_of_rank, contents, strict=True)
            for row in content
        ]
        return BatchRequest(epoch, tuple(rows), tuple(map(len, contents)))

    def _rows_of_rank(self, rows: NDArray[np.int64]) -> tuple[int, ...]:
        share, ranks_with_one_more = divmod(len(rows), self.world_size)
        begin = self.rank * share + min(self.rank, ranks_with_one_more)
        mine = rows[begin : begin + share + (self.rank < ranks_with_one_more)].tolist()
        if 0 < ranks_with_one_more <= self.rank:
            mine.append(-1 - int(rows[-1]))  # the shortest row of the step with length bucketing
        return tuple(mine)


def requests_in_order(spans: Iterable[tuple[int, int]], bins: Bins | None = None) -> list[BatchRequest]:
    """Return one request per span of rows, or bins, in the order of the data, for epoch 0.

    Examples:
        >>> requests_in_order([(0, 2)], Bins(np.array([4, 7, 5]), np.array([2, 1])))
        [BatchRequest(epoch=0, rows=(4, 7, 5), sizes=(2, 1))]
    """
    if bins is None:
        return [BatchRequest(0, tuple(range(*span))) for span in spans]
    groups = [[bins[number] for number in range(*span)] for span in spans]
    return [BatchRequest(0, tuple(chain.from_iterable(rows)), tuple(map(len, rows))) for rows in groups]


def exchanged(numbers: NDArray[np.int64], first: int, second: int) -> NDArray[np.int64]:
    """Return numbers in which two change places.

    Examples:
        >>> exchanged(np.array([3, 1, 2]), 3, 0).tolist()
        [0, 1, 2]
    """
    return np.where(numbers == first, second, np.where(numbers == second, first, numbers))


def bucketed_order(
    seed: int, epoch: int, lengths: NDArray[np.integer], step_size: int, start: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Yield a random order in which the rows of an optimizer step have similar lengths, longest first.

    Rows are shuffled and split into blocks of at most 100 steps (fewer for small data, so that steps still differ
    between epochs). Each block is sorted by length and split into steps, and its steps are shuffled. The incomplete
    step stays last. In epoch 0 the step with the longest row comes first, so that a run that needs too much memory
    fails at once.

    Args:
        seed: The run's seed.
        epoch: The epoch.
        lengths: Length of each row, (N,) integers.
        step_size: Number of rows per optimizer step, over all ranks and accumulated batches.
        start: Number of rows to leave out.

    Yields:
        Blocks of row ids, int64.

    Examples:
        >>> np.concatenate(list(bucketed_order(1337, 0, lengths=np.arange(17), step_size=2))).tolist()
        [16, 13, 11, 7, 1, 0, 4, 3, 15, 14, 12, 10, 6, 5, 9, 8, 2]
    """
    num_rows, rows_at = len(lengths), Permutation(seed, epoch, len(lengths), "sampler.rows")
    size = step_size * min(BLOCK_STEPS, max(1, num_rows // step_size // 2))
    num_blocks = max(1, num_rows // size)  # the rest joins the last one, so that the incomplete step has short rows
    if fails_early := epoch == 0 and num_rows > 0:
        first, longest = int(rows_at(0, 1)[0]), int(np.argmax(lengths))
    for block in range(min(start // size, num_blocks - 1), num_blocks):
        begin, end = block * size, num_rows if block == num_blocks - 1 else (block + 1) * size
        rows = rows_at(begin, end)
        if fails_early:
            rows = exchanged(rows, first, longest)
        rows = rows[np.argsort(-lengths[rows].astype(np.int64), kind="stable")]
        whole = len(rows) // step_size * step_size
        steps = rows[:whole].reshape(-1, step_size)
        visit = np.argsort(keys(seed, epoch, begin // step_size + np.arange(len(steps)), "sampler.steps"))
        if fails_early and block == 0:
            visit = np.concatenate([visit[visit == 0], visit[visit != 0]])
        yield np.concatenate([steps[visit].ravel(), rows[whole:]])[max(0, start - begin) :]
