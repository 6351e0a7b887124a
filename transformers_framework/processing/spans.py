"""Spans of texts: chosen at random, cut out, put aside, for whole batches at once.

Rows are :class:`~transformers_framework.processing.windows.Ragged`: bare tokens of texts, without special ones around
them and without padding. So what becomes of a text depends neither on its padding nor on the other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transformers_framework.constants import IGNORE_INDEX
from transformers_framework.processing.random import uniform_at
from transformers_framework.processing.windows import Ragged, inside, steps, stretches, sums_by_row

Keys = Callable[[str], NDArray[np.uint64]]  # purpose -> each row's key for it


@dataclass(frozen=True)
class LengthLimits:
    """Tokens that an input and its target may have, those that the tokenizer puts around them not counted."""

    input: int
    target: int


@dataclass(frozen=True, eq=False)
class Spans:
    """Stretches of the values of rows, in order; no two share a value.

    Args:
        starts: Where each begins among the values of all rows ``(S,) int64``.
        lengths: Values of each; an empty span is before the value at its start ``(S,) int64``.
        counts: Spans of each row ``(B,) int64``; sums to S.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]


def choose(sizes: NDArray[np.int64], counts: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Choose so many of the places of each row, every set of them equally likely.

    Chosen are the first different ones of a stream of random places, or left out where these are fewer. The work grows
    with what is chosen and not with the places.

    Args:
        sizes: Places of each row ``(B,) int64``.
        counts: How many of them are chosen ``(B,) int64``.
        keys: Of the rows, for this purpose alone ``(B,) uint64``.

    Returns:
        What is chosen among the places of all rows, ascending ``(sum of counts,) int64``.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> choose(np.array([5, 3]), np.array([2, 3]), keys(1337, 0, [0, 1], "spans")).tolist()
        [1, 3, 5, 6, 7]
    """
    few = np.minimum(counts, sizes - counts)
    ends = np.cumsum(sizes)
    draws = _draws_for(few, sizes)
    while True:
        numbers = uniform_at(np.repeat(keys, draws), steps(draws))
        sampled = np.repeat(ends - sizes, draws) + (numbers * np.repeat(sizes, draws)).astype(np.int64)
        places, turns = _different(sampled)
        is_new = np.zeros(len(sampled) + 1, dtype=np.int64)
        is_new[turns + 1] = 1
        total = np.cumsum(is_new)
        before = total[np.cumsum(draws) - draws]
        if (total[np.cumsum(draws)] - before >= few).all():
            break
        draws *= 2  # a longer stream begins with the shorter one
    places = places[total[turns] < np.repeat(before + few, draws)[turns]]
    is_rest = few < counts
    if not is_rest.any():
        return places
    chosen = np.repeat(is_rest, sizes)
    chosen[places] ^= True
    return np.flatnonzero(chosen)


def _draws_for(counts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many random places all but always hold so many different ones: the mean and four deviations."""
    missed = np.log1p(-counts / np.maximum(sizes, 1))  # at most half are wanted
    deviation = np.sqrt(np.maximum(sizes * (missed + np.expm1(-missed)), 0))
    return np.where(counts > 0, np.ceil(4 * deviation - sizes * missed) + 4, 0).astype(np.int64)


def _different(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the different ones of some values, ascending, and where each of them comes first."""
    bits = np.int64(len(values).bit_length())
    both = np.sort((values << bits) | np.arange(len(values)))  # faster than to sort places by their values
    ascending = both >> bits
    is_new = np.ones(len(values), dtype=bool)
    np.not_equal(ascending[1:], ascending[:-1], out=is_new[1:])
    return ascending[is_new], both[is_new] & ((1 << bits) - 1)


def compositions(sizes: NDArray[np.int64], counts: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Cut each row into so many parts of one value or more, every way of doing so equally likely.

    Args:
        sizes: Values of each row, 1 or more ``(B,) int64``.
        counts: Parts of each row, from 1 to its values ``(B,) int64``.
        keys: Of the rows, for this purpose alone ``(B,) uint64``.

    Returns:
        The length of each part, row after row ``(sum of counts,) int64``.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> compositions(np.array([9, 3, 4]), np.array([3, 3, 1]), keys(1337, 0, [0, 1, 2], "spans")).tolist()
        [2, 2, 5, 1, 1, 1, 4]
    """
    ends = np.cumsum(sizes)
    # a row's first value begins a part, and so do some of the others
    others = choose(sizes - 1, counts - 1, keys) + np.repeat(np.arange(1, len(sizes) + 1), counts - 1)
    begins = _inserted(others, np.cumsum(counts) - counts, ends - sizes)
    return np.diff(begins, append=ends[-1:])


def random_spans(
    lengths: NDArray[np.int64],
    noise: NDArray[np.int64],
    counts: NDArray[np.int64],
    kept_keys: NDArray[np.uint64],
    noise_keys: NDArray[np.uint64],
) -> Spans:
    """Lay spans out in rows that begin with kept values and end with a span; kept values and spans alternate.

    Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", section
    3.1.4, as their code does it: the values of all spans, and those between them, are each cut into random parts.

    Args:
        lengths: Values of each row ``(B,) int64``.
        noise: How many of them are in spans, fewer than all ``(B,) int64``.
        counts: Spans of each row: none when nothing is in them, else at least one, at most as many as values are in
            spans or are kept ``(B,) int64``.
        kept_keys: Of the rows, for the values between spans alone ``(B,) uint64``.
        noise_keys: Of the rows, for the values in spans alone ``(B,) uint64``.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> spans = random_spans(np.array([10, 1]), np.array([4, 0]), np.array([2, 0]), keys(1337, 0, [0, 1], "kept"),
        ...                      keys(1337, 0, [0, 1], "noise"))
        >>> spans.starts.tolist(), spans.lengths.tolist()
        ([3, 9], [3, 1])
    """
    some = np.flatnonzero(counts)
    parts = compositions(
        np.concatenate([(lengths - noise)[some], noise[some]]),
        np.tile(counts[some], 2),
        np.concatenate([kept_keys[some], noise_keys[some]]),
    )
    before, sizes = parts.reshape(2, -1)
    ends = np.cumsum(before + sizes)
    if len(some) < len(lengths):  # rows without spans lie between the others
        skipped = (np.cumsum(lengths) - lengths)[some] - (np.cumsum(lengths[some]) - lengths[some])
        ends = ends + np.repeat(skipped, counts[some])
    return Spans(ends - sizes, sizes, counts)


def replaced(rows: Ragged, spans: Spans, tokens: NDArray[np.int64] | int) -> Ragged:
    """Put one token in the place of each span.

    Args:
        rows: Values of B rows.
        spans: Of these rows.
        tokens: For each span ``(S,) int64``, or one for all.

    Examples:
        >>> spans = Spans(np.array([1, 4]), np.array([2, 0]), np.array([1, 1]))
        >>> replaced(Ragged.of([[5, 6, 7], [8, 9]]), spans, np.array([0, 1]))
        Ragged(values=array([5, 0, 8, 1, 9]), lengths=array([2, 3]))
    """
    lengths = rows.lengths - sums_by_row(spans.lengths, spans.counts) + spans.counts
    total = int(lengths.sum())
    skipped = np.cumsum(spans.lengths - 1)
    places = spans.starts - skipped + spans.lengths - 1
    stretches = np.diff(places, prepend=0, append=total)  # from one token to the next
    values = rows.values[np.repeat(np.concatenate([[0], skipped]), stretches) + np.arange(total)]
    values[places] = tokens  # it replaces the last value of a span, or the value before an empty one
    return Ragged(values, lengths)


def put_aside(rows: Ragged, spans: Spans, tokens: NDArray[np.int64]) -> Ragged:
    """Return the spans of each row one after the other, a token before each of them: the rest of :func:`replaced`.

    Examples:
        >>> spans = Spans(np.array([1, 3]), np.array([2, 1]), np.array([1, 1]))
        >>> put_aside(Ragged.of([[5, 6, 7], [8, 9]]), spans, np.array([0, 1]))
        Ragged(values=array([0, 6, 7, 1, 8]), lengths=array([3, 2]))
    """
    sizes = spans.lengths + 1
    ends = np.cumsum(sizes)
    places = stretches(spans.starts - 1, sizes)
    values = rows.values[places]  # the token replaces the value before its span
    values[ends - sizes] = tokens
    return Ragged(values, sums_by_row(sizes, spans.counts))


def prefixed(rows: Ragged, tokens: NDArray[np.int64]) -> Ragged:
    """Put a token before the values of each row, none where it is -1.

    Examples:
        >>> prefixed(Ragged.of([[5, 6], [7], []]), np.array([-1, 3, 4]))
        Ragged(values=array([5, 6, 3, 7, 4]), lengths=array([2, 2, 1]))
    """
    there = tokens >= 0
    lengths = rows.lengths + there
    places = (np.cumsum(lengths) - lengths)[there]
    return Ragged(_inserted(rows.values, places, tokens[there]), lengths) if len(places) else rows


def _inserted(
    values: NDArray[np.int64], places: NDArray[np.int64], tokens: NDArray[np.int64] | int
) -> NDArray[np.int64]:
    """Return the values in order with tokens between them, at given positions of the result."""
    out = np.empty(len(values) + len(places), dtype=np.int64)
    taken = np.ones(len(out), dtype=bool)
    taken[places] = False
    out[taken] = values
    out[places] = tokens
    return out


def unframed(values: NDArray[np.int64], attention_mask: NDArray[np.int64], num_before: int, num_after: int) -> Ragged:
    """Return the texts of padded rows, without the special tokens around them; padding may be on either side.

    Args:
        values: A number for each place ``(B, L) int64``.
        attention_mask: 1 at tokens, 0 at padding ``(B, L) int64``.
        num_before: Special tokens before each text.
        num_after: Special tokens after it.

    Examples:
        >>> unframed(np.array([[1, 5, 6, 2], [1, 2, 0, 0], [0, 1, 7, 2]]),
        ...          np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]]), 1, 1)
        Ragged(values=array([5, 6, 7]), lengths=array([2, 0, 1]))
    """
    num_rows, width = attention_mask.shape
    if attention_mask.all() and width >= num_before + num_after:  # full windows: three times as fast
        texts = values[:, num_before : width - num_after]
        return Ragged(texts.ravel(), np.full(num_rows, texts.shape[1]))
    first, places = (attention_mask > 0).argmax(axis=1), np.arange(width)
    lengths = np.maximum(attention_mask.sum(axis=1) - num_before - num_after, 0)
    begins = (first + num_before)[:, None]
    return Ragged(values[(places >= begins) & (places < begins + lengths[:, None])], lengths)


def framed(
    rows: Ragged, before: Sequence[int], after: Sequence[int], fill: int, *, left: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad rows to one length, special tokens around each of them and padding after.

    Args:
        rows: The texts.
        before: Special tokens before each text.
        after: Special tokens after it.
        fill: The padding.
        left: Put the padding before the text.

    Returns:
        The rows and their attention mask, both ``(B, L) int64``; L is the length of the longest row, at least 1.

    Examples:
        >>> rows, mask = framed(Ragged.of([[5, 6], []]), [1], [2], 0)
        >>> rows.tolist(), mask.tolist()
        ([[1, 5, 6, 2], [1, 2, 0, 0]], [[1, 1, 1, 1], [1, 1, 0, 0]])
    """
    lengths = rows.lengths
    totals = lengths + len(before) + len(after)
    width = int(totals.max(initial=1))
    out = np.full((len(rows), width), fill, dtype=np.int64)
    if (totals == width).all():  # full windows
        mask = np.ones_like(out)
        out[:, len(before) : width - len(after)] = rows.values.reshape(len(rows), -1)
    else:
        mask = inside(totals, width, left=left).astype(np.int64)
        begins, places = (width - totals if left else 0 * totals)[:, None] + len(before), np.arange(width)
        out[(places >= begins) & (places < begins + lengths[:, None])] = rows.values
    first, every_row = width - totals if left else 0 * totals, np.arange(len(rows))
    for place, token in enumerate(before):
        out[every_row, first + place] = token
    for place, token in enumerate(after):
        out[every_row, first + len(before) + lengths + place] = token
    return out, mask


def shifted_right(labels: NDArray[np.int64], start: int | None, pad_token_id: int) -> NDArray[np.int64]:
    """Return what the decoder reads while it learns to write labels: each place holds the token before.

    Args:
        labels: Targets, -100 after them ``(B, T) int64``.
        start: What every row begins with; none: the last token of its own labels, as mBART's code of the language.
        pad_token_id: Stands where there is no label.

    Returns:
        Inputs of the decoder ``(B, T) int64``; the first token is the start in every row, also in one without labels.

    Examples:
        >>> shifted_right(np.array([[5, 6, 2], [7, 2, -100]]), 1, 0).tolist()
        [[1, 5, 6], [1, 7, 0]]
        >>> shifted_right(np.array([[5, 2, 9], [2, 8, -100]]), None, 0).tolist()
        [[9, 5, 2], [8, 2, 0]]
    """
    shifted = np.empty_like(labels)
    shifted[:, 1:] = labels[:, :-1]
    is_empty = labels == IGNORE_INDEX
    shifted[is_empty] = pad_token_id
    if start is None:
        last = labels.shape[1] - np.argmin(is_empty[:, ::-1], axis=1) - 1
        own = np.take_along_axis(labels, last[:, None], axis=1)[:, 0]
        shifted[:, 0] = np.where(own == IGNORE_INDEX, pad_token_id, own)
    else:
        shifted[:, 0] = start
    return shifted
