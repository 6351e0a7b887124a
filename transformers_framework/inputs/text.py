"""Inputs of encoder pipelines: one or more texts in one sequence."""

from __future__ import annotations

from transformers_framework.inputs.segments import SegmentInputs


class TextInputs(SegmentInputs):
    """One or more texts of a row, joined with the tokenizer's special tokens."""
