"""Texts to pre-train on: long ones are cut into windows, short ones share them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transformers_framework.constants import SOURCE_ROW
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.batches import EncodedBatches, list_array
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.segments import SegmentInputs
from transformers_framework.processing.encoding import number_words, tokenize, tokenize_words
from transformers_framework.processing.windows import (
    Ragged,
    joined,
    pieces,
    steps,
    sums_by_row,
    surrounded,
    windows,
)
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import DatasetSource, Rows
from transformers_framework.sources.fields import segments

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Packing = Literal["none", "full", "isolated"]
# first row, segments of each row, ids of all segments, tokens of each segment, which tokens begin a word
Encoded = tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]

TOKENS = ("input_ids", "word_ids", "token_type_ids")  # columns of rewritten rows, one value a token


class PretrainingText(SegmentInputs):
    """Texts to pre-train on: each a row, or cut and joined into rows that are full.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Token types that the model can tell apart; 0 when it has none.
        needs: What the objectives of the run need.
        input_columns: Text columns that make up the input, in order: 'name', 'first:second' (two columns joined by a
            space), '+list' (a list column joined by spaces) or '*list' (a list column, one segment each).
        max_sequence_length: Longest input in tokens, special tokens included. Longer texts are shortened, the longest
            segment first, and counted.
        extended_token_type_ids: Token type of each segment; the last value repeats. The model's type vocabulary grows
            to fit.
        packing: How short texts share rows. 'full' joins all texts of the data set, separated as the tokenizer
            separates two, and cuts them into windows of `max_sequence_length`, once and before training; nothing is
            lost. 'isolated' puts several texts into each row in training, and none sees another: the loss is that of
            'none', without the padding. `batch_size` then counts rows of several texts.
        split_long_texts: Cut texts longer than `max_sequence_length` into several rows instead of shortening them.
            Several segments of a row are joined first, separated as the tokenizer does.

    Raises:
        ConfigurationError: When columns or lengths make no sense, or the tokenizer is a slow one.
    """

    rewriting = "--packing full and --split_long_texts"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        input_columns: list[str],
        max_sequence_length: list[PositiveInt],
        extended_token_type_ids: list[NonNegativeInt] | None = None,
        packing: Packing = "none",
        split_long_texts: bool = False,
    ) -> None:
        super().__init__(
            tokenizer,
            type_vocabulary,
            needs,
            input_columns=input_columns,
            max_sequence_length=max_sequence_length,
            extended_token_type_ids=extended_token_type_ids,
        )
        if packing == "full" and extended_token_type_ids is not None:
            raise ConfigurationError(
                "--extended_token_type_ids: with --packing full, windows begin and end anywhere and have no segments. "
                "Leave one of the two out."
            )
        self.packing, self.split_long_texts = packing, split_long_texts
        self.capacity = self.max_length - len(self.template.prefix) - len(self.template.suffix)

    # ---------------------------------------------------------------- what is rewritten, and when

    @property
    def rewrites(self) -> bool:
        """Whether rows are made anew before training."""
        return self.packing == "full" or self.split_long_texts

    @property
    def uses_document_mask(self) -> bool:
        """Whether several texts share a row of a training batch."""
        return self.packing == "isolated"

    @property
    def rewrite_key(self) -> dict[str, object] | None:
        """What rewritten rows depend on besides the data, as JSON can hold it; none when rows stay as they are."""
        if not self.rewrites:
            return None
        form = "windows" if self.packing == "full" else "pieces"
        shape = {"form": form, "columns": self.token_columns, "types": self.token_types}
        return {**super().length_key, **shape, "between": self.template.between}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that batches are made from."""
        return self.token_columns if self.rewrites else super().columns

    @property
    def token_columns(self) -> tuple[str, ...]:
        """Columns of rewritten rows with one number a token."""
        if not self.rewrites:
            return ()
        # a window has no segments, hence one type
        wanted = (True, self.needs.word_ids, self.token_types is not None and self.packing != "full")
        return tuple(name for name, is_wanted in zip(TOKENS, wanted, strict=True) if is_wanted)

    def rewrite(
        self, dataset: Dataset, source: DatasetSource, *, batch_size: int, num_workers: int = 1
    ) -> Iterator[pa.Table]:
        """Return the rows that batches are made from, as Arrow tables: tokens with their special tokens, as ``int32``.

        Rows depend neither on how many are tokenized together nor by whom. The data set is never in memory.

        Args:
            dataset: The texts.
            source: Where they come from, for messages.
            batch_size: Rows that are tokenized together.
            num_workers: Processes that tokenize.

        Raises:
            DataError: When a row has no tokens to learn from.
        """
        texts = dataset.select_columns(list(super().columns))
        batches = EncodedBatches(self._encoded, texts, batch_size).in_order(num_workers)
        return self._windows(batches) if self.packing == "full" else self._pieces(batches, source)

    def _encoded(self, first_row: int, rows: Mapping[str, list[Any]]) -> Encoded:
        texts, counts = segments(rows, self.fields)
        if self.needs.word_ids:
            ids, lengths, starts = tokenize_words(self.backend, texts, self._word_marks)
        else:
            ids, lengths = tokenize(self.backend, texts)
            starts = np.zeros(0, dtype=bool)
        return first_row, counts, ids.astype(np.int32), lengths, starts

    def _windows(self, batches: Iterator[Encoded]) -> Iterator[pa.Table]:
        for chunk in windows(self._stream(batches), self.capacity):  # (W, n, columns)
            *tokens, source_rows = np.moveaxis(chunk, -1, 0)
            columns = dict(zip(self.token_columns, tokens, strict=True))
            if "word_ids" in columns:
                words = columns["word_ids"]
                first = np.where(words < 0, words.max(initial=0), words).min(axis=1, keepdims=True)
                columns["word_ids"] = np.where(words < 0, -1, words - first)
            lengths = np.full(len(source_rows), chunk.shape[1])
            rows = {name: Ragged(values.ravel(), lengths) for name, values in columns.items()}
            # what stands between two texts belongs to neither; rows of texts only grow
            texts = np.where(source_rows < 0, source_rows.max(axis=1, keepdims=True), source_rows)
            yield self._table(rows, texts.min(axis=1))

    def _stream(self, batches: Iterator[Encoded]) -> Iterator[np.ndarray]:
        """Yield all texts one after the other with what stands between two: ``(N, columns) int64``."""
        between, num_words, goes_on = self.template.between, 0, False
        for first_row, counts, ids, lengths, starts in batches:
            if not len(ids):
                continue
            columns = [_in_line(ids, lengths, between, goes_on=goes_on)]
            if self.needs.word_ids:
                words = np.cumsum(starts) + num_words
                num_words = int(words[-1])
                columns.append(_in_line(words, lengths, [-1] * len(between), goes_on=goes_on))
            owners = np.repeat(first_row + np.repeat(np.arange(len(counts)), counts), lengths)
            columns.append(_in_line(owners, lengths, [-1] * len(between), goes_on=goes_on))
            yield np.stack(columns, axis=1).astype(np.int64)
            goes_on = True

    def _pieces(self, batches: Iterator[Encoded], source: DatasetSource) -> Iterator[pa.Table]:
        between = self.template.between
        for first_row, counts, ids, lengths, starts in batches:
            rows = joined(Ragged(ids, lengths), counts, between)
            if (rows.lengths == 0).any():
                raise DataError(
                    f"{source.place(first_row + int(np.argmin(rows.lengths)))}: the tokenizer makes no token of the "
                    "text. Remove the row."
                )
            columns = {"input_ids": rows.values}
            if "word_ids" in self.token_columns:
                numbers = number_words(starts, sums_by_row(lengths, counts))
                columns["word_ids"] = joined(Ragged(numbers, lengths), counts, [-1] * len(between)).values
            if "token_type_ids" in self.token_columns:
                columns["token_type_ids"] = self._types(counts, lengths)
            sizes, owners = pieces(rows.lengths, self.capacity)
            yield self._table({name: Ragged(values, sizes) for name, values in columns.items()}, first_row + owners)

    def _types(self, counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the type of every token of joined segments; what stands between two has the type of the first."""
        assert self.token_types is not None
        types = np.asarray(self.token_types)[np.minimum(steps(counts), len(self.token_types) - 1)]
        found = joined(Ragged(np.repeat(types, lengths), lengths), counts, [-1] * len(self.template.between)).values
        return found[np.maximum.accumulate(np.where(found >= 0, np.arange(len(found)), 0))]

    def _table(self, tokens: Mapping[str, Ragged], source_rows: np.ndarray) -> pa.Table:
        import pyarrow as pa

        prefix, suffix = self.template.prefix, self.template.suffix
        columns: dict[str, Any] = {}
        for name, rows in tokens.items():
            before, after = (prefix, suffix) if name == "input_ids" else ([-1] * len(prefix), [-1] * len(suffix))
            whole = surrounded(rows, before, after)
            if name == "token_type_ids":  # special tokens have the type of their neighbour
                ends = np.cumsum(whole.lengths)
                for place in range(len(prefix)):
                    whole.values[whole.starts + place] = rows.values[rows.starts]
                for place in range(1, len(suffix) + 1):
                    whole.values[ends - place] = rows.values[np.cumsum(rows.lengths) - 1]
            columns[name] = list_array(whole)
        return pa.table({**columns, SOURCE_ROW: source_rows.astype(np.int64)})

    # ---------------------------------------------------------------- rewritten rows

    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B rows into ``input_ids``, ``attention_mask`` and ``token_type_ids``: ``(B, L) int64``.

        Also returns ``truncated``, which rows lost tokens: ``(B,) bool``; and where objectives need it, ``word_ids
        (B, L) int64``, the number of each token's word within its row, -1 at special tokens and padding.
        """
        if not self.rewrites:
            return super().post_process(rows, pad_to_multiple_of=pad_to_multiple_of)
        batch = self.padded({name: Ragged.of(rows[name]) for name in self.token_columns}, pad_to_multiple_of)
        if self.token_types is not None and "token_type_ids" not in batch:
            batch["token_type_ids"] = np.zeros_like(batch["input_ids"])
        batch["truncated"] = np.zeros(len(batch["input_ids"]), dtype=bool)
        return batch

    def readable(self, rows: Rows) -> Rows:
        """Return rewritten rows as people can read them: the text and the row of the data set that it begins in."""
        if not self.rewrites:
            return rows
        texts = self.tokenizer.batch_decode(list(rows["input_ids"]), skip_special_tokens=True)
        return {SOURCE_ROW: rows[SOURCE_ROW], "text": texts}


def _in_line(values: np.ndarray, lengths: np.ndarray, between: Sequence[int], *, goes_on: bool) -> np.ndarray:
    """Join segments to one row; that of a line which goes on begins with what stands between."""
    lead = np.ones(int(goes_on), dtype=lengths.dtype)  # a segment before the first one, cut off again
    segments_ = Ragged(np.concatenate([lead.astype(values.dtype), values]), np.concatenate([lead, lengths]))
    return joined(segments_, np.array([len(segments_)]), between).values[len(lead) :]
