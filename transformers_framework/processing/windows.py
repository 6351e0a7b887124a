"""Texts of any length become rows that are full: joined, cut into windows, laid out, without a loop over rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths in one array, as Arrow keeps them: no Python object a row or number.

    Args:
        values: Values of all rows, one row after the other ``(N,)``.
        lengths: Values of each row ``(B,) int64``; sums to N.
    """

    values: NDArray[Any]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, rows: Ragged | Sequence[Sequence[int]]) -> Ragged:
        """Return rows as they are, or lists of numbers in this form.

        Examples:
            >>> Ragged.of([[1, 2], [], [3]])
            Ragged(values=array([1, 2, 3]), lengths=array([2, 0, 1]))
        """
        if isinstance(rows, Ragged):
            return rows
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        values = np.fromiter((value for row in rows for value in row), dtype=np.int64, count=int(lengths.sum()))
        return cls(values, lengths)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each row begins in the values, (B,) int64."""
        return np.cumsum(self.lengths) - self.lengths

    def padded(self, width: int, fill: int, *, left: bool = False) -> NDArray[np.int64]:
        """Return the rows side by side.

        Args:
            width: Length of all rows, at least that of the longest one.
            fill: Value of the places after a row, or before it.
            left: Put the padding before the values.

        Returns:
            Values, (B, width) int64.

        Examples:
            >>> Ragged.of([[1, 2], [3]]).padded(3, 0).tolist()
            [[1, 2, 0], [3, 0, 0]]
        """
        out = np.full((len(self), width), fill, dtype=np.int64)
        out[inside(self.lengths, width, left=left)] = self.values
        return out


def inside(lengths: NDArray[np.int64], width: int, *, left: bool = False) -> NDArray[np.bool_]:
    """Tell which places of padded rows hold values, (B, width) bool.

    Examples:
        >>> inside(np.array([2, 1]), 3).tolist()
        [[True, True, False], [True, False, False]]
    """
    places = np.arange(width)
    return places >= width - lengths[:, None] if left else places < lengths[:, None]


def steps(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count within each row: 0, 1, … ``(N,) int64``.

    Examples:
        >>> steps(np.array([2, 0, 3])).tolist()
        [0, 1, 0, 1, 2]
    """
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def stretches(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of stretches, one after the other: each from its start on ``(N,) int64``.

    Examples:
        >>> stretches(np.array([7, 2]), np.array([2, 3])).tolist()
        [7, 8, 2, 3, 4]
    """
    offsets: NDArray[np.int64] = starts - (np.cumsum(lengths) - lengths)
    return np.arange(int(lengths.sum())) + np.repeat(offsets, lengths)


def sums_by_row(values: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add up the values of each row, which may have none, ``(B,) int64``.

    Examples:
        >>> sums_by_row(np.array([1, 2, 3]), np.array([2, 0, 1])).tolist()
        [3, 0, 3]
    """
    ends = np.concatenate([[0], np.cumsum(values)])[np.cumsum(counts)]
    return np.diff(ends, prepend=0)


def surrounded(rows: Ragged, before: Sequence[int], after: Sequence[int]) -> Ragged:
    """Put the same values before and after each row.

    Examples:
        >>> surrounded(Ragged.of([[5, 6], [7]]), [1], [2, 2])
        Ragged(values=array([1, 5, 6, 2, 2, 1, 7, 2, 2]), lengths=array([5, 4]))
    """
    lengths = rows.lengths + len(before) + len(after)
    values = np.empty(int(lengths.sum()), dtype=rows.values.dtype)
    starts = np.cumsum(lengths) - lengths
    for place, value in enumerate(before):
        values[starts + place] = value
    for place, value in enumerate(after):
        values[starts + lengths - len(after) + place] = value
    values[stretches(starts + len(before), rows.lengths)] = rows.values
    return Ragged(values, lengths)


def joined(segments: Ragged, counts: NDArray[np.int64], between: Sequence[int]) -> Ragged:
    """Join the segments of each row, separated; a segment without values is left out, and so is its separator.

    Args:
        segments: Segments of all rows, N of them.
        counts: Segments of each row ``(B,) int64``; sums to N.
        between: Values between two segments.

    Returns:
        B rows.

    Examples:
        >>> joined(Ragged.of([[5], [6, 7], [8], []]), np.array([2, 2]), between=[0])
        Ragged(values=array([5, 0, 6, 7, 8]), lengths=array([4, 1]))
    """
    rows = np.repeat(np.arange(len(counts)), counts)
    kept = segments.lengths > 0
    rows, lengths = rows[kept], segments.lengths[kept]
    separated = np.diff(rows, prepend=-1) == 0  # not the first one of its row
    spaced = lengths + separated * len(between)
    ends = np.cumsum(spaced)
    values = np.empty(int(spaced.sum()), dtype=segments.values.dtype)
    for place, value in enumerate(between):
        values[(ends - spaced)[separated] + place] = value
    values[stretches(ends - lengths, lengths)] = segments.values
    return Ragged(values, sums_by_row(spaced, np.bincount(rows, minlength=len(counts))))


def shortened(rows: Ragged, most: int, *, keep_end: bool = False) -> Ragged:
    """Cut rows to a length, at their end or at their beginning.

    Examples:
        >>> shortened(Ragged.of([[5, 6, 7], [8]]), 2)
        Ragged(values=array([5, 6, 8]), lengths=array([2, 1]))
        >>> shortened(Ragged.of([[5, 6, 7], [8]]), 2, keep_end=True).values.tolist()
        [6, 7, 8]
    """
    kept = np.minimum(rows.lengths, most)
    starts = rows.starts + (rows.lengths - kept if keep_end else 0)
    return Ragged(rows.values[stretches(starts, kept)], kept)


def pieces(lengths: NDArray[np.int64], capacity: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut rows into pieces of at most so many values: all are full but the last of each row.

    Args:
        lengths: Values of each row ``(B,) int64``.
        capacity: Most values of a piece.

    Returns:
        The length of each piece and its row ``(P,) int64``. An empty row is one empty piece.

    Examples:
        >>> [part.tolist() for part in pieces(np.array([5, 4, 0]), 2)]
        [[2, 2, 1, 2, 2, 0], [0, 0, 0, 1, 1, 2]]
    """
    counts = np.maximum(-(-lengths // capacity), 1)
    rows = np.repeat(np.arange(len(lengths)), counts)
    return np.minimum(capacity, lengths[rows] - capacity * steps(counts)), rows


def windows(chunks: Iterable[NDArray[Any]], capacity: int) -> Iterator[NDArray[Any]]:
    """Cut a stream that comes in chunks into full windows; only the last one may be shorter. Nothing is lost.

    Args:
        chunks: Values ``(N, …)``, any number a chunk.
        capacity: Values of a window.

    Yields:
        Windows ``(W, capacity, …)``, those that a chunk completes; at last the rest ``(1, n, …)``.

    Examples:
        >>> [part.tolist() for part in windows([np.arange(5), np.arange(5, 7)], 2)]
        [[[0, 1], [2, 3]], [[4, 5]], [[6]]]
    """
    rest: NDArray[Any] | None = None
    for chunk in chunks:
        values = chunk if rest is None else np.concatenate([rest, chunk])
        num_full = len(values) // capacity
        if num_full:
            yield values[: num_full * capacity].reshape(num_full, capacity, *values.shape[1:])
        rest = values[num_full * capacity :]
    if rest is not None and len(rest):
        yield rest[None]
