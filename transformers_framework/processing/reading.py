"""Machine reading: windows over long contexts, where answers begin and end in them, and the best spans of logits.

Spans are pairs of tokens of a context, both inclusive, and pairs of characters of it, the end exclusive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from transformers_framework.processing.encoding import Template
from transformers_framework.processing.windows import Ragged, steps

END = 2**31 - 1  # greater than the index of any character


class Cuts(NamedTuple):
    """Windows over contexts, context after context.

    Args:
        contexts: The context of each window ``(W,) int64``.
        firsts: Its first token in the context ``(W,) int64``.
        lengths: Its tokens ``(W,) int64``.
        before: Tokens that it shares with the window before it, of the same context ``(W,) int64``.
        after: Tokens that it shares with the one after it ``(W,) int64``.
    """

    contexts: NDArray[np.int64]
    firsts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]


def cut(lengths: NDArray[np.int64], capacities: NDArray[np.int64], shared: int) -> Cuts:
    """Cut contexts into windows that overlap.

    All windows of a context are full but the last. A token is in at most two of them: they share at most half.

    Args:
        lengths: Tokens of each context ``(B,) int64``.
        capacities: Most tokens of a window of each ``(B,) int64``, at least 1.
        shared: Tokens that neighbours share, where that is no more than half of a window.

    Examples:
        >>> cuts = cut(np.array([7, 3]), np.array([4, 4]), shared=1)
        >>> cuts.contexts.tolist(), cuts.firsts.tolist(), cuts.lengths.tolist()
        ([0, 0, 1], [0, 3, 0], [4, 4, 3])
        >>> cuts.before.tolist(), cuts.after.tolist()
        ([0, 1, 0], [1, 0, 0])
    """
    overlaps = np.minimum(shared, capacities // 2)
    strides = capacities - overlaps
    counts = 1 + np.maximum(-(-(lengths - capacities) // strides), 0)
    contexts, number = np.repeat(np.arange(len(lengths)), counts), steps(counts)
    firsts = number * strides[contexts]
    return Cuts(
        contexts,
        firsts,
        np.minimum(capacities[contexts], lengths[contexts] - firsts),
        np.where(number > 0, overlaps[contexts], 0),
        np.where(number + 1 < counts[contexts], overlaps[contexts], 0),
    )


def target_spans(
    char_starts: Ragged,
    char_ends: Ragged,
    read_from: NDArray[np.int64],
    read_to: NDArray[np.int64],
    answers: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Find the tokens of answers: the fewest that hold all of their characters.

    Args:
        char_starts: First character of each token of B windows.
        char_ends: The character after each token.
        read_from: The first character at which an answer in each window can begin ``(B,) int64``.
        read_to: Where the token after each window starts, :data:`END` when there is none ``(B,) int64``.
        answers: First character of each answer and the one after it, -1 where there is no answer ``(B, 2) int64``.

    Returns:
        First and last token of each window, -1 where the window does not hold the whole answer ``(B, 2) int64``.

    Examples:
        >>> starts, ends = Ragged.of([[0, 3, 6], [6, 9]]), Ragged.of([[2, 5, 8], [8, 11]])  # "so we go on", two windows
        >>> target_spans(starts, ends, np.array([0, 5]), np.array([9, END]), np.array([[3, 8], [3, 8]])).tolist()
        [[1, 2], [-1, -1]]
    """
    begins, stops = answers.T
    # two tokens may have the same character: the word-start mark, which some write as a token of its own, is left out
    first = np.maximum(_count(char_ends, begins + 1), _count(char_starts, begins + 1) - 1)
    last = _count(char_starts, stops) - 1
    holds = (first < char_starts.lengths) & (first <= last) & (begins >= read_from) & (stops <= read_to)
    return np.where((holds & (begins >= 0))[:, None], np.stack([first, last], axis=1), -1)


def _count(values: Ragged, limits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many values of each row, which never fall, are smaller than its limit ``(B,) int64``."""
    lowest, highest, starts = np.zeros_like(values.lengths), values.lengths.copy(), values.starts
    for _ in range(int(values.lengths.max(initial=0)).bit_length()):
        middle = (lowest + highest) // 2
        smaller = (middle < highest) & (values.values[np.minimum(starts + middle, len(values.values) - 1)] < limits)
        lowest, highest = np.where(smaller, middle + 1, lowest), np.where(smaller, highest, middle)
    return lowest


def answer_ends(
    char_starts: NDArray[np.int64], char_ends: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which tokens an answer can start and end with, such that each text of characters is one span of tokens.

    Tokens of no visible character are out; of several that start, or end, with the same one, the last is in.

    Args:
        char_starts: First character of each token ``(B, C) int64``.
        char_ends: The character after its last, not after the first where there is no token ``(B, C) int64``.

    Returns:
        For starts and for ends ``(B, C) bool``.

    Examples:
        >>> starts, ends = answer_ends(np.array([[0, 0, 3, 3]]), np.array([[1, 2, 2, 4]]))  # "▁", "so", " ", "I"
        >>> starts.tolist(), ends.tolist()
        ([[False, True, False, True]], [[True, True, False, True]])
    """
    seen = char_ends > char_starts
    found = []
    for places in (char_starts, char_ends):
        last = seen.copy()
        last[:, :-1] &= ~(seen[:, 1:] & (places[:, 1:] == places[:, :-1]))
        found.append(last)
    return found[0], found[1]


class Windows(NamedTuple):
    """Positions of B windows in their contexts, by which logits are converted to spans; it stays on the host.

    Args:
        starts: Position of the first token of the context ``(B,) int64``.
        nulls: Position of the token that represents no answer ``(B,) int64``.
        lengths: Number of tokens of the context ``(B,) int64``.
        before: Number of tokens shared with the previous window ``(B,) int64``.
        after: Number of tokens shared with the next window ``(B,) int64``.
        char_starts: First character of each token of the context ``(B, C) int64``.
        char_ends: The character after its last one ``(B, C) int64``; not greater than the start if it has none.
        rows: Row of the data set ``(B,) int64``.
    """

    starts: np.ndarray
    nulls: np.ndarray
    lengths: np.ndarray
    before: np.ndarray
    after: np.ndarray
    char_starts: np.ndarray
    char_ends: np.ndarray
    rows: np.ndarray


class Spans(NamedTuple):
    """The best spans of B windows or documents, best first; where there are fewer than n, minus infinity follows.

    Args:
        scores: Sum of the logits at both ends ``(B, n) float32``.
        starts: First token or character ``(B, n) int64``.
        ends: Last token, or the character after the last one ``(B, n) int64``.
    """

    scores: NDArray[np.float32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def best_spans(
    start_logits: NDArray[np.float32],
    end_logits: NDArray[np.float32],
    lengths: NDArray[np.int64],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    *,
    n: int,
    longest: int,
) -> Spans:
    """Find the n best spans of each window, exactly: no start or end is left out beforehand.

    A span that is in two windows belongs to the one in which it has more context, counted in tokens on its shorter
    side, and to the first of them when both have as much; so each span of a document is found once. With one token a
    span, that is the maximum context of Devlin et al. 2019, "BERT" (their ``run_squad.py``).

    Args:
        start_logits: Of each context token, minus infinity where no answer can start ``(B, C) float32``.
        end_logits: The same of ends, after each window too ``(B, C) float32``.
        lengths: Tokens of each window ``(B,) int64``.
        before: Tokens that it shares with the window before it ``(B,) int64``.
        after: Tokens that it shares with the one after it ``(B,) int64``.
        n: Spans of each window.
        longest: Most tokens of a span.

    Examples:
        >>> start, end = np.float32([[0, 1, 4]]), np.float32([[1, 0, 2]])
        >>> none = np.array([0])
        >>> found = best_spans(start, end, np.array([3]), none, none, n=2, longest=3)
        >>> found.scores.tolist(), found.starts.tolist(), found.ends.tolist()
        ([[6.0, 3.0]], [[2, 1]], [[2, 2]])
        >>> best_spans(start, end, np.array([3]), none, np.array([2]), n=1, longest=3).starts.tolist()  # 2 is not its
        [[1]]
    """
    width = start_logits.shape[1]
    longest, row = min(longest, width), np.arange(len(lengths))[:, None]
    # min(a, L-1-b) tokens are on the shorter side of a span; the next window has more of them when
    # a + b > 2L - 1 - after, and the one before has as many or more when a + b < before
    least, most = before[:, None], np.where(after > 0, 2 * lengths - 1 - after, 3 * width)[:, None]
    shares = before.any() or after.any()
    unpadded, end_logits = end_logits, np.full((len(lengths), width + longest - 1), -np.inf, dtype=np.float32)
    end_logits[:, :width] = unpadded
    by_start = start_logits + _best_ends(end_logits, longest, (least, most) if shares else None)
    # each of the n best spans starts at one of the n tokens whose best spans are best
    top = _largest(by_start, n)  # (B, m)
    of_top = sliding_window_view(end_logits, longest, axis=1)[row, top]  # (B, m, A)
    of_top += start_logits[row, top][:, :, None]
    if shares:
        sums = 2 * top[:, :, None] + np.arange(longest)
        of_top[(sums < least[:, None]) | (sums > most[:, None])] = -np.inf
    of_top = of_top.reshape(len(top), -1)
    found = _largest(of_top, n)  # (B, n')
    place, size = np.divmod(found, longest)
    starts = top[row, place]
    last = np.minimum(starts + size, width - 1)  # of all that are finite
    best = [of_top[row, found], starts, last]
    if (missing := n - found.shape[1]) > 0:
        around, fills = [(0, 0), (0, missing)], (-np.inf, 0, 0)
        best = [np.pad(part, around, constant_values=fill) for part, fill in zip(best, fills, strict=True)]
    return Spans(*best)


def _best_ends(
    end_logits: NDArray[np.float32], longest: int, sums: tuple[NDArray[np.int64], NDArray[np.int64]] | None
) -> NDArray[np.float32]:
    """Return the best end of a span from each start, minus infinity where there is none ``(B, C) float32``.

    Maxima of 1, 2, 4, … neighbours are made once; two overlapping ones give any other number.

    Args:
        end_logits: ``(B, C + longest - 1) float32``.
        longest: Most tokens of a span.
        sums: The smallest and the largest sum of start and end in each row ``(B, 1) int64``; none: any.
    """
    maxima = [end_logits]
    while (size := 2 ** len(maxima)) <= longest:
        maxima.append(np.maximum(maxima[-1][:, : -size // 2], maxima[-1][:, size // 2 :]))
    reach = longest - size // 2
    best = np.maximum(maxima[-1][:, : maxima[-1].shape[1] - reach], maxima[-1][:, reach:])
    if sums is None:
        return best
    least, most = sums
    starts = np.arange(best.shape[1])
    row, start = np.nonzero((2 * starts < least) | (2 * starts + longest - 1 > most))
    first = np.maximum(least[row, 0] - start, start)
    last = np.minimum(most[row, 0] - start, start + longest - 1)
    level = np.frexp(np.maximum(last - first + 1, 1))[1] - 1  # exact, where a logarithm may not be
    best[row, start] = -np.inf
    for number, of_level in enumerate(maxima):
        mine = np.flatnonzero((level == number) & (first <= last))
        rows, ends = row[mine], last[mine] - (1 << number) + 1
        best[rows, start[mine]] = np.maximum(of_level[rows, first[mine]], of_level[rows, ends])
    return best


def _largest(values: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Return the places of the n largest values of each row, largest first; of equal ones the first."""
    row, width = np.arange(len(values))[:, None], values.shape[1]
    if n < width:
        least = np.partition(values, width - n, axis=1)[:, width - n, None]
        places = np.flatnonzero(values >= least)
        if len(places) == n * len(values):
            places = places.reshape(-1, n) % width
        else:  # others are as large as the least of them; this takes thrice as long
            places = np.sort(np.argpartition(values, width - n, axis=1)[:, width - n :], axis=1)
    else:
        places = np.broadcast_to(np.arange(width), values.shape)
    order = np.argsort(-values[row, places], axis=1, kind="stable")
    return places[row, order]


class Documents(NamedTuple):
    """What was found in the documents of some windows.

    Args:
        rows: Row of each document in its data set, rising ``(D,) int64``.
        null_scores: Score of no answer: the smallest of its windows
            ``(D,) float32``.
        spans: The best spans of each document, in characters.
    """

    rows: NDArray[np.int64]
    null_scores: NDArray[np.float32]
    spans: Spans


def merge(rows: NDArray[np.int64], null_scores: NDArray[np.float32], spans: Spans) -> Documents:
    """Merge the best spans of windows, which come in any order, to those of documents.

    Args:
        rows: Row of the data set that each window is of ``(W,) int64``.
        null_scores: Score of no answer in each window ``(W,) float32``.
        spans: Spans of each window, in characters, all different ``(W, n)``. Of equal ones of two windows the best one
            counts.

    Examples:
        >>> spans = Spans(np.float32([[3, 1], [2, -np.inf]]), np.array([[5, 0], [9, 0]]), np.array([[7, 4], [12, 0]]))
        >>> found = merge(np.array([4, 4]), np.float32([0.5, 0.1]), spans)
        >>> found.rows.tolist(), found.spans.scores.tolist(), found.spans.starts.tolist()
        ([4], [[3.0, 2.0]], [[5, 9]])
    """
    documents, owner, counts = np.unique(rows, return_inverse=True, return_counts=True)
    nulls = np.full(len(documents), np.inf, dtype=np.float32)
    np.minimum.at(nulls, owner, null_scores)
    shape = (len(documents), spans.scores.shape[1])
    best = Spans(np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    alone = counts[owner] == 1
    place = owner[alone]
    best.scores[place], best.starts[place], best.ends[place] = (part[alone] for part in spans)
    several = Spans(spans.scores[~alone], spans.starts[~alone], spans.ends[~alone])
    _merge_several(best, owner[~alone], several)
    return Documents(documents, nulls, best)


def _merge_several(best: Spans, owner: NDArray[np.int64], spans: Spans) -> None:
    """Put the best spans of documents with several windows in their places, whatever order the windows are in."""
    there = np.isfinite(spans.scores)
    owner, scores = np.repeat(owner, there.sum(axis=1)), spans.scores[there]
    starts, ends = spans.starts[there], spans.ends[there]
    order = np.lexsort((-scores, ends, starts, owner))
    keys = np.stack([owner, starts, ends])[:, order]
    order = order[np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0))[: len(order)]]
    order = order[np.lexsort((ends[order], starts[order], -scores[order], owner[order]))]
    rank = steps(np.bincount(owner[order], minlength=len(best.scores)))
    kept = rank < best.scores.shape[1]
    place, order = (owner[order][kept], rank[kept]), order[kept]
    best.scores[place], best.starts[place], best.ends[place] = scores[order], starts[order], ends[order]


def null_place(tokenizer: Any) -> int:
    """Return the place in an input that stands for no answer: its [CLS], counted from the end when it is there."""
    template, cls = Template.of(tokenizer), tokenizer.cls_token_id
    if cls in template.suffix and cls not in template.prefix:
        return template.suffix.index(cls) - len(template.suffix)
    return template.prefix.index(cls) if cls in template.prefix else 0
