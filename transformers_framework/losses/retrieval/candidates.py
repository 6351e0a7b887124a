"""Losses over all candidates of each query in evaluation, independent of batches and ranks.

Losses of in-batch negatives or of triplets depend in training on the other rows of a batch. In evaluation a query is
compared with its own candidates, so that neither batches nor ranks change the loss. Each returns a mean, or None if
there are no pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transformers_framework.constants import RELEVANT
from transformers_framework.losses.retrieval.configured import LossSettings
from transformers_framework.processing.windows import stretches


class Pairs(NamedTuple):
    """Each positive with each negative of its query: rows of both, (P,) int64."""

    positive: NDArray[np.int64]
    negative: NDArray[np.int64]


def pairs_of(relevant: NDArray[np.bool_], queries: NDArray[np.int64]) -> Pairs:
    """Return all pairs of a positive and a negative of the same query.

    Args:
        relevant: Which rows are positives, (N,) bool.
        queries: Query of each row, (N,) int64, in any order.

    Examples:
        >>> [part.tolist() for part in pairs_of(np.array([True, False, True, False]), np.array([7, 7, 8, 7]))]
        [[0, 0], [1, 3]]
    """
    _, query = np.unique(queries, return_inverse=True)
    positive, negative = (np.flatnonzero(which) for which in (relevant, ~relevant))
    negative = negative[np.argsort(query[negative], kind="stable")]
    counts = np.bincount(query[negative], minlength=query.max(initial=-1) + 1)
    starts, lengths = (np.cumsum(counts) - counts)[query[positive]], counts[query[positive]]
    return Pairs(np.repeat(positive, lengths), negative[stretches(starts, lengths)])


def ranking_loss(values: NDArray, labels: NDArray, queries: NDArray, settings: LossSettings) -> float | None:
    """Return the mean cross-entropy of positives, each among itself and the negatives of its query.

    Args:
        values: Scores, scaled, (N,) floats.
        labels: At least 0.5 for a positive, less for a negative, (N,) floats.
        queries: Query of each row, (N,) int64.
        settings: Not used here.

    Examples:
        >>> columns = np.array([1.0, 1.0, 1.0]), np.array([0, 1, 0]), np.array([3, 3, 4])
        >>> round(ranking_loss(*columns, LossSettings()), 4)
        0.6931
    """
    positive = np.flatnonzero(labels >= RELEVANT)
    positive_of, negative = pairs_of(labels >= RELEVANT, queries)
    number = np.searchsorted(positive, positive_of)
    over = np.zeros(len(positive))  # score of the best negative minus that of the positive, at least 0
    np.maximum.at(over, number, values[negative] - values[positive_of])
    total = np.bincount(number, np.exp(values[negative] - values[positive_of] - over[number]), minlength=len(positive))
    return _mean(over + np.log(np.exp(-over) + total))


def triplet_loss(values: NDArray, labels: NDArray, queries: NDArray, settings: LossSettings) -> float | None:
    """Return the mean triplet loss of all pairs of a positive and a negative of the same query.

    Args:
        values: Distances, negative, (N,) floats.
        labels: At least 0.5 for a positive, less for a negative, (N,) floats.
        queries: Query of each row, (N,) int64.
        settings: Settings with the margin; None is the soft margin.

    Examples:
        >>> triplet_loss(np.array([-1.0, -1.5]), np.array([1, 0]), np.array([3, 3]), LossSettings(margin=2.0))
        1.5
    """
    positive, negative = pairs_of(labels >= RELEVANT, queries)
    nearer, margin = values[negative] - values[positive], settings.margin
    return _mean(np.logaddexp(0, nearer) if margin is None else np.maximum(nearer + margin, 0))


def margin_mse_loss(values: NDArray, labels: NDArray, queries: NDArray, settings: LossSettings) -> float | None:
    """Return the mean squared error of score differences, of all pairs of a positive and a negative of a query.

    Args:
        values: Scores, (N,) floats.
        labels: At least 0.5 for a positive, less for a negative; their differences are learned (N,) floats.
        queries: Query of each row, (N,) int64.
        settings: Not used here.

    Examples:
        >>> margin_mse_loss(np.array([2.0, 0.5]), np.array([1, 0]), np.array([3, 3]), LossSettings())
        0.25
    """
    positive, negative = pairs_of(labels >= RELEVANT, queries)
    return _mean((values[positive] - values[negative] - (labels[positive] - labels[negative])) ** 2)


def _mean(losses: NDArray) -> float | None:
    return float(losses.mean()) if len(losses) else None
