"""Ranking metrics of each query: as the lines of a CSV file, and with confidence intervals of their means."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transformers_framework.metrics.statistics import CONFIDENCE, Measure, intervals

if TYPE_CHECKING:
    from transformers_framework.metrics.ranking import SortedCandidates

SUFFIX = ".queries.csv"  # of the file beside the predictions
NUM_RESAMPLES = 2_000  # of the data set for intervals of a report; bounds differ by about 2 % of the interval
SINGLE = {"mean_average_precision": "average_precision", "mean_reciprocal_rank": "reciprocal_rank"}


@dataclass(frozen=True)
class QueryValues:
    """Ranking metrics of each query.

    Args:
        names: Query ids ``(Q,)``.
        candidates: Number of candidates ``(Q,) int64``.
        positives: Number of positives ``(Q,) int64``.
        values: Values of each metric ``(Q,) float64``.
        counted: Queries that the means are over ``(Q,) bool``.
    """

    names: NDArray[Any]
    candidates: NDArray[np.int64]
    positives: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    counted: NDArray[np.bool_]

    @classmethod
    def of(cls, ranked: SortedCandidates, options: Mapping[str, Any]) -> QueryValues:
        """Compute the metrics of each query.

        Args:
            ranked: The candidates.
            options: Settings of the metrics, as of ``values_of_queries``.
        """
        from transformers_framework.metrics.ranking import values_of_queries

        query, rank = ranked.query[ranked.positive], ranked.rank[ranked.positive]
        positives = np.bincount(query, minlength=ranked.num_queries)
        values, counted = values_of_queries(query, rank, positives, **options)
        return cls(ranked.names, np.bincount(ranked.query, minlength=ranked.num_queries), positives, values, counted)

    def named(self, names: Sequence[Any]) -> QueryValues:
        """Return the same with names of queries in place of their numbers, which are indices of ``names``."""
        return replace(self, names=np.array([*map(names.__getitem__, self.names.tolist()), None], dtype=object)[:-1])

    def lines(self) -> Iterator[str]:
        """Yield a header and the line of each query that counts, as CSV."""
        metrics = [SINGLE.get(name, name) for name in self.values]
        yield _csv(["query", "candidates", "positives", *metrics])
        rows = np.flatnonzero(self.counted)
        columns = [values[rows].tolist() for values in (self.names, self.candidates, self.positives)]
        numbers = [[f"{value:.6g}" for value in values[rows].tolist()] for values in self.values.values()]
        for row in zip(*columns, *numbers, strict=True):
            yield _csv(row)

    def intervals(self) -> dict[str, Any]:
        """Return the bounds of a bootstrap interval of each mean, for results.json; nothing for fewer than two queries.

        Examples:
            >>> counts = np.full(4, 2)
            >>> values = {"ndcg": np.array([0.2, 0.4, 0.6, 0.8])}
            >>> QueryValues(np.arange(4), counts, counts, values, counts > 0).intervals()
            {'confidence': 0.95, 'queries': 4, 'ndcg': [0.3, 0.7]}
        """
        count = int(self.counted.sum())
        if count < 2:
            return {}
        values = np.stack([found[self.counted] for found in self.values.values()] + [np.ones(count)], axis=1)
        measure = Measure(tuple(self.values), values, lambda sums: sums[:, :-1] / sums[:, -1:], unit="queries")
        found = intervals([measure], num_resamples=NUM_RESAMPLES).round(4).tolist()
        return {"confidence": CONFIDENCE, "queries": count, **dict(zip(self.values, found, strict=True))}


def _csv(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
