"""Inputs of joint classification: a claim and up to k texts of evidence in one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import TOKENS
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.joint_segments import JointSegments
from transformers_framework.processing.segments import Segments
from transformers_framework.processing.windows import steps
from transformers_framework.restricted import NonNegativeInt, PositiveInt
from transformers_framework.sources.columns import DatasetSource, Rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class ClaimEvidence(JointSegments):
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
        super().__init__(
            tokenizer,
            type_vocabulary,
            needs,
            input_columns=input_columns,
            max_sequence_length=max_sequence_length,
            k=k,
            extended_token_type_ids=extended_token_type_ids,
            separated=separated,
        )
        if len(self.fields) == 1 or self.fields[0].spreads:
            raise ConfigurationError(
                f"--input_columns: found {' '.join(input_columns)}; -k needs the column of the claim and, after it, "
                "its evidence: claim '*evidence', where each row has a list of texts."
            )

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

    def tokenized(self, rows: Rows) -> Segments:
        """Return the claim and the first k texts of evidence of B rows; an empty segment stands for further texts."""
        texts, counts = self.segments(rows)
        kept = steps(counts) <= self.k + 1
        is_rest = steps(counts)[kept] > self.k
        some = ["" if rest else text for text, rest in zip(compress(texts, kept), is_rest.tolist(), strict=True)]
        return self._tokenized(some, np.minimum(counts, self.k + 2))

    def _without_rest(self, segments: Segments) -> Segments:
        kept = np.flatnonzero(steps(segments.counts) <= self.k)
        return segments.selected(kept, np.minimum(segments.counts, self.k + 1))

    def post_process(self, rows: Rows, *, pad_to_multiple_of: int = 1) -> dict[str, np.ndarray]:
        """Also count rows that lost texts of evidence as truncated, see :meth:`JointSegments.post_process`."""
        cached: Any = rows.get(TOKENS)
        found: Segments = self.tokenized(rows) if cached is None else cached
        tokens: Any = {TOKENS: self._without_rest(found)}
        batch = super().post_process(tokens, pad_to_multiple_of=pad_to_multiple_of)
        batch["truncated"] |= found.counts > self.k + 1
        return batch

    def input_lengths(self, segments: Segments) -> np.ndarray:
        """Return the number of tokens of the model inputs of B rows, special tokens included ``(B,) int64``."""
        return super().input_lengths(self._without_rest(segments))

    @property
    def token_key(self) -> dict[str, object] | None:
        """Cache key of :meth:`tokenized`, serializable as JSON."""
        return {**(super().token_key or {}), "k": self.k}
