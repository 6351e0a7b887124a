"""Losses over classes and numbers; each a sum in float32, so that a mean over batches and processes can be exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers_framework.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Return the sum of the cross-entropies, a scalar in float32: 0 for a batch without any label.

    torch's mean is this over the sum of the weights of the labels, with smoothing too.

    Args:
        logits: ``(N, C)``, any float type; the loss is computed in float32.
        labels: ``(N,) int64``; -100 is ignored.
        class_weights: Weight of each class ``(C,) float32``.
        label_smoothing: Share of each label that is distributed equally over all classes (Szegedy et al. 2016,
            "Rethinking the Inception Architecture for Computer Vision", section 7).
    """
    from torch.nn import functional

    return functional.cross_entropy(
        logits.float(),
        labels,
        weight=class_weights,
        ignore_index=IGNORE_INDEX,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def binary_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Return the sum of the binary cross-entropies of C classes per row, a scalar in float32.

    torch's mean is this over N·C.

    Args:
        logits: ``(N, C)``, any float type; the loss is computed in float32.
        labels: 1 for a class that the row has, else 0 ``(N, C)`` integers; negative ones are ignored.
        class_weights: Weight of each class in the rows that have it ``(C,) float32``; torch calls it ``pos_weight``.
        label_smoothing: Share that is distributed equally over yes and no, as in cross-entropy with 2 classes.
    """
    from torch.nn import functional

    target = labels.clamp(min=0).float() * (1 - label_smoothing) + label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(
        logits.float(), target, weight=(labels >= 0).float(), pos_weight=class_weights, reduction="sum"
    )


def squared_error(preds: Tensor, target: Tensor) -> Tensor:
    """Return the sum of the squared errors, a scalar in float32.

    Args:
        preds: ``(N,)``, any float type; the loss is computed in float32.
        target: ``(N,) float32``; nan is ignored.
    """
    import torch

    return torch.where(target.isnan(), 0, preds.float() - target).square().sum()
