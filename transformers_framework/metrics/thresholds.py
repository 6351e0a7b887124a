"""Precision and recall of a positive class at every threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall at each threshold: rows with this score or a higher one are predicted as positives.

    Args:
        thresholds: The different scores, ascending ``(T,) float64``.
        precision: ``(T,) float64``.
        recall: ``(T,) float64``, descending.
        share: Share of positives among all rows.
        score: Name of the score, with its unit, for figures.
        used: Threshold of the model's own predictions.
    """

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    share: float
    score: str = "probability"
    used: float | None = None

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 at each threshold ``(T,) float64``."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / np.where(total, total, 1)

    @property
    def average_precision(self) -> float:
        """Sum of the precision at each threshold, weighted by the increase of recall."""
        return float(-np.sum(np.diff(np.append(self.recall, 0.0)) * self.precision))

    @property
    def best(self) -> int:
        """Index of the threshold with the highest F1, the lowest of equally good ones."""
        return int(np.argmax(self.f1))

    def values(self) -> dict[str, float]:
        """Return average precision, and the threshold with the highest F1 in these data, for results.json."""
        best = self.best
        return {
            "average_precision": self.average_precision,
            "best_threshold": float(self.thresholds[best]),
            "f1_at_best_threshold": float(self.f1[best]),
            "precision_at_best_threshold": float(self.precision[best]),
            "recall_at_best_threshold": float(self.recall[best]),
        }


def precision_recall(
    scores: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike | None = None,
    *,
    score: str = "probability",
    used: float | None = None,
) -> PrecisionRecall | None:
    """Return precision and recall at every threshold; None without a positive or without any other row.

    Args:
        scores: Score of each row, or different scores ``(N,)``; rows without a finite one are left out.
        positive: Whether a row is a positive ``(N,) bool``, or the number of positives with this score ``(N,)``.
        negative: Number of other rows with this score ``(N,)``; by default, a row is one that is not a positive.
        score: Name of the score, with its unit.
        used: Threshold of the model's own predictions.

    Examples:
        >>> found = precision_recall([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
        >>> found.thresholds.tolist(), found.precision.round(2).tolist(), found.recall.tolist()
        ([0.1, 0.35, 0.4, 0.8], [0.5, 0.67, 0.5, 1.0], [1.0, 1.0, 0.5, 0.5])
    """
    values, hits = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=np.int64)
    others = 1 - hits if negative is None else np.asarray(negative, dtype=np.int64)
    known = np.isfinite(values)
    values, hits, others = values[known], hits[known], others[known]
    if not (hits.any() and others.any()):
        return None
    order = np.argsort(values, kind="stable")
    values = values[order]
    firsts = np.flatnonzero(np.concatenate([[True], values[1:] > values[:-1]]))
    right = np.cumsum(hits[order][::-1])[::-1][firsts].astype(np.float64)
    wrong = np.cumsum(others[order][::-1])[::-1][firsts]
    predicted = right + wrong
    precision = right / np.where(predicted, predicted, 1)
    share = float(hits.sum() / (hits.sum() + others.sum()))
    return PrecisionRecall(values[firsts], precision, right / hits.sum(), share, score, used)
