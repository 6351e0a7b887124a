"""Outputs of rankers: the scores of candidates, and the labels of lists of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from transformers_framework.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor


def two_class_output(output: Any) -> Any:
    """Return an output with logits of two classes ``(B, 2)``; a single logit is class 1, and class 0 gets a constant 0.

    The probabilities are those of the sigmoid of the single logit.
    """
    from torch.nn.functional import pad

    logits = output.logits
    return output if logits.shape[-1] > 1 else SimpleNamespace(logits=pad(logits, (1, 0)))


def list_labels(batch: Mapping[str, Any]) -> Any:
    """Return the labels of the lists of a batch ``(Q, K) int64``, arrays or tensors; -100 where a list is shorter."""
    labels, places = batch["labels"][batch["places"]], batch["places"]
    return labels + (IGNORE_INDEX - labels) * (places < 0)


def ranking_scores(output: Any) -> Tensor:
    """Return the score of each candidate, the logit of class 1 minus the logit of class 0: ``(B, …) float32``.

    The order is that of the probabilities of class 1, but scores stay different where probabilities round to 1.
    """
    return score_of(output).detach()


def score_of(output: Any) -> Tensor:
    """Return the score of each candidate, with its gradient: ``(B, …) float32``."""
    logits: Tensor = output.logits.float()
    return logits[..., 1] - logits[..., 0]
