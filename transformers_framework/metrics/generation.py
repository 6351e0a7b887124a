"""Metrics of generated texts, from sums of integers per row, so that results do not depend on batches and ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

# scores are rounded to multiples of 1 / this: sums of integers are exact in any order and on any device (Apple GPUs
# have no float64); the error of a mean is below 5e-13, and 8 million rows of scores up to 1 fit into int64
SCORES_PER_UNIT = 2**40

References = Sequence[Sequence[str]]


class RowStatistics(ABC):
    """A metric that is computed from sums of integer statistics of each row."""

    names: tuple[str, ...]  # of the values
    size: int  # statistics per row

    @abstractmethod
    def __call__(self, preds: Sequence[str], references: References) -> NDArray[np.int64]:
        """Return the statistics of B rows, (B, size) int64."""

    @abstractmethod
    def values(self, sums: Sequence[int], num_rows: int) -> dict[str, float]:
        """Compute the values of the metric from the sums of the statistics of one or more rows."""

    def release(self) -> None:  # noqa: B027
        """Free memory that is needed only while a stage is evaluated."""


class RowScores(RowStatistics):
    """A metric that is the mean of the scores of all rows."""

    @abstractmethod
    def scores(self, preds: Sequence[str], references: References) -> NDArray[np.float64]:
        """Return the scores of B rows in the order of ``names``, (B, size) float64."""

    @property
    def size(self) -> int:  # type: ignore[override]
        """Scores of a row."""
        return len(self.names)

    def __call__(self, preds: Sequence[str], references: References) -> NDArray[np.int64]:
        """Return the scores of B rows as integers, (B, size) int64."""
        return self.rounded(self.scores(preds, references))

    @staticmethod
    def rounded(scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """Convert scores to the integers that are summed, (B, size) int64."""
        return np.rint(scores * SCORES_PER_UNIT).astype(np.int64)

    def values(self, sums: Sequence[int], num_rows: int) -> dict[str, float]:
        """Return the mean scores."""
        return {name: total / (num_rows * SCORES_PER_UNIT) for name, total in zip(self.names, sums, strict=True)}


class GenerationMetrics(Metric):
    """Several metrics of the same generated texts, each over all rows.

    Args:
        parts: The metrics.
    """

    full_state_update = False
    is_differentiable = False
    sums: Tensor

    def __init__(self, parts: Sequence[RowStatistics]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        num_sums = 1 + sum(part.size for part in self.parts)  # the first counts rows
        self.add_state("sums", torch.zeros(num_sums, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return [name for part in self.parts for name in part.names]

    def update(
        self,
        preds: Sequence[str],
        references: References,
        counted: Tensor,
        known: Mapping[RowStatistics, NDArray[np.int64]] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            preds: B generated texts.
            references: Reference texts, one or more per row.
            counted: Which rows are counted, (B,) bool: padding rows are not.
            known: Statistics of parts that were computed already, (B, size) int64.
        """
        known = known or {}
        numbers = [known[part] if part in known else part(preds, references) for part in self.parts]
        rows = np.concatenate(numbers, axis=1)[counted.cpu().numpy()]
        totals = torch.from_numpy(np.concatenate([[len(rows)], rows.sum(axis=0)]))
        # a new tensor, since one made under inference mode cannot be changed outside of it
        self.sums = self.sums + totals.to(self.sums.device)

    def compute(self) -> dict[str, float]:
        """Return the metrics of all rows that were counted: nan when there was none."""
        num_rows, *sums = self.sums.tolist()
        if not num_rows:
            return dict.fromkeys(self.names, float("nan"))
        ends = np.cumsum([part.size for part in self.parts]).tolist()
        values: dict[str, float] = {}
        for part, end in zip(self.parts, ends, strict=True):
            values |= part.values(sums[end - part.size : end], num_rows)
        return values

    def reset(self) -> None:
        """Reset all sums and free memory."""
        super().reset()
        for part in self.parts:
            part.release()
