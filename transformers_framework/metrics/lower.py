"""Candidates that are not re-ranked: they stay below the others of their query, in the order of a first ranker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class LowerCandidates:
    """Candidates of a data set of N rows that a first ranker has below the best k of their query.

    Args:
        query_of: Query of each row, numbered from 0 ``(N,) int64``.
        targets: 1 for a positive, 0 for a negative, negative numbers for rows that do not count ``(N,) int64``.
        rows: Rows that are not re-ranked, ascending ``(R,) int64``.
        depths: Place of each of them below the best k, from 1, equal for equal scores ``(R,) int64``.
        kept: Rows that are re-ranked, ascending ``(M,) int64``.

    Examples:
        >>> columns = {"queries": [0, 0, 0, 1, 0], "scores": [0.1, 0.9, 0.3, 0.5, 0.1], "targets": [1, 0, 0, 1, 0]}
        >>> lower = LowerCandidates.of(**columns, k=1)
        >>> lower.kept.tolist(), lower.rows.tolist(), lower.depths.tolist()
        ([1, 3], [0, 2, 4], [2, 1, 2])
        >>> [part.tolist() for part in lower.below([1], np.float32([-2.5]))]
        [[0, 2, 4], [-4.5, -3.5, -4.5]]
    """

    query_of: NDArray[np.int64]
    targets: NDArray[np.int64]
    rows: NDArray[np.int64]
    depths: NDArray[np.int64]
    kept: NDArray[np.int64]

    @classmethod
    def of(cls, queries: ArrayLike, scores: ArrayLike, targets: ArrayLike, *, k: int) -> LowerCandidates:
        """Find the candidates that are not among the best k of their query; of equal ones, the first rows are.

        Args:
            queries: Query of each row, numbered from 0 ``(N,) int64``.
            scores: Score of the first ranker ``(N,)``.
            targets: 1 for a positive, 0 for a negative, negative numbers for rows that do not count ``(N,) int64``.
            k: Number of candidates of a query that are re-ranked.
        """
        query, values = np.asarray(queries), np.asarray(scores, dtype=np.float64)
        order = np.lexsort((-values, query))
        starts = np.searchsorted(query[order], query[order])
        place = np.arange(len(order)) - starts  # from 0, within the query
        is_lower = place >= k
        # a new depth wherever the score is another than that of the candidate above
        steps = np.where(is_lower & ((place == k) | (np.diff(values[order], prepend=np.nan) != 0)), 1, 0)
        total = np.cumsum(steps)
        depth = total - (total - steps)[starts]
        by_row = np.argsort(order[is_lower])
        lower = order[is_lower][by_row]
        return cls(query, np.asarray(targets), lower, depth[is_lower][by_row], np.sort(order[~is_lower]))

    def below(self, row_ids: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the lower candidates of queries that were re-ranked, with scores below all that the model gave.

        Args:
            row_ids: Rows that were re-ranked ``(M,) int64``.
            scores: Their scores ``(M,)``.

        Returns:
            Rows ``(L,) int64`` and scores ``(L,) float32``: the lowest of the query minus their depth.
        """
        lowest = np.full(int(self.query_of.max(initial=-1)) + 1, np.inf)
        np.minimum.at(lowest, self.query_of[np.asarray(row_ids)], np.asarray(scores, dtype=np.float64))
        found = lowest[self.query_of[self.rows]]
        there = np.isfinite(found)
        return self.rows[there], (found - self.depths)[there].astype(np.float32)
