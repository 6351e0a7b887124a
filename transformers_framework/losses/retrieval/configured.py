"""A retrieval loss with its settings, in training and in evaluation, which must not depend on batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, NEGATIVE_ROWS
from transformers_framework.import_paths import resolve
from transformers_framework.losses.retrieval.batch import Embedded, LossBatch
from transformers_framework.losses.retrieval.table import (
    RETRIEVAL_LOSSES,
    DistanceFunction,
    RetrievalLoss,
    ScoresFunction,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class LossSettings:
    """Settings of a loss from the flags of a run.

    Args:
        scores_fn: Similarity function.
        distance_fn: Distance function.
        margin: Margin of contrastive and triplet losses; None for the soft margin.
        scale: Factor of the scores before the softmax.
        all_gather: Whether the texts of all ranks are one batch.
    """

    scores_fn: ScoresFunction = "cosine_similarity"
    distance_fn: DistanceFunction = "cosine"
    margin: float | None = None
    scale: float = 1.0
    all_gather: bool = False


@dataclass(frozen=True)
class ConfiguredLoss:
    """A loss of the table with the settings of a run.

    Args:
        name: Its name.
        settings: Its settings.
    """

    name: str
    settings: LossSettings

    @classmethod
    def of(
        cls,
        name: str,
        *,
        scores_fn: ScoresFunction = "cosine_similarity",
        distance_fn: DistanceFunction | None = None,
        margin: float | None = None,
        scale: float | None = None,
        all_gather: bool = False,
    ) -> ConfiguredLoss:
        """Create a loss with settings; defaults come from its row of the table.

        Examples:
            >>> ConfiguredLoss.of("triplet_loss", distance_fn="euclidean").settings.margin
            5.0
        """
        row = RETRIEVAL_LOSSES[name]
        distance_fn = distance_fn or ("cosine" if scores_fn == "cosine_similarity" else "euclidean")
        return cls(
            name,
            LossSettings(
                scores_fn=scores_fn,
                distance_fn=distance_fn,
                margin=None if row.margin is None else margin or row.margin[distance_fn],
                scale=1.0 if row.scale is None else scale or row.scale[scores_fn],
                all_gather=all_gather,
            ),
        )

    @property
    def row(self) -> RetrievalLoss:
        """Its row of the table."""
        return RETRIEVAL_LOSSES[self.name]

    def count(self, labels: np.ndarray, *, trains: bool = True) -> float:
        """Return the loss denominator of B rows: positives, labelled rows or, in training, batches."""
        if trains and self.row.mean_over == "batches":
            return float(self.settings.all_gather or (labels != IGNORE_INDEX).any())
        counted = labels == 1 if self.row.mean_over == "positives" else labels != IGNORE_INDEX
        return float(np.count_nonzero(counted))

    def of_batch(self, texts: Embedded, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the losses of a batch of training, a scalar in float32.

        Losses that are defined as a mean over triplets count that mean once for each row.

        Args:
            texts: Embeddings, float32.
            batch: ``labels (B,) float32``, -100 for ignored rows; ``queries (B,) int64``; ``passages (B + N,) int64``,
                equal where texts are; ``negative_rows (N,) int64``, the row of each hard negative.
        """
        assert texts.passage is not None
        known = LossBatch(
            texts.query,
            texts.passage,
            batch["labels"],
            texts.negatives,
            batch.get(NEGATIVE_ROWS),
            batch.get("queries"),
            batch.get("passages"),
        )
        found: Tensor = self._function(known, self.settings)
        return found

    def of_rows(self, query: Tensor, passage: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the losses of rows in evaluation; 0 if the loss is computed over the candidates of queries.

        Args:
            query: Embeddings ``(B, E) float32``.
            passage: Embeddings ``(B, E) float32``.
            labels: ``(B,) float32``, -100 for ignored rows.
        """
        if self.row.candidate_function is not None:
            return query.new_zeros(())
        found: Tensor = self._row_function(LossBatch(query, passage, labels), self.settings)
        return found

    @cached_property
    def _function(self) -> Callable[[LossBatch, LossSettings], Tensor]:
        function: Callable[[LossBatch, LossSettings], Tensor] = resolve(self.row.function)
        return function

    @cached_property
    def _row_function(self) -> Callable[[LossBatch, LossSettings], Tensor]:
        function: Callable[[LossBatch, LossSettings], Tensor] = resolve(self.row.row_function or self.row.function)
        return function

    @cached_property
    def of_candidates(self) -> Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], float | None] | None:
        """The loss of evaluation over the candidates of whole queries, of :meth:`compared`, labels and queries."""
        path = self.row.candidate_function
        return None if path is None else partial(resolve(path), settings=self.settings)

    def compared(self, query: Tensor, passage: Tensor) -> Tensor:
        """Return the values that the loss over candidates compares: scaled scores or negative distances ``(B,)``."""
        from transformers_framework.losses.retrieval.similarity import distances, scores

        if self.row.uses_distances:
            return -distances(query, passage, self.settings.distance_fn)
        return scores(query, passage, self.settings.scores_fn) * self.settings.scale
