"""Ranking metrics of a search over a whole corpus, cut at a depth, as trec_eval defines them on such a run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transformers_framework.metrics.ranking import MEANS, EmptyTargetAction, mean_over_queries, values_of_queries

PREFIX = "corpus_"  # before the names of metrics in logs
CUT_OFFS = {"precision": (1, 5), "hitrate": (5, 100), "recall": (1, 5, 10, 100)}
DEEPEST = max(max(cut_offs) for cut_offs in CUT_OFFS.values())


def _cut_offs(top_k: int) -> dict[str, list[int]]:
    """Return the cut-offs of metrics that are not greater than the depth of the search."""
    return {name: [k for k in cut_offs if k <= top_k] for name, cut_offs in CUT_OFFS.items()}


def corpus_names(top_k: int) -> list[str]:
    """Return the names of the values that :func:`corpus_metrics` computes.

    Examples:
        >>> corpus_names(1)[2:]
        ['corpus_ndcg', 'corpus_precision@1', 'corpus_recall@1']
    """
    cut = (f"{name}@{k}" for name, cut_offs in _cut_offs(top_k).items() for k in cut_offs)
    return [PREFIX + name for name in (*MEANS, *cut)]


def beyond(top_k: int) -> list[str]:
    """Return the names of the metrics that a search of this depth cannot compute, in which more passages are counted.

    Examples:
        >>> beyond(5), beyond(100)
        (['corpus_hitrate@100', 'corpus_recall@10', 'corpus_recall@100'], [])
    """
    known = corpus_names(top_k)
    return [name for name in corpus_names(DEEPEST) if name not in known]


def corpus_metrics(
    found: NDArray[np.int64],
    query: NDArray[np.int64],
    relevant: NDArray[np.int64],
    *,
    top_k: int,
    empty_target_action: EmptyTargetAction = "skip",
) -> dict[str, float]:
    """Compute the means of ranking metrics over queries; passages beyond the depth of the search count as not found.

    Args:
        found: Retrieved passages of each query, the best first, (Q, K) int64.
        query: Query of each relevant passage, from 0, (R,) int64.
        relevant: The relevant passage, (R,) int64; no pair of both occurs twice.
        top_k: Depth of the search, K or more where there are fewer passages.
        empty_target_action: How a query without a relevant passage counts: left out (``skip``), 0 (``neg``), 1
            (``pos``).

    Returns:
        The values of :func:`corpus_names`.

    Examples:
        >>> values = corpus_metrics(np.array([[3, 8, 5]]), np.array([0, 0]), np.array([8, 9]), top_k=5)
        >>> values["corpus_mean_average_precision"], values["corpus_recall@5"], values["corpus_hitrate@5"]
        (0.25, 0.5, 1.0)
    """
    num_queries, depth = found.shape
    # one number per (query, passage), so that a single search finds all pairs: numbers of passages are small
    stride = 1 + max(int(found.max(initial=0)), int(relevant.max(initial=0)))
    wanted = np.sort(query * stride + relevant)
    places = (np.arange(num_queries)[:, None] * stride + found).ravel()
    at = np.minimum(np.searchsorted(wanted, places), max(0, len(wanted) - 1))
    hits = np.flatnonzero(wanted[at] == places) if len(wanted) else np.zeros(0, np.int64)
    per_query, counted = values_of_queries(
        hits // max(1, depth),
        hits % max(1, depth) + 1,
        np.bincount(query, minlength=num_queries),
        empty_target_action=empty_target_action,
        **{f"{name}_at": cut_offs for name, cut_offs in _cut_offs(top_k).items()},
    )
    return {PREFIX + name: value for name, value in mean_over_queries(per_query, counted).items()}
