"""Span corruption of T5 and UL2: spans become sentinels in the input, the target has their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transformers_framework.processing.random import uniform_at
from transformers_framework.processing.spans import Keys, LengthLimits, prefixed, put_aside, random_spans, replaced
from transformers_framework.processing.windows import Ragged, steps
from transformers_framework.processing.word_spans import Words, random_word_spans

LONGEST_WORD = 16  # tokens; whole words of up to so many are not cut, but for the only one left of a text
SHARE_OF_A_WORD = 2  # tokens that whole words hide more or less than they should, on average at most


@dataclass(frozen=True)
class Denoiser:
    """One way of corrupting texts.

    Args:
        probability: Share of the tokens that are in spans.
        mean_span_length: Tokens of a span on average; infinity: one span at the end of the text.
        prefix: Token that begins the input, so that the model knows; -1: none.
    """

    probability: float
    mean_span_length: float
    prefix: int = -1


def span_counts(
    lengths: NDArray[np.int64], probability: ArrayLike, mean_span_length: ArrayLike, max_spans: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many tokens of each text are in spans, and how many spans these are.

    Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", sections
    3.1.4 and 3.3.4, with the rounding of their code: both numbers are the nearest integers, and at least one token is
    in a span and one is not. A text of one token stays whole.

    Args:
        lengths: Tokens of each text ``(B,) int64``.
        probability: Share of the tokens that are in spans, one or ``(B,)``.
        mean_span_length: Tokens of a span on average, one or ``(B,)``.
        max_spans: Most spans of a text. Where there would be more, spans are longer; the share stays.

    Returns:
        Tokens in spans and spans, both ``(B,) int64``.

    Examples:
        >>> [part.tolist() for part in span_counts(np.array([0, 1, 2, 10, 568]), 0.15, 3.0, 100)]
        [[0, 0, 1, 2, 85], [0, 0, 1, 1, 28]]
        >>> [part.tolist() for part in span_counts(np.array([568]), 0.5, np.array([3.0]), 20)]
        [[284], [20]]
    """
    rounded = np.rint(lengths * np.asarray(probability)).astype(np.int64)
    noise = np.maximum(np.minimum(np.maximum(rounded, 1), lengths - 1), 0)
    spans = np.maximum(np.rint(noise / np.asarray(mean_span_length)).astype(np.int64), 1)
    return noise, np.minimum(np.minimum(spans, max_spans), np.minimum(noise, lengths - noise))


def corrupted_lengths(
    lengths: NDArray[np.int64], denoiser: Denoiser, max_spans: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how long the inputs and the targets of texts are, both ``(N,) int64``; about so with whole words.

    Examples:
        >>> [part.tolist() for part in corrupted_lengths(np.array([1, 10, 568]), Denoiser(0.15, 3.0), 100)]
        [[1, 9, 511], [0, 3, 113]]
    """
    noise, spans = span_counts(lengths, denoiser.probability, denoiser.mean_span_length, max_spans)
    return lengths - noise + spans + (denoiser.prefix >= 0), noise + spans


def longest_text(denoiser: Denoiser, length_limits: LengthLimits, max_spans: int, *, spare: int = 0) -> int:
    """Return the tokens of the longest text whose corrupted input and whose target fit.

    Args:
        denoiser: How the text is corrupted.
        length_limits: Limits of their lengths.
        max_spans: Most spans of a text.
        spare: Tokens that must be left over, in the input or in the target.

    Examples:
        >>> [longest_text(Denoiser(0.15, 3.0), LengthLimits(511, target), 100) for target in (511, 63)]
        [568, 316]
    """
    lengths = np.arange(length_limits.input + length_limits.target + 2)
    inputs, targets = corrupted_lengths(lengths, denoiser, max_spans)
    left = length_limits.input + length_limits.target - inputs - targets
    fits = (inputs <= length_limits.input) & (targets <= length_limits.target) & (left >= spare)
    return int(np.argmin(fits)) - 1


@dataclass(frozen=True, eq=False)
class SpanCorruption:
    """Corrupt texts as T5 does, or each by one of several denoisers, sampled for each text.

    A mixture: Tay et al. 2022, "UL2: Unifying Language Learning Paradigms", section 3.1. Where whole words fill an
    input to its limit, the last one is hidden rather than kept: the share is then larger by half a word on average.

    Args:
        denoisers: One or more, all equally likely.
        sentinels: Tokens that take the place of a row's first, second, … span ``(N,) int64``.
        length_limits: How long inputs and targets may be.
        max_spans: Most spans of a text, at most N.
        whole_words: Spans are made of whole words.
    """

    denoisers: Sequence[Denoiser]
    sentinels: NDArray[np.int64]
    length_limits: LengthLimits
    max_spans: int
    whole_words: bool = False

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest text that every denoiser makes fit."""
        spare = LONGEST_WORD - 1 if self.whole_words else 0
        return min(longest_text(one, self.length_limits, self.max_spans, spare=spare) for one in self.denoisers)

    def corrupted_lengths(self, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how long inputs and targets of texts are at most, both ``(N,) int64``; nearly so with whole words."""
        found = np.array([corrupted_lengths(lengths, one, self.max_spans) for one in self.denoisers])  # (D, 2, N)
        inputs, targets = found.max(axis=0)
        if self.whole_words:  # the last word is taken or left, and of short texts it is the only one
            inputs = np.minimum(inputs + SHARE_OF_A_WORD, self.length_limits.input)
            targets = np.minimum(targets + SHARE_OF_A_WORD, self.length_limits.target)
        return inputs, targets

    def __call__(self, texts: Ragged, words: Words | None, keys: Keys) -> tuple[Ragged, Ragged]:
        """Return inputs and targets of B texts.

        Args:
            texts: Their tokens, without special ones around them.
            words: Their words, where whole words are asked for.
            keys: Makes random numbers of rows.
        """
        sampled = np.zeros(len(texts), dtype=np.int64)
        if len(self.denoisers) > 1:
            sampled = (uniform_at(keys("denoiser"), sampled) * len(self.denoisers)).astype(np.int64)
        probabilities, means, prefixes = (
            np.array([getattr(one, name) for one in self.denoisers])[sampled]
            for name in ("probability", "mean_span_length", "prefix")
        )
        noise, counts = span_counts(texts.lengths, probabilities, means, self.max_spans)
        if words is None:
            spans = random_spans(texts.lengths, noise, counts, keys("kept"), keys("noise"))
        else:
            least = texts.lengths + counts + (prefixes >= 0) - self.length_limits.input
            streams = keys("kept"), keys("noise"), keys("ends")
            spans = random_word_spans(words, noise, counts, least, self.length_limits.target - counts, streams)
        sentinels = self.sentinels[steps(spans.counts)]
        return prefixed(replaced(texts, spans, sentinels), prefixes), put_aside(texts, spans, sentinels)
