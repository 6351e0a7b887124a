"""Base class of inputs of several texts in one sequence; a joint head reads the first token of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.segments import SegmentInputs
from transformers_framework.processing.grouping import assemble_candidates
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class JointSegments(SegmentInputs):
    """A first text and k others, joined with special tokens, with the position of the first token of each.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        input_columns: Columns of the texts.
        max_sequence_length: Longest input in tokens, special tokens included; with `separated` the longest text.
        k: Number of texts after the first one.
        extended_token_type_ids: Token type of each segment; the last value repeats. The model's type vocabulary grows
            to fit.
        separated: Encode each text with its own special tokens and maximum length, then join them.

    Raises:
        ConfigurationError: When lengths are invalid, or the tokenizer has no special tokens for the head.
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
        k: PositiveInt | None,
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
        if not self.template.prefix or not self.template.between:
            raise ConfigurationError(
                f"--pre_trained_tokenizer: {type(self.tokenizer).__name__} puts no special token before the first text "
                "or between two, so candidates have no first token to classify. Use the tokenizer of an encoder."
            )

    @classmethod
    def default_lengths(cls, longest: int, options: Mapping[str, object]) -> list[int]:
        """Return the limit of the model; with ``separated`` the share of each text."""
        k = options["k"]
        assert isinstance(k, int)
        return [longest // (k + 1) if options.get("separated") else longest]

    def _single_length(self, lengths: Sequence[int]) -> int:
        num_texts = 1 if self.separated else self.k + 1
        least = self.template.num_special(num_texts) + num_texts
        if len(lengths) == 1 and lengths[0] < least:
            texts = "a text" if num_texts == 1 else f"a question and {num_texts - 1} candidates"
            raise ConfigurationError(
                f"--max_sequence_length: {lengths[0]} has no space for {texts} and special tokens. Use {least} or more."
            )
        return super()._single_length(lengths) * self.num_joined

    def _check_types(self, extended: Sequence[int]) -> None:
        if len(extended) > self.k + 1:
            raise ConfigurationError(
                f"--extended_token_type_ids: {len(extended)} types for the question and {self.k} candidates. Give one "
                "for each; the last one repeats."
            )
        if max(extended) > self.k:
            raise ConfigurationError(
                f"--extended_token_type_ids: type {max(extended)} needs as many embeddings, and there are {self.k + 1} "
                "segments. Number the types from 0."
            )

    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Turn B groups of texts into ``input_ids``, ``attention_mask`` and ``token_type_ids``: ``(B, L) int64``.

        Also returns ``first_tokens (B, 1 + K) int64``, the position of the first token of each text, -1 if there is
        none; and ``truncated``, which groups lost tokens: ``(B,) bool``.
        """
        ids, lengths, counts, extra = self._ids_of(rows)
        return assemble_candidates(
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
