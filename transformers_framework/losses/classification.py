"""Losses over classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers_framework.constants import IGNORED_LABEL

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the sum of the cross-entropies, a scalar in float32: 0 for a batch without any label.

    A sum, so that a mean over several batches and processes can be exact; torch's mean is this over the sum of the
    weights of the labels.

    Args:
        logits: ``(N, C)``, any float type; the loss is computed in float32.
        labels: ``(N,) int64``; -100 is ignored.
        class_weights: Weight of each class ``(C,) float32``.
    """
    from torch.nn import functional

    return functional.cross_entropy(
        logits.float(), labels, weight=class_weights, ignore_index=IGNORED_LABEL, reduction="sum"
    )
