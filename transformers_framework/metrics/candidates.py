"""Ranking metrics and a loss over all candidates of each query, independent of batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from transformers_framework.constants import IGNORE_INDEX, RELEVANT
from transformers_framework.metrics.ranking import CandidateLoss, EmptyTargetAction, RankingMetrics, kept


class CandidateMetrics(RankingMetrics):
    """Ranking metrics within the candidates of each query, and a loss over them.

    Args:
        loss: Loss function of the compared values, labels and queries of all rows; None if each row has its own loss.
        empty_target_action: How ranking metrics treat a query without a positive.
        precision_at: Cut-offs k of ``precision@k``.
        hitrate_at: Cut-offs k of ``hitrate@k``.
        ndcg_at: Cut-offs k of ``ndcg@k``.
    """

    values: list[Tensor]
    labels: list[Tensor]

    def __init__(
        self,
        loss: CandidateLoss | None,
        *,
        empty_target_action: EmptyTargetAction = "skip",
        precision_at: Sequence[int] = (1, 5),
        hitrate_at: Sequence[int] = (5, 100),
        ndcg_at: Sequence[int] = (),
    ) -> None:
        super().__init__(
            loss,
            empty_target_action=empty_target_action,
            precision_at=precision_at,
            hitrate_at=hitrate_at,
            ndcg_at=ndcg_at,
        )
        for name in ("values", "labels"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self, preds: Tensor, labels: Tensor, indexes: Tensor, row_ids: Tensor, values: Tensor | None = None
    ) -> None:
        """Keep a batch.

        Args:
            preds: Scores, (N,) floats.
            labels: At least 0.5 for a positive, less for a negative, -100 ignored, (N,) floats.
            indexes: Query of each row, (N,) int64.
            row_ids: Position of each row in the data set, (N,) int64.
            values: Values that the loss compares, (N,) floats.
        """
        target = (labels >= RELEVANT).long().masked_fill((labels == IGNORE_INDEX) | (row_ids < 0), IGNORE_INDEX)
        super().update(preds, target, indexes, row_ids)
        if values is not None:
            self.values.append(values.detach().float())
            self.labels.append(labels.float())

    def _loss_inputs(self) -> tuple[NDArray, NDArray, NDArray]:
        rows = (kept(self.row_ids) >= 0) & (kept(self.labels) != IGNORE_INDEX)
        values, labels, queries = (kept(state)[rows] for state in (self.values, self.labels, self.indexes))
        return values.astype(np.float64), labels.astype(np.float64), queries
