"""Losses of embeddings: pairs, triplets and in-batch negatives, each a sum in float32 unless it says otherwise.

sentence-transformers has them under the same names; on the same embeddings they are equal to its own.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from transformers_framework.constants import IGNORE_INDEX

ScoresFunction = Literal["cosine_similarity", "dot_product_similarity"]
DistanceFunction = Literal["cosine", "euclidean", "manhattan"]

NOTHING = 1e-16  # a triplet whose loss is not more than this is learned already


def scores(first: Tensor, second: Tensor, scores_fn: ScoresFunction) -> Tensor:
    """Return how similar embeddings are, pair by pair: ``(…, E)`` and ``(…, E)`` to ``(…)``."""
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


# --- pairs -----------------------------------------------------------------------------------------------------------


def contrastive_loss(found: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """Return the sum of the contrastive losses of pairs: right ones are drawn together, wrong ones pushed apart.

    (Hadsell, Chopra, LeCun 2006, "Dimensionality Reduction by Learning an Invariant Mapping", equation 4.)

    Args:
        found: Distances ``(B,)``.
        labels: 1 right, 0 wrong, -100 ignored ``(B,)``.
        margin: Wrong pairs at this distance or farther apart have no loss.
    """
    together, apart = found.square(), (margin - found).relu().square()
    return 0.5 * (torch.where(labels == 1, together, 0) + torch.where(labels == 0, apart, 0)).sum()


def online_contrastive_loss(found: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """Return the sum of the contrastive losses of the hard pairs of a batch, without the factor of one half.

    Hard are wrong pairs that are closer than the farthest right one, and right pairs that are farther than the closest
    wrong one. Where there is only one pair of the other kind, or none, the mean of one's own kind takes its place.

    Args:
        found: Distances ``(B,)``.
        labels: 1 right, 0 wrong, -100 ignored ``(B,)``.
        margin: Wrong pairs at this distance or farther apart have no loss.
    """
    right, wrong = labels == 1, labels == 0
    num_right, num_wrong = right.sum(), wrong.sum()
    farthest = torch.where(right, found, -torch.inf).max()
    closest = torch.where(wrong, found, torch.inf).min()
    mean_right = torch.where(right, found, 0).sum() / num_right.clamp(min=1)
    mean_wrong = torch.where(wrong, found, 0).sum() / num_wrong.clamp(min=1)
    hard_wrong = wrong & (found < torch.where(num_right > 1, farthest, mean_wrong))
    hard_right = right & (found > torch.where(num_wrong > 1, closest, mean_right))
    apart = (margin - found).relu().square()
    return (torch.where(hard_right, found.square(), 0) + torch.where(hard_wrong, apart, 0)).sum()


def triplet_loss(near: Tensor, far: Tensor, *, margin: float) -> Tensor:
    """Return the triplet loss of each triplet: the wrong text shall be farther away than the right one, by a margin.

    (Schroff, Kalenichenko, Philbin 2015, "FaceNet", section 3.1, with distances that are not squared.)

    Args:
        near: Distances of right texts, any shape.
        far: Distances of wrong texts, a shape that broadcasts with it.
        margin: By how much they shall differ.
    """
    return (near - far + margin).relu()


# --- in-batch negatives ----------------------------------------------------------------------------------------------


def negatives(positive: Tensor, identical: Tensor) -> Tensor:
    """Tell which candidates are wrong for which anchors: all that are not right and are no copy of a right one.

    Args:
        positive: Which candidates are right for which anchors ``(B, N) bool``.
        identical: Which candidates are the same text ``(N, N) bool``.

    Returns:
        ``(B, N) bool``.

    Examples:
        >>> positive = torch.tensor([[True, False, False]])
        >>> negatives(positive, torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]]).bool()).tolist()
        [[False, True, False]]
    """
    return positive.float() @ identical.float() == 0


def multiple_negatives_ranking_loss(found: Tensor, targets: Tensor, candidates: Tensor) -> Tensor:
    """Return the sum of the cross-entropies of each anchor's right candidate among all of its candidates.

    (Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply", section 4.4.)

    Args:
        found: Scores, scaled ``(B, N)``.
        targets: The right candidate of each anchor, -100 for one that has none ``(B,) int64``.
        candidates: Which candidates take part, besides the right one ``(B, N) bool``.
    """
    right = targets[:, None] == torch.arange(found.shape[1], device=found.device)
    among = found.masked_fill(~(candidates | right), -torch.inf)
    return functional.cross_entropy(among, targets, ignore_index=IGNORE_INDEX, reduction="sum")


# --- triplets of a batch ---------------------------------------------------------------------------------------------


def batch_all_triplet_loss(found: Tensor, positive: Tensor, negative: Tensor, *, margin: float) -> Tensor:
    """Return the mean of the triplet losses of a batch that are not yet zero.

    (Hermans, Beyer, Leibe 2017, "In Defense of the Triplet Loss for Person Re-Identification", section 2: L_BA≠0.)

    Args:
        found: Distances of all texts ``(N, N)``.
        positive: Which texts belong together, without a text and itself ``(N, N) bool``.
        negative: Which do not ``(N, N) bool``.
        margin: By how much distances shall differ.
    """
    anchors, others = positive.nonzero(as_tuple=True)  # pairs, which are few: all triplets at once would be N³
    losses = triplet_loss(found[anchors, others][:, None], found[anchors], margin=margin)  # (P, N)
    losses = torch.where(negative[anchors], losses, 0)
    return losses.sum() / (losses > NOTHING).sum().clamp(min=1)


def batch_hard_triplet_loss(found: Tensor, positive: Tensor, negative: Tensor, *, margin: float | None) -> Tensor:
    """Return the mean over anchors of the loss of the farthest right and the closest wrong text.

    (Hermans, Beyer, Leibe 2017, equation 5, and for the soft margin log(1 + exp(·)) section 2.)

    Args:
        found: Distances of all texts ``(N, N)``.
        positive: Which texts belong together, without a text and itself ``(N, N) bool``.
        negative: Which do not ``(N, N) bool``.
        margin: By how much distances shall differ; none for the soft margin.
    """
    anchors = positive.any(dim=1) & negative.any(dim=1)
    near = found.masked_fill(~positive, -torch.inf).amax(dim=1)
    far = found.masked_fill(~negative, torch.inf).amin(dim=1)
    near, far = torch.where(anchors, near, 0), torch.where(anchors, far, 0)
    losses = functional.softplus(near - far) if margin is None else triplet_loss(near, far, margin=margin)
    return torch.where(anchors, losses, 0).sum() / anchors.sum().clamp(min=1)


def batch_semi_hard_triplet_loss(found: Tensor, positive: Tensor, negative: Tensor, *, margin: float) -> Tensor:
    """Return the mean over right pairs of the loss with the closest wrong text that is farther away than the right one.

    Where all wrong texts are closer, it is the farthest of them. (Schroff, Kalenichenko, Philbin 2015, "FaceNet",
    section 3.2.)

    Args:
        found: Distances of all texts ``(N, N)``.
        positive: Which texts belong together, without a text and itself ``(N, N) bool``.
        negative: Which do not ``(N, N) bool``.
        margin: By how much distances shall differ.
    """
    anchors, others = (positive & negative.any(dim=1, keepdim=True)).nonzero(as_tuple=True)
    near, far, wrong = found[anchors, others], found[anchors], negative[anchors]  # (P,), (P, N), (P, N)
    behind = far.masked_fill(~(wrong & (far > near[:, None])), torch.inf).amin(dim=1)
    farthest = far.masked_fill(~wrong, -torch.inf).amax(dim=1)
    losses = triplet_loss(near, torch.where(behind.isinf(), farthest, behind), margin=margin)
    return losses.sum() / max(1, len(losses))
