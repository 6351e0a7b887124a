"""A text that another one is made from: the encoder's side of sequence to sequence."""

from __future__ import annotations

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
    """One document a row, with the same words before each of them where a model wants to be told what to do.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Token types that the model can tell apart; 0 when it has none.
        needs: What the objectives of the run need.
        document_column: Column of the document: 'name', 'first:second' (two columns joined by a space) or '+list' (a
            list column joined by spaces).
        max_sequence_length: Longest document and longest target in tokens, special tokens included. Longer ones lose
            their end, and are counted.
        prefix: Text before every document, as T5's 'summarize: '. Its tokens are part of the document's.

    Raises:
        ConfigurationError: When column or lengths make no sense, or the tokenizer is a slow one.
    """

    columns_flag = "document_column"

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
                f"--document_column: '{document_column}' would be several texts, and a document is one. Write "
                f"'+{document_column[1:]}' to join them."
            )
        taken = len(tokenize(self.backend, [prefix])[0]) + self.template.num_special(1)
        if taken >= longest:
            raise ConfigurationError(
                f"--prefix: its tokens and the special ones are {taken}, which leaves no room for a document in "
                f"--max_sequence_length {longest}. Shorten it, or raise the first length."
            )
