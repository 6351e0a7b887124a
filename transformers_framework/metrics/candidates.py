"""Ranking metrics and a loss over all candidates of each query, independent of batches and ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from transformers_framework.constants import RELEVANT
from transformers_framework.metrics.ranking import EmptyTargetAction, RankingMetrics, kept

CandidateLoss = Callable[[NDArray, NDArray, NDArray], float | None]  # None: there was nothing to compare


class CandidateMetrics(RankingMetrics):
    """Ranking metrics within the candidates of each query, and a loss over them.

    Args:
        loss: Loss function of the compared values, labels and queries of all rows; None if each row has its own loss.
        empty_target_action: How ranking metrics treat a query without a positive.
        precision_at: Cut-offs k of ``precision@k``.
        hitrate_at: Cut-offs k of ``hitrate@k``.
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
    ) -> None:
        super().__init__(
            empty_target_action=empty_target_action,
            precision_at=precision_at,
            hitrate_at=hitrate_at,
        )
        self.loss = loss
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
        super().update(preds, (labels >= RELEVANT).long() - (row_ids < 0).long() * 2, indexes, row_ids)
        if values is not None:
            self.values.append(values.detach().float())
            self.labels.append(labels.float())

    def compute(self) -> dict[str, float | None]:  # type: ignore[override]
        """Return the means over all queries, and the mean ``loss`` if it is computed over candidates."""
        found: dict[str, float | None] = {**super().compute()}
        if self.loss is not None:
            rows = kept(self.row_ids) >= 0
            values, labels, queries = (kept(state)[rows] for state in (self.values, self.labels, self.indexes))
            found["loss"] = self.loss(values.astype(np.float64), labels.astype(np.float64), queries)
        return found
