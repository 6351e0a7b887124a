"""Batches with at most a number of tokens, padding included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transformers_framework.processing.random import Permutation

LENGTH_MULTIPLE = 8  # of batches in 16 bits; in 32 bits, shorter batches stay below the limit
SIMILAR = 15 / 16  # of the longest row of a window, lengths that it has at least
LEAST_BATCHES = 2  # of a window, so that the rows of a batch change between epochs


class TokenBatches:
    """Batches of rows of similar length, whose longest row × number of rows does not exceed a limit.

    Rows are sorted by length, longest first, and cut into windows of similar lengths. The longest row of a window
    determines how many rows each of its batches has. In each epoch, the rows of a window are shuffled: its batches then
    have other rows, while the number and the sizes of all batches stay the same. So the number of steps is known before
    training, and the rows of any batch are computed without those of others.

    (Batches with a limit of tokens: Vaswani et al. 2017, "Attention Is All You Need", section 5.1.)

    Args:
        lengths: Tokens of each row ``(N,)`` integers. Lengths are rounded up to multiples of 8, as batches are padded.
        max_tokens: Limit of a batch, at least the largest rounded length.
        seed: The run's seed.

    Examples:
        >>> batches = TokenBatches(np.array([3, 40, 5, 17, 20, 8, 33, 2]), max_tokens=64, seed=1337)
        >>> [batches.rows(0, number).tolist() for number in range(len(batches))]
        [[6], [1], [3, 0], [4, 2], [7, 5]]
        >>> round(batches.fill, 2)
        0.67
    """

    def __init__(self, lengths: NDArray[np.integer], max_tokens: int, seed: int) -> None:
        padded = padded_lengths(lengths)
        assert padded.max(initial=0) <= max_tokens
        self.max_tokens, self.seed = max_tokens, seed
        self.by_length = np.argsort(-padded, kind="stable")
        self.starts, self.num_batches, longest = _windows(padded[self.by_length], max_tokens)
        self.firsts = np.cumsum(self.num_batches) - self.num_batches
        sizes = np.diff(self.starts)
        self.fill = int(lengths.sum()) / max(1, int((sizes * longest).sum()))
        self._epoch, self._shuffled = -1, dict[int, Permutation]()

    def __len__(self) -> int:
        return int(self.num_batches.sum())

    def rows(self, epoch: int, number: int) -> NDArray[np.int64]:
        """Return the row ids of a batch of an epoch, int64; the first batches have the longest rows.

        Args:
            epoch: The epoch.
            number: Number of the batch, less than the number of batches.
        """
        window = int(np.searchsorted(self.firsts, number, side="right")) - 1
        begin, size = int(self.starts[window]), int(self.starts[window + 1] - self.starts[window])
        if epoch != self._epoch:
            self._epoch, self._shuffled = epoch, {}
        if window not in self._shuffled:
            self._shuffled[window] = Permutation(self.seed, epoch, size, f"token_batches.window{window}")
        share, larger = divmod(size, int(self.num_batches[window]))  # the first batches have one row more
        place = number - int(self.firsts[window])
        first = place * share + min(place, larger)
        rows: NDArray[np.int64] = self.by_length[
            begin + self._shuffled[window](first, first + share + (place < larger))
        ]
        return rows


def padded_lengths(lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return lengths rounded up to the multiple to which batches are padded, int64.

    Examples:
        >>> padded_lengths(np.array([0, 1, 8, 9])).tolist()
        [8, 8, 8, 16]
    """
    units = -(-np.maximum(lengths, 1).astype(np.int64) // LENGTH_MULTIPLE)
    return np.asarray(units * LENGTH_MULTIPLE)


def _windows(
    lengths: NDArray[np.int64], max_tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut rows that are sorted by length, longest first, into windows.

    Returns:
        Where each window starts, then the number of rows ``(W + 1,)``; its number of batches ``(W,)``; its longest row
        ``(W,)``; all int64.
    """
    starts, num_batches, longest = [0], [], []
    while (begin := starts[-1]) < len(lengths):
        most = int(lengths[begin])
        size = max_tokens // most
        similar = int(np.searchsorted(-lengths, -most * SIMILAR, side="right")) - begin
        end = min(len(lengths), begin + max(LEAST_BATCHES, -(-similar // size)) * size)
        starts.append(end)
        num_batches.append(-(-(end - begin) // size))
        longest.append(most)
    return tuple(np.array(values, dtype=np.int64) for values in (starts, num_batches, longest))  # type: ignore[return-value]
