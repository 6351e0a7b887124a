"""Spearman's correlation of resampled data sets and of exchanged predictions: a measure that is no function of sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transformers_framework.metrics.statistics import Array, Resampled, blocks


@dataclass(frozen=True)
class RankCorrelation(Resampled):
    """Spearman's correlation of predicted numbers and labels; for several seeds the mean of their correlations.

    Args:
        labels: Number of each row, (U,) float64.
        statistics: Predicted numbers of the M runs, (U, M) float64.
    """

    labels: Array
    statistics: Array
    names: tuple[str, ...] = ("spearman",)
    unit: str = "rows"
    classes: tuple[str, ...] = ()

    def of_weights(self, weights: Array) -> Array:
        """Return the correlation of data sets with each row so many times."""
        targets = weighted_ranks(self.labels, weights)
        columns = (weighted_ranks(column, weights) for column in self.statistics.T)
        return np.asarray(np.mean([_correlations(ranks, targets, weights) for ranks in columns], axis=0)[:, None])

    def without_each(self) -> Array:
        """Return the correlation without each row in turn."""
        count = len(self.labels)
        parts = blocks(count, count)
        return np.concatenate([self.of_weights(1 - np.eye(len(part), count, part.start)) for part in parts])

    def mean_with(self, others: Sequence[RankCorrelation]) -> RankCorrelation:
        """Return the mean over this run and others."""
        return RankCorrelation(self.labels, np.concatenate([each.statistics for each in (self, *others)], axis=1))

    def differences(self, other: RankCorrelation, exchanged: Array) -> Array:
        """Return by how much the correlation of another run is larger when predictions of rows are exchanged."""
        found, targets = [], ranks_of(self.labels[None])
        for mine, its in ((self, other), (other, self)):
            pairs = zip(mine.statistics.T, its.statistics.T, strict=True)
            columns = [np.where(exchanged == 1, theirs, own) for own, theirs in pairs]
            ones = np.ones((1, len(self.labels)))
            found.append(np.mean([_correlations(ranks_of(column), targets, ones) for column in columns], axis=0))
        return np.asarray((found[1] - found[0])[:, None])


def weighted_ranks(values: Array, weights: Array) -> Array:
    """Return the ranks of values that occur several times each, (R, U) float64; equal ones share their mean.

    Args:
        values: (U,) float64.
        weights: How often each occurs in each data set, (R, U) float64.

    Examples:
        >>> weighted_ranks(np.array([0.5, 0.1, 0.5]), np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 0.0]])).tolist()
        [[2.5, 1.0, 2.5], [2.5, 1.0, 2.5]]
    """
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    order, ends = np.argsort(values, kind="stable"), np.cumsum(counts)
    up_to = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights[:, order], axis=1)[:, ends - 1]], axis=1)
    return np.asarray(((up_to[:, :-1] + up_to[:, 1:] + 1) / 2)[:, which])


def ranks_of(values: Array) -> Array:
    """Return the ranks of the values in each row, (R, U) float64; equal ones share their mean.

    Examples:
        >>> ranks_of(np.array([[0.5, 0.1, 0.5], [3.0, 2.0, 1.0]])).tolist()
        [[2.5, 1.0, 2.5], [3.0, 2.0, 1.0]]
    """
    order, places = np.argsort(values, axis=1, kind="stable"), np.arange(values.shape[1])
    ordered = np.take_along_axis(values, order, axis=1)
    starts = np.diff(ordered, axis=1, prepend=np.nan) != 0
    ends: NDArray[np.bool_] = np.roll(starts, -1, axis=1)
    first = np.maximum.accumulate(np.where(starts, places, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, places, len(places))[:, ::-1], axis=1)[:, ::-1]
    found = np.empty(values.shape)
    np.put_along_axis(found, order, (first + last) / 2 + 1, axis=1)
    return found


def _correlations(first: Array, second: Array, weights: Array) -> Array:
    """Return Pearson's correlation in each row, (R,) float64; nan where one of both is constant."""
    total = weights.sum(axis=1, keepdims=True)
    first, second = (part - (weights * part).sum(axis=1, keepdims=True) / total for part in (first, second))
    product, *squares = ((weights * a * b).sum(axis=1) for a, b in ((first, second), (first, first), (second, second)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(product / np.sqrt(squares[0] * squares[1]))
