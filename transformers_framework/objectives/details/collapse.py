"""Warnings about models that predict the same for everything: one class, one score or one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers_framework.metrics.confusion import Confusion
    from transformers_framework.metrics.ranking import SortedCandidates

FEWEST = 20  # rows, words or candidates of a test; equal predictions of fewer may be right by chance
NARROW = 1e-4  # scores whose range, divided by their size, is smaller are equal but for rounding
OTHER_RATE = "Try another --learning_rate (lower, or higher)"
REMEDY = f"{OTHER_RATE}, more --max_epochs, or --label_weights."


def one_class(confusion: Confusion) -> list[str]:
    """Return a warning if all predictions are one class, though labels are of several classes.

    Args:
        confusion: Labels and predictions of the test data.
    """
    if not (found := _one_class(confusion)):
        return []
    return [f"{found}: the model learned nothing but the most frequent class. {REMEDY}"]


def _one_class(confusion: Confusion) -> str:
    predicted, wanted = np.unique(confusion.preds), np.unique(confusion.labels)
    if confusion.total < FEWEST or len(predicted) != 1 or len(wanted) == 1:
        return ""
    return (
        f"Test: each of the {confusion.total:,} {confusion.unit} is predicted as "
        f"{confusion.class_names[int(predicted[0])]}, though labels are of {len(wanted)} classes"
    )


def one_score(lowest: float, highest: float, count: int, unit: str) -> list[str]:
    """Return a warning if all predicted numbers are equal but for rounding.

    Args:
        lowest: The smallest of them.
        highest: The largest of them.
        count: How many there are.
        unit: What they are predicted for, such as candidates.

    Examples:
        >>> one_score(0.5, 0.50001, 100, "rows")[0].partition(":")[2].partition(":")[0]
        ' all 100 rows have the same score (0.5)'
        >>> one_score(0.5, 0.6, 100, "rows"), one_score(0.5, 0.5, FEWEST - 1, "rows")
        ([], [])
        >>> one_score(np.nan, np.nan, 100, "rows"), one_score(np.inf, -np.inf, 100, "rows")  # no numbers
        ([], [])
    """
    if count < FEWEST or not 0 <= highest - lowest <= NARROW * max(abs(lowest), abs(highest)):
        return []
    found = f"Test: all {count:,} {unit} have the same score ({lowest:.4g}): the model learned nothing"
    return [f"{found}. {OTHER_RATE} or more --max_epochs."]


def collapsed_ranking(scores: NDArray, ranked: SortedCandidates, confusion: Confusion | None) -> list[str]:
    """Return a warning if a model gives all candidates one score, or predicts one class for all of them.

    A model with one class for all may still rank well, as where few candidates are positive. So the warning has the
    share of the pairs of a positive and a negative of one query that are in the right order.

    Args:
        scores: Scores of the candidates that the model scored ``(N,)``, of which labels are of both classes.
        ranked: The ranking.
        confusion: Their labels and predicted classes; None if scores are not those of classes.
    """
    if len(scores) and (found := one_score(float(scores.min()), float(scores.max()), len(scores), "candidates")):
        return found
    if confusion is None or not (text := _one_class(confusion)):
        return []
    share = share_in_order(ranked)
    pairs = "" if share is None else f" {100 * share:.1f} % of all pairs of a positive and a negative of one query"
    order = pairs and f"{pairs} are in the right order (in a random order: 50 %)."
    return [f"{text}: accuracy and F1 only show how frequent this class is.{order} {REMEDY}"]


def share_in_order(ranked: SortedCandidates) -> float | None:
    """Return the share of the pairs of a positive and a negative of one query whose positive is ranked higher.

    Args:
        ranked: The ranking.

    Returns:
        The share, over the pairs of all queries; None if there are none.

    Examples:
        >>> from transformers_framework.metrics.ranking import sort_candidates
        >>> share_in_order(sort_candidates([0.9, 0.5, 0.1, 0.2, 0.3], [0, 1, 0, 1, 0], [7, 7, 7, 8, 8], range(5)))
        0.3333333333333333
    """
    negatives = np.bincount(ranked.query, ~ranked.positive, minlength=ranked.num_queries)
    above = np.cumsum(~ranked.positive) - (np.cumsum(negatives) - negatives)[ranked.query]  # negatives of the query
    query = ranked.query[ranked.positive]
    pairs = negatives[query].sum()
    return float((negatives[query] - above[ranked.positive]).sum() / pairs) if pairs else None
