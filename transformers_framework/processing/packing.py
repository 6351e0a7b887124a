"""Several texts in one row of a batch: which ones share it, and where their tokens go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transformers_framework.constants import IGNORE_INDEX
from transformers_framework.processing.random import permutation
from transformers_framework.processing.windows import steps, stretches


@dataclass(frozen=True)
class Bins:
    """Bins: rows of the data set that share a row of a batch.

    Args:
        rows: Row ids, bin after bin ``(N,) int64``.
        sizes: Rows of each bin ``(num_bins,) int64``; sums to N.
        fill: Share of the bins' places that tokens take.
    """

    rows: NDArray[np.int64]
    sizes: NDArray[np.int64]
    fill: float = 1.0

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> list[int]:
        """Return the rows of a bin."""
        stop = int(self._stops[number])
        rows: list[int] = self.rows[stop - int(self.sizes[number]) : stop].tolist()
        return rows

    @cached_property
    def _stops(self) -> NDArray[np.int64]:
        return np.cumsum(self.sizes)


def fill_bins(lengths: NDArray[np.integer], capacity: int, seed: int) -> Bins:
    """Put rows into as few bins as can be found fast: best fit, longest rows first.

    Rows of one length are interchangeable, so all of them are placed at once into bins of equal free space: the work
    grows with the number of different lengths, not of rows (a million rows take half a second). Which of them meet is
    random. The result equals best-fit decreasing (Johnson 1973, "Near-optimal bin packing algorithms"), which
    needs at most 11/9 of the fewest possible bins. Where texts are a third of a bin or less, 98 to 99.9 % of the places
    are filled.

    Args:
        lengths: Tokens of each row ``(N,)``, 1 or more.
        capacity: Tokens of a bin, at least those of the longest row.
        seed: The run's seed.

    Returns:
        The bins, the fullest of long rows first; each row is in one of them.

    Examples:
        >>> bins = fill_bins(np.array([3, 5, 2, 4, 1]), capacity=8, seed=1337)
        >>> bins.rows.tolist(), bins.sizes.tolist()
        ([1, 0, 3, 2, 4], [2, 3])
    """
    assert not len(lengths) or 1 <= lengths.min() <= lengths.max() <= capacity
    order = permutation(seed, 0, len(lengths), "packing.rows")
    order = order[np.argsort(-lengths[order].astype(np.int64), kind="stable")]
    counts = np.bincount(lengths, minlength=capacity + 1)
    bin_of = np.empty(len(lengths), dtype=np.int64)  # in the order of `order`
    by_free: dict[int, list[NDArray[np.int64]]] = {}  # bins with so many positions left
    start = num_bins = 0
    for length in np.flatnonzero(counts)[::-1].tolist():
        stop = start + int(counts[length])
        for free in sorted(free for free in by_free if free >= length):
            if start == stop:
                break
            bins = np.concatenate(by_free.pop(free))
            start = _place(bin_of, start, stop, bins, free, length, by_free)
        if start < stop:
            per_bin = capacity // length
            bins = np.arange(num_bins, num_bins - (start - stop) // per_bin)  # rounded up
            num_bins += len(bins)
            start = _place(bin_of, start, stop, bins, capacity, length, by_free)
    by_bin = np.argsort(bin_of, kind="stable")
    fill = float(lengths.sum()) / max(1, num_bins * capacity)
    return Bins(order[by_bin], np.bincount(bin_of, minlength=num_bins).astype(np.int64), fill)


def joint_lengths(
    inputs: NDArray[np.int64], targets: NDArray[np.int64], capacity: int, target_capacity: int
) -> NDArray[np.int64]:
    """Return one length for an input and its target: rows that fit by it into a bin fit with both.

    Targets are scaled to the places of inputs, rounded up; the longer of the two counts.

    Args:
        inputs: Tokens of each input ``(N,) int64``.
        targets: Tokens of each target ``(N,) int64``.
        capacity: Tokens of a bin of inputs.
        target_capacity: Tokens of a bin of targets.

    Examples:
        >>> joint_lengths(np.array([9, 5, 3]), np.array([3, 4, 5]), 64, 48).tolist()
        [9, 6, 7]
    """
    return np.maximum(inputs, -(-targets * capacity // target_capacity))


def _place(
    bin_of: NDArray[np.int64],
    start: int,
    stop: int,
    bins: NDArray[np.int64],
    free: int,
    length: int,
    by_free: dict[int, list[NDArray[np.int64]]],
) -> int:
    """Put rows of one length into bins of equal free space, as many as fit; return the first row not placed."""
    per_bin = free // length
    placed = min(stop - start, len(bins) * per_bin)
    num_full, rest = divmod(placed, per_bin)
    bin_of[start : start + placed] = np.repeat(bins, per_bin)[:placed]
    for part, taken in (
        (bins[:num_full], per_bin),
        (bins[num_full : num_full + (rest > 0)], rest),
        (bins[num_full + (rest > 0) :], 0),
    ):
        if len(part) and free > taken * length:
            by_free.setdefault(free - taken * length, []).append(part)
    return start + placed


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of texts go when these are laid out into bins.

    Args:
        mask: Which values of T padded texts are tokens ``(T, L) bool``.
        sizes: Texts of each bin ``(B,) int64``; sums to T.
        width: Places of a bin.
        places: Where each token goes among the places of all bins ``(N,) int64``.
    """

    mask: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    width: int
    places: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], sizes: Any, width: int | None = None, multiple: int = 1) -> Layout:
        """Put texts one after the other into bins.

        Args:
            mask: Which values are tokens ``(T, L) bool``.
            sizes: Texts of each bin ``(B,)``.
            width: Places of a bin; none: those of the fullest.
            multiple: The fullest bin is rounded up to a multiple of this.
        """
        lengths, sizes = mask.sum(axis=1), np.asarray(sizes)
        assert sizes.sum() == len(lengths)
        starts = np.cumsum(lengths) - lengths
        columns = starts - np.repeat(starts[np.cumsum(sizes) - sizes], sizes)  # where each text begins in its bin
        fullest = int((columns + lengths).max(initial=1))
        if width is None:
            width = -(-fullest // multiple) * multiple
        assert fullest <= width, "a text is longer than it was counted"
        begins = np.repeat(np.arange(len(sizes)) * width, sizes) + columns
        return cls(mask, sizes, width, stretches(begins, lengths))

    def numbers(self) -> dict[str, NDArray[np.int64]]:
        """Return ``documents``, 1, 2, … the texts of a bin, and ``position_ids``, from 0 in each text: 0 at padding."""
        lengths = self.mask.sum(axis=1)
        texts = np.repeat(steps(self.sizes) + 1, lengths)
        return {"documents": self._laid_out(texts, 0), "position_ids": self._laid_out(steps(lengths), 0)}

    def moved(self, entries: Mapping[str, Any], pad_token_id: int) -> dict[str, Any]:
        """Return entries with all of their ``(T, L, …)`` arrays laid out as ``(B, width, …)``."""
        fills = {"input_ids": pad_token_id, "decoder_input_ids": pad_token_id, "labels": IGNORE_INDEX}
        return {
            key: self._laid_out(value[self.mask], fills.get(key, 0)) if value.shape[:2] == self.mask.shape else value
            for key, value in entries.items()
        }

    def _laid_out(self, values: NDArray[Any], fill: int) -> NDArray[Any]:
        out = np.full((len(self.sizes) * self.width, *values.shape[1:]), fill, dtype=values.dtype)
        out[self.places] = values
        return out.reshape(len(self.sizes), self.width, *values.shape[1:])


def pack(
    batch: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]],
    sizes: Any,
    *,
    width: int,
    pad_token_id: int,
    multiple: int = 1,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Lay the texts of a batch out into bins.

    All arrays with one value per token move; those with one value per text stay as they are. Two are added:
    ``documents`` ``(B, width) int64``: 1, 2, … the texts of a bin, 0 padding; and ``position_ids``
    ``(B, width) int64``, which begin with 0 in each text. Targets, which an objective with ``decoder_input_ids`` has,
    are laid out into the same bins, in rows of their own, with ``decoder_documents`` and ``decoder_position_ids``. The
    rows of both sides are then as long as their fullest bin, which had to be estimated where corruption is random.

    Args:
        batch: Model inputs of T texts: ``attention_mask`` and others ``(T, L)``.
        own: What objectives added, by name.
        sizes: Texts of each bin ``(B,)``; sums to T.
        width: Places of a bin.
        pad_token_id: Fills token ids; labels are filled with -100, everything else with zeros.
        multiple: Rows whose length the fullest bin decides are rounded up to a multiple of this.

    Returns:
        The batch and the objectives' entries, ``(B, width)`` where they were ``(T, L)``.

    Examples:
        >>> batch = {"input_ids": np.array([[5, 6], [7, 0], [8, 9]]),
        ...          "attention_mask": np.array([[1, 1], [1, 0], [1, 1]])}
        >>> packed, _ = pack(batch, {}, [2, 1], width=4, pad_token_id=0)
        >>> packed["input_ids"].tolist(), packed["documents"].tolist(), packed["position_ids"].tolist()
        ([[5, 6, 7, 0], [8, 9, 0, 0]], [[1, 1, 2, 0], [1, 1, 0, 0]], [[0, 1, 0, 0], [0, 1, 0, 0]])
    """
    writes = any("decoder_input_ids" in entries for entries in own.values())
    inputs = Layout.of(batch["attention_mask"] > 0, sizes, None if writes else width, multiple)
    packed, moved = {**inputs.moved(batch, pad_token_id), **inputs.numbers()}, {}
    for name, entries in own.items():
        layout = inputs
        if "decoder_input_ids" in entries:
            layout = Layout.of(entries["labels"] != IGNORE_INDEX, sizes, None, multiple)
            packed |= {f"decoder_{key}": value for key, value in layout.numbers().items()}
        moved[name] = layout.moved(entries, pad_token_id)
    return packed, moved
