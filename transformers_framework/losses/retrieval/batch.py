"""Embeddings of a batch of queries and passages, and the inputs of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Embedded(NamedTuple):
    """Embeddings of the texts of a batch.

    Args:
        query: ``(B, E)``.
        passage: ``(B, E)``; None where rows have none.
        negatives: Hard negatives of all rows ``(N, E)``; None where rows have none.
    """

    query: Tensor
    passage: Tensor | None = None
    negatives: Tensor | None = None


class LossBatch(NamedTuple):
    """Inputs of a loss; the last four are None in evaluation.

    Args:
        query: Embeddings of queries ``(B, E) float32``.
        passage: Embeddings of the passage of each row ``(B, E) float32``.
        labels: 1 for a positive, 0 for a negative, or the number that is learned; -100 is ignored ``(B,) float32``.
        negatives: Embeddings of the hard negatives of all rows ``(N, E) float32``; None where there are none.
        negative_rows: The row of each hard negative ``(N,) int64``.
        queries: The query of each row: equal numbers are one query ``(B,) int64``.
        texts: The text of each passage, then of each hard negative: equal numbers are one text ``(B + N,) int64``.
    """

    query: Tensor
    passage: Tensor
    labels: Tensor
    negatives: Tensor | None = None
    negative_rows: Tensor | None = None
    queries: Tensor | None = None
    texts: Tensor | None = None
