"""Reliability of probabilities, and the expected calibration error.

(Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", section 2.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NUM_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Predictions in bins of equal width by their probability.

    Args:
        counts: Number of predictions in each bin ``(B,) int64``; bin m has probabilities in (m/B, (m+1)/B].
        confidence: Sum of their probabilities ``(B,) float64``.
        right: Number of correct ones ``(B,) int64``.
        of_positives: Probabilities are those of the positive class, and positives are counted; otherwise those of the
            predicted class, and correct predictions are counted.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    right: NDArray[np.int64]
    of_positives: bool = False

    def __add__(self, other: Reliability) -> Reliability:
        """Return the bins of both."""
        sums = (self.counts + other.counts, self.confidence + other.confidence, self.right + other.right)
        return Reliability(*sums, self.of_positives)

    @property
    def means(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean probability and share of correct predictions of each bin ``(B,) float64``; nan in empty bins."""
        size = np.where(self.counts, self.counts, np.nan)
        return self.confidence / size, self.right / size

    @property
    def error(self) -> float:
        """The expected calibration error: mean of the absolute difference of both, weighted by the counts."""
        gaps = np.abs(self.right - self.confidence).sum()
        return float(gaps / self.counts.sum()) if self.counts.any() else float("nan")

    def values(self) -> dict[str, object]:
        """Return the error and the bins that have predictions, for results.json."""
        confidence, accuracy = self.means
        second = "positives" if self.of_positives else "accuracy"
        bins = [
            {"probability": float(confidence[m]), second: float(accuracy[m]), "count": int(self.counts[m])}
            for m in np.flatnonzero(self.counts)
        ]
        return {"expected_calibration_error": self.error, "bins": bins}


def reliability(
    probabilities: ArrayLike,
    right: ArrayLike,
    num_bins: int = NUM_BINS,
    *,
    weights: ArrayLike | None = None,
    of_positives: bool = False,
) -> Reliability:
    """Sort predictions into bins by their probability.

    Args:
        probabilities: Probability of each prediction ``(N,)``; values that are not finite are left out.
        right: Whether it is correct ``(N,) bool``; with weights, the number of correct ones with this probability.
        num_bins: Number of bins B.
        weights: Number of predictions with each probability ``(N,)``; by default 1.
        of_positives: See :class:`Reliability`.

    Examples:
        >>> found = reliability([0.9, 0.8, 0.9, 0.3], [True, False, True, False], num_bins=2)
        >>> found.counts.tolist(), found.right.tolist(), round(found.error, 3)
        ([1, 3], [0, 2], 0.225)
    """
    values, hits = np.asarray(probabilities, dtype=np.float64), np.asarray(right, dtype=np.int64)
    sizes = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    known = np.isfinite(values)
    values, hits, sizes = values[known], hits[known], sizes[known]
    bins = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], values)
    counts, right_ones = (np.bincount(bins, part, minlength=num_bins).astype(np.int64) for part in (sizes, hits))
    confidence = np.bincount(bins, values * sizes, minlength=num_bins).astype(np.float64)
    return Reliability(counts, confidence, right_ones, of_positives)
