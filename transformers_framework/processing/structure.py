"""Spans and paragraphs of documents for structural pre-training, sampled for a whole batch at once.

The tasks are those of Di Liello, Garg, Soldaini, Moschitti 2022, "Pre-training Transformer Models with Sentence-Level
Objectives for Answer Sentence Selection", section 4 (SSP, SP, PSD); with several candidates, the task of the same
authors 2022, "Paragraph-based Transformer Pre-training for Multi-Sentence Inference", section 4 (MSPP); and with
context, Di Liello, Garg, Moschitti 2023, "Context-Aware Transformer Pre-Training for Answer Sentence Selection".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transformers_framework.processing.random import integers, mix64, uniform
from transformers_framework.processing.windows import Ragged, stretches

Structure = Literal["same_paragraph", "span_in_paragraph", "same_document", "in_context"]
Keys = Callable[[str], NDArray[np.uint64]]  # keys of the rows of a batch for a purpose (B,)
Ints = NDArray[np.int64]

NUM_PROPOSALS = 24  # sampled for each span; the first ones that are no duplicates become candidates
ABSENT = -1


@dataclass(frozen=True)
class Spans:
    """Runs of sentences, each in one paragraph; arrays of any equal shape.

    Args:
        paragraphs: Row of the paragraph, -1 where there is no span, int64.
        starts: First sentence, counted in the paragraph, int64.
        lengths: Number of sentences, int64.
    """

    paragraphs: Ints
    starts: Ints
    lengths: Ints

    def ordered(self, order: Ints) -> Spans:
        """Return the spans of each row in another order, or some of them.

        Args:
            order: Their numbers ``(B, n) int64``.
        """
        return Spans(*(np.take_along_axis(values, order, axis=1) for values in vars(self).values()))

    def columns(self, first: int, stop: int) -> Spans:
        """Return the spans of each row from a number up to another."""
        return Spans(*(values[:, first:stop] for values in vars(self).values()))

    def selected(self, mask: NDArray[np.bool_]) -> Spans:
        """Return the spans where a mask of their shape is true, row after row ``(N,)``."""
        return Spans(*(values[mask] for values in vars(self).values()))

    def first(self) -> Spans:
        """Return the first span of each row ``(B,)``."""
        return Spans(*(values[:, 0] for values in vars(self).values()))

    def joined(self, *others: Spans) -> Spans:
        """Return these spans and others side by side, along the last axis."""
        every = (self, *others)
        return Spans(
            *(
                np.concatenate([getattr(s, name) for s in every], axis=-1)
                for name in ("paragraphs", "starts", "lengths")
            )
        )


@dataclass(frozen=True)
class Paragraphs:
    """The paragraphs of documents in order, with hashes of their sentences.

    Args:
        documents: Document of each paragraph, ascending ``(P,) int64``.
        sentences: Hashes of the sentences of each paragraph, all different in it; P rows of int64.
        texts: Hash of each paragraph ``(P,) int64``.
    """

    documents: Ints
    sentences: Ragged
    texts: Ints

    @cached_property
    def ends(self) -> Ints:
        """End of each paragraph in the sentences of all ``(P,) int64``."""
        return np.cumsum(self.sentences.lengths)

    @cached_property
    def starts(self) -> Ints:
        """Start of each paragraph in the sentences of all ``(P,) int64``."""
        return self.ends - self.sentences.lengths

    def of_document(self, paragraphs: Ints) -> tuple[Ints, Ints]:
        """Return the first paragraph of the document of each paragraph, and the one after the last ``(B,) int64``."""
        documents = self.documents[paragraphs]
        return np.searchsorted(self.documents, documents), np.searchsorted(self.documents, documents, side="right")


@dataclass(frozen=True)
class Groups:
    """A span of each paragraph of a batch, and its candidates in random order.

    Args:
        spans: The spans ``(B,)``.
        candidates: Sentences or whole paragraphs ``(B, K)``; absent ones are the last of a row.
        removed: Sentences that are removed from candidates, if these are paragraphs ``(B, K)``.
        labels: 1 for positives, 0 for negatives ``(B, K) int64``.
    """

    spans: Spans
    candidates: Spans
    removed: Spans
    labels: Ints


@dataclass(frozen=True)
class StructureSampler:
    """Samples spans and candidates of paragraphs; candidates differ, and no negative is a duplicate of a positive.

    Args:
        structure: The task.
        least: Least number of sentences of a span.
        most: Greatest number of sentences of a span.
        positives: Number of positive candidates.
        hard: Number of negatives of the same document.
        easy: Number of negatives of other documents; they also replace hard negatives that a document does not have.
    """

    structure: Structure
    least: int
    most: int
    positives: int
    hard: int
    easy: int

    @property
    def num_candidates(self) -> int:
        """Number of candidates of a span."""
        return self.positives + self.hard + self.easy

    @property
    def takes_paragraphs(self) -> bool:
        """Whether candidates are whole paragraphs."""
        return self.structure in ("span_in_paragraph", "same_document")

    def least_sentences(self) -> int:
        """Return the least number of sentences of a paragraph whose spans can be sampled."""
        if self.structure == "same_document":
            return 1
        return self.least * (1 if self.takes_paragraphs else 1 + self.positives) + self.takes_paragraphs

    def sample(self, data: Paragraphs, paragraphs: Ints, keys: Keys) -> Groups:
        """Return a span of each of B paragraphs, and its candidates.

        Args:
            data: All paragraphs.
            paragraphs: Rows of the paragraphs whose spans are sampled ``(B,) int64``.
            keys: Returns the keys of their random numbers.
        """
        whole = Spans(paragraphs, np.zeros_like(paragraphs), data.sentences.lengths[paragraphs])
        in_paragraph = 0 if self.takes_paragraphs else self.positives
        arranged = self._arranged(data, paragraphs, 1 + in_paragraph, keys("arrangement"))
        spans = whole if self.structure == "same_document" else arranged.first()
        pool = _Pool(self, data, spans, keys)
        every = np.full(len(paragraphs), 1)
        if self.structure == "span_in_paragraph":
            positives = Spans(*(values[:, None] for values in vars(whole).values()))
        elif self.structure == "same_document":
            positives = pool.choose("positives", self.positives * every)
        else:
            positives = arranged.columns(1, 1 + self.positives)
        hard = pool.choose("hard", self.hard * every)
        easy = pool.choose("easy", self.easy + (hard.paragraphs == ABSENT).sum(axis=1))
        candidates = positives.joined(hard, easy)
        width = candidates.paragraphs.shape[-1]
        labels = np.tile(np.arange(width) < self.positives, (len(paragraphs), 1)).astype(np.int64)
        # those that there are, in random order; absent ones come last
        draws = uniform(keys("order"), width) + (candidates.paragraphs == ABSENT)
        order = np.argsort(draws, axis=1, kind="stable")[:, : self.num_candidates]
        candidates, labels = candidates.ordered(order), np.take_along_axis(labels, order, axis=1)
        return Groups(spans, candidates, self._removed(data, spans, candidates, labels, keys("removed")), labels)

    def _arranged(self, data: Paragraphs, paragraphs: Ints, count: int, keys: NDArray[np.uint64]) -> Spans:
        """Return spans of each paragraph that do not overlap, every arrangement equally likely ``(B, count)``."""
        sizes, width = data.sentences.lengths[paragraphs], self.most - self.least + 1
        draws = uniform(keys, 2 * count)
        lengths = self.least + (draws[:, :count] * width).astype(np.int64)
        room = sizes - self.takes_paragraphs  # a paragraph without the span keeps a sentence
        lengths = np.where((lengths.sum(axis=1) > room)[:, None], self.least, lengths)
        # distinct places among the sentences outside of spans and the spans themselves
        free = sizes - lengths.sum(axis=1) + count
        places = np.zeros((len(paragraphs), count), dtype=np.int64)
        for i in range(count):  # a number among those that are left, counted past the ones that are taken
            place = (draws[:, count + i] * (free - i)).astype(np.int64)
            for taken in np.sort(places[:, :i], axis=1).T:
                place += place >= taken
            places[:, i] = place
        order = np.argsort(places, axis=1)
        in_order = np.take_along_axis(lengths, order, axis=1)
        starts = np.take_along_axis(places, order, axis=1) + np.cumsum(in_order - 1, axis=1) - (in_order - 1)
        back = np.argsort(order, axis=1)
        return Spans(np.repeat(paragraphs[:, None], count, axis=1), np.take_along_axis(starts, back, axis=1), lengths)

    def _removed(
        self, data: Paragraphs, spans: Spans, candidates: Spans, labels: Ints, keys: NDArray[np.uint64]
    ) -> Spans:
        """Return the sentences to remove from paragraphs: the span from its own, as many from others ``(B, K)``.

        Without it, positives would be recognized by their length or by the gap.
        """
        none = np.zeros_like(labels)
        if self.structure != "span_in_paragraph":
            return Spans(candidates.paragraphs, none, none)
        sizes = np.where(candidates.paragraphs == ABSENT, 0, data.sentences.lengths[candidates.paragraphs])
        lengths = np.minimum(spans.lengths[:, None], np.maximum(sizes - 1, 0))
        starts = integers(keys, labels.shape[1], np.maximum(sizes - lengths + 1, 1))
        return Spans(candidates.paragraphs, np.where(labels == 1, spans.starts[:, None], starts), lengths)


class _Pool:
    """Candidates of a batch outside of its spans' paragraphs, each at most once.

    Args:
        sampler: The task and the lengths of spans.
        data: All paragraphs.
        spans: The spans of the batch ``(B,)``.
        keys: Returns keys of random numbers.
    """

    def __init__(self, sampler: StructureSampler, data: Paragraphs, spans: Spans, keys: Keys) -> None:
        self.sampler, self.data, self.spans, self.keys = sampler, data, spans, keys
        self.rows = np.arange(len(spans.paragraphs))
        self.salts = mix64(self.rows.astype(np.uint64) + np.uint64(1))
        first, last = data.of_document(spans.paragraphs)
        own = spans.paragraphs
        if sampler.takes_paragraphs:
            self.document, self.paragraph, self.total = (first, last), (own, own + 1), len(data.documents)
        else:  # positions among the sentences of all paragraphs
            self.document = data.starts[first], data.ends[last - 1]
            self.paragraph, self.total = (data.starts[own], data.ends[own]), len(data.sentences.values)
        self.forbidden = self._forbidden()
        self.taken = np.zeros((len(own), 0), dtype=np.int64)  # hashes of what was chosen, 0 for nothing

    def _forbidden(self) -> NDArray[np.uint64]:
        """Return the hashes, with the row of the batch, that make a negative a duplicate of a positive."""
        data, spans = self.data, self.spans
        if self.sampler.structure == "same_document":
            first, last = self.document
            owners = np.repeat(self.rows, last - first)
            return self._salted(data.texts[stretches(first, last - first)], owners)
        sizes = data.sentences.lengths[spans.paragraphs]
        hashes = data.sentences.values[stretches(data.starts[spans.paragraphs], sizes)]
        return self._salted(hashes, np.repeat(self.rows, sizes))

    def _salted(self, hashes: Ints, owners: Ints) -> NDArray[np.uint64]:
        return mix64(hashes.view(np.uint64) ^ self.salts[owners])

    def choose(self, kind: Literal["positives", "hard", "easy"], counts: Ints) -> Spans:
        """Return candidates of each row, -1 where there are no more ``(B, max of counts)``.

        Args:
            kind: ``positives`` and ``hard`` are of the same document, ``easy`` of others.
            counts: Number of candidates of each row ``(B,) int64``.
        """
        most = int(counts.max(initial=0))
        found = Spans(*(np.full((len(counts), most), fill, dtype=np.int64) for fill in (ABSENT, 0, 0)))
        if not most:
            return found
        proposed = self._proposals(kind)
        ids = self._ids(proposed)  # (B, R, width)
        usable = (proposed.paragraphs != ABSENT) & ~self._duplicates(proposed, of_positives=kind == "positives")
        num_found = np.zeros(len(counts), dtype=np.int64)
        for number in range(proposed.paragraphs.shape[1]):
            if (num_found == counts).all():
                break
            mine = ids[:, number, None]
            same = (self.taken[..., None] == mine) & (mine != 0)
            rows = np.flatnonzero(usable[:, number] & (num_found < counts) & ~same.any(axis=(1, 2)))
            if not len(rows):
                continue
            for name, values in vars(found).items():
                values[rows, num_found[rows]] = getattr(proposed, name)[rows, number]
            num_found[rows] += 1
            chosen = np.zeros((len(counts), ids.shape[2]), dtype=np.int64)
            chosen[rows] = ids[rows, number]
            self.taken = np.concatenate([self.taken, chosen], axis=1)
        return found

    def _proposals(self, kind: str) -> Spans:
        """Return random candidates, all that there are where they are few ``(B, R)``."""
        skipped = self.document if kind == "easy" else self.paragraph
        low, high = (np.zeros_like(skipped[0]), np.full_like(skipped[0], self.total))
        if kind != "easy":
            low, high = self.document
        size = (high - low) - (skipped[1] - skipped[0])
        keys, width = self.keys(f"candidates.{kind}"), NUM_PROPOSALS
        ranks = np.argsort(np.where(np.arange(width) < size[:, None], uniform(keys, width), 2.0), axis=1)
        numbers = np.where(size[:, None] <= width, ranks, integers(keys, width, size[:, None]))
        is_there = np.where(size[:, None] <= width, np.arange(width) < size[:, None], True)
        numbers += low[:, None]
        numbers += np.where(numbers >= skipped[0][:, None], (skipped[1] - skipped[0])[:, None], 0)
        numbers = np.where(is_there, numbers, 0)
        if self.sampler.takes_paragraphs:
            lengths = np.where(is_there, self.data.sentences.lengths[numbers], 0)
            return Spans(np.where(is_there, numbers, ABSENT), np.zeros_like(numbers), lengths)
        paragraphs = np.searchsorted(self.data.ends, numbers, side="right")
        sizes = self.data.sentences.lengths[paragraphs]
        least, most = self.sampler.least, self.sampler.most
        lengths = np.minimum(least + integers(self.keys(f"lengths.{kind}"), width, most - least + 1), sizes) * is_there
        starts = np.minimum(numbers - self.data.starts[paragraphs], sizes - lengths)
        return Spans(np.where(is_there, paragraphs, ABSENT), starts, lengths)

    def _ids(self, proposed: Spans) -> Ints:
        """Return the hashes of texts that no two candidates may share, 0 for none ``(B, R, width) int64``."""
        if self.sampler.structure == "same_document":
            return self.data.texts[proposed.paragraphs][..., None]
        places = np.arange(int(proposed.lengths.max(initial=1)))
        first = self.data.starts[proposed.paragraphs] + proposed.starts
        last = len(self.data.sentences.values) - 1
        hashes = self.data.sentences.values[np.minimum(first[..., None] + places, last)]
        return np.where(places < proposed.lengths[..., None], hashes, 0)

    def _duplicates(self, proposed: Spans, *, of_positives: bool) -> NDArray[np.bool_]:
        """Return which proposals contain what makes a candidate positive ``(B, R) bool``."""
        owners, shape = np.broadcast_to(self.rows[:, None], proposed.paragraphs.shape), proposed.paragraphs.shape
        if self.sampler.structure == "same_document":
            hashes = self.data.texts[proposed.paragraphs]
            if of_positives:  # other paragraphs of the document, but not with the same text
                found: NDArray[np.bool_] = hashes == self.data.texts[self.spans.paragraphs][:, None]
                return found
            return np.isin(self._salted(hashes.ravel(), owners.ravel()), self.forbidden).reshape(shape)
        starts = (self.data.starts[proposed.paragraphs] + proposed.starts).ravel()
        lengths = proposed.lengths.ravel()
        hashes = self.data.sentences.values[stretches(starts, lengths)]
        is_known = np.isin(self._salted(hashes, np.repeat(owners.ravel(), lengths)), self.forbidden)
        numbers = np.repeat(np.arange(len(lengths)), lengths)
        return (np.bincount(numbers, weights=is_known, minlength=len(lengths)) > 0).reshape(shape)
