"""Losses of labelled pairs of a query and a passage, each a sum in float32.

sentence-transformers has them under the same names; on the same embeddings they are equal to its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from transformers_framework.constants import IGNORE_INDEX
from transformers_framework.losses.all_gather import all_gather
from transformers_framework.losses.classification import squared_error
from transformers_framework.losses.retrieval.batch import LossBatch
from transformers_framework.losses.retrieval.configured import LossSettings
from transformers_framework.losses.retrieval.similarity import distances, scores


def contrastive_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return the sum of the contrastive losses of pairs: positives are pulled together, negatives pushed apart.

    Negatives at the distance of the margin or farther apart have no loss. (Hadsell, Chopra, LeCun 2006,
    "Dimensionality Reduction by Learning an Invariant Mapping", equation 4.)
    """
    assert settings.margin is not None
    found, labels = distances(batch.query, batch.passage, settings.distance_fn), batch.labels  # (B,)
    together, apart = found.square(), (settings.margin - found).relu().square()
    return 0.5 * (torch.where(labels == 1, together, 0) + torch.where(labels == 0, apart, 0)).sum()


def unhalved_contrastive_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return twice :func:`contrastive_loss`, for evaluation of :func:`online_contrastive_loss`."""
    return 2 * contrastive_loss(batch, settings)


def online_contrastive_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return the sum of the contrastive losses of the hard pairs of a batch, without the factor of one half.

    Hard pairs are negatives that are closer than the farthest positive, and positives that are farther than the closest
    negative. With at most one pair of the other label, the threshold is the mean distance of the pairs' own label.
    """
    assert settings.margin is not None
    found, labels = distances(batch.query, batch.passage, settings.distance_fn), batch.labels  # (B,)
    if settings.all_gather:
        found, labels = all_gather(found), all_gather(labels)
    positive, negative = labels == 1, labels == 0
    num_positives, num_negatives = positive.sum(), negative.sum()
    farthest = torch.where(positive, found, -torch.inf).max()
    closest = torch.where(negative, found, torch.inf).min()
    mean_positive = torch.where(positive, found, 0).sum() / num_positives.clamp(min=1)
    mean_negative = torch.where(negative, found, 0).sum() / num_negatives.clamp(min=1)
    hard_negative = negative & (found < torch.where(num_positives > 1, farthest, mean_negative))
    hard_positive = positive & (found > torch.where(num_negatives > 1, closest, mean_positive))
    apart = (settings.margin - found).relu().square()
    return (torch.where(hard_positive, found.square(), 0) + torch.where(hard_negative, apart, 0)).sum()


def cosine_similarity_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return the sum of the squared errors of scores compared with labels, which are similarities."""
    known = batch.labels.masked_fill(batch.labels == IGNORE_INDEX, torch.nan)
    return squared_error(scores(batch.query, batch.passage, settings.scores_fn), known)
