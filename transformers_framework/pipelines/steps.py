"""Results of steps, and the view that an objective gets of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from torch import Tensor


class StageStep(NamedTuple):
    """Results of the evaluation of a batch, by objective.

    Args:
        losses: Sums of the losses, scalars.
        outputs: Outputs of the heads.
        for_predictions: Intermediate results that predictions need.
    """

    losses: dict[str, Tensor]
    outputs: dict[str, Any]
    for_predictions: dict[str, Mapping[str, Any]]


class StepOutput(TypedDict, total=False):
    """Outputs of a batch for callbacks: predictions by objective, and embeddings of queries for a search."""

    predictions: dict[str, dict[str, Tensor]]
    embeddings: Tensor


def own_view(batch: Mapping[str, Any], objective: str) -> dict[str, Tensor]:
    """Return the entries of a batch that an objective gets: shared entries and its own."""
    own: dict[str, Tensor] = batch[objective]
    return {key: value for key, value in batch.items() if not isinstance(value, dict)} | own
