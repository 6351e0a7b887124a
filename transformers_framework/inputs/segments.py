"""Base class of inputs of text segments that are joined to one sequence with special tokens."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import TOKENS, Stage
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.inputs.batches import EncodedBatches
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds, Inputs
from transformers_framework.processing.backend import bare_tokenizer
from transformers_framework.processing.encoding import (
    Template,
    WordMarks,
    assemble,
    number_words,
    tokenize,
    tokenize_words,
)
from transformers_framework.processing.segments import Segments
from transformers_framework.processing.windows import Ragged, inside, sums_by_row
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import (
    DatasetSource,
    Rows,
    check_column,
    check_text_type,
    empty_rows,
    list_sizes,
    rows_without_characters,
)
from transformers_framework.sources.fields import Field, columns_of_fields, parse_field, segments

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Self

Pieces = tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]

DERIVED = ("_filling", "_word_marks", "_tokenizer_digest")  # cached in an object
NUM_REQUIRED_TEXTS = 2  # the first two segments (question and candidate) must not be empty; more context may be


class SegmentInputs(Inputs):
    """Inputs of one or more texts, the segments, which are tokenized in one call per batch.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        input_columns: Text columns that make up the input, in order: 'name', 'first:second' (two columns joined by a
            space), '+list' (a list column joined by spaces) or '*list' (a list column, one segment each).
        max_sequence_length: Longest input in tokens, special tokens included. Longer texts are shortened, the longest
            segment first, and counted. By default the limit of the model, at most 512.
        extended_token_type_ids: Token type of each segment; the last value repeats. The model's type vocabulary grows
            to fit.

    Raises:
        ConfigurationError: When columns or lengths are invalid, or the tokenizer is not a fast one.
    """

    columns_flag = "input_columns"  # for messages
    prefix = ""  # text before every text, for models that expect the task there

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        input_columns: list[str],
        max_sequence_length: list[PositiveInt],
        extended_token_type_ids: list[NonNegativeInt] | None = None,
    ) -> None:
        template = Template.of(tokenizer)
        self.template = template if needs.separates_segments else replace(template, between=())
        self.backend = bare_tokenizer(tokenizer)
        self.fields = [parse_field(column, flag=self.columns_flag) for column in input_columns]
        super().__init__(tokenizer, self._single_length(max_sequence_length), needs)
        if extended_token_type_ids is not None:
            self._check_types(extended_token_type_ids)
        self.token_types = self._token_types(type_vocabulary, extended_token_type_ids)
        if tokenizer.pad_token_id is None:
            raise ConfigurationError("--pre_trained_tokenizer: the tokenizer has no padding token.")

    def _single_length(self, lengths: Sequence[int]) -> int:
        if len(lengths) != 1:
            raise ConfigurationError(f"--max_sequence_length: one length is needed here, {len(lengths)} were given.")
        least = self.template.num_special(len(self.fields)) + len(self.fields)
        if lengths[0] < least:
            raise ConfigurationError(
                f"--max_sequence_length: {lengths[0]} has no space for {len(self.fields)} texts and their "
                f"{self.template.num_special(len(self.fields))} special tokens. Use {least} or more."
            )
        return lengths[0]

    def _check_types(self, extended: Sequence[int]) -> None:
        """Raise if there are more token types than segments can have."""
        if len(extended) > len(self.fields) and not any(field.spreads for field in self.fields):
            raise ConfigurationError(
                f"--extended_token_type_ids: {len(extended)} types for the {len(self.fields)} segments of "
                "--input_columns. Give one for each; the last one repeats."
            )
        if max(extended) >= self.max_length:
            raise ConfigurationError(
                f"--extended_token_type_ids: type {max(extended)} needs as many embeddings, and no input of "
                f"{self.max_length} tokens has so many segments. Number the types from 0."
            )

    def _token_types(self, type_vocabulary: int, extended: Sequence[int] | None) -> Sequence[int] | None:
        if extended is not None:
            return tuple(extended)
        types = self.template.token_types
        return types if 0 < max(types) < type_vocabulary else None

    @property
    def query_field(self) -> Field | None:
        """Column or columns of the first text, the query if rows are candidates of queries."""
        return self.fields[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the segments."""
        return self.text_columns

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of the segments in the data set."""
        return columns_of_fields(self.fields)

    @property
    def predicted_columns(self) -> tuple[str, ...]:
        """Columns of the segments of rows to predict, also where windows are made of them."""
        return columns_of_fields(self._fields_of("predict"))

    def _fields_of(self, stage: Stage) -> list[Field]:
        return self.fields

    def in_stage(self, stage: Stage) -> Self:
        """Return the inputs of a stage: texts to predict may contain special tokens that the model fills in."""
        return self._filling if stage == "predict" and self.needs.tokens_to_fill else self

    @cached_property
    def _filling(self) -> Self:
        return self._with(backend=bare_tokenizer(self.tokenizer, keep=self.needs.tokens_to_fill))

    def _with(self, **attributes: object) -> Self:
        """Return a copy with changed attributes and without cached values."""
        found = copy.copy(self)
        kept = {name: value for name, value in vars(self).items() if name not in DERIVED}
        vars(found).clear()
        vars(found).update(kept | attributes)
        return found

    @property
    def num_token_types(self) -> int:
        """Token types that the model must be able to distinguish; 0 where batches have no ``token_type_ids``."""
        return 1 + max(self.token_types) if self.token_types else 0

    @property
    def unknown_id(self) -> int | None:
        """Id of the unknown token; None if the tokenizer has all bytes, or the token has another role."""
        template, unknown = self.template, self.tokenizer.unk_token_id
        if unknown in (*template.prefix, *template.between, *template.suffix, self.tokenizer.pad_token_id):
            return None
        return unknown if getattr(self.backend.model, "unk_token", "") is not None else None

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check the columns of a whole data set, before training.

        Raises:
            DataError: When a column is missing or not text, or a needed text is null or empty.
        """
        self._check_texts(dataset, self.fields, source, num_required=NUM_REQUIRED_TEXTS)
        self._check_num_segments(dataset, source)
        return dataset

    def _check_texts(
        self, dataset: Dataset, fields: Sequence[Field], source: DatasetSource, *, num_required: int
    ) -> None:
        """Raise if a column is missing or not text, or one of the first ``num_required`` texts is null or empty."""
        for field in fields:
            for column in field.columns:
                check_column(dataset, column, source, flag=self.columns_flag)
                check_text_type(dataset, column, source, is_list=field.is_list, flag=self.columns_flag)
        for required in fields[:num_required]:
            self._check_not_empty(dataset, required, source)

    def _check_not_empty(self, dataset: Dataset, field: Field, source: DatasetSource) -> None:
        """Raise if a text is null or empty, or has no tokens; only texts without letters or signs are tokenized."""
        doubtful = rows_without_characters(dataset, field.columns)
        if not len(doubtful):
            return
        name, rows = ":".join(field.columns), dataset.select_columns(list(field.columns)).select(doubtful)
        empty = empty_rows(rows, field.columns)
        source.refuse(
            doubtful[empty], lambda at: f"the text in '{name}' is null or empty. Remove the row or fill it in."
        )
        if len(empty):
            written = np.setdiff1d(np.arange(len(rows)), empty)
            doubtful, rows = doubtful[written], rows.select(written)
        texts, counts = segments(rows[:], [field])
        lost = np.flatnonzero(sums_by_row(tokenize(self.backend, texts)[1], counts) == 0)
        source.refuse(
            doubtful[lost],
            lambda at: (
                f"the tokenizer returns no token for the text in '{name}', which has no letter, number or "
                "symbol. Remove the row or fill it in."
            ),
        )

    def _check_num_segments(self, dataset: Dataset, source: DatasetSource) -> None:
        """Raise if a row has more segments than fit into the input."""
        lists = [field.columns[0] for field in self.fields if field.spreads]
        if not lists:
            return
        counts = np.sum([list_sizes(dataset, column) for column in lists], axis=0) + len(self.fields) - len(lists)
        needed = self.template.num_special(counts) + counts
        rows = np.flatnonzero(needed > self.max_length)
        source.refuse(
            rows,
            lambda at: (
                f"{counts[rows[at]]} segments need {needed[rows[at]]} tokens or more, and --max_sequence_length "
                f"is {self.max_length}. Shorten the list in '{lists[0]}', or increase the length."
            ),
        )

    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B rows into ``input_ids``, ``attention_mask`` and ``token_type_ids``: ``(B, L) int64``.

        Also returns ``truncated``, which rows lost tokens: ``(B,) bool``; and where objectives need it, ``word_ids
        (B, L) int64``, the number of each token's word within its row, -1 at special tokens and padding.
        """
        ids, lengths, counts, extra = self._ids_of(rows)
        return assemble(
            ids,
            lengths,
            counts,
            self.template,
            max_length=self.max_length,
            pad_token_id=int(self.tokenizer.pad_token_id),
            pad_to_multiple_of=pad_to_multiple_of,
            token_types=self.token_types,
            pad_left=self.tokenizer.padding_side == "left",
            extra=extra,
        )

    def padded(self, tokens: Mapping[str, Ragged], pad_to_multiple_of: int) -> dict[str, np.ndarray]:
        """Pad rows that were tokenized before training: return ``attention_mask`` and each column, ``(B, L) int64``.

        Args:
            tokens: Columns with one number per token, ``input_ids`` among them.
            pad_to_multiple_of: The length of rows is rounded up to a multiple of this.
        """
        fills = {"input_ids": int(self.tokenizer.pad_token_id), "word_ids": -1, "token_type_ids": 0}
        lengths, left = tokens["input_ids"].lengths, self.tokenizer.padding_side == "left"
        longest = int(lengths.max(initial=1))
        width = min(-(-longest // pad_to_multiple_of) * pad_to_multiple_of, max(longest, self.max_length))
        batch = {name: ragged.padded(width, fills[name], left=left) for name, ragged in tokens.items()}
        return {**batch, "attention_mask": inside(lengths, width, left=left).astype(np.int64)}

    def segments(self, rows: Rows) -> tuple[list[str], np.ndarray]:
        """Return the texts of all segments, row by row, and the number of segments of each row: ``(B,) int64``."""
        texts, counts = segments(rows, self.fields)
        return [self.prefix + text for text in texts] if self.prefix else texts, counts

    def _ids_of(self, rows: Rows) -> Pieces:
        """Return the ids of all segments, their lengths, the number of segments per row, and other token columns."""
        cached: Any = rows.get(TOKENS)
        found: Segments = self._tokenized(*self.segments(rows)) if cached is None else cached
        extra = {}
        if self.needs.word_ids:
            starts = found.starts
            if starts is None:
                assert self._word_marks is not None
                starts = self._word_marks.starts(found.ids, found.lengths)
            extra["word_ids"] = number_words(starts, sums_by_row(found.lengths, found.counts))
        return found.ids, found.lengths, found.counts, extra

    def tokenized(self, rows: Rows) -> Segments:
        """Return the tokenized segments of B rows."""
        return self._tokenized(*self.segments(rows))

    def _tokenized(self, texts: Sequence[str], counts: np.ndarray) -> Segments:
        if self._asks_for_words:
            ids, lengths, starts = tokenize_words(self.backend, texts, None)
            return Segments(ids, lengths, counts, starts)
        return Segments(*tokenize(self.backend, texts), counts)

    @property
    def _asks_for_words(self) -> bool:
        """Whether words are needed and only the tokenizer knows them, not the ids."""
        return self.needs.word_ids and self._word_marks is None

    @property
    def token_key(self) -> dict[str, object] | None:
        """Cache key of :meth:`tokenized`, serializable as JSON; None if rows are already tokenized."""
        if self.token_columns:
            return None
        kind = f"{type(self).__module__}:{type(self).__qualname__}"
        fields = [vars(field) for field in self.fields]
        key = {"inputs": kind, "tokenizer": self._tokenizer_digest, "fields": fields, "prefix": self.prefix}
        return {**key, "word_starts": self._asks_for_words}

    def input_lengths(self, segments: Segments) -> np.ndarray:
        """Return the number of tokens of the model inputs of B rows, special tokens included ``(B,) int64``."""
        counts = segments.counts
        whole = sums_by_row(segments.lengths, counts) + self.template.num_special(counts)
        return np.asarray(np.minimum(whole, self.max_length))

    @cached_property
    def _word_marks(self) -> WordMarks | None:
        return WordMarks.of(self.backend)

    def lengths(self, dataset: Dataset) -> np.ndarray:
        """Return the number of characters of every row, or of tokens if rows are already tokenized: ``(N,) int64``."""
        return super().lengths(dataset) + (0 if self.token_columns else len(self.prefix))

    def token_lengths(self, dataset: Dataset, *, batch_size: int = 1000, num_workers: int = 1) -> np.ndarray:
        """Return the number of tokens of every row's model input, special tokens included: ``(N,) int64``.

        With them, length bucketing leaves a third of the padding that :meth:`lengths` leaves. Speed: about 14,000 rows
        per second and core.
        """
        if self.token_columns:
            return list_sizes(dataset, "input_ids")
        batches = EncodedBatches(self._counted, dataset.select_columns(list(self.columns)), batch_size)
        return np.concatenate([*batches.shown("Counting tokens", num_workers)] or [np.zeros(0, np.int64)])

    def _counted(self, first_row: int, rows: Rows) -> np.ndarray:
        return self._tokens(rows)

    def _tokens(self, rows: Rows) -> np.ndarray:
        return self.input_lengths(self.tokenized(rows))

    @property
    def length_key(self) -> dict[str, object]:
        """Cache key of token lengths, serializable as JSON."""
        fields = [vars(field) for field in self.fields]
        prefix = {"prefix": self.prefix} if self.prefix else {}
        return {"tokenizer": self._tokenizer_digest, "fields": fields, "max_length": self.max_length, **prefix}

    @cached_property
    def _tokenizer_digest(self) -> str:
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    def row_lengths(self, rows: Rows) -> np.ndarray:
        """Return the number of characters of rows of a stream: ``(B,) int64``."""
        texts, counts = self.segments(rows)
        characters = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        return sums_by_row(characters, counts)
