"""Losses over classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers_framework.constants import IGNORED_LABEL

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropies and what to divide it by.

    Sum and divisor are apart so that a mean over several batches or processes can be exact.

    Args:
        logits: ``(N, C)``, any float type; the loss is computed in float32.
        labels: ``(N,) int64``; -100 is ignored.
        class_weights: Weight of each class ``(C,) float32``.

    Returns:
        The weighted sum and the sum of the weights of the labels, both scalars in float32. The mean that torch
        computes is their quotient; a batch without any label gives 0 and 0.
    """
    import torch
    from torch.nn import functional

    total = functional.cross_entropy(
        logits.float(), labels, weight=class_weights, ignore_index=IGNORED_LABEL, reduction="sum"
    )
    labelled = labels != IGNORED_LABEL
    if class_weights is None:
        return total, labelled.sum().float()
    return total, torch.where(labelled, class_weights[labels.clamp(min=0)], 0.0).sum()
