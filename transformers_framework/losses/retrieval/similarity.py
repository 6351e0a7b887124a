"""Similarities and distances of embeddings: of pairs, and of all combinations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from transformers_framework.losses.retrieval.table import DistanceFunction, ScoresFunction


def scores(first: Tensor, second: Tensor, scores_fn: ScoresFunction) -> Tensor:
    """Return the similarity of each pair of embeddings: ``(…, E)`` and ``(…, E)`` to ``(…)``."""
    if scores_fn == "cosine_similarity":
        return functional.cosine_similarity(first, second, dim=-1)
    return (first * second).sum(dim=-1)


def score_matrix(first: Tensor, second: Tensor, scores_fn: ScoresFunction) -> Tensor:
    """Return how similar all pairs of embeddings are: ``(B, E)`` and ``(N, E)`` to ``(B, N)``."""
    if scores_fn == "cosine_similarity":
        first, second = functional.normalize(first, dim=-1), functional.normalize(second, dim=-1)
    return first @ second.T


def distances(first: Tensor, second: Tensor, distance_fn: DistanceFunction) -> Tensor:
    """Return how far apart embeddings are, pair by pair: ``(…, E)`` and ``(…, E)`` to ``(…)``."""
    if distance_fn == "cosine":
        return 1 - functional.cosine_similarity(first, second, dim=-1)
    return functional.pairwise_distance(first, second, p=2 if distance_fn == "euclidean" else 1)


def distance_matrix(embeddings: Tensor, distance_fn: DistanceFunction) -> Tensor:
    """Return how far apart all pairs of embeddings are: ``(N, E)`` to ``(N, N)``."""
    if distance_fn == "cosine":
        return 1 - score_matrix(embeddings, embeddings, "cosine_similarity")
    # by differences: products of large vectors would round away small distances
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(embeddings, embeddings, p=2 if distance_fn == "euclidean" else 1, compute_mode=exact)
