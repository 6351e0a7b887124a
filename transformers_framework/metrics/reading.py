"""Metrics of question answering: of windows, and of the contexts that were split into windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from transformers_framework.compat.torchmetrics import names_of_states
from transformers_framework.constants import Direction
from transformers_framework.processing.reading import Documents, Spans, merge


class SpanAccuracy(Metric):
    """Accuracy of the most likely start and the most likely end of an answer, over windows."""

    full_state_update = False
    is_differentiable = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return ["start_accuracy", "end_accuracy"]

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            preds: Most likely start and end of each window, (B, 2) int64.
            target: Start and end of the answer, (B, 2) int64; negative rows are ignored.
        """
        counted = target[:, 0] >= 0
        right = (preds == target) & counted[:, None]
        # a new tensor, since one made under inference mode cannot be changed outside of it
        self.counts = self.counts + torch.cat([right.sum(dim=0), counted.sum()[None]])

    def compute(self) -> dict[str, float]:
        """Return the accuracy over all counted windows, nan if there are none."""
        *right, total = self.counts.tolist()
        return {name: count / total if total else float("nan") for name, count in zip(self.names, right, strict=True)}


class ReadingMetrics(Metric):
    """Metrics of whole contexts, whose windows may be evaluated in any order and on any rank.

    Args:
        score: Function that computes the values from the merged spans.
        names: Names of these values.
    """

    full_state_update = False
    is_differentiable = False
    directions: ClassVar[Mapping[str, Direction | None]] = {"null_score_threshold": None}
    rows: list[Tensor]
    null_scores: list[Tensor]
    scores: list[Tensor]
    starts: list[Tensor]
    ends: list[Tensor]

    def __init__(self, score: Callable[[Documents], Mapping[str, float]], names: Sequence[str]) -> None:
        super().__init__()
        self.score, self.value_names = score, list(names)
        for name in ("rows", "null_scores", "scores", "starts", "ends"):
            self.add_state(name, [], dist_reduce_fx="cat")

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return self.value_names

    def update(self, rows: Tensor, null_scores: Tensor, scores: Tensor, starts: Tensor, ends: Tensor) -> None:
        """Keep the best spans of B windows.

        Args:
            rows: Row of the data set of each window, (B,) int64; negative ones are ignored.
            null_scores: Score of no answer, (B,) float32.
            scores: Scores of spans, minus infinity where there are fewer, (B, n) float32.
            starts: First character of each, (B, n) int64.
            ends: The character after the last one of each, (B, n) int64.
        """
        counted = rows >= 0
        for name, values in zip(names_of_states(self), (rows, null_scores, scores, starts, ends), strict=True):
            getattr(self, name).append(values[counted])

    def compute(self) -> dict[str, float]:
        """Return the values over all contexts, nan if there are none."""
        kept = [getattr(self, name) for name in names_of_states(self)]
        if not len(kept[0]) or not len(rows := dim_zero_cat(kept[0])):
            return dict.fromkeys(self.names, float("nan"))
        nulls, *spans = (dim_zero_cat(state).cpu().numpy() for state in kept[1:])
        values = self.score(merge(rows.cpu().numpy(), nulls, Spans(*spans)))
        return {name: values.get(name, float("nan")) for name in self.names}
