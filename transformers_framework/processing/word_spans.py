"""Spans of whole words: what is counted in tokens must fit, what is cut out are words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transformers_framework.processing.random import uniform_at
from transformers_framework.processing.spans import Spans, random_spans
from transformers_framework.processing.windows import steps, sums_by_row


@dataclass(frozen=True, eq=False)
class Words:
    """The words of texts.

    Args:
        begins: Where each begins among the tokens of all rows ``(W,) int64``.
        lengths: Tokens of each, 1 or more ``(W,) int64``.
        counts: Words of each row ``(B,) int64``; sums to W.
    """

    begins: NDArray[np.int64]
    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, starts: NDArray[np.bool_], row_lengths: NDArray[np.int64]) -> Words:
        """Return the words that begin at some of the tokens of rows; the first token of a row begins one.

        Examples:
            >>> words = Words.of(np.array([True, False, True, True]), np.array([3, 0, 1]))
            >>> words.begins.tolist(), words.lengths.tolist(), words.counts.tolist()
            ([0, 2, 3], [2, 1, 1], [2, 0, 1])
        """
        begins = np.flatnonzero(starts)
        counts = np.diff(np.searchsorted(begins, np.cumsum(row_lengths)), prepend=0)
        return cls(begins, np.diff(begins, append=len(starts)), counts)

    def tokens_of(self, spans: Spans) -> Spans:
        """Return spans of words as spans of tokens.

        Examples:
            >>> words = Words(begins=np.array([0, 2, 3]), lengths=np.array([2, 1, 1]), counts=np.array([3]))
            >>> spans = words.tokens_of(Spans(np.array([0, 3]), np.array([2, 0]), np.array([2])))
            >>> spans.starts.tolist(), spans.lengths.tolist()
            ([0, 4], [3, 0])
        """
        edges = np.append(self.begins, self.lengths.sum())
        starts = edges[spans.starts]
        return Spans(starts, edges[spans.starts + spans.lengths] - starts, spans.counts)


def random_word_spans(
    words: Words,
    noise: NDArray[np.int64],
    counts: NDArray[np.int64],
    least: NDArray[np.int64],
    most: NDArray[np.int64],
    keys: tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]],
) -> Spans:
    """Lay spans of whole words out with as many tokens in them as asked for, or the nearest number that fits.

    Spans are first sampled as spans of tokens are (:func:`~transformers_framework.processing.spans.random_spans`), from
    as large a share of the words as of tokens. Then they lose or gain words at their ends until their tokens are as
    many as asked for; the word that makes them more is taken or left, whichever comes nearer. Only where neither is
    between ``least`` and ``most`` it is cut, as is the one word of a text that must be shortened.

    Args:
        words: Of B rows.
        noise: Tokens of each row that are to be in spans, fewer than all ``(B,) int64``.
        counts: Most spans of each row; none where there is no noise ``(B,) int64``.
        least: Tokens that must be in spans, at most the noise; also negative numbers ``(B,) int64``.
        most: Tokens that may be in spans, at least the noise ``(B,) int64``.
        keys: Of the rows, for the words between spans, for those in spans and for the order at their ends, each
            ``(B,) uint64``.

    Returns:
        Spans of tokens, at most ``counts`` per row.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> words = Words.of(np.array([1, 0, 1, 1, 0, 0, 1, 1, 1, 0], dtype=bool), np.array([10]))
        >>> streams = tuple(keys(1337, 0, [0], purpose) for purpose in ("kept", "noise", "ends"))
        >>> spans = random_word_spans(words, *np.array([[4], [2], [4], [9]]), streams)
        >>> spans.starts.tolist(), spans.lengths.tolist()
        ([3, 8], [3, 2])
    """
    kept_keys, noise_keys, end_keys = keys
    rows = np.repeat(np.arange(len(noise)), words.counts)
    totals = sums_by_row(words.lengths, words.counts)
    asked = np.rint(words.counts * noise / np.maximum(totals, 1)).astype(np.int64)
    hidden = np.where(noise > 0, np.maximum(np.minimum(np.maximum(asked, 1), words.counts - 1), 0), 0)
    sampled_counts = np.minimum(counts, np.minimum(hidden, words.counts - hidden))
    sampled = random_spans(words.counts, hidden, sampled_counts, kept_keys, noise_keys)

    turns, is_before = _turns(sampled, words.counts)
    order = np.lexsort((uniform_at(end_keys[rows], steps(words.counts)), turns, rows))
    sizes, asked = words.lengths[order], noise[rows]  # rows stay where they are
    reached = np.cumsum(sizes) - np.repeat(np.cumsum(totals) - totals, words.counts)  # tokens of so many words
    before = reached - sizes
    taken = np.where(before < asked, sizes, 0)
    last = np.flatnonzero((before < asked) & (reached > asked))  # the word that makes them more, at most one a row
    more, less, asked, row = reached[last], before[last], asked[last], rows[last]
    more_fits, less_fits = more <= np.minimum(most, totals - 1)[row], less >= least[row]
    is_whole = more_fits & ((more - asked <= asked - less) | (less == 0) | ~less_fits)
    taken[last] = np.where(is_whole, sizes[last], np.where(less_fits, 0, asked - less))

    tokens = np.empty_like(taken)
    tokens[order] = taken
    # a word before the first span is cut at its front: what is taken adjoins the span
    begins = words.begins + np.where(is_before, words.lengths - tokens, 0)
    return _merged(begins, tokens, rows, len(noise))


def _turns(spans: Spans, counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the order in which words are put into spans, and which are before the first span of their row.

    First come the first words of spans, then the others, those farther from the end first; then the words after
    spans, nearer ones first; at last those before the first span, nearer ones first. So whatever number of words is
    taken in this order makes up the same spans, with other ends.
    """
    places = np.arange(int(counts.sum()))
    rows = np.repeat(np.arange(len(counts)), counts)
    first_span = np.cumsum(spans.counts) - spans.counts
    latest = np.searchsorted(spans.starts, places, side="right") - 1
    is_before = latest < first_span[rows]
    # first span of each row, or the end of a row that has none
    bounds = np.cumsum(counts)
    bounds[spans.counts > 0] = spans.starts[first_span[spans.counts > 0]]
    far = len(places) + 1
    if len(spans.starts):
        past_end = places - (spans.starts + spans.lengths)[latest]
        turns = np.where(places == spans.starts[latest], -far, past_end)
    else:
        turns = np.zeros_like(places)
    return np.where(is_before, far + bounds[rows] - places, turns), is_before


def _merged(begins: NDArray[np.int64], lengths: NDArray[np.int64], rows: NDArray[np.int64], num_rows: int) -> Spans:
    """Return stretches as spans; those of a row that touch are merged into one, empty ones none."""
    there = lengths > 0
    begins, rows, ends = begins[there], rows[there], (begins + lengths)[there]
    opens = np.ones(len(begins), dtype=bool)
    opens[1:] = (begins[1:] != ends[:-1]) | (rows[1:] != rows[:-1])
    closes = np.ones_like(opens)
    closes[:-1] = opens[1:]
    return Spans(begins[opens], ends[closes] - begins[opens], np.bincount(rows[opens], minlength=num_rows))
