"""Inputs of encoder pipelines: one or more texts in one sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.segments import SegmentInputs
from transformers_framework.restricted import NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextInputs(SegmentInputs):
    """One or more texts of a row, joined with the tokenizer's special tokens.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        input_columns: Text columns that make up the input, in order: 'name', 'first:second' (two columns joined by a
            space), '+list' (a list column joined by spaces) or '*list' (a list column, one segment each).
        max_sequence_length: Longest input in tokens, special tokens included. Longer texts are shortened, the longest
            segment first, and counted.
        extended_token_type_ids: Token type of each segment; the last value repeats. The model's type vocabulary grows
            to fit.

    Raises:
        ConfigurationError: When columns or lengths are invalid, or the tokenizer is not a fast one.
    """

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
        super().__init__(
            tokenizer,
            type_vocabulary,
            needs,
            input_columns=input_columns,
            max_sequence_length=max_sequence_length,
            extended_token_type_ids=extended_token_type_ids,
        )
