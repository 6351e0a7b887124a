"""Text infilling and sentence permutation: what BART learns to undo."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from transformers_framework.processing.encoding import SPACES
from transformers_framework.processing.random import uniform_at
from transformers_framework.processing.sentences import CLOSERS, STOPS, WIDE_STOPS
from transformers_framework.processing.spans import Keys, LengthLimits, Spans, choose, replaced
from transformers_framework.processing.windows import Ragged, steps, stretches, sums_by_row
from transformers_framework.processing.word_spans import Words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_END = re.compile(f"[{STOPS}{WIDE_STOPS}][{CLOSERS}]*\\s*$")
_CLOSER = re.compile(f"[{CLOSERS}]+")


# ---------------------------------------------------------------- sentences


@dataclass(frozen=True, eq=False)
class SentenceMarks:
    """Tells sentences from ids alone.

    A sentence ends after a token that ends with a full stop, a question mark or the like, and a quotation mark or
    bracket that closes after it, where a word begins next; and after the separator of two texts of a row.

    Args:
        closes: Tokens that end a sentence ``(V,) bool``.
        follows: Tokens that close after them ``(V,) bool``.
        opens: Tokens that may begin one ``(V,) bool``.
        separates: Tokens between two texts, which also end a sentence ``(V,) bool``.
    """

    closes: NDArray[np.bool_]
    follows: NDArray[np.bool_]
    opens: NDArray[np.bool_]
    separates: NDArray[np.bool_]

    @classmethod
    def of(cls, backend: Tokenizer, separators: Sequence[int] = ()) -> SentenceMarks:
        """Look at every token of a tokenizer, once.

        Args:
            backend: The tokenizer.
            separators: Tokens between two texts.
        """
        vocabulary = backend.get_vocab(with_added_tokens=True)
        size = 1 + max((*vocabulary.values(), *separators), default=0)
        texts = backend.decode_batch([[number] for number in range(size)], skip_special_tokens=False)
        closes = np.fromiter((_END.search(text) is not None for text in texts), dtype=bool, count=size)
        follows = np.fromiter((_CLOSER.fullmatch(text) is not None for text in texts), dtype=bool, count=size)
        spaced = [number for token, number in vocabulary.items() if token.startswith(SPACES)]
        prefix = json.loads(backend.to_str())["model"].get("continuing_subword_prefix")
        opens, separates = np.zeros((2, size), dtype=bool)
        if spaced:
            opens[spaced] = True
        else:  # spaces leave no mark: every token may begin a word that is not known to go on with one
            opens[[number for token, number in vocabulary.items() if not (prefix and token.startswith(prefix))]] = True
        separates[list(separators)] = True
        return cls(closes | separates, follows & ~opens, opens & ~separates, separates)

    def sentences(self, texts: Ragged) -> Words:
        """Return the sentences of texts, which hold all of their tokens.

        Examples:
            >>> stop, quote, word, piece = np.eye(4, dtype=bool)
            >>> marks = SentenceMarks(closes=stop, follows=quote, opens=word, separates=np.zeros(4, dtype=bool))
            >>> sentences = marks.sentences(Ragged.of([[2, 3, 0, 1, 2, 0, 3, 0], [1, 0, 2]]))
            >>> sentences.begins.tolist(), sentences.lengths.tolist(), sentences.counts.tolist()
            ([0, 4, 8, 10], [4, 4, 2, 1], [2, 2])
        """
        ids = texts.values
        starts = np.zeros(len(ids), dtype=bool)
        starts[texts.starts[texts.lengths > 0]] = True
        ends = np.flatnonzero(self.closes[ids[:-1]])
        ends += self.follows[ids[ends + 1]] & ~starts[ends + 1] & ~self.separates[ids[ends]]
        ends = ends[ends < len(ids) - 1]
        last, following = ids[ends], ids[ends + 1]
        is_end = np.where(self.separates[last], ~self.separates[following], self.opens[following])
        starts[ends[is_end] + 1] = True
        return Words.of(starts, texts.lengths)


def shuffled(counts: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Put the members of each row in random order, every one but the given order equally likely.

    Args:
        counts: Members of each row ``(B,) int64``; one alone stays.
        keys: Of the rows, for this purpose alone ``(B,) uint64``.

    Returns:
        The members of all rows, row after row, in their new order ``(sum of counts,) int64``.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> shuffled(np.array([4, 1, 2]), keys(1337, 0, [0, 1, 2], "shuffle")).tolist()
        [2, 0, 3, 1, 4, 6, 5]
    """
    rows, numbers = np.repeat(np.arange(len(counts)), counts), steps(counts)
    members = np.arange(len(rows))
    order: NDArray[np.int64] = members.copy()
    waiting = members[counts[rows] > 1]
    while len(waiting):
        mine = rows[waiting]
        order[waiting] = waiting[np.lexsort((uniform_at(keys[mine], numbers[waiting]), mine))]
        moved = np.zeros(len(counts), dtype=bool)
        moved[rows[order != members]] = True
        waiting = waiting[~moved[mine]]
        numbers = numbers + counts[rows]  # the next numbers of each stream
    return order


def reordered(texts: Ragged, parts: Words, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which token is at each position once the parts of texts are in another order ``(T,) int64``.

    Examples:
        >>> parts = Words(begins=np.array([0, 2]), lengths=np.array([2, 1]), counts=np.array([2]))
        >>> reordered(Ragged.of([[7, 8, 9]]), parts, np.array([1, 0])).tolist()
        [2, 0, 1]
    """
    lengths = parts.lengths[order]
    moves = parts.begins[order] - (np.cumsum(lengths) - lengths)
    return np.repeat(moves, lengths) + np.arange(len(texts.values))


# ---------------------------------------------------------------- infilling


def poisson_lengths(
    totals: NDArray[np.int64], mean: float, max_spans: NDArray[np.int64], keys: NDArray[np.uint64]
) -> Ragged:
    """Draw lengths of spans until they add up to a total; the last one is cut to hit it.

    Args:
        totals: What the lengths of each row add up to ``(B,) int64``.
        mean: Of the Poisson distribution.
        max_spans: Most spans of each row, at least 1; what they leave over is shared out evenly ``(B,) int64``.
        keys: Of the rows, for this purpose alone ``(B,) uint64``.

    Returns:
        The lengths of each row's spans, 0 among them; no span where the total is 0.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> streams = keys(1337, 0, [0, 1, 2], "spans")
        >>> poisson_lengths(np.array([9, 0, 9]), 3.0, np.array([9, 9, 2]), streams)
        Ragged(values=array([2, 2, 4, 1, 5, 4]), lengths=array([4, 0, 2]))
    """
    table = _poisson_table(mean)
    expected = totals / mean
    enough = np.ceil(expected + 4 * np.sqrt(expected / mean) + 4)  # all but always
    sizes = np.where(totals > 0, np.minimum(enough, max_spans), 0).astype(np.int64)
    while True:
        sampled = np.searchsorted(table, uniform_at(np.repeat(keys, sizes), steps(sizes)), side="right")
        sums = sums_by_row(sampled, sizes)
        short = (sums < totals) & (sizes < max_spans)
        if not short.any():
            break
        sizes = np.where(short, np.minimum(2 * sizes, max_spans), sizes)  # a longer draw begins with the shorter one
    before = np.cumsum(sampled) - sampled - np.repeat(np.cumsum(sums) - sums, sizes)
    used = before < np.repeat(totals, sizes)
    counts = sums_by_row(used.astype(np.int64), sizes)
    lengths = sampled[used]
    left = totals - sums_by_row(lengths, counts)
    some = counts > 0
    lengths[np.cumsum(counts)[some] - 1] += np.minimum(left, 0)[some]
    if (left > 0).any():
        each, rest = np.divmod(np.maximum(left, 0), np.maximum(counts, 1))
        lengths += np.repeat(each, counts) + (steps(counts) < np.repeat(rest, counts))
    return Ragged(lengths, counts)


@lru_cache
def _poisson_table(mean: float) -> NDArray[np.float64]:
    """Return the probability of at most 0, 1, … ``(n,) float64``, as far as they differ from 1."""
    numbers = range(int(mean + 12 * math.sqrt(mean) + 30))
    return np.cumsum([math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in numbers])


def rotated(rows: Ragged, keys: NDArray[np.uint64]) -> Ragged:
    """Begin each row with any of its values; the others follow as in a circle.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> rotated(Ragged.of([[1, 2, 3, 4], []]), keys(1337, 0, [0, 1], "spans"))
        Ragged(values=array([2, 3, 4, 1]), lengths=array([4, 0]))
    """
    first = (uniform_at(keys, np.zeros(len(rows), dtype=np.int64)) * rows.lengths).astype(np.int64)
    turned = stretches(first, rows.lengths) % np.repeat(rows.lengths, rows.lengths)
    return Ragged(rows.values[np.repeat(rows.starts, rows.lengths) + turned], rows.lengths)


def scattered(sizes: NDArray[np.int64], lengths: Ragged, keys: NDArray[np.uint64]) -> Spans:
    """Lay spans of given lengths out in rows, in their order; all ways are equally likely. Spans may touch.

    Args:
        sizes: Values of each row ``(B,) int64``.
        lengths: Of each row's spans, 0 or more; add up to at most its values.
        keys: Of the rows, for this purpose alone ``(B,) uint64``.

    Examples:
        >>> from transformers_framework.processing.random import keys
        >>> spans = scattered(np.array([6, 3]), Ragged.of([[2, 0], [1]]), keys(1337, 0, [0, 1], "places"))
        >>> spans.starts.tolist(), spans.lengths.tolist()
        ([1, 4, 6], [2, 0, 1])
    """
    counts = lengths.lengths
    # a row of kept values and spans, one place each: where the spans are
    places = choose(sizes - sums_by_row(lengths.values, counts) + counts, counts, keys)
    before = np.cumsum(lengths.values) - lengths.values
    return Spans(places - np.arange(len(places)) + before, lengths.values, counts)


@dataclass(frozen=True, eq=False)
class TextInfilling:
    """Corrupt texts as BART does.

    Lewis et al. 2020, "BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation, Translation,
    and Comprehension", section 2.2: sentences are put in another order, then spans of random length become one mask
    token each. The target is the whole text.

    Args:
        probability: Share of the tokens that are in spans, or of the words: the nearest number of them, exactly.
        mean_span_length: Tokens of a span on average, or words.
        mask_token_id: The mask.
        length_limits: How long inputs and targets may be. Inserted masks never make an input longer.
        max_spans: Most spans of a text.
        sentences: Tells sentences, where they are to be put in another order.
    """

    probability: float
    mean_span_length: float
    mask_token_id: int
    length_limits: LengthLimits
    max_spans: int
    sentences: SentenceMarks | None = None

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return min(self.length_limits.input, self.length_limits.target)

    def corrupted_lengths(self, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how long the inputs of texts are at most, and how long their targets are, both ``(N,) int64``.

        A few texts, of which next to nothing is masked, may grow by one inserted mask more.
        """
        growth = max(1.0, 1 + self.probability * (1 / self.mean_span_length - 1))
        return np.minimum(np.ceil(lengths * growth).astype(np.int64), self.length_limits.input), lengths

    def __call__(self, texts: Ragged, words: Words | None, keys: Keys) -> tuple[Ragged, Ragged]:
        """Return inputs and targets of B texts.

        Args:
            texts: Their tokens, without special ones around them.
            words: Their words, where whole words are asked for.
            keys: Makes random numbers of rows.
        """
        corrupted = texts
        if self.sentences is not None:
            corrupted, words = self._permuted(texts, words, keys)
        sizes = texts.lengths if words is None else words.counts
        totals = np.rint(sizes * self.probability).astype(np.int64)
        fitting = totals + self.length_limits.input - texts.lengths  # a span hides a token, but for inserted masks
        max_spans = np.maximum(np.minimum(self.max_spans, fitting), 1)
        lengths = poisson_lengths(totals, self.mean_span_length, max_spans, keys("lengths"))
        # the span that was cut is the last one only by chance
        spans = scattered(sizes, rotated(lengths, keys("rotation")), keys("places"))
        if words is not None:
            spans = words.tokens_of(spans)
        return replaced(corrupted, spans, self.mask_token_id), texts

    def _permuted(self, texts: Ragged, words: Words | None, keys: Keys) -> tuple[Ragged, Words | None]:
        """Put the sentences of each text in another order; words stay whole, since sentences begin with one."""
        assert self.sentences is not None
        found = self.sentences.sentences(texts)
        source = reordered(texts, found, shuffled(found.counts, keys("sentences")))
        if words is not None:
            starts = np.zeros(len(texts.values), dtype=bool)
            starts[words.begins] = starts[found.begins] = True
            words = Words.of(starts[source], texts.lengths)
        return Ragged(texts.values[source], texts.lengths), words
