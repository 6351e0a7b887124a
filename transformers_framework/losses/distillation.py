"""Losses of knowledge distillation: a model learns the probabilities, or the scores, of a teacher.

(Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", section 2.) They are multiplied by the
square of the temperature, so that gradients do not shrink with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LOW = -1e9  # score of padding: its probability is 0, and its gradient no nan


def divergence(scores: Tensor, teacher: Tensor, temperature: float, known: Tensor | None = None) -> Tensor:
    """Return the KL divergence of the softmax of a teacher's scores from that of the scores, of each row ``(B,)``.

    Args:
        scores: Scores, or logits ``(B, K) float32``.
        teacher: Scores, or log-probabilities, of the teacher ``(B, K) float32``.
        temperature: By what both are divided.
        known: Which places hold a score ``(B, K) bool``; by default all.
    """
    if known is not None:
        scores, teacher = scores.masked_fill(~known, LOW), teacher.masked_fill(~known, LOW)
    target, found = (teacher / temperature).log_softmax(dim=1), (scores / temperature).log_softmax(dim=1)
    return (target.exp() * (target - found)).sum(dim=1) * temperature**2


def divergence_of_yes_and_no(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the KL divergence of the sigmoid of a teacher's logits from that of the logits, of each ``(B, C)``.

    Args:
        logits: ``(B, C) float32``.
        teacher: ``(B, C) float32``.
        temperature: By what both are divided.
    """
    from torch.nn.functional import logsigmoid

    own, target = logits / temperature, teacher / temperature
    yes = target.sigmoid() * (logsigmoid(target) - logsigmoid(own))
    no = (-target).sigmoid() * (logsigmoid(-target) - logsigmoid(-own))
    return (yes + no) * temperature**2
