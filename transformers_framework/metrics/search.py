"""Exact nearest neighbour search over embeddings that arrive in batches, without keeping them all in memory."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transformers_framework.processing.random import mix64

SCORES_AT_ONCE = 2**24  # of a chunk of queries and passages: 64 MiB


class TopPassages:
    """Keep the passages most similar to each query, by inner product.

    Args:
        queries: Embeddings ``(Q, E) float32``, on any device.
        k: Passages to keep for each query; all of them where there are fewer.
    """

    def __init__(self, queries: Tensor, k: int) -> None:
        self.queries, self.k = queries, k
        self.scores = queries.new_empty(len(queries), 0)
        self.numbers = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)

    def add(self, passages: Tensor, numbers: Tensor) -> None:
        """Compare passages with all queries.

        Args:
            passages: Embeddings ``(N, E) float32``.
            numbers: Number of each passage ``(N,) int64``.
        """
        size = max(1, SCORES_AT_ONCE // max(1, len(passages) + self.scores.shape[1]))
        parts = [
            self._best(slice(start, start + size), passages, numbers) for start in range(0, len(self.queries), size)
        ]
        if parts:
            self.scores, self.numbers = (torch.cat(columns) for columns in zip(*parts, strict=True))

    def _best(self, rows: slice, passages: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.cat([self.scores[rows], self.queries[rows] @ passages.T], dim=1)
        known = torch.cat([self.numbers[rows], numbers.expand(len(found), -1)], dim=1)
        scores, places = found.topk(min(self.k, found.shape[1]), dim=1, sorted=False)
        return scores, known.gather(1, places)


def ranked(
    scores: NDArray[np.float32], numbers: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the first k passages of each query, the best first; ties are in an order that is always the same.

    Args:
        scores: ``(Q, N) float32``.
        numbers: Number of each passage ``(Q, N) int64``.
        k: Passages to keep.

    Returns:
        Scores and numbers ``(Q, min(k, N))``.

    Examples:
        >>> scores, numbers = ranked(np.float32([[0.25, 0.5, 0.75]]), np.array([[7, 8, 9]]), 2)
        >>> scores.tolist(), numbers.tolist()
        ([[0.75, 0.5]], [[9, 8]])
    """
    order = np.lexsort((~mix64(numbers), -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(numbers, order, axis=1)
