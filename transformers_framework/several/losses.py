"""Losses of tested rows, computed from their predictions where these have all probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from transformers_framework.metrics.statistics import Array, Measure

LEAST = 1e-30  # value of a probability that was rounded to 0


def with_loss(measure: Measure, losses: Array, items: Array) -> Measure:
    """Return a measure with a further metric, ``loss``.

    Args:
        measure: The measure.
        losses: Sum of the losses of each unit (U,) float64.
        items: Loss denominator of each unit (U,) float64.
    """
    values: Callable[[Array], Array] = measure.values

    def with_mean(sums: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.concatenate([values(sums[:, :-2]), sums[:, -2:-1] / sums[:, -1:]], axis=1)

    statistics = np.concatenate([measure.statistics, losses[:, None], items[:, None]], axis=1)
    return replace(measure, names=(*measure.names, "loss"), statistics=statistics, values=with_mean)


def cross_entropies(log_probabilities: Array, labels: np.ndarray, flags: Mapping[str, Any]) -> tuple[Array, Array]:
    """Return the cross-entropy and the loss denominator of each row, (N,) float64 both.

    Args:
        log_probabilities: (N, C) float64.
        labels: Class of each row; rows with a negative one do not count (N,) int64.
        flags: Flags of the run, among them ``label_weights`` and ``label_smoothing``.

    Examples:
        >>> losses, items = cross_entropies(np.log([[0.5, 0.5], [0.1, 0.9]]), np.array([0, -100]), {})
        >>> losses.round(4).tolist(), items.tolist()
        ([0.6931, 0.0], [1.0, 0.0])
    """
    count, share = log_probabilities.shape[1], float(flags.get("label_smoothing") or 0.0)
    weights, kept = np.array(flags.get("label_weights") or [1.0] * count, dtype=np.float64), np.maximum(labels, 0)
    of_label = np.take_along_axis(log_probabilities, kept[:, None], axis=1)[:, 0] * weights[kept]
    losses = -(1 - share) * of_label - share / count * (log_probabilities @ weights)
    return np.where(labels >= 0, losses, 0.0), np.where(labels >= 0, weights[kept], 0.0)


def binary_cross_entropies(probabilities: Array, labels: Array, flags: Mapping[str, Any]) -> tuple[Array, Array]:
    """Return the sum of the binary cross-entropies of all classes, and the loss denominator, of each row (N,) float64.

    Args:
        probabilities: (N, C) float64.
        labels: 1 for a class that the row has, else 0 (N, C) float64.
        flags: Flags of the run, among them ``label_weights`` and ``label_smoothing``.

    Examples:
        >>> losses, items = binary_cross_entropies(np.array([[0.5, 0.1]]), np.array([[1.0, 0.0]]), {})
        >>> losses.round(4).tolist(), items.tolist()
        ([0.7985], [2.0])
    """
    share, weights = float(flags.get("label_smoothing") or 0.0), np.array(flags.get("label_weights") or 1.0)
    target = labels * (1 - share) + share / 2
    losses = -(weights * target * logarithms(probabilities) + (1 - target) * logarithms(1 - probabilities))
    return losses.sum(axis=1), np.full(len(losses), float(losses.shape[1]))


def logarithms(probabilities: Any) -> Array:
    """Return logarithms of probabilities, finite also for those that were rounded to 0."""
    return np.asarray(np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), LEAST)))
