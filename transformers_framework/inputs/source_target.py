"""Inputs of sequence-to-sequence models: the source document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.segments import SegmentInputs
from transformers_framework.processing.encoding import tokenize
from transformers_framework.processing.lengths import source_and_target
from transformers_framework.restricted import PositiveInt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class SourceTarget(SegmentInputs):
    """One source document per row, with an optional prefix that tells the model the task.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        document_column: Column of the document: 'name', 'first:second' (two columns joined by a space) or '+list' (a
            list column joined by spaces).
        max_sequence_length: Longest document and longest target in tokens, special tokens included. Longer ones are
            truncated at the end, and counted. By default the limit of the model, at most 512, and 128.
        prefix: Text before every document, for instance 'summarize: ' for T5. Its tokens count for the length of the
            document.

    Raises:
        ConfigurationError: When the column or lengths are invalid, or the tokenizer is not a fast one.
    """

    columns_flag = "document_column"
    default_target = 128  # tokens, as in the scripts of transformers

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        document_column: str,
        max_sequence_length: list[PositiveInt],
        prefix: str = "",
    ) -> None:
        longest = source_and_target(max_sequence_length)[0]
        columns, self.prefix = [document_column], prefix
        super().__init__(tokenizer, type_vocabulary, needs, input_columns=columns, max_sequence_length=[longest])
        if self.fields[0].spreads:
            raise ConfigurationError(
                f"--document_column: '{document_column}' names several texts, and a document is one text. Write "
                f"'+{document_column[1:]}' to join them."
            )
        taken = len(tokenize(self.backend, [prefix])[0]) + self.template.num_special(1)
        if taken >= longest:
            raise ConfigurationError(
                f"--prefix: with special tokens it has {taken} tokens, which leaves no space for a document in "
                f"--max_sequence_length {longest}. Shorten it, or increase the first length."
            )

    @classmethod
    def default_lengths(cls, longest: int, options: Mapping[str, object]) -> list[int]:
        """Return the limit of the model for documents, and 128 or less for targets."""
        return [longest, min(longest, cls.default_target)]
