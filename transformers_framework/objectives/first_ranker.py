"""Re-ranking of the best candidates of a first ranker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.exceptions import DataError
from transformers_framework.sources.columns import DatasetSource, value_numbers
from transformers_framework.sources.scores import candidate_scores

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

    from transformers_framework.metrics.lower import LowerCandidates


def lower_candidates(
    dataset: Dataset, targets: NDArray[np.int64], source: DatasetSource, *, index_column: str, column: str, k: int
) -> LowerCandidates | None:
    """Return the candidates that are not re-ranked; None if rows are broken.

    Args:
        dataset: The rows.
        targets: 1 for a positive, 0 for a negative, negative numbers for rows that do not count ``(N,) int64``.
        source: Source of the rows, for messages.
        index_column: Column of query ids.
        column: Column with the scores of the first ranker.
        k: Number of candidates of a query that are re-ranked.

    Raises:
        DataError: When a score is missing, or no query has more than k candidates; with the place.
    """
    from transformers_framework.metrics.lower import LowerCandidates

    scores = candidate_scores(dataset, column, source, in_lists=False, flag="top_k_from")
    if source.errors:
        return None
    queries = value_numbers(dataset, index_column)
    sizes = np.bincount(queries)
    if (most := int(sizes.max(initial=0))) <= k:
        row = int(np.flatnonzero(sizes[queries] == most)[0])
        raise DataError(
            f"--top_k_from {column} {k}: no question of {source.name} has more than {most} candidates, the most in "
            f"{source.place(row)}, so all would be re-ranked. Give a number below {most}, or leave the flag out."
        )
    return LowerCandidates.of(queries, scores, targets, k=k)
