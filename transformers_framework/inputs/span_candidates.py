"""Inputs of structural pre-training: a span of a document with one candidate, or with k of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import ROW_IDS, Stage
from transformers_framework.inputs.documents import CANDIDATE, CONTEXT, INDEX, LABEL, SPAN, FromDocuments, triples
from transformers_framework.inputs.inputs import NO_NEEDS, InputNeeds
from transformers_framework.inputs.joint_candidates import HeadType, JointCandidates
from transformers_framework.inputs.paragraphs import span_text
from transformers_framework.inputs.segments import SegmentInputs
from transformers_framework.processing.structure import ABSENT, Groups
from transformers_framework.restricted import NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class SpanCandidate(FromDocuments):
    """A span and one candidate, and in context a third segment, joined with special tokens.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        max_sequence_length: Longest input in tokens, special tokens included. Longer texts are shortened, the longest
            segment first, and counted.
        extended_token_type_ids: Token type of each segment; the last value repeats. The model's type vocabulary grows
            to fit.
        **documents: Flags of documents.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        max_sequence_length: list[PositiveInt],
        extended_token_type_ids: list[NonNegativeInt] | None = None,
        **documents: Any,
    ) -> None:
        FromDocuments.__init__(self, **documents)
        SegmentInputs.__init__(
            self,
            tokenizer,
            type_vocabulary,
            needs,
            input_columns=[SPAN, CANDIDATE, *([CONTEXT] if self.sampler.structure == "in_context" else [])],
            max_sequence_length=max_sequence_length,
            extended_token_type_ids=extended_token_type_ids,
        )


class SpanCandidates(FromDocuments, JointCandidates):
    """A span and k candidates, joined with special tokens, with the position of the first token of each.

    Args:
        tokenizer: A fast tokenizer of transformers.
        type_vocabulary: Number of token types of the model; 0 if it has none.
        needs: What the objectives of the run need.
        max_sequence_length: Longest input in tokens, special tokens included; with `separated` the longest text.
        k: Number of candidates in one input with the span: all positives and negatives.
        extended_token_type_ids: Token type of each segment; the last value repeats. The model's type vocabulary grows
            to fit.
        separated: Encode each text with its own special tokens and maximum length, then join them.
        classification_head_type: What is predicted, and from which hidden states. IE_k, AE_k, RE_k: a label for each
            candidate, from its own first token, from its own and the span's first token, or all from the span's first
            token. IE_1, AE_1: a label for the first candidate, from the span's first token or the mean of the first
            tokens of the span and all candidates. RE_1: whether any candidate is positive. Default: IE_k
        **documents: Flags of documents.
    """

    evaluates_whole_rows = False

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        type_vocabulary: int,
        needs: InputNeeds = NO_NEEDS,
        *,
        max_sequence_length: list[PositiveInt],
        k: PositiveInt | None = None,
        extended_token_type_ids: list[NonNegativeInt] | None = None,
        separated: bool = False,
        classification_head_type: HeadType | None = None,
        **documents: Any,
    ) -> None:
        FromDocuments.__init__(self, k=k, **documents)
        JointCandidates.__init__(
            self,
            tokenizer,
            type_vocabulary,
            needs,
            input_columns=[SPAN, CANDIDATE],
            max_sequence_length=max_sequence_length,
            k=k,
            extended_token_type_ids=extended_token_type_ids,
            separated=separated,
            classification_head_type=classification_head_type,
        )

    def _columns(
        self, groups: Groups, row_ids: np.ndarray, stage: Stage, pair_keys: np.ndarray
    ) -> dict[str, list[Any]]:
        """Return all candidates of each span, as lists."""
        texts = self.readers[stage].read(groups.spans, groups.candidates)
        there = groups.candidates.paragraphs != ABSENT
        found, removed = groups.candidates.selected(there), groups.removed.selected(there)
        flat = [self._candidate(texts, *pair) for pair in zip(triples(found), triples(removed), strict=True)]
        counts = there.sum(axis=1).tolist()
        stops = np.cumsum(counts).tolist()
        return {
            SPAN: [[span_text(texts, *span)] for span in triples(groups.spans)],
            CANDIDATE: [flat[stop - n : stop] for stop, n in zip(stops, counts, strict=True)],
            LABEL: [labels[:n] for labels, n in zip(groups.labels.tolist(), counts, strict=True)],
            INDEX: [[row] * n for row, n in zip(row_ids.tolist(), counts, strict=True)],
            ROW_IDS: [[row * self.k + i for i in range(n)] for row, n in zip(row_ids.tolist(), counts, strict=True)],
        }
