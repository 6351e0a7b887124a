"""Metrics of replaced token detection, from four exact counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from transformers_framework.constants import Direction


def detection_metrics(true_positives: int, predicted: int, actual: int, labelled: int) -> dict[str, float]:
    """Compute metrics of the class of replaced tokens from counters.

    Args:
        true_positives: Number of replaced tokens that were detected.
        predicted: Number of tokens that were predicted as replaced.
        actual: Number of replaced tokens.
        labelled: Number of tokens with a label.

    Returns:
        ``accuracy``, ``f1``, ``precision``, ``recall`` and ``replaced_ratio``, the share of replaced tokens. Precision
        is 0 when nothing was found, recall when there was nothing to find; all are nan without labels.

    Examples:
        >>> detection_metrics(true_positives=3, predicted=4, actual=6, labelled=20)
        {'accuracy': 0.8, 'f1': 0.6, 'precision': 0.75, 'recall': 0.5, 'replaced_ratio': 0.3}
    """
    if not labelled:
        return dict.fromkeys(TokenDetection.NAMES, float("nan"))
    return {
        "accuracy": (labelled - predicted - actual + 2 * true_positives) / labelled,
        "f1": 2 * true_positives / max(1, predicted + actual),
        "precision": true_positives / max(1, predicted),
        "recall": true_positives / max(1, actual),
        "replaced_ratio": actual / labelled,
    }


class TokenDetection(Metric):
    """Accuracy, and F1, precision and recall of class 1, over all labels; see :func:`detection_metrics`."""

    NAMES = ("accuracy", "f1", "precision", "recall", "replaced_ratio")

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    directions: ClassVar[Mapping[str, Direction | None]] = {"replaced_ratio": None}
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        # true positives, predicted, actual, labelled
        self.add_state("counts", torch.zeros(4, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return list(self.NAMES)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            preds: Which tokens are predicted to be replaced, any shape, bool.
            target: Which were, of the same shape, int64: 0 or 1; negative ones are ignored.
        """
        labelled, replaced = target >= 0, target == 1
        found = preds & labelled
        new = torch.stack([(found & replaced).sum(), found.sum(), replaced.sum(), labelled.sum()])
        # a new tensor, since one made under inference mode cannot be changed outside of it
        self.counts = self.counts + new

    def compute(self) -> dict[str, float]:
        """Return the metrics of all tokens that were counted."""
        return detection_metrics(*self.counts.tolist())
