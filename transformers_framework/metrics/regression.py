"""Correlations and errors of predicted numbers over a whole data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from transformers_framework.constants import Direction

NAMES = ("pearson", "spearman", "mean_squared_error", "mean_absolute_error")


def regression_metrics(preds: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """Compute correlations and errors in float64, independent of the order of rows.

    Args:
        preds: Predicted numbers, (N,) floats.
        target: Numbers, (N,) floats; nan is ignored.

    Returns:
        ``pearson`` and ``spearman`` (equal numbers share the mean of their ranks), nan where all predictions or all
        targets are equal; ``mean_squared_error`` and ``mean_absolute_error``, nan without rows.

    Examples:
        >>> found = regression_metrics([1.0, 2.0, 4.0], [1.0, 3.0, 5.0])
        >>> {name: round(value, 3) for name, value in found.items()}
        {'pearson': 0.982, 'spearman': 1.0, 'mean_squared_error': 0.667, 'mean_absolute_error': 0.667}
    """
    found, wanted = np.asarray(preds, dtype=np.float64), np.asarray(target, dtype=np.float64)
    found, wanted = found[~np.isnan(wanted)], wanted[~np.isnan(wanted)]
    if not len(found) or not np.isfinite(found).all():
        return dict.fromkeys(NAMES, float("nan"))
    order = np.lexsort((found, wanted))  # sums of floats depend on their order
    found, wanted = found[order], wanted[order]
    error = found - wanted
    return {
        "pearson": correlation(found, wanted),
        "spearman": correlation(ranks(found), ranks(wanted)),
        "mean_squared_error": float(np.mean(error**2)),
        "mean_absolute_error": float(np.mean(np.abs(error))),
    }


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of two columns (N,) float64; nan where one of them is constant.

    Examples:
        >>> correlation(np.array([1.0, 2.0, 3.0]), np.array([6.0, 4.0, 2.0]))
        -1.0
    """
    if first.min() == first.max() or second.min() == second.max():
        return float("nan")
    first, second = ((column - column.mean()) / np.abs(column - column.mean()).max() for column in (first, second))
    return float(np.clip(first @ second / np.sqrt((first @ first) * (second @ second)), -1, 1))


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value from 1, (N,) float64; equal ones share the mean of theirs.

    Examples:
        >>> ranks(np.array([0.5, 0.1, 0.5, 0.9])).tolist()
        [2.5, 1.0, 2.5, 4.0]
    """
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]


class RegressionMetrics(Metric):
    """Correlations and errors over all rows, wherever they were evaluated; see :func:`regression_metrics`."""

    full_state_update = False
    is_differentiable = False
    directions: ClassVar[Mapping[str, Direction | None]] = {"mean_squared_error": "min", "mean_absolute_error": "min"}
    preds: list[Tensor]
    target: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("preds", "target"):
            self.add_state(name, [], dist_reduce_fx="cat")

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return list(NAMES)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Keep a batch.

        Args:
            preds: Predicted numbers, (N,) floats.
            target: Numbers, (N,) float32; nan is ignored.
        """
        self.preds.append(preds.detach().float())
        # a copy: a tensor that came from a loader's worker keeps a file descriptor open as long as it lives
        self.target.append(target.clone())

    def compute(self) -> dict[str, float]:
        """Return the metrics of all rows that were kept."""
        columns = [
            dim_zero_cat(state).cpu().numpy() if len(state) else np.zeros(0) for state in (self.preds, self.target)
        ]
        return regression_metrics(*columns)
