"""Inputs of joint classification: a claim and up to k texts of evidence in one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.segments import SegmentInputs
from transformers_framework.processing.grouping import assemble_candidates
from transformers_framework.processing.windows import steps
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import DatasetSource, Rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class ClaimEvidence(SegmentInputs):
    """A claim and up to k texts of evidence, joined with special tokens, with the position of each first token.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        input_columns: Column of the claim, then columns of its evidence: '*list' has one text of evidence per item.
        max_sequence_length: Longest input in tokens, special tokens included; with `separated` the longest text.
        k: Classify a claim and up to this many texts of evidence with a joint head; further texts of a row are left
            out, and such rows count as truncated. Default: the head is that of transformers.
        extended_token_type_ids: Token type of each segment; the last value repeats. The model's type vocabulary grows
            to fit.
        separated: Encode each text with its own special tokens and maximum length, then join them.

    Raises:
        ConfigurationError: When columns or lengths are invalid, or the tokenizer has no special tokens for the head.
    """

    model_keys = ("input_ids", "attention_mask", "token_type_ids", "first_tokens")

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        input_columns: list[str],
        max_sequence_length: list[PositiveInt],
        k: PositiveInt | None = None,
        extended_token_type_ids: list[NonNegativeInt] | None = None,
        separated: bool = False,
    ) -> None:
        assert k is not None
        self.k, self.separated = k, separated
        self.num_joined = k + 1 if separated else 1
        super().__init__(
            tokenizer,
            type_vocabulary,
            needs,
            input_columns=input_columns,
            max_sequence_length=max_sequence_length,
            extended_token_type_ids=extended_token_type_ids,
        )
        if len(self.fields) == 1 or self.fields[0].spreads:
            raise ConfigurationError(
                f"--input_columns: found {' '.join(input_columns)}; -k needs the column of the claim and, after it, "
                "its evidence: claim '*evidence', where each row has a list of texts."
            )
        self._check_first_tokens()

    def _single_length(self, lengths: Sequence[int]) -> int:
        return self._joint_length(lengths, 1 if self.separated else self.k + 1) * self.num_joined

    def _check_types(self, extended: Sequence[int]) -> None:
        self._check_joint_types(extended, self.k)

    def pre_process(self, dataset: Dataset, source: DatasetSource) -> Dataset:
        """Check the columns of a whole data set; a row may have no evidence.

        Raises:
            DataError: When a column is missing or not text, or a claim is null or empty.
        """
        self._check_texts(dataset, self.fields, source, num_required=1)
        return dataset

    def truncation(self, lengths: Sequence[int]) -> tuple[str, str]:
        """Return the start and the end of the message about truncated rows."""
        start, end = super().truncation(lengths)
        return start, f"{end}, or have more than {self.k} texts of evidence (-k)"

    def segments(self, rows: Rows) -> tuple[list[str], np.ndarray]:
        """Return the claim and the first k texts of evidence, row by row, and their number: ``(B,) int64``."""
        texts, counts = super().segments(rows)
        return list(compress(texts, steps(counts) <= self.k)), np.minimum(counts, self.k + 1)

    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B rows into ``input_ids``, ``attention_mask`` and ``token_type_ids``: ``(B, L) int64``.

        Also returns ``first_tokens (B, 1 + K) int64``, the position of the first token of the claim and of each text of
        evidence, -1 if there is none; and ``truncated``, which rows lost tokens or texts: ``(B,) bool``.
        """
        ids, lengths, counts, extra = self._ids_of(rows)
        batch = assemble_candidates(
            ids,
            lengths,
            counts,
            self.template,
            max_length=self.max_length // self.num_joined,
            separated=self.separated,
            pad_token_id=int(self.tokenizer.pad_token_id),
            pad_to_multiple_of=pad_to_multiple_of,
            token_types=self.token_types,
            pad_left=self.tokenizer.padding_side == "left",
            extra=extra,
        )
        batch["truncated"] |= super().segments(rows)[1] > self.k + 1
        return batch
