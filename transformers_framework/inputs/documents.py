"""Inputs of structural pre-training: spans and paragraphs of whole documents, sampled anew in each epoch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.constants import Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.batches import EncodedBatches
from transformers_framework.inputs.paragraphs import (
    ParagraphReader,
    Texts,
    column,
    paragraphs_of,
    span_text,
    text_around,
    text_without,
)
from transformers_framework.inputs.segments import SegmentInputs
from transformers_framework.processing.packing import Bins
from transformers_framework.processing.random import integers, keys
from transformers_framework.processing.structure import ABSENT, Groups, Spans, StructureSampler
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import (
    DatasetSource,
    Rows,
    check_column,
    check_text_type,
    column_lengths,
    item_feature,
    list_sizes,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

NUM_NEGATIVES = 4  # of each span, half of them hard
SPAN, CANDIDATE, CONTEXT, LABEL, INDEX = "span", "candidate", "context", "label", "index"  # columns that are sampled

logger = logging.getLogger(__name__)


class FromDocuments(SegmentInputs):
    r"""Spans of documents and candidates for them.

    In each epoch, a span of each paragraph is sampled and compared with candidates. Paragraphs of one sentence, such as
    headings, are left out and counted.

    Args:
        structure: Task to learn. 'same_paragraph': is the candidate a span of the same paragraph?
            'span_in_paragraph': is the span from this paragraph, from which it was removed? 'same_document': are two
            paragraphs from the same document? 'in_context': as same_paragraph, with the sentences before and after the
            candidate as a third segment.
        k: Number of candidates in one input with the span: all positives and negatives. Default: each input has one.
        documents_column: Column of the documents: a text with paragraphs, or a list of paragraphs.
        paragraph_separator: Text between two paragraphs; \\n is a line break.
        span_sentences: Least and greatest number of sentences of a span.
        min_sentence_length: Shortest sentence, in characters; no span begins or ends with a shorter one.
        positives: Number of positive candidates of a span.
        hard_negatives: Number of negatives from other paragraphs of the same document. By default half of the
            negatives, 2 without `k`; none with same_document.
        easy_negatives: Number of negatives from other documents. By default the other negatives.
        iterable: Stream the training data without conversion to Arrow; rows are shuffled in buffers of about 10,000
            rows.

    Raises:
        ConfigurationError: When flags contradict each other.
    """

    groups_rows = True

    def __init__(
        self,
        *,
        structure: Literal["same_paragraph", "span_in_paragraph", "same_document", "in_context"] = "same_paragraph",
        k: PositiveInt | None = None,
        documents_column: str = "text",
        paragraph_separator: str = "\\n\\n",
        span_sentences: tuple[PositiveInt, PositiveInt] = (1, 2),
        min_sentence_length: NonNegativeInt = 10,
        positives: PositiveInt = 1,
        hard_negatives: NonNegativeInt | None = None,
        easy_negatives: NonNegativeInt | None = None,
        iterable: bool = False,
    ) -> None:
        if iterable:
            raise ConfigurationError(
                "--iterable: candidates come from all documents, and a stream is read only during training. Remove "
                "--iterable: prepared data is stored on disk, not in memory."
            )
        if span_sentences[0] > span_sentences[1]:
            raise ConfigurationError(
                f"--span_sentences: found {span_sentences[0]} {span_sentences[1]}; expected the least number first."
            )
        separator = paragraph_separator.replace("\\n", "\n").replace("\\t", "\t")
        if not separator:
            raise ConfigurationError("--paragraph_separator is empty; expected a text, such as '\\n\\n'.")
        if structure == "span_in_paragraph" and positives > 1:
            raise ConfigurationError(
                f"--positives {positives}: with --structure span_in_paragraph a span is from one paragraph. Use 1."
            )
        if structure == "same_document" and hard_negatives:
            raise ConfigurationError(
                f"--hard_negatives {hard_negatives}: with --structure same_document all paragraphs of the document are "
                "positives. Use --easy_negatives."
            )
        negatives = NUM_NEGATIVES if k is None else max(0, k - positives)
        if structure == "same_document":
            hard_negatives = 0
        elif hard_negatives is None:
            hard_negatives = negatives // 2 if easy_negatives is None else max(0, negatives - easy_negatives)
        if easy_negatives is None:
            easy_negatives = max(0, negatives - hard_negatives)
        total = positives + hard_negatives + easy_negatives
        if k is not None and total != k:
            raise ConfigurationError(
                f"-k {k}: --positives {positives}, --hard_negatives {hard_negatives} and --easy_negatives "
                f"{easy_negatives} make {total} candidates. Change them, or use -k {total}."
            )
        if total == positives:
            raise ConfigurationError(
                "--hard_negatives, --easy_negatives: both are 0, so all candidates are positive. Give at least one "
                "negative" + ("." if k is None else ", and a larger -k.")
            )
        if structure == "in_context" and k is not None:
            raise ConfigurationError(
                "--structure in_context: an input has a span, a candidate and its context. Leave out -k, or use "
                "--structure same_paragraph."
            )
        self.column, self.separator, self.shortest = documents_column, separator, min_sentence_length
        self.sampler = StructureSampler(structure, *span_sentences, positives, hard_negatives, easy_negatives)
        self.readers: dict[Stage, ParagraphReader] = {}
        self.left_out: dict[Stage, list[str]] = {}
        self.asked: dict[Stage, np.ndarray] = {}  # paragraphs whose spans are sampled (N,) int64

    # ---------------------------------------------------------------- before training

    @property
    def columns(self) -> tuple[str, ...]:
        """The text of each paragraph."""
        return ("text",)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The column of documents."""
        return (self.column,)

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check the column of documents.

        Raises:
            ConfigurationError: When documents are to be predicted.
            DataError: When the column is missing or not text.
        """
        if source.stage == "predict":
            raise ConfigurationError(
                "--predict_dataset: candidates of structural pre-training are sampled from documents, so there is "
                "nothing to predict. Use --test_dataset, or fine-tune the model for answer_selection."
            )
        check_column(dataset, self.column, source, flag="documents_column")
        is_list = item_feature(dataset.features[self.column]) is not None
        check_text_type(dataset, self.column, source, is_list=is_list, flag="documents_column")
        return dataset

    @property
    def rewrite_key(self) -> dict[str, object] | None:
        """Cache key of paragraphs."""
        return {
            "form": "different paragraphs",
            "of": self.column,
            "separator": self.separator,
            "shortest": self.shortest,
        }

    def rewrite(
        self, dataset: Dataset, source: DatasetSource, *, batch_size: int, num_workers: int = 1
    ) -> Iterator[pa.Table]:
        """Yield tables of paragraphs, with the positions of their sentences.

        Args:
            dataset: The documents.
            source: Source of the documents, for messages.
            batch_size: Number of documents that are split together.
            num_workers: Number of processes.

        Raises:
            DataError: When no document has a paragraph of two sentences.
        """
        documents = dataset.select_columns([self.column])
        batches = EncodedBatches(self._paragraphs, documents, batch_size)
        num_paragraphs = 0
        for table in batches.shown(f"Splitting {source.name}", num_workers):
            num_paragraphs += len(table)
            yield table
        if not num_paragraphs:
            raise DataError(
                f"{source.place(0)}: neither this document nor any other has a paragraph with two sentences of "
                f"{self.shortest} characters or more. Check --documents_column ('{self.column}'), "
                "--paragraph_separator and --min_sentence_length."
            )

    def _paragraphs(self, first_row: int, rows: Mapping[str, list[Any]]) -> pa.Table:
        table: pa.Table = paragraphs_of(first_row, rows[self.column], self.separator, self.shortest)
        return table

    def take_rows(self, rows: Dataset, num_read: int, source: DatasetSource) -> Dataset:
        """Find the paragraphs whose spans can be sampled, and report those that are left out.

        Raises:
            DataError: When there is none, or there are too few other documents for easy negatives.
        """
        reader, sampler = ParagraphReader(rows), self.sampler
        documents, sizes = reader.paragraphs.documents, reader.paragraphs.sentences.lengths
        others = column(rows, "other_paragraphs" if sampler.takes_paragraphs else "other_sentences")
        texts = "paragraphs" if sampler.takes_paragraphs else "sentences"
        needed = sampler.hard * (1 if sampler.takes_paragraphs else sampler.most)
        if sampler.structure == "same_document":
            needed = sampler.positives
        is_short, is_alone = sizes < sampler.least_sentences(), others < needed
        asked = np.flatnonzero(~is_short & ~is_alone)
        found, counts = np.unique(documents, return_counts=True)
        absent = np.setdiff1d(np.arange(num_read), found)
        short = f"paragraphs with fewer than {sampler.least_sentences()} sentences, too few for the span and positives"
        alone = f"paragraphs whose document has fewer than {needed} other {texts}, too few for its candidates"
        left_out = column(rows, "left_out")
        reasons = [
            f"{count:,} {what} (the first in {source.place(int(first))})"
            for count, what, first in (
                (
                    int(left_out.sum()),
                    "paragraphs with one sentence, or that their document repeats",
                    documents[left_out.argmax()],
                ),
                (len(absent), "documents without a paragraph of two sentences", absent.min(initial=num_read)),
                (int(is_short.sum()), short, documents[is_short].min(initial=num_read)),
                (int((is_alone & ~is_short).sum()), alone, documents[is_alone & ~is_short].min(initial=num_read)),
            )
            if count
        ]
        if not len(asked):
            raise DataError(
                f"{source.name}: no paragraph can be used. Found {'; '.join(reasons)}. Check "
                "--paragraph_separator, or ask for fewer --positives and --hard_negatives."
            )
        largest = int(counts.argmax())
        if (rest := len(documents) - int(counts[largest])) < sampler.easy + sampler.hard:
            raise DataError(
                f"{source.place(int(found[largest]))}: {counts[largest]:,} of {len(documents):,} paragraphs are from "
                f"this document, and the other {rest} are too few for --easy_negatives {sampler.easy}. Give more "
                "documents, or ask for fewer negatives."
            )
        logger.info(
            "%s: %s documents have %s paragraphs with %s sentences; %s paragraphs are used in each epoch.",
            source.stage, *(f"{n:,}" for n in (len(found), len(sizes), int(sizes.sum()), len(asked))),
        )  # fmt: skip
        if reasons:
            logger.warning("%s: left out are %s.", source.stage, "; ".join(reasons))
        self.readers[source.stage], self.asked[source.stage] = reader, asked
        self.left_out[source.stage] = reasons
        return rows

    def truncation(self, lengths: Sequence[int]) -> tuple[str, str]:
        """Return the start and the end of the message about truncated inputs."""
        return "inputs", super().truncation(lengths)[1]

    # ---------------------------------------------------------------- batches

    def num_groups(self, stage: Stage) -> int | None:
        """Return the number of paragraphs of a stage whose spans are sampled."""
        return len(self.asked[stage])

    def groups(self, stage: Stage, seed: int, epoch: int) -> Bins:
        """Return the paragraphs whose spans are sampled, each as a bin."""
        return Bins(self.asked[stage], np.ones_like(self.asked[stage]))

    def in_groups(
        self, columns: Rows, sizes: np.ndarray, row_ids: np.ndarray, stage: Stage, *, seed: int, epoch: int
    ) -> dict[str, list[Any]]:
        """Return a span of each paragraph, its candidates and their labels, sampled for the epoch."""

        def of_rows(purpose: str) -> np.ndarray:
            return keys(seed, epoch, row_ids, f"{stage}.structure.{purpose}")

        groups = self.sampler.sample(self.readers[stage].paragraphs, row_ids, of_rows)
        return self._columns(groups, row_ids, stage, of_rows("pair"))

    def _columns(
        self, groups: Groups, row_ids: np.ndarray, stage: Stage, pair_keys: np.ndarray
    ) -> dict[str, list[Any]]:
        """Return a candidate of each span, positive or negative in the proportions of their numbers."""
        chosen = integers(pair_keys, 1, self.sampler.num_candidates)
        there = (groups.candidates.paragraphs != ABSENT).sum(axis=1, keepdims=True)
        chosen = np.minimum(chosen, there - 1)
        candidates, removed = groups.candidates.ordered(chosen), groups.removed.ordered(chosen)
        texts = self.readers[stage].read(groups.spans, candidates)
        spans, rows = triples(groups.spans), zip(triples(candidates.first()), triples(removed.first()), strict=True)
        found = {
            SPAN: [span_text(texts, *span) for span in spans],
            CANDIDATE: [self._candidate(texts, candidate, hole) for candidate, hole in rows],
            LABEL: np.take_along_axis(groups.labels, chosen, axis=1)[:, 0].tolist(),
        }
        if self.sampler.structure == "in_context":
            pairs = zip(triples(candidates.first()), spans, strict=True)
            found[CONTEXT] = [text_around(texts, *candidate, avoided=span) for candidate, span in pairs]
        return found

    def _candidate(self, texts: Texts, candidate: tuple[int, int, int], removed: tuple[int, int, int]) -> str:
        return text_without(texts, *removed) if self.sampler.takes_paragraphs else span_text(texts, *candidate)

    # ---------------------------------------------------------------- lengths

    def lengths(self, dataset: Dataset) -> np.ndarray:
        """Return the number of characters of each paragraph, or of its average sentence: ``(P,) int64``."""
        characters = column_lengths(dataset, "text")
        return characters if self.sampler.takes_paragraphs else characters // list_sizes(dataset, "starts")

    def token_lengths(self, dataset: Dataset, *, batch_size: int = 1000, num_workers: int = 1) -> np.ndarray:
        """Return :meth:`lengths`: the texts are not yet sampled."""
        return self.lengths(dataset)

    @property
    def token_key(self) -> None:
        """None: the texts are sampled in each epoch."""
        return None

    @property
    def length_key(self) -> dict[str, object]:
        """Cache key of lengths."""
        return {"form": "paragraphs", "whole": self.sampler.takes_paragraphs}


def triples(spans: Spans) -> list[tuple[int, int, int]]:
    """Return the paragraph, the first sentence and the number of sentences of each of N spans."""
    return list(zip(*(values.tolist() for values in vars(spans).values()), strict=True))
