"""Pre-training texts: long texts are split into windows, and short texts are packed."""

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

TOKENS = ("input_ids", "word_ids", "token_type_ids")  # columns of rewritten rows, one value per token


class PretrainingText(SegmentInputs):
    """Pre-training texts: one per row, or split and joined into full rows.

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
        packing: How short texts are packed. 'full' joins all texts of the data set with the tokenizer's separator and
            splits them into windows of `max_sequence_length`, once before training; no token is lost. 'isolated' packs
            several texts into each row in training with block-diagonal attention: the loss is the same as with 'none',
            without padding. `batch_size` then counts packed rows.
        split_long_texts: Split texts longer than `max_sequence_length` into several rows instead of truncating them.
            Several segments of a row are first joined with the tokenizer's separator.

    Raises:
        ConfigurationError: When columns or lengths are invalid, or the tokenizer is not a fast one.
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
                "--extended_token_type_ids: --packing full joins texts, so its windows have no segments. "
                "Remove one of the two flags."
            )
        self.packing, self.split_long_texts = packing, split_long_texts
        self.capacity = self.max_length - len(self.template.prefix) - len(self.template.suffix)

    # ---------------------------------------------------------------- what is rewritten, and when

    @property
    def rewrites(self) -> bool:
        """Whether rows are rewritten before training."""
        return self.packing == "full" or self.split_long_texts

    @property
    def uses_document_mask(self) -> bool:
        """Whether several texts (documents) are packed into one entry of a training batch."""
        return self.packing == "isolated"

    @property
    def has_equal_lengths(self) -> bool:
        """Whether nearly all entries of training batches have the maximum length."""
        return self.packing != "none"

    @property
    def rewrite_key(self) -> dict[str, object] | None:
        """Cache key of rewritten rows, serializable as JSON; None if rows are not rewritten."""
        if not self.rewrites:
            return None
        form = "windows" if self.packing == "full" else "pieces"
        shape = {"form": form, "columns": self.token_columns, "types": self.token_types}
        return {**super().length_key, **shape, "between": self.template.between}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns from which batches are made."""
        return self.token_columns if self.rewrites else super().columns

    @property
    def token_columns(self) -> tuple[str, ...]:
        """Columns of rewritten rows with one number per token."""
        if not self.rewrites:
            return ()
        # a window has no segments, hence one type
        wanted = (True, self.needs.word_ids, self.token_types is not None and self.packing != "full")
        return tuple(name for name, is_wanted in zip(TOKENS, wanted, strict=True) if is_wanted)

    def rewrite(
        self, dataset: Dataset, source: DatasetSource, *, batch_size: int, num_workers: int = 1
    ) -> Iterator[pa.Table]:
        """Yield tables of rewritten rows: token ids with special tokens, as ``int32``.

        Rows do not depend on ``batch_size`` and ``num_workers``. The data set is never in memory as a whole.

        Args:
            dataset: The texts.
            source: Source of the texts, for messages.
            batch_size: Number of rows that are tokenized together.
            num_workers: Number of processes.

        Raises:
            DataError: When a row has no tokens.
        """
        texts = dataset.select_columns(list(super().columns))
        batches = EncodedBatches(self._encoded, texts, batch_size).shown(f"Tokenizing {source.name}", num_workers)
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
            # separators have no source row; source rows are ascending
            texts = np.where(source_rows < 0, source_rows.max(axis=1, keepdims=True), source_rows)
            yield self._table(rows, texts.min(axis=1))

    def _stream(self, batches: Iterator[Encoded]) -> Iterator[np.ndarray]:
        """Yield the tokens of all texts with separators between them: ``(N, columns) int64``."""
        between, num_words, continues = self.template.between, 0, False
        for first_row, counts, ids, lengths, starts in batches:
            if not len(ids):
                continue
            columns = [_joined_segments(ids, lengths, between, continues=continues)]
            if self.needs.word_ids:
                words = np.cumsum(starts) + num_words
                num_words = int(words[-1])
                columns.append(_joined_segments(words, lengths, [-1] * len(between), continues=continues))
            owners = np.repeat(first_row + np.repeat(np.arange(len(counts)), counts), lengths)
            columns.append(_joined_segments(owners, lengths, [-1] * len(between), continues=continues))
            yield np.stack(columns, axis=1).astype(np.int64)
            continues = True

    def _pieces(self, batches: Iterator[Encoded], source: DatasetSource) -> Iterator[pa.Table]:
        between = self.template.between
        for first_row, counts, ids, lengths, starts in batches:
            rows = joined(Ragged(ids, lengths), counts, between)
            if (rows.lengths == 0).any():
                raise DataError(
                    f"{source.place(first_row + int(np.argmin(rows.lengths)))}: the tokenizer returns no token for "
                    "the text. Remove the row."
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
        """Return the type of every token of joined segments; a separator has the type of the segment before."""
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
            if name == "token_type_ids":  # special tokens have the type of the next text token
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
        """Return rewritten rows as text, with the row of the data set in which each starts."""
        if not self.rewrites:
            return rows
        texts = self.tokenizer.batch_decode(list(rows["input_ids"]), skip_special_tokens=True)
        return {SOURCE_ROW: rows[SOURCE_ROW], "text": texts}


def _joined_segments(values: np.ndarray, lengths: np.ndarray, between: Sequence[int], *, continues: bool) -> np.ndarray:
    """Join segments to one row; with ``continues`` the row starts with a separator."""
    lead = np.ones(int(continues), dtype=lengths.dtype)  # a segment before the first one, cut off again
    segments_ = Ragged(np.concatenate([lead.astype(values.dtype), values]), np.concatenate([lead, lengths]))
    return joined(segments_, np.array([len(segments_)]), between).values[len(lead) :]
