"""Losses that compare the passage of a row with hard negatives of the same row, each a sum in float32.

sentence-transformers has them under the same names; on the same embeddings they are equal to its own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from transformers_framework.constants import IGNORE_INDEX
from transformers_framework.losses.classification import squared_error
from transformers_framework.losses.retrieval.batch import LossBatch
from transformers_framework.losses.retrieval.configured import LossSettings
from transformers_framework.losses.retrieval.similarity import distances, scores


def triplet_losses(near: Tensor, far: Tensor, *, margin: float | None) -> Tensor:
    """Return the loss of each triplet, which is 0 if the negative is farther than the positive by the margin.

    (Schroff, Kalenichenko, Philbin 2015, "FaceNet", section 3.1, with distances that are not squared; the soft margin
    log(1 + exp(·)) is that of Hermans, Beyer, Leibe 2017, "In Defense of the Triplet Loss", section 2.)

    Args:
        near: Distances of positives, any shape.
        far: Distances of negatives, a shape that broadcasts with it.
        margin: Minimum difference of the distances; None for the soft margin.
    """
    return functional.softplus(near - far) if margin is None else (near - far + margin).relu()


def triplet_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return the sum over positives of the mean triplet loss with the hard negatives of their row."""
    assert batch.negatives is not None
    assert batch.negative_rows is not None
    query, rows, distance_fn = batch.query, batch.negative_rows, settings.distance_fn
    near = distances(query, batch.passage, distance_fn)[rows]  # (N,)
    far = distances(query[rows], batch.negatives, distance_fn)
    shares = 1 / torch.bincount(rows, minlength=len(query))[rows]  # a mean for each row
    losses = triplet_losses(near, far, margin=settings.margin)
    return torch.where(batch.labels[rows] == 1, shares * losses, 0).sum()


def margin_mse_loss(batch: LossBatch, settings: LossSettings) -> Tensor:
    """Return the sum of the squared errors of the score differences of passages and negatives.

    (Hofstätter et al. 2020, "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
    Distillation", equation 8.)
    """
    assert batch.negatives is not None
    known = batch.labels.masked_fill(batch.labels == IGNORE_INDEX, torch.nan)
    found = scores(batch.query, batch.passage, settings.scores_fn)  # (B,)
    return squared_error(found - scores(batch.query, batch.negatives, settings.scores_fn), known)
