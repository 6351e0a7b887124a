"""Losses of lists of candidates: scores and labels ``(B, K)`` to a sum in float32.

Neither the order of a list nor its padding, labelled -100, changes a loss. sentence-transformers has equal losses of
cross-encoders: RankNetLoss, LambdaLoss, ListNetLoss, and MultipleNegativesRankingLoss without activation and scale.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from transformers_framework.constants import IGNORE_INDEX, RELEVANT
from transformers_framework.losses.distillation import LOW

if TYPE_CHECKING:
    from transformers_framework.losses.ranking.table import RankingLoss

SHARE_OF_NDCG2 = 10.0  # μ of NDCG-Loss2++ in the paper's experiments
MAX_PAIRS = 2**22  # of candidates that are compared at once in evaluation, 16 MB per tensor


def ranknet(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of -log₂ P(positive above negative) over all pairs of a list, P the sigmoid of the difference.

    (Burges et al. 2005, "Learning to Rank using Gradient Descent".)
    """
    return torch.where(_pairs(labels), _pair_losses(scores), 0).sum()


def lambda_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the losses of RankNet, each weighted by the change of nDCG: NDCG-Loss2++.

    (Wang et al. 2018, "The LambdaLoss Framework for Ranking Metric Optimization", equations 17 to 19.) Equal scores are
    ranked with negatives first.
    """
    with torch.no_grad():
        rank = _ranks(scores, labels)  # (B, K), from 1
        gain = (labels > 0).float()
        ideal = (1 / torch.log2(1 + torch.arange(1, labels.shape[1] + 1, device=labels.device))).cumsum(0)
        best = ideal[(gain.sum(dim=1).long() - 1).clamp(min=0)]  # (B,)
        apart = (rank[:, :, None] - rank[:, None, :]).abs().clamp(min=1)
        discount = 1 / torch.log2(1 + rank)
        of_distance = 1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)
        of_ranks = (discount[:, :, None] - discount[:, None, :]).abs()
        weights = (SHARE_OF_NDCG2 * of_distance + of_ranks) / best[:, None, None]  # gains of a pair differ by 1
    return torch.where(_pairs(labels), weights * _pair_losses(scores), 0).sum()


def listnet(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the cross-entropies of the softmax of the labels and that of the scores, one per list.

    (Cao et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach", with the top-one probability.)
    """
    known = labels >= 0
    target = labels.float().masked_fill(~known, LOW).softmax(dim=1)
    losses = -(target * _masked(scores, known).log_softmax(dim=1)).masked_fill(~known, 0).sum(dim=1)
    return losses.sum()


def softmax(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the cross-entropies of the positives, each among itself and the negatives of its list.

    (Gao, Dai, Callan 2021, "Rethink Training of BERT Rerankers in Multi-Stage Retrieval Pipeline", equation 6.)
    """
    negative = labels == 0
    others = _masked(scores, negative).logsumexp(dim=1, keepdim=True)  # (B, 1)
    counted = (labels > 0) & negative.any(dim=1, keepdim=True)
    return torch.where(counted, softplus(others - _masked(scores, counted)), 0).sum()


def mean_over_queries(
    loss: RankingLoss, values: NDArray[Any], labels: NDArray[Any], queries: NDArray[Any]
) -> float | None:
    """Return the mean loss over the candidates of whole queries, whatever the batches were; None without any loss.

    Args:
        loss: The loss.
        values: Scores of all rows ``(N,)``.
        labels: At least 0.5 for a positive, less for a negative, -100 where there is none ``(N,)``.
        queries: Query of each row ``(N,) int64``, in any order.

    Examples:
        >>> from transformers_framework.losses.ranking.table import RANKING_LOSSES
        >>> columns = np.array([2.0, 1.0, 1.0, 0.0]), np.array([0, 1, 0, 1]), np.array([3, 3, 4, 3])
        >>> round(mean_over_queries(RANKING_LOSSES["softmax"], *columns), 4)  # ln(1 + e) and ln(1 + e²)
        1.7201
    """
    _, query, sizes = np.unique(queries, return_inverse=True, return_counts=True)
    place = np.argsort(np.argsort(-sizes, kind="stable"))[query]  # queries of similar sizes share a block
    sizes = -np.sort(-sizes)
    order = np.argsort(place, kind="stable")
    flat, target = values[order], np.where(labels == IGNORE_INDEX, IGNORE_INDEX, labels >= RELEVANT)[order]
    total, count, start, first = 0.0, 0, 0, 0
    while start < len(sizes):
        width = int(sizes[start])
        block = sizes[start : start + max(1, MAX_PAIRS // width**2)]
        inside = np.arange(width) < block[:, None]
        scores, own = np.zeros(inside.shape, np.float32), np.full(inside.shape, IGNORE_INDEX)
        end = first + int(block.sum())
        scores[inside], own[inside] = flat[first:end], target[first:end]
        total += float(loss.of_lists(torch.from_numpy(scores), torch.from_numpy(own)))
        count += int(loss.items_of_lists(own).sum())
        start, first = start + len(block), end
    return total / count if count else None


def _masked(scores: Tensor, known: Tensor) -> Tensor:
    return scores.masked_fill(~known, LOW)


def _pairs(labels: Tensor) -> Tensor:
    """Return which places of a list are a positive and a negative ``(B, K, K) bool``."""
    return (labels > 0)[:, :, None] & (labels == 0)[:, None, :]


def _pair_losses(scores: Tensor) -> Tensor:
    """Return -log₂ of the probability that one candidate is above another ``(B, K, K)``."""
    return softplus(scores[:, None, :] - scores[:, :, None]) / math.log(2)


def _ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the rank of each candidate, from 1; equal ones with lower labels first ``(B, K) float32``."""
    scores = _masked(scores, labels >= 0)
    order = torch.argsort(labels, dim=1, stable=True)  # padding is -100, and last by its score
    by_score = torch.argsort(scores.gather(1, order), dim=1, descending=True, stable=True)
    order = order.gather(1, by_score)
    places = torch.arange(1, labels.shape[1] + 1, device=labels.device, dtype=torch.float32)
    return torch.empty_like(scores).scatter_(1, order, places.expand_as(scores))
