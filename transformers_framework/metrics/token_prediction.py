"""Accuracy and perplexity of token prediction, from results of the loss computation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from transformers_framework.constants import IGNORE_INDEX, Direction
from transformers_framework.metrics.mean_loss import MeanLoss


class TokenPrediction(Metric):
    """Accuracy and perplexity over all labels of a data set."""

    full_state_update = False
    is_differentiable = False
    directions: ClassVar[Mapping[str, Direction | None]] = {"perplexity": "min"}
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.mean_loss = MeanLoss()
        self.add_state("counts", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")  # correct, labelled

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return ["accuracy", "perplexity"]

    def update(self, losses_sum: Tensor, correct: Tensor, labels: Tensor) -> None:
        """Count a batch.

        Args:
            losses_sum: Sum of the cross-entropies of all labels, a scalar.
            correct: Which labels were predicted, (N,) bool, as the loss returns them.
            labels: Tokens, (N,) int64; -100 is ignored.
        """
        labelled = labels != IGNORE_INDEX
        new = torch.stack([(correct & labelled).sum(), labelled.sum()])
        self.mean_loss.update(losses_sum, new[1])
        # a new tensor, since one made under inference mode cannot be changed outside of it
        self.counts = self.counts + new

    def compute(self) -> dict[str, float]:
        """Return the metrics of all labels that were counted: nan when there was none."""
        correct, labelled = self.counts.tolist()
        mean = self.mean_loss.compute()
        loss = math.nan if mean is None else mean
        return {
            "accuracy": correct / labelled if labelled else float("nan"),
            "perplexity": math.exp(loss) if loss < 709 else loss * math.inf,  # exp(710) is above all floats
        }

    def reset(self) -> None:
        """Reset counters and mean loss."""
        super().reset()
        self.mean_loss.reset()
