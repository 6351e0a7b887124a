"""Changes of the scores of joint candidates when their order changes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class PermutationMetrics(Metric):
    """Differences between the scores of candidates in the order of the data and in other orders of the same group."""

    full_state_update = False
    higher_is_better = False
    is_differentiable = False
    names = ("permutation_change", "permutation_change_max", "permutation_flipped")
    total: Tensor
    largest: Tensor
    flipped: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, reduction in (("total", "sum"), ("largest", "max"), ("flipped", "sum"), ("count", "sum")):
            self.add_state(name, torch.zeros(()), dist_reduce_fx=reduction)

    def update(self, preds: Tensor, permuted: Tensor, row_ids: Tensor, permuted_ids: Tensor) -> None:
        """Add B groups, each in P other orders.

        Args:
            preds: Scores of the candidates in the order of the data ``(B, S)``.
            permuted: Scores in other orders, all groups in one order after the other ``(P·B, S)``.
            row_ids: Rows of the candidates, -1 where there is none ``(B, S) int64``; in any order within a group.
            permuted_ids: The same of the other orders ``(P·B, S) int64``.
        """
        by_row, there = row_ids.argsort(dim=1), permuted_ids.argsort(dim=1)
        ids = row_ids.gather(1, by_row)
        moved = permuted.gather(1, there).unflatten(0, (-1, len(preds)))  # (P, B, S)
        still = preds.gather(1, by_row).expand_as(moved)
        real = (ids >= 0).expand_as(moved)
        change = torch.where(real, moved - still, 0).abs()
        self.total += change.sum()
        self.largest = torch.maximum(self.largest, change.max())
        self.flipped += (real & ((moved > 0) != (still > 0))).sum()
        self.count += real.sum()

    def compute(self) -> dict[str, float]:
        """Return the mean and the largest absolute change, and the share of predictions that change."""
        count = float(self.count) or float("nan")
        values = (float(self.total) / count, float(self.largest), float(self.flipped) / count)
        return dict(zip(self.names, values, strict=True))
