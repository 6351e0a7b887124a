"""Inputs of token classification: a list of words in one sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import SOURCE_ROW
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.batches import EncodedBatches, list_array
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.segments import Pieces, SegmentInputs
from transformers_framework.processing.windows import Ragged, steps, stretches, sums_by_row, surrounded
from transformers_framework.processing.words import WordTokenizer, cut_words
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import (
    DatasetSource,
    Rows,
    check_column,
    empty_rows,
    item_feature,
    null_items,
    type_name,
)
from transformers_framework.sources.fields import as_text, word_column

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


DOC_STRIDE = 128
TOKENS = ("input_ids", "word_ids")  # columns of windows with one number per token
POSITIONS = ("first_word", "owns_from", "owns_to", "num_words")  # columns with one number per window


class WordInputs(SegmentInputs):
    """The words of a row, tokenized word by word, between the tokenizer's special tokens.

    Long rows are split into overlapping windows before training. Each word is trained and predicted in exactly one
    window. Batches always have ``word_ids``: the index of a token's word in the window.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        input_columns: The column that holds the list of words of a row.
        max_sequence_length: Longest input in tokens, special tokens included. A longer row has several windows. By
            default the limit of the model, at most 512.
        doc_stride: Maximum number of tokens that two windows of a long row share; at most half of a window. Default:
            128
        iterable: Stream the training data without conversion to Arrow; rows are shuffled in buffers of about 10,000
            rows. Words after `max_sequence_length` are then removed.

    Raises:
        ConfigurationError: When it is not one column, the length makes no sense, the tokenizer is a slow one, or there
            are no windows that could share tokens.
    """

    evaluates_whole_rows = True  # of several windows

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        input_columns: list[str],
        max_sequence_length: list[PositiveInt],
        doc_stride: NonNegativeInt | None = None,
        iterable: bool = False,
    ) -> None:
        if iterable and doc_stride is not None:
            raise ConfigurationError(
                "--doc_stride: with --iterable there are no windows; words after --max_sequence_length are removed. "
                "Remove one of the two flags."
            )
        self.column = word_column(input_columns)
        self.doc_stride, self.rewrites = DOC_STRIDE if doc_stride is None else doc_stride, not iterable
        columns, length = [f"+{self.column}"], max_sequence_length
        super().__init__(tokenizer, type_vocabulary, needs, input_columns=columns, max_sequence_length=length)
        self.tokenize = WordTokenizer(self.backend)

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check the words of a whole data set, before training.

        Raises:
            DataError: When the column is missing or holds no lists of words, a word is null, or a row has none at all.
        """
        from datasets import Value

        check_column(dataset, self.column, source, flag="input_columns")
        feature = dataset.features[self.column]
        item = item_feature(feature)
        if not isinstance(item, Value) or "binary" in item.dtype:
            held = type_name(feature)
            raise DataError(
                f"--input_columns: '{self.column}' of {source.name} holds {held}, not lists of words. Split texts into "
                f"""words, as {{"{self.column}": ["Rome", "is", "old", "."]}}, or give a column that has them."""
            )
        rows, numbers = null_items(dataset, self.column)
        source.refuse(
            rows,
            lambda at: (
                f"word {numbers[at]} of '{self.column}' is null (counted from 0). Write an empty text if there "
                "is no word, or remove the row."
            ),
        )
        rest, of_rest = source.sound(dataset)
        empty = empty_rows(rest, [self.column])
        of_rest.refuse(empty, lambda at: f"'{self.column}' is null or has no words. Remove the row or fill it in.")
        rest, of_rest = source.sound(dataset)
        self._check_not_empty(rest, self.fields[0], of_rest)
        return dataset

    # ---------------------------------------------------------------- windows, before training

    @property
    def rewrite_key(self) -> dict[str, object] | None:
        """Cache key of windows, serializable as JSON; None if rows are not rewritten."""
        return {**self.length_key, "doc_stride": self.doc_stride} if self.rewrites else None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns from which batches are made."""
        return (*TOKENS, *POSITIONS, "is_cut", SOURCE_ROW) if self.rewrites else super().columns

    @property
    def token_columns(self) -> tuple[str, ...]:
        """Columns of windows with one number per token."""
        return TOKENS if self.rewrites else ()

    def rewrite(
        self, dataset: Dataset, source: DatasetSource, *, batch_size: int, num_workers: int = 1
    ) -> Iterator[pa.Table]:
        """Yield tables of all windows, row by row.

        A window has its ``input_ids``, special tokens included, and ``word_ids``, the indices of their words in the
        window; ``first_word``, the index of its first word in the row; ``owns_from`` and ``owns_to`` (exclusive), the
        words of the row that are trained and predicted in it; ``num_words``, the number of words in the row;
        ``is_cut``, whether its only word lost tokens; and its ``source_row``. All are ``int32`` except the last two.

        Args:
            dataset: Lists of words.
            source: Source of the rows, for messages.
            batch_size: Number of rows that are tokenized together.
            num_workers: Number of processes.
        """
        return EncodedBatches(self._windows, dataset.select_columns([self.column]), batch_size).shown(
            f"Tokenizing {source.name}", num_workers
        )

    def _windows(self, first_row: int, rows: Mapping[str, list[Any]]) -> pa.Table:
        import pyarrow as pa

        ids, pieces, counts = self._pieces_of(rows)
        capacity = self.max_length - self.template.num_special(1)
        row, starts, ends, owns_from, owns_to = cut_words(pieces, counts, capacity=capacity, shared=self.doc_stride)
        before = np.concatenate([[0], np.cumsum(pieces)])
        sizes = before[ends] - before[starts]
        lengths = np.minimum(sizes, capacity)
        taken = stretches(before[starts], lengths)
        numbers = np.repeat(np.arange(len(pieces)), pieces)[taken] - np.repeat(starts, lengths)
        prefix, suffix = self.template.prefix, self.template.suffix
        row_starts = (np.cumsum(counts) - counts)[row]
        places = (starts - row_starts, owns_from - row_starts, owns_to - row_starts, counts[row])
        return pa.table(
            {
                "input_ids": list_array(surrounded(Ragged(ids[taken], lengths), prefix, suffix)),
                "word_ids": list_array(surrounded(Ragged(numbers, lengths), [-1] * len(prefix), [-1] * len(suffix))),
                **{name: values.astype(np.int32) for name, values in zip(POSITIONS, places, strict=True)},
                "is_cut": lengths < sizes,
                SOURCE_ROW: first_row + row,
            }
        )

    # ---------------------------------------------------------------- batches

    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B windows, or rows of a stream, into ``input_ids``, ``attention_mask`` and ``token_type_ids``.

        Also returns ``truncated``, which lost tokens: ``(B,) bool``; and the number of each token's word,
        ``word_ids (B, L) int64``, -1 at special tokens and padding.
        """
        if SOURCE_ROW not in rows:
            return super().post_process(rows, pad_to_multiple_of=pad_to_multiple_of)
        batch = self.padded({name: Ragged.of(rows[name]) for name in TOKENS}, pad_to_multiple_of)
        if self.token_types is not None:
            batch["token_type_ids"] = batch["attention_mask"] * self.token_types[0]
        return {**batch, "truncated": np.asarray(rows["is_cut"], dtype=bool)}

    def _pieces_of(self, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the ids of all words, the number of tokens per word and the number of words per row."""
        lists = [words or () for words in rows[self.column]]
        counts = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        return *self.tokenize([as_text(word) for word in chain.from_iterable(lists)]), counts

    def _ids_of(self, rows: Rows) -> Pieces:
        ids, pieces, counts = self._pieces_of(rows)
        extra = {"word_ids": np.repeat(steps(counts), pieces)}
        return ids, sums_by_row(pieces, counts), np.ones(len(counts), dtype=np.int64), extra

    def _tokens(self, rows: Rows) -> np.ndarray:
        return np.asarray(np.minimum(self._ids_of(rows)[1] + self.template.num_special(1), self.max_length))

    @property
    def token_key(self) -> None:
        """None: windows are already tokenized."""
        return None

    @property
    def length_key(self) -> dict[str, object]:
        """Cache key of token lengths, serializable as JSON."""
        return {**super().length_key, "form": "words"}

    def row_lengths(self, rows: Rows) -> np.ndarray:
        """Return the number of characters of every row of a stream: ``(B,) int64``."""
        return np.array([sum(len(as_text(word)) for word in words or ()) for words in rows[self.column]], np.int64)
