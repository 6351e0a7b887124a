"""Which loss of embeddings is learned from the rows of a batch, and what it is on the candidates of whole queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, WRONG_ROWS

if TYPE_CHECKING:
    from torch import Tensor

    from transformers_framework.losses.contrastive import DistanceFunction, ScoresFunction
    from transformers_framework.metrics.candidates import ListLoss

LossName = Literal[
    "multiple_negatives_ranking_loss",
    "multiple_negatives_symmetric_ranking_loss",
    "contrastive_loss",
    "online_contrastive_loss",
    "cosine_similarity_loss",
    "margin_mse_loss",
    "triplet_loss",
    "batch_all_triplet_loss",
    "batch_hard_triplet_loss",
    "batch_hard_soft_margin_triplet_loss",
    "batch_semi_hard_triplet_loss",
]
BINARY, SCORE, MARGIN = "1 (right) or 0 (wrong)", "a number, the similarity", "a number, the margin"


@dataclass(frozen=True)
class LossTraits:
    """What a loss wants of the rows that it learns from.

    Args:
        label: What a label says.
        needs_label: Whether rows must have one; else they may, and without any all are right.
        negatives: Whether rows have wrong passages of their own.
        in_batch: Whether texts are compared with those of other rows.
        averages_right: Whether it is a mean over right rows, and not over all that have a label.
        is_sum: Whether it is a sum over the pairs of a batch, and not a mean over rows.
        flags: Flags that it heeds.
    """

    label: str = BINARY
    needs_label: bool = False
    negatives: Literal["needed", "allowed", "refused"] = "allowed"
    in_batch: bool = True
    averages_right: bool = False
    is_sum: bool = False
    flags: tuple[str, ...] = ()


_RANKING = LossTraits(averages_right=True, flags=("scale",))
_PAIRS = LossTraits(needs_label=True, negatives="refused", in_batch=False, flags=("margin", "distance_fn"))
_TRIPLETS = LossTraits(flags=("margin", "distance_fn"))
LOSSES: dict[str, LossTraits] = {
    "multiple_negatives_ranking_loss": _RANKING,
    "multiple_negatives_symmetric_ranking_loss": _RANKING,
    "contrastive_loss": _PAIRS,
    "online_contrastive_loss": replace(_PAIRS, is_sum=True),
    "cosine_similarity_loss": LossTraits(SCORE, needs_label=True, negatives="refused", in_batch=False),
    "margin_mse_loss": LossTraits(MARGIN, needs_label=True, negatives="needed", in_batch=False),
    "triplet_loss": LossTraits(
        negatives="needed", in_batch=False, averages_right=True, flags=("margin", "distance_fn")
    ),
    "batch_all_triplet_loss": _TRIPLETS,
    "batch_hard_triplet_loss": _TRIPLETS,
    "batch_hard_soft_margin_triplet_loss": LossTraits(flags=("distance_fn",)),
    "batch_semi_hard_triplet_loss": _TRIPLETS,
}


class Embedded(NamedTuple):
    """The texts of a batch as vectors.

    Args:
        query: ``(B, E)``.
        passage: ``(B, E)``; none where rows have none.
        negatives: Wrong passages of all rows ``(N, E)``; none where rows have none.
    """

    query: Tensor
    passage: Tensor | None = None
    negatives: Tensor | None = None


@dataclass(frozen=True)
class RetrievalLoss:
    """A loss with all that decides on its value.

    Args:
        name: Which one.
        scores_fn: How similar two embeddings are.
        distance_fn: How far apart they are.
        margin: Of contrastive and triplet losses.
        scale: What scores are multiplied by before they are compared by a softmax.
        gathers: Whether the texts of all processes are one batch.
    """

    name: str
    scores_fn: ScoresFunction = "cosine_similarity"
    distance_fn: DistanceFunction = "cosine"
    margin: float = 0.5
    scale: float = 20.0
    gathers: bool = False

    @property
    def traits(self) -> LossTraits:
        """What it wants of rows."""
        return LOSSES[self.name]

    def count(self, labels: np.ndarray, *, trains: bool = True) -> float:
        """Return what the sum of the losses of B rows is divided by; of a loss that is a sum itself, batches."""
        if trains and self.traits.is_sum:
            return float(self.gathers or (labels != IGNORE_INDEX).any())
        return float(np.count_nonzero(labels == 1 if self.traits.averages_right else labels != IGNORE_INDEX))

    # ---------------------------------------------------------------- training

    def of_batch(self, texts: Embedded, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the losses of a batch, a scalar in float32.

        Losses that are defined as a mean over triplets count that mean once for each row.

        Args:
            texts: Embeddings, float32.
            batch: ``labels (B,) float32``, -100 for rows that weigh nothing; ``queries (B,) int64``; ``passages
                (B + N,) int64``, equal where texts are; ``wrong_rows (N,) int64``, the row of each wrong passage.
        """
        import torch

        from transformers_framework.losses import contrastive as losses
        from transformers_framework.losses.classification import squared_error

        labels, query, passage = batch["labels"], texts.query, texts.passage
        assert passage is not None
        if self.name == "contrastive_loss":
            return losses.contrastive_loss(self._distances(query, passage), labels, margin=self.margin)
        if self.name == "online_contrastive_loss":
            return self._online(self._distances(query, passage), labels)
        if not self.traits.in_batch:
            known = labels.masked_fill(labels == IGNORE_INDEX, torch.nan)
            found = losses.scores(query, passage, self.scores_fn)
            if self.name == "cosine_similarity_loss":
                return squared_error(found, known)
            assert texts.negatives is not None
            if self.name == "margin_mse_loss":
                return squared_error(found - losses.scores(query, texts.negatives, self.scores_fn), known)
            rows = batch[WRONG_ROWS]
            near, far = self._distances(query, passage)[rows], self._distances(query[rows], texts.negatives)  # (N,)
            shares = 1 / torch.bincount(rows, minlength=len(query))[rows]  # a mean for each row
            triplets = losses.triplet_loss(near, far, margin=self.margin)
            return torch.where(labels[rows] == 1, shares * triplets, 0).sum()
        return self._ranking(texts, batch) if self.name.startswith("multiple") else self._triplets(texts, batch)

    def _distances(self, first: Tensor, second: Tensor) -> Tensor:
        from transformers_framework.losses.contrastive import distances

        return distances(first, second, self.distance_fn)

    def _online(self, found: Tensor, labels: Tensor) -> Tensor:
        from transformers_framework.losses.contrastive import online_contrastive_loss

        return online_contrastive_loss(self._all(found), self._all(labels), margin=self.margin)

    def _all(self, rows: Tensor) -> Tensor:
        from transformers_framework.losses.gathering import gathered

        return gathered(rows) if self.gathers else rows

    def _passages(self, texts: Embedded, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what there is to know of all C passages, the wrong ones of rows last.

        Returns:
            Embeddings, numbers of their texts, for which rows of all processes each is right ``(rows, C) bool``, and
            whether it takes part ``(C,) bool``.
        """
        import torch
        from torch.nn.functional import pad

        from transformers_framework.losses.gathering import gathered_ragged

        assert texts.passage is not None
        size = len(texts.query)
        labels, queries = self._all(batch["labels"]), self._all(batch["queries"])
        found: Iterable[Tensor] = (self._all(texts.passage), self._all(batch["passages"][:size]), labels)
        if texts.negatives is not None:
            wrong = (texts.negatives, batch["passages"][size:], batch["labels"][batch[WRONG_ROWS]])
            found = map(torch.cat, zip(found, gathered_ragged(*wrong) if self.gathers else wrong, strict=True))
        embeddings, numbers, of_row = found
        behind = (0, len(numbers) - len(labels))  # wrong passages are right for nobody
        right = (queries[:, None] == pad(queries, behind)) & pad(labels == 1, behind)  # (all rows, C)
        return embeddings, numbers, right, of_row != IGNORE_INDEX

    def _ranking(self, texts: Embedded, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the cross-entropies of passages, and of queries too where the loss is symmetric."""
        import torch

        from transformers_framework.losses import contrastive as losses
        from transformers_framework.losses.gathering import first_row

        passages, numbers, right, counts = self._passages(texts, batch)
        size, labels = len(texts.query), batch["labels"]
        start = first_row() * size if self.gathers else 0
        mine = slice(start, start + size)
        wrong = losses.negatives(right, numbers[:, None] == numbers)  # (all rows, C)
        places = torch.arange(start, start + size, device=labels.device)
        targets = places.masked_fill(labels != 1, IGNORE_INDEX)  # (B,)
        found = self.scale * losses.score_matrix(texts.query, passages, self.scores_fn)  # (B, C)
        loss = losses.multiple_negatives_ranking_loss(found, targets, wrong[mine] & counts)
        if self.name == "multiple_negatives_ranking_loss":
            return loss
        assert texts.passage is not None
        queries = self._all(texts.query)
        found = self.scale * losses.score_matrix(texts.passage, queries, self.scores_fn)  # (B, all rows)
        others = wrong[:, mine].T & counts[: len(queries)]
        return (loss + losses.multiple_negatives_ranking_loss(found, targets, others)) / 2

    def _triplets(self, texts: Embedded, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of triplets of a batch: a query and its right passages belong together."""
        import torch

        from transformers_framework.losses import contrastive as losses
        from transformers_framework.losses.gathering import num_processes

        passages, numbers, right, counts = self._passages(texts, batch)
        queries, ids = self._all(texts.query), self._all(batch["queries"])
        size = len(queries)
        counted = torch.cat([counts[:size], counts])  # (N,), queries first
        same = ids[:, None] == ids
        # of two passages: both are right for one query
        both = (right.T.float() @ right.float() > 0) | torch.eye(len(passages), dtype=torch.bool, device=right.device)
        together = torch.cat([torch.cat([same, right], dim=1), torch.cat([right.T, both], dim=1)])  # (N, N)
        identical = torch.block_diag(same.float(), (numbers[:, None] == numbers).float()) > 0
        among = counted[:, None] & counted
        positive, negative = together & ~identical & among, losses.negatives(together, identical) & among
        found = losses.distance_matrix(torch.cat([queries, passages]), self.distance_fn)
        compute = getattr(losses, self.name.replace("_soft_margin", ""))
        mean = compute(found, positive, negative, margin=None if "soft_margin" in self.name else self.margin)
        share = num_processes() if self.gathers else 1  # every process computes the same
        return mean * counts[:size].sum() / share

    # ---------------------------------------------------------------- evaluation

    @property
    def of_lists(self) -> ListLoss | None:
        """The loss on the candidates of whole queries, where rows have none of their own; see metrics/candidates.py."""
        from transformers_framework.metrics import candidates

        if self.name == "margin_mse_loss":
            return candidates.margin_list_loss
        if "triplet" in self.name:
            soft = "soft_margin" in self.name
            return partial(candidates.triplet_list_loss, margin=None if soft else self.margin)
        return candidates.ranking_list_loss if self.name.startswith("multiple") else None

    def compared(self, query: Tensor, passage: Tensor) -> Tensor:
        """Return what the loss of lists compares: scores, scaled, or negative distances ``(B,)``."""
        from transformers_framework.losses.contrastive import scores

        if "triplet" in self.name:
            return -self._distances(query, passage)
        return scores(query, passage, self.scores_fn) * (self.scale if self.name.startswith("multiple") else 1)

    def of_rows(self, query: Tensor, passage: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the losses of rows of evaluation, one by one; 0 for a loss of lists."""
        from transformers_framework.losses.contrastive import contrastive_loss

        if self.of_lists is not None:
            return query.new_zeros(())
        if self.name == "cosine_similarity_loss":
            return self.of_batch(Embedded(query, passage), {"labels": labels})
        whole = 2 if self.name == "online_contrastive_loss" else 1  # it has no factor of one half
        return whole * contrastive_loss(self._distances(query, passage), labels, margin=self.margin)
