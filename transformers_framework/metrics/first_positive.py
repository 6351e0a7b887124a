"""The rank of the first positive of each query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class FirstPositives:
    """The rank of the first positive of each query.

    Args:
        ranks: From 1; 0 if no positive was ranked ``(Q,) int64``.
        depth: Number of candidates that were retrieved for each query; None if all were ranked.
    """

    ranks: NDArray[np.int64]
    depth: int | None = None

    def values(self) -> dict[str, object]:
        """Return percentiles and the number of queries at each rank up to 10, for results.json."""
        found = self.ranks[self.ranks > 0]
        counts = np.bincount(np.minimum(found, 11), minlength=12)
        at = {str(rank): int(counts[rank]) for rank in range(1, 11)}
        median, ninetieth = np.percentile(found, [50, 90]).tolist() if len(found) else (None, None)
        return {
            "queries": len(self.ranks),
            "median": median,
            "90th_percentile": ninetieth,
            "at": at | {"lower": int(counts[11]), "none": int((self.ranks == 0).sum())},
        }


@dataclass(frozen=True)
class ScoresByRank:
    """Scores of queries by the rank of their first positive.

    Args:
        ranks: From 1 ``(Q,) int64``.
        positive: Score of the first positive ``(Q,) float32``.
        first: Score of the first candidate ``(Q,) float32``; they are equal at rank 1.
        score: Name of the score.
    """

    ranks: NDArray[np.int64]
    positive: NDArray[np.float32]
    first: NDArray[np.float32]
    score: str = "score"


def first_positives(query: ArrayLike, rank: ArrayLike, positive: ArrayLike, num_queries: int) -> NDArray[np.int64]:
    """Return the rank of the first positive of each query, 0 if it has none ``(Q,) int64``.

    Args:
        query: Query of each candidate, from 0 ``(N,) int64``.
        rank: Its rank, from 1 ``(N,) int64``.
        positive: Whether it is a positive ``(N,) bool``.
        num_queries: Number of queries Q.

    Examples:
        >>> first_positives([0, 0, 0, 1], [1, 2, 3, 1], [False, True, True, False], 2).tolist()
        [2, 0]
    """
    hits = np.asarray(positive, dtype=bool)
    ranks = np.full(num_queries, np.iinfo(np.int64).max)
    np.minimum.at(ranks, np.asarray(query)[hits], np.asarray(rank, dtype=np.int64)[hits])
    return np.where(ranks == np.iinfo(np.int64).max, 0, ranks)
