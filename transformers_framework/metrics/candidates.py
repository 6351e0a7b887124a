"""Losses over the candidates of whole queries, whichever batches they were evaluated in.

Losses of in-batch negatives or of triplets depend in training on what shares a batch. In evaluation the candidates of a
query are what it is compared with, so that neither batches nor processes change the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from transformers_framework.constants import RELEVANT
from transformers_framework.metrics.ranking import EmptyTargetAction, RankingMetrics, kept
from transformers_framework.processing.windows import stretches

ListLoss = Callable[[NDArray, NDArray, NDArray], float | None]  # None: nothing was right, or nothing wrong


class Pairs(NamedTuple):
    """Each right candidate with each wrong one of its query: rows of both, (P,) int64."""

    right: NDArray[np.int64]
    wrong: NDArray[np.int64]


def pairs_of(relevant: NDArray[np.bool_], queries: NDArray[np.int64]) -> Pairs:
    """Return all pairs of a right and a wrong candidate of the same query.

    Args:
        relevant: Which rows are right, (N,) bool.
        queries: Query of each row, (N,) int64, in any order.

    Examples:
        >>> [part.tolist() for part in pairs_of(np.array([True, False, True, False]), np.array([7, 7, 8, 7]))]
        [[0, 0], [1, 3]]
    """
    _, query = np.unique(queries, return_inverse=True)
    right, wrong = (np.flatnonzero(which) for which in (relevant, ~relevant))
    wrong = wrong[np.argsort(query[wrong], kind="stable")]
    counts = np.bincount(query[wrong], minlength=query.max(initial=-1) + 1)
    starts, lengths = (np.cumsum(counts) - counts)[query[right]], counts[query[right]]
    return Pairs(np.repeat(right, lengths), wrong[stretches(starts, lengths)])


def ranking_list_loss(values: NDArray, labels: NDArray, queries: NDArray) -> float | None:
    """Return the mean cross-entropy of right candidates, each among itself and the wrong ones of its query.

    Args:
        values: Scores, scaled, (N,) floats.
        labels: At least 0.5 for a right candidate, less for a wrong one, (N,) floats.
        queries: Query of each row, (N,) int64.

    Returns:
        The mean, nothing where there is no right candidate.

    Examples:
        >>> round(ranking_list_loss(np.array([1.0, 1.0, 1.0]), np.array([0, 1, 0]), np.array([3, 3, 4])), 4)
        0.6931
    """
    right = np.flatnonzero(labels >= RELEVANT)
    right_of, wrong = pairs_of(labels >= RELEVANT, queries)
    number = np.searchsorted(right, right_of)
    over = np.zeros(len(right))  # by how much the largest wrong score of the query is above the right one, if it is
    np.maximum.at(over, number, values[wrong] - values[right_of])
    total = np.bincount(number, np.exp(values[wrong] - values[right_of] - over[number]), minlength=len(right))
    return _mean(over + np.log(np.exp(-over) + total))


def triplet_list_loss(values: NDArray, labels: NDArray, queries: NDArray, *, margin: float | None) -> float | None:
    """Return the mean triplet loss of all pairs of a right and a wrong candidate of the same query.

    Args:
        values: Distances, negative, (N,) floats.
        labels: At least 0.5 for a right candidate, less for a wrong one, (N,) floats.
        queries: Query of each row, (N,) int64.
        margin: By how much distances shall differ; none for the soft margin.

    Examples:
        >>> triplet_list_loss(np.array([-1.0, -1.5]), np.array([1, 0]), np.array([3, 3]), margin=2.0)
        1.5
    """
    right, wrong = pairs_of(labels >= RELEVANT, queries)
    nearer = values[wrong] - values[right]
    return _mean(np.logaddexp(0, nearer) if margin is None else np.maximum(nearer + margin, 0))


def margin_list_loss(values: NDArray, labels: NDArray, queries: NDArray) -> float | None:
    """Return the mean squared error of score differences, of all pairs of a right and a wrong candidate of a query.

    Args:
        values: Scores, (N,) floats.
        labels: At least 0.5 for a right candidate, less for a wrong one; their differences are what is to be learned
            (N,) floats.
        queries: Query of each row, (N,) int64.

    Examples:
        >>> margin_list_loss(np.array([2.0, 0.5]), np.array([1, 0]), np.array([3, 3]))
        0.25
    """
    right, wrong = pairs_of(labels >= RELEVANT, queries)
    return _mean((values[right] - values[wrong] - (labels[right] - labels[wrong])) ** 2)


def _mean(losses: NDArray) -> float | None:
    return float(losses.mean()) if len(losses) else None


class CandidateMetrics(RankingMetrics):
    """Ranking metrics within the candidates of each query, and a loss of whole lists of candidates.

    Args:
        loss: Computes it from what the loss compares, labels and queries of all rows; none: it is not one of lists.
        empty_target_action: What a query without a right candidate is worth in ranking metrics.
        precision_at: Cut-offs k of ``precision@k``.
        hitrate_at: Cut-offs k of ``hitrate@k``.
    """

    values: list[Tensor]
    labels: list[Tensor]

    def __init__(
        self,
        loss: ListLoss | None,
        *,
        empty_target_action: EmptyTargetAction = "skip",
        precision_at: Sequence[int] = (1, 5),
        hitrate_at: Sequence[int] = (5, 100),
    ) -> None:
        super().__init__(
            empty_target_action=empty_target_action,
            precision_at=precision_at,
            hitrate_at=hitrate_at,
        )
        self.loss = loss
        self.mean_loss: float | None = None
        for name in ("values", "labels"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self, preds: Tensor, labels: Tensor, indexes: Tensor, row_ids: Tensor, values: Tensor | None = None
    ) -> None:
        """Keep a batch.

        Args:
            preds: Scores, (N,) floats.
            labels: At least 0.5 right, less wrong, -100 ignored, (N,) floats.
            indexes: Query of each row, (N,) int64.
            row_ids: Position of each row in the data set, (N,) int64.
            values: What the loss of lists compares, (N,) floats.
        """
        super().update(preds, (labels >= RELEVANT).long() - (row_ids < 0).long() * 2, indexes, row_ids)
        if values is not None:
            self.values.append(values.detach().float())
            self.labels.append(labels.float())

    def compute(self) -> dict[str, float]:
        """Return the means over all queries that were kept, and note the mean loss."""
        if self.loss is not None:
            rows = kept(self.row_ids) >= 0
            columns = (kept(state)[rows] for state in (self.values, self.labels, self.indexes))
            values, labels, queries = columns
            self.mean_loss = self.loss(values.astype(np.float64), labels.astype(np.float64), queries)
        return super().compute()
