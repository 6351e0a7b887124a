"""What a step takes of a batch, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from torch import Tensor


class StageStep(NamedTuple):
    """What evaluating a batch has given, by objective.

    Args:
        losses: Sums of the losses, scalars.
        outputs: Outputs of the heads.
        for_predictions: What predictions need besides.
    """

    losses: dict[str, Tensor]
    outputs: dict[str, Any]
    for_predictions: dict[str, Mapping[str, Any]]


class StepOutput(TypedDict, total=False):
    """What callbacks are given of a batch: predictions by objective, and embeddings of queries for a search."""

    predictions: dict[str, dict[str, Tensor]]
    embeddings: Tensor


def own_view(batch: Mapping[str, Any], objective: str) -> dict[str, Tensor]:
    """Return what an objective sees of a batch: what is shared, and what is its own."""
    own: dict[str, Tensor] = batch[objective]
    return {key: value for key, value in batch.items() if not isinstance(value, dict)} | own
