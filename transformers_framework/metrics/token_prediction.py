"""Accuracy and perplexity of token prediction, from results of the loss computation, and the perplexity of unigrams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from transformers_framework.constants import IGNORE_INDEX, UNIGRAM_PERPLEXITY, Direction
from transformers_framework.metrics.mean_loss import MeanLoss


def unigram_perplexity(counts: NDArray[np.int64]) -> float:
    """Return the perplexity of labels that are predicted by token frequencies alone, without any context.

    Each label is predicted from the frequencies of all others (leave-one-out), smoothed by those of a uniform
    distribution with the number of different tokens as its weight (Witten and Bell 1991, "The Zero-Frequency Problem",
    method C). Without leaving it out, few labels would seem easy to predict.

    Args:
        counts: How often each token of the vocabulary is a label ``(V,) int64``.

    Returns:
        The perplexity, at most about that of a uniform distribution; nan without labels.

    Examples:
        >>> round(unigram_perplexity(np.full(50, 10_000)), 2)  # uniform frequencies
        50.0
        >>> round(unigram_perplexity(np.array([1, 0, 0, 0])), 2)  # nothing is known of a single label
        4.0
    """
    found = counts[counts > 0].astype(np.float64)
    num_labels, num_types = found.sum(), len(found)
    if not num_labels:
        return math.nan
    others = (found - 1 + num_types / len(counts)) / (num_labels - 1 + num_types)
    return math.exp(-float(found @ np.log(others)) / num_labels)


class TokenPrediction(Metric):
    """Accuracy and perplexity over all labels of a data set.

    Args:
        vocab_size: Size of the vocabulary, to compute the perplexity of token frequencies too, see
            :func:`unigram_perplexity`; None to leave it out.
    """

    full_state_update = False
    is_differentiable = False
    directions: ClassVar[Mapping[str, Direction | None]] = {"perplexity": "min", UNIGRAM_PERPLEXITY: None}
    counts: Tensor
    frequencies: Tensor

    def __init__(self, vocab_size: int | None = None) -> None:
        super().__init__()
        self.has_frequencies = vocab_size is not None
        self.mean_loss = MeanLoss()
        self.add_state("counts", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")  # correct, labelled
        if vocab_size is not None:
            self.add_state("frequencies", torch.zeros(vocab_size, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`compute` returns."""
        return ["accuracy", "perplexity", *([UNIGRAM_PERPLEXITY] if self.has_frequencies else [])]

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
        if self.has_frequencies:
            self.frequencies = self.frequencies.scatter_add(0, labels.clamp(min=0), labelled.long())

    def compute(self) -> dict[str, float]:
        """Return the metrics of all labels that were counted: nan when there was none."""
        correct, labelled = self.counts.tolist()
        mean = self.mean_loss.compute()
        loss = math.nan if mean is None else mean
        found = {
            "accuracy": correct / labelled if labelled else float("nan"),
            "perplexity": math.exp(loss) if loss < 709 else loss * math.inf,  # exp(710) is above all floats
        }
        if self.has_frequencies:
            found[UNIGRAM_PERPLEXITY] = unigram_perplexity(self.frequencies.cpu().numpy())
        return found

    def reset(self) -> None:
        """Reset counters and mean loss."""
        super().reset()
        self.mean_loss.reset()
