"""A list of words in one sequence: the input of pipelines that say something about each word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.exceptions import DataError
from transformers_framework.inputs.text import Pieces, TextInputs
from transformers_framework.processing.columns import Origin, check_column, first_empty, first_null_item, item_feature
from transformers_framework.processing.fields import as_text
from transformers_framework.processing.windows import steps, sums_by_row
from transformers_framework.processing.words import WordTokenizer, word_column
from transformers_framework.restricted import PositiveInt

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class WordInputs(TextInputs):
    """The words of a row, each of which becomes tokens on its own, between the tokenizer's special tokens.

    Batches always have ``word_ids``: a word's place in the list of its row.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Token types that the model can tell apart; 0 when it has none.
        input_columns: The column that holds the list of words of a row.
        max_sequence_length: Longest input in tokens, special tokens included. Words beyond it are left out, of the last
            one pieces may stay; such rows are counted.

    Raises:
        ConfigurationError: When it is not one column, the length makes no sense, or the tokenizer is a slow one.
    """

    tracks_words = True

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        *,
        input_columns: list[str],
        max_sequence_length: list[PositiveInt],
    ) -> None:
        self.column = word_column(input_columns)
        columns, length = [f"+{self.column}"], max_sequence_length
        super().__init__(tokenizer, type_vocabulary, input_columns=columns, max_sequence_length=length)
        self.tokenize = WordTokenizer(self.backend)

    def pre_process(self, dataset: Dataset, origin: Origin) -> Dataset:
        """Check the words of a whole data set, before training.

        Raises:
            DataError: When the column is missing or holds no lists of words, a word is null, or a row has none at all.
        """
        from datasets import Value

        check_column(dataset, self.column, origin, flag="input_columns")
        feature = dataset.features[self.column]
        item = item_feature(feature)
        if not isinstance(item, Value) or "binary" in item.dtype:
            raise DataError(f"--input_columns: '{self.column}' of {origin.source} holds {feature}, not lists of words.")
        if (place := first_null_item(dataset, self.column)) is not None:
            row, number = place
            raise DataError(
                f"{origin.place(row)}: word {number} of '{self.column}' is null (they are counted from 0). Write an "
                "empty text where there is no word, or remove the row."
            )
        if (empty := first_empty(dataset, [self.column])) is not None:
            raise DataError(
                f"{origin.place(empty)}: '{self.column}' is null or has no words. Remove the row or fill it in."
            )
        self._check_tokens(dataset, self.fields[0], origin)
        return dataset

    def _ids_of(self, rows: Mapping[str, Sequence[Any]]) -> Pieces:
        lists = [words or () for words in rows[self.column]]
        counts = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        ids, pieces = self.tokenize([as_text(word) for word in chain.from_iterable(lists)])
        extra = {"word_ids": np.repeat(steps(counts), pieces)}
        return ids, sums_by_row(pieces, counts), np.ones(len(lists), dtype=np.int64), extra

    def _tokens(self, rows: Mapping[str, Sequence[Any]]) -> np.ndarray:
        return np.minimum(self._ids_of(rows)[1] + self.template.num_special(1), self.max_length)

    @property
    def length_key(self) -> dict[str, Any]:
        """What token lengths depend on besides the data, as JSON can hold it."""
        return {**super().length_key, "form": "words"}

    def row_lengths(self, rows: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """Return the characters of every row of a stream: ``(B,) int64``."""
        return np.array([sum(len(as_text(word)) for word in words or ()) for words in rows[self.column]], np.int64)
