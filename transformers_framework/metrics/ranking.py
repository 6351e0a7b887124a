"""Ranking metrics as trec_eval defines them.

Rows of a query are sorted by score as float32, highest first, and ties by document number, highest first. trec_eval
compares document numbers as strings, so each row gets one that begins with a hash of its id (see trec.py): ties are
then in an order that is always the same and that has nothing to do with the order of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from transformers_framework.exceptions import DataError
from transformers_framework.metrics.lower import LowerCandidates
from transformers_framework.processing.random import mix64

EmptyTargetAction = Literal["skip", "neg", "pos", "error"]
CandidateLoss = Callable[[NDArray, NDArray, NDArray], float | None]  # None: there was nothing to compare
MEANS = ("mean_average_precision", "mean_reciprocal_rank", "ndcg")


def ranking_metrics(
    preds: ArrayLike,
    target: ArrayLike,
    indexes: ArrayLike,
    row_ids: ArrayLike,
    *,
    empty_target_action: EmptyTargetAction = "skip",
    precision_at: Sequence[int] = (1,),
    hitrate_at: Sequence[int] = (5,),
    ndcg_at: Sequence[int] = (),
) -> dict[str, float]:
    """Compute the means of ranking metrics over queries.

    Args:
        preds: Scores, (N,) floats, compared as float32.
        target: 1 for a positive, 0 for a negative, negative numbers for rows that do not count, (N,) integers.
        indexes: Query of each row, (N,) int64, in any order.
        row_ids: Position of each row in the data set, (N,) int64, which decides ties.
        empty_target_action: How a query without a positive counts: left out (``skip``), 0 in all metrics as in
            trec_eval (``neg``), 1 (``pos``), or it is an ``error``.
        precision_at: Cut-offs k of ``precision@k``: positives among the first k, divided by k.
        hitrate_at: Cut-offs k of ``hitrate@k``: whether there is a positive among the first k.
        ndcg_at: Cut-offs k of ``ndcg@k``: only the first k are counted, of the ideal ranking too.

    Returns:
        ``mean_average_precision``, ``mean_reciprocal_rank``, ``ndcg``, each ``precision@k``, ``hitrate@k`` and
        ``ndcg@k``; nan when no query is left.

    Raises:
        DataError: ``empty_target_action`` is ``error`` and there is a query without a positive.

    Examples:
        >>> ranking_metrics([0.1, 0.9, 0.5, 0.3], [1, 0, 0, 1], [0, 0, 1, 1], [0, 1, 2, 3])["mean_reciprocal_rank"]
        0.5
    """
    rows = sort_candidates(preds, target, indexes, row_ids)
    query, rank = rows.query[rows.positive], rows.rank[rows.positive]  # the metrics need positives only
    num_positives = np.bincount(query, minlength=rows.num_queries)
    empty = num_positives == 0
    if empty_target_action == "error" and empty.any():
        query = np.flatnonzero(empty)[0]
        row = np.asarray(row_ids)[rows.order[np.searchsorted(rows.query, query)]]
        raise DataError(
            f"--metrics_empty_target_action error: {empty.sum()} of {rows.num_queries} queries have no positive, for "
            f"instance query {rows.names[query]} (row {row}); expected one label 1 or more for each query. Remove "
            "these queries, or choose skip, neg or pos."
        )

    per_query, counted = values_of_queries(
        query,
        rank,
        num_positives,
        empty_target_action=empty_target_action,
        precision_at=precision_at,
        hitrate_at=hitrate_at,
        ndcg_at=ndcg_at,
    )
    return mean_over_queries(per_query, counted)


def values_of_queries(
    query: NDArray[np.int64],
    rank: NDArray[np.int64],
    num_positives: NDArray[np.int64],
    *,
    empty_target_action: EmptyTargetAction = "skip",
    precision_at: Sequence[int] = (1,),
    hitrate_at: Sequence[int] = (5,),
    ndcg_at: Sequence[int] = (),
    recall_at: Sequence[int] = (),
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
    """Compute the ranking metrics of each query from the ranks of positives.

    Args:
        query: Query of each positive that was found, from 0, in ascending order (N,) int64.
        rank: Its rank among the candidates of the query, from 1, in ascending order within a query (N,) int64.
        num_positives: Positives of each query, those that were not found too (Q,) int64.
        empty_target_action: How a query without a positive counts; with ``error``, the caller has raised it.
        precision_at: Cut-offs k of ``precision@k``.
        hitrate_at: Cut-offs k of ``hitrate@k``.
        ndcg_at: Cut-offs k of ``ndcg@k``.
        recall_at: Cut-offs k of ``recall@k``: positives among the first k, as a share of all.

    Returns:
        Values of each metric, (Q,) float64, and which queries count, (Q,) bool.
    """
    empty = num_positives == 0

    def total(values: NDArray) -> NDArray:
        return np.bincount(query, values, minlength=len(num_positives))

    at_least_one = np.maximum(num_positives, 1)
    found = np.bincount(query, minlength=len(num_positives))
    position = np.arange(1, len(query) + 1) - (np.cumsum(found) - found)[query]  # 1 for the first of a query
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, num_positives.max(initial=0) + 2)))])
    gain = 1 / np.log2(rank + 1)
    per_query = {
        "mean_average_precision": total(position / rank) / at_least_one,
        "mean_reciprocal_rank": total((position == 1) / rank),
        "ndcg": total(gain) / np.where(empty, 1, ideal[num_positives]),
        **{f"precision@{k}": total(rank <= k) / k for k in precision_at},
        **{f"hitrate@{k}": total((position == 1) & (rank <= k)) for k in hitrate_at},
        **{
            f"ndcg@{k}": total(gain * (rank <= k)) / np.where(empty, 1, ideal[np.minimum(num_positives, k)])
            for k in ndcg_at
        },
        **{f"recall@{k}": total(rank <= k) / at_least_one for k in recall_at},
    }
    counted = ~empty if empty_target_action == "skip" else np.ones_like(empty)
    worth = {"neg": 0.0, "pos": 1.0}.get(empty_target_action, np.nan)
    return {name: np.where(empty, worth, values) for name, values in per_query.items()}, counted


def cut_offs(
    metrics_at: Sequence[int] | None, *, precision: Sequence[int] = (1,), hitrate: Sequence[int] = (5,)
) -> dict[str, tuple[int, ...]]:
    """Return the cut-offs of metrics: those that are always logged, and those that a user gives, for all metrics.

    Examples:
        >>> cut_offs([10, 1])
        {'precision_at': (1, 10), 'hitrate_at': (1, 5, 10), 'ndcg_at': (1, 10)}
    """
    at = metrics_at or ()
    named = {"precision_at": precision, "hitrate_at": hitrate, "ndcg_at": ()}
    return {name: tuple(sorted({*known, *at})) for name, known in named.items()}


def mean_over_queries(per_query: Mapping[str, NDArray[np.float64]], counted: NDArray[np.bool_]) -> dict[str, float]:
    """Return the mean of each metric of :func:`values_of_queries` over the queries that count; nan if none does.

    Examples:
        >>> per_query, counted = values_of_queries(np.array([0, 0]), np.array([1, 4]), np.array([2]), recall_at=[1, 5])
        >>> found = mean_over_queries(per_query, counted)
        >>> found["mean_average_precision"], found["recall@1"], found["recall@5"]
        (0.75, 0.5, 1.0)
    """
    if not counted.any():
        return dict.fromkeys(per_query, float("nan"))
    return {name: float(values[counted].mean()) for name, values in per_query.items()}


class RankingMetrics(Metric):
    """Ranking metrics over all queries, wherever their rows were evaluated; see :func:`ranking_metrics`.

    Args:
        loss: Loss function of the scores, labels and queries of all rows; None if each row has its own loss.
        lower: Candidates that are not re-ranked and stay below those that are; None if all are.
        empty_target_action: How a query without a positive counts.
        precision_at: Cut-offs k of ``precision@k``.
        hitrate_at: Cut-offs k of ``hitrate@k``.
        ndcg_at: Cut-offs k of ``ndcg@k``.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    preds: list[Tensor]
    target: list[Tensor]
    indexes: list[Tensor]
    row_ids: list[Tensor]

    def __init__(
        self,
        loss: CandidateLoss | None = None,
        lower: LowerCandidates | None = None,
        *,
        empty_target_action: EmptyTargetAction = "skip",
        precision_at: Sequence[int] = (1,),
        hitrate_at: Sequence[int] = (5,),
        ndcg_at: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.loss, self.lower = loss, lower
        self.empty_target_action = empty_target_action
        self.precision_at, self.hitrate_at, self.ndcg_at = tuple(precision_at), tuple(hitrate_at), tuple(ndcg_at)
        for name in ("preds", "target", "indexes", "row_ids"):
            self.add_state(name, [], dist_reduce_fx="cat")

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        precisions = [f"precision@{k}" for k in self.precision_at]
        hitrates = [f"hitrate@{k}" for k in self.hitrate_at]
        return [*MEANS, *precisions, *hitrates, *(f"ndcg@{k}" for k in self.ndcg_at)]

    def update(self, preds: Tensor, target: Tensor, indexes: Tensor, row_ids: Tensor) -> None:
        """Keep a batch.

        Args:
            preds: Scores, (N,) floats. Differences of logits rather than probabilities, which saturate and tie.
            target: 1 for a positive, 0 for a negative, negative numbers ignored, (N,) int64.
            indexes: Query of each row, (N,) int64.
            row_ids: Position of each row in the data set, (N,) int64.
        """
        self.preds.append(preds.detach().float())
        # copies: a tensor that came from a loader's worker keeps a file descriptor open as long as it lives
        self.target.append(target.clone())
        self.indexes.append(indexes.clone())
        self.row_ids.append(row_ids.clone())

    def compute(self) -> dict[str, float | None]:
        """Return the means over all queries that were kept, and the mean ``loss`` if it is computed over candidates."""
        found: dict[str, float | None] = {**self._means()}
        return found if self.loss is None else found | {"loss": self.loss(*self._loss_inputs())}

    def _loss_inputs(self) -> tuple[NDArray, NDArray, NDArray]:
        target = kept(self.target)
        scores, target, queries = (kept(state)[target >= 0] for state in (self.preds, self.target, self.indexes))
        return scores, target, queries

    def _candidates(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        preds, target, indexes, rows = map(kept, (self.preds, self.target, self.indexes, self.row_ids))
        if self.lower is None:
            return preds, target, indexes, rows
        lower = self.lower
        preds, target, rows = (found[rows >= 0] for found in (preds, target, rows))
        others, scores = lower.below(rows, preds)
        rows, preds = np.concatenate([rows, others]).astype(np.int64), np.concatenate([preds, scores])
        return preds, np.concatenate([target, lower.targets[others]]), lower.query_of[rows], rows

    def _means(self) -> dict[str, float]:
        return ranking_metrics(
            *self._candidates(),
            empty_target_action=self.empty_target_action,
            precision_at=self.precision_at,
            hitrate_at=self.hitrate_at,
            ndcg_at=self.ndcg_at,
        )


def kept(state: list[Tensor]) -> NDArray:
    """Return what a metric kept batch by batch as one array, of all processes while the metric is computed."""
    return dim_zero_cat(state).cpu().numpy() if len(state) else np.zeros(0)


class SortedCandidates(NamedTuple):
    """Candidates of queries, sorted by query and rank.

    Args:
        order: Rows that count, by query and then by rank, (M,) int64.
        query: Number of the query, from 0, (M,) int64.
        rank: From 1, (M,) int64.
        positive: Whether the candidate is a positive, (M,) bool.
        names: Names of the queries in the data, (Q,).
    """

    order: NDArray[np.int64]
    query: NDArray[np.int64]
    rank: NDArray[np.int64]
    positive: NDArray[np.bool_]
    names: NDArray

    @property
    def num_queries(self) -> int:
        """Number of queries."""
        return len(self.names)


def sort_candidates(preds: ArrayLike, target: ArrayLike, indexes: ArrayLike, row_ids: ArrayLike) -> SortedCandidates:
    """Sort the candidates of each query as trec_eval does: by score in float32, ties by a hash of the row.

    Args:
        preds: Scores, (N,) floats.
        target: 1 for a positive, 0 for a negative, negative numbers for rows that do not count, (N,) integers.
        indexes: Query of each row, (N,) integers or strings.
        row_ids: Position of each row in the data set, (N,) int64.
    """
    labels = np.asarray(target)
    counted = np.flatnonzero(labels >= 0)
    names, query = np.unique(_comparable(indexes)[counted], return_inverse=True)
    scores = np.asarray(preds)[counted].astype(np.float32)
    order = np.lexsort((~mix64(np.asarray(row_ids)[counted]), -scores, query))
    query = query[order]
    rank = np.arange(1, len(query) + 1) - np.searchsorted(query, np.arange(len(names)))[query]
    order = counted[order]
    return SortedCandidates(order, query, rank, labels[order] > 0, names)


def _comparable(values: ArrayLike) -> NDArray:
    """Return queries as an array, where numpy would make floats of integers of 64 bits or could not compare with null.

    Examples:
        >>> _comparable([2**63 + 1, 1]).tolist(), _comparable([None, "a"]).tolist()
        ([9223372036854775809, 1], ['', 'a'])
    """
    if isinstance(values, np.ndarray):
        return values
    found: list[Any] = list(values)  # type: ignore[arg-type]
    kinds = set(map(type, found))
    if kinds == {int}:
        return np.array(found, dtype=np.uint64 if max(found) >= 1 << 63 else np.int64)
    return np.asarray(found if len(kinds) == 1 else ["" if value is None else str(value) for value in found])
