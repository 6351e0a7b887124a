"""One or more texts in one sequence: the input of every encoder pipeline."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.processing.backend import bare_tokenizer
from transformers_framework.processing.encoding import (
    Template,
    WordMarks,
    assemble,
    number_words,
    tokenize,
    tokenize_words,
)
from transformers_framework.processing.windows import Ragged, inside, sums_by_row
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import (
    DatasetSource,
    check_column,
    check_text_type,
    chunks,
    column_lengths,
    first_empty,
    list_sizes,
    unwritten,
)
from transformers_framework.sources.fields import Field, parse_field, segments

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from transformers_framework.processing.packing import Bins

Pieces = tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]

NUM_REQUIRED_TEXTS = 2  # a question and its candidate must not be empty; context around them may be


class TextInputs:
    """One or more texts of a row, joined with the tokenizer's special tokens.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Token types that the model can tell apart; 0 when it has none.
        input_columns: Text columns that make up the input, in order: 'name', 'first:second' (two columns joined by a
            space), '+list' (a list column joined by spaces) or '*list' (a list column, one segment each).
        max_sequence_length: Longest input in tokens, special tokens included. Longer texts are shortened, the longest
            segment first, and counted.
        extended_token_type_ids: Token type of each segment; the last value repeats. The model's type vocabulary grows
            to fit.

    Raises:
        ConfigurationError: When columns or lengths make no sense, or the tokenizer is a slow one.
    """

    model_keys: tuple[str, ...] = ("input_ids", "attention_mask", "token_type_ids")
    columns_flag = "input_columns"  # for messages
    rewriting = "--packing full and --split_long_texts"  # what makes rows anew
    num_joined = 1  # texts of --max_sequence_length each that make one input
    groups_rows = False  # whether several rows share an input, each with a label of its own
    tracks_words = False  # set where an objective needs the word of every token
    fills: tuple[str, ...] = ()  # set where an objective fills in special tokens that texts to predict hold
    judges_whole_rows = False  # whether windows, or candidates, of a row are judged together
    prefix = ""  # words before every text, where a model wants to be told what to do

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        *,
        input_columns: list[str],
        max_sequence_length: list[PositiveInt],
        extended_token_type_ids: list[NonNegativeInt] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = Template.of(tokenizer)
        self.backend = bare_tokenizer(tokenizer)
        self.fields = [parse_field(column, flag=self.columns_flag) for column in input_columns]
        self.max_length = self._single_length(max_sequence_length)
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
                f"--max_sequence_length: {lengths[0]} leaves no room for {len(self.fields)} texts and their "
                f"{self.template.num_special(len(self.fields))} special tokens. Use {least} or more."
            )
        return lengths[0]

    def _check_types(self, extended: Sequence[int]) -> None:
        """Refuse types that no segment has: a list that was made for other columns."""
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
    def columns(self) -> tuple[str, ...]:
        """Columns that are read."""
        return tuple(dict.fromkeys(column for field in self.fields for column in field.columns))

    def truncation(self, lengths: Sequence[int]) -> tuple[str, str]:
        """Return what may lose tokens and why, for messages.

        Args:
            lengths: The value of ``--max_sequence_length``.
        """
        return "texts", f"were cut to fit --max_sequence_length {' '.join(map(str, lengths))}"

    def columns_of(self, stage: Stage) -> tuple[str, ...]:
        """Return the columns that are read in a stage."""
        return self.columns

    def in_stage(self, stage: Stage) -> TextInputs:
        """Return what turns rows of a stage into model inputs: texts to predict may hold what is to be filled in."""
        return self._filling if stage == "predict" and self.fills else self

    @cached_property
    def _filling(self) -> TextInputs:
        filling = copy.copy(self)
        filling.backend = bare_tokenizer(self.tokenizer, keep=self.fills)
        for derived in ("_word_marks", "_tokenizer_digest"):
            vars(filling).pop(derived, None)
        return filling

    @property
    def token_columns(self) -> tuple[str, ...]:
        """Those of the columns that hold lists of numbers, one a token."""
        return ()

    @property
    def rewrite_key(self) -> dict[str, Any] | None:
        """What rows that are made anew before training depend on besides the data; none when they stay as they are."""
        return None

    @property
    def uses_document_mask(self) -> bool:
        """Whether several rows share one of a training batch."""
        return False

    def num_groups(self, stage: Stage) -> int | None:
        """Return how many inputs a stage has where several rows share one, each time others; none where they do not."""
        return None

    def groups(self, stage: Stage, seed: int, epoch: int) -> Bins | None:
        """Return which rows share an input in an epoch; none where each has its own."""
        return None

    def readable(self, rows: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """Return columns of rows as people want to see them beside predictions."""
        return rows

    @property
    def num_token_types(self) -> int:
        """Token types that the model must be able to tell apart."""
        return 1 + max(self.token_types) if self.token_types else 0

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check the columns of a whole data set, before training.

        Raises:
            DataError: When a column is missing or not text, or a needed text is null or empty.
        """
        self._check_texts(dataset, self.fields, source, num_required=NUM_REQUIRED_TEXTS)
        self._check_room(dataset, source)
        return dataset

    def _check_texts(
        self, dataset: Dataset, fields: Sequence[Field], source: DatasetSource, *, num_required: int
    ) -> None:
        """Raise when a column is missing or not text, or one of the first texts is null or empty."""
        for field in fields:
            for column in field.columns:
                check_column(dataset, column, source, flag=self.columns_flag)
                check_text_type(dataset, column, source, is_list=field.is_list, flag=self.columns_flag)
        for required in fields[:num_required]:
            self._check_written(dataset, required, source)

    def _check_written(self, dataset: Dataset, field: Field, source: DatasetSource) -> None:
        """Raise when a text is null or empty, or none to the tokenizer; only doubtful ones are looked at closely."""
        doubtful = unwritten(dataset, field.columns)
        if not len(doubtful):
            return
        name, rows = ":".join(field.columns), dataset.select_columns(list(field.columns)).select(doubtful)
        if (row := first_empty(rows, field.columns)) is not None:
            raise DataError(
                f"{source.place(int(doubtful[row]))}: the text in '{name}' is null or empty. "
                "Remove the row or fill it in."
            )
        texts, counts = segments(rows[:], [field])
        empty = np.flatnonzero(sums_by_row(tokenize(self.backend, texts)[1], counts) == 0)
        if len(empty):
            raise DataError(
                f"{source.place(int(doubtful[empty[0]]))}: the tokenizer makes no token of the text in "
                f"'{name}', which has no letter, number or sign. Remove the row or fill it in."
            )

    def _check_room(self, dataset: Dataset, source: DatasetSource) -> None:
        """Raise when a row has more segments than tokens fit into the input."""
        lists = [field.columns[0] for field in self.fields if field.spreads]
        if not lists:
            return
        counts = np.sum([list_sizes(dataset, column) for column in lists], axis=0) + len(self.fields) - len(lists)
        needed = self.template.num_special(counts) + counts
        if (longest := int(needed.max(initial=0))) > self.max_length:
            row = int(needed.argmax())
            raise DataError(
                f"{source.place(row)}: {counts[row]} segments need {longest} tokens or more, and --max_sequence_length "
                f"is {self.max_length}. Shorten the list in '{lists[0]}', or raise the length."
            )

    def post_process(self, rows: Mapping[str, Sequence[Any]], *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B rows into ``input_ids``, ``attention_mask`` and ``token_type_ids``: ``(B, L) int64``.

        Also returns ``truncated``, which rows lost tokens: ``(B,) bool``; and with ``tracks_words`` the number of each
        token's word within its row, ``word_ids (B, L) int64``, -1 at special tokens and padding.
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
        """Lay out rows of tokens that were made before training: ``attention_mask`` and each column, ``(B, L) int64``.

        Args:
            tokens: Columns with a number a token, ``input_ids`` among them.
            pad_to_multiple_of: The length of rows is rounded up to a multiple of this.
        """
        fills = {"input_ids": int(self.tokenizer.pad_token_id), "word_ids": -1, "token_type_ids": 0}
        lengths, left = tokens["input_ids"].lengths, self.tokenizer.padding_side == "left"
        longest = int(lengths.max(initial=1))
        width = min(-(-longest // pad_to_multiple_of) * pad_to_multiple_of, max(longest, self.max_length))
        batch = {name: ragged.padded(width, fills[name], left=left) for name, ragged in tokens.items()}
        return {**batch, "attention_mask": inside(lengths, width, left=left).astype(np.int64)}

    def segments(self, rows: Mapping[str, Sequence[Any]]) -> tuple[list[str], np.ndarray]:
        """Return the texts of all segments, row after row, and how many each of the B rows has: ``(B,) int64``."""
        texts, counts = segments(rows, self.fields)
        return [self.prefix + text for text in texts] if self.prefix else texts, counts

    def distinct(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a batch of evaluation without what need not be computed twice."""
        return batch

    def _ids_of(self, rows: Mapping[str, Sequence[Any]]) -> Pieces:
        """Return the ids of all segments, the length of each, the segments of each row, and more about every token."""
        texts, counts = self.segments(rows)
        if not self.tracks_words:
            return *tokenize(self.backend, texts), counts, {}
        ids, lengths, starts = tokenize_words(self.backend, texts, self._word_marks)
        return ids, lengths, counts, {"word_ids": number_words(starts, sums_by_row(lengths, counts))}

    @cached_property
    def _word_marks(self) -> WordMarks | None:
        return WordMarks.of(self.backend)

    def lengths(self, dataset: Dataset) -> np.ndarray:
        """Return the characters of every row, a stand-in for its tokens that needs no tokenizer: ``(N,) int64``.

        A token of usual text is four to five characters; where the input is cut, so is the estimate. Of rows that were
        made of tokens before training, their tokens.
        """
        if self.token_columns:
            return list_sizes(dataset, "input_ids")
        total = np.full(len(dataset), len(self.prefix), dtype=np.int64)
        for column in self.columns:
            total += column_lengths(dataset, column)
        return total

    def token_lengths(self, dataset: Dataset) -> np.ndarray:
        """Return the tokens of every row as the model will see it, special tokens included: ``(N,) int64``.

        Grouped by these, batches have a third of the padding that :meth:`lengths` leaves. Some 14,000 rows a second
        and core.
        """
        if self.token_columns:
            return list_sizes(dataset, "input_ids")
        rows = chunks(dataset.select_columns(list(self.columns)))
        return np.concatenate([self._tokens(chunk) for chunk in rows] or [np.zeros(0, np.int64)])

    def _tokens(self, rows: Mapping[str, Sequence[Any]]) -> np.ndarray:
        texts, counts = self.segments(rows)
        lengths = tokenize(self.backend, texts)[1]
        return np.minimum(sums_by_row(lengths, counts) + self.template.num_special(counts), self.max_length)

    @property
    def length_key(self) -> dict[str, Any]:
        """What token lengths depend on besides the data, as JSON can hold it."""
        fields = [vars(field) for field in self.fields]
        told = {"prefix": self.prefix} if self.prefix else {}
        return {"tokenizer": self._tokenizer_digest, "fields": fields, "max_length": self.max_length, **told}

    @cached_property
    def _tokenizer_digest(self) -> str:
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    def row_lengths(self, rows: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """Return the same for rows of a stream: ``(B,) int64``."""
        texts, counts = self.segments(rows)
        characters = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        return sums_by_row(characters, counts)
