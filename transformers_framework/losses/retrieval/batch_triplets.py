"""Triplet losses in a batch, in which a query and its positives are one class.

Each is a mean over triplets, multiplied by the number of rows of the batch. sentence-transformers has losses with the
same names and equal values.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from transformers_framework.losses.all_gather import all_gather, world_size
from transformers_framework.losses.retrieval.batch import LossBatch
from transformers_framework.losses.retrieval.configured import LossSettings
from transformers_framework.losses.retrieval.hard_negatives import triplet_losses
from transformers_framework.losses.retrieval.in_batch import negatives, passages_of
from transformers_framework.losses.retrieval.similarity import distance_matrix

NOTHING = 1e-16  # losses up to this count as zero


class TextPairs(NamedTuple):
    """All pairs of the N texts of a batch, queries first; of all ranks with ``sync_devices``.

    Args:
        distances: ``(N, N) float32``.
        positive: Which pairs are positives, without pairs of equal texts ``(N, N) bool``.
        negative: Which pairs are negatives ``(N, N) bool``.
        weight: Number of labelled rows, divided by the world size if all ranks are one batch, a scalar.
    """

    distances: Tensor
    positive: Tensor
    negative: Tensor
    weight: Tensor


def text_pairs(batch: LossBatch, settings: LossSettings) -> TextPairs:
    """Return all pairs of texts of a batch."""
    assert batch.queries is not None
    passages = passages_of(batch, settings)
    queries, ids = batch.query, batch.queries
    if settings.all_gather:
        queries, ids = all_gather(queries), all_gather(ids)
    size, positive = len(queries), passages.positive
    counted = torch.cat([passages.counts[:size], passages.counts])  # (N,)
    same = ids[:, None] == ids
    # of two passages: both are positives of one query
    itself = torch.eye(len(passages.texts), dtype=torch.bool, device=positive.device)
    both = (positive.T.float() @ positive.float() > 0) | itself
    together = torch.cat([torch.cat([same, positive], dim=1), torch.cat([positive.T, both], dim=1)])  # (N, N)
    identical = torch.block_diag(same.float(), (passages.texts[:, None] == passages.texts).float()) > 0
    among = counted[:, None] & counted
    return TextPairs(
        distance_matrix(torch.cat([queries, passages.embeddings]), settings.distance_fn),
        together & ~identical & among,
        negatives(together, identical) & among,
        passages.counts[:size].sum() / (world_size() if settings.all_gather else 1),  # all ranks compute the same
    )


def batch_all_triplet_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return the mean of the triplet losses of a batch that are not yet zero.

    (Hermans, Beyer, Leibe 2017, "In Defense of the Triplet Loss for Person Re-Identification", section 2: L_BA≠0.)
    """
    pairs = text_pairs(batch, settings)
    anchors, others = pairs.positive.nonzero(as_tuple=True)  # pairs, which are few: all triplets at once would be N³
    near, far = pairs.distances[anchors, others], pairs.distances[anchors]  # (P,), (P, N)
    losses = triplet_losses(near[:, None], far, margin=settings.margin)
    losses = torch.where(pairs.negative[anchors], losses, 0)
    return losses.sum() / (losses > NOTHING).sum().clamp(min=1) * pairs.weight


def batch_hard_triplet_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return the mean over anchors of the loss of the farthest positive and the closest negative.

    (Hermans, Beyer, Leibe 2017, equation 5.)
    """
    pairs = text_pairs(batch, settings)
    anchors = pairs.positive.any(dim=1) & pairs.negative.any(dim=1)
    near = pairs.distances.masked_fill(~pairs.positive, -torch.inf).amax(dim=1)
    far = pairs.distances.masked_fill(~pairs.negative, torch.inf).amin(dim=1)
    near, far = torch.where(anchors, near, 0), torch.where(anchors, far, 0)
    losses = triplet_losses(near, far, margin=settings.margin)
    return torch.where(anchors, losses, 0).sum() / anchors.sum().clamp(min=1) * pairs.weight


def batch_semi_hard_triplet_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return the mean over positives of the loss with the closest negative that is farther away than the positive.

    Where all negatives are closer, it is the farthest of them. (Schroff, Kalenichenko, Philbin 2015, "FaceNet",
    section 3.2.)
    """
    pairs = text_pairs(batch, settings)
    anchors, others = (pairs.positive & pairs.negative.any(dim=1, keepdim=True)).nonzero(as_tuple=True)
    near, far = pairs.distances[anchors, others], pairs.distances[anchors]  # (P,), (P, N)
    negative = pairs.negative[anchors]  # (P, N)
    farther = far.masked_fill(~(negative & (far > near[:, None])), torch.inf).amin(dim=1)
    farthest = far.masked_fill(~negative, -torch.inf).amax(dim=1)
    losses = triplet_losses(near, torch.where(farther.isinf(), farthest, farther), margin=settings.margin)
    return losses.sum() / max(1, len(losses)) * pairs.weight
