"""Cross-entropy over a vocabulary, which also returns correct predictions and probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from transformers_framework import device_reads
from transformers_framework.compat.torch import graph_is_kept
from transformers_framework.constants import IGNORE_INDEX

UNDERFLOW = 1e-30  # a probability in float32 below it may have lost digits, or be 0
PARTS = 2  # of half precision logits, one after the other in float32: half a buffer, which their gradient needs anyway


def vocabulary_cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropies, and which labels have the highest logit of their row.

    Besides the logits, one ``(N, V)`` buffer is kept, in float32: the probabilities, which the backward pass turns into
    the gradient in place. torch's loss and an argmax need three at their peak and 2.5 to 3 times as long on a CPU.

    Args:
        logits: ``(N, V)``, any float type; everything is computed in float32, in float64 for such logits.
        labels: ``(N,) int64``; -100 is ignored: no loss, and a gradient of exactly 0.

    Returns:
        The sum of the losses, a scalar in float32, and ``(N,) bool``: True where no logit of the row is above that of
        the label. So a label that shares the maximum with others counts as right, whichever argmax names; that does
        not happen in float32, and adds about a fiftieth to the accuracy of bfloat16 logits, which have 8 digits. False
        where the label is ignored.
    """
    losses, correct, _ = cross_entropy_and_probabilities(logits, labels)
    return losses, correct


def cross_entropy_and_probabilities(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the results of :func:`vocabulary_cross_entropy`, and the probabilities.

    Args:
        logits: ``(N, V)``, any float type.
        labels: ``(N,) int64``; -100 is ignored.

    Returns:
        The sum of the losses, which labels were predicted, and the softmax of the logits ``(N, V) float32``, without
        gradient. The backward pass of the losses overwrites it.
    """
    if torch.compiler.is_compiling():  # the compiler fuses all this itself, and keeps the logits in place of a buffer
        return _traceable(logits, labels)
    losses, correct, probabilities = _VocabularyCrossEntropy.apply(logits, labels)
    return losses, correct, probabilities


class _VocabularyCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        probabilities, top = _softmax(logits)  # (N, V), (N,)
        index = labels.clamp(min=0)[:, None]  # (N, 1)
        labelled = labels != IGNORE_INDEX
        of_label = logits.gather(1, index)[:, 0].to(top.dtype)
        probability = probabilities.gather(1, index)[:, 0]
        losses = -probability.log()
        underflown = probability < UNDERFLOW
        if not device_reads.are_free(logits) or underflown.any():  # another pass is cheap on a GPU, a wait is not
            from_top = (top - of_label) - probabilities.amax(1).log()  # that of the top logit is 1 / V at least
            losses = torch.where(underflown, from_top, losses)
        losses = torch.where(labelled, losses, 0.0).sum()
        correct = labelled & (of_label == top)
        ctx.save_for_backward(probabilities, index, labelled)
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(correct, probabilities)
        ctx.set_materialize_grads(False)  # of zeros (N, V) for the probabilities
        return losses, correct, probabilities

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_losses: Tensor | None, *_: Any) -> tuple[Tensor | None, None]:
        if of_losses is None:
            return None, None
        buffer, index, labelled = ctx.saved_tensors  # complains when an earlier backward has used the buffer up
        scale = torch.where(labelled, of_losses, 0.0).to(buffer.dtype)[:, None]  # (N, 1)
        buffer = buffer * scale if graph_is_kept() else buffer.mul_(scale)
        return buffer.scatter_add_(1, index, -scale).to(ctx.dtype), None


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities ``(N, V)`` and the highest logit of each row ``(N,)``, in float32 or float64."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if logits.dtype == dtype or logits.device.type != "cpu":  # a GPU's kernel reads half precision itself
        return torch.softmax(logits, 1, dtype=dtype), logits.amax(1).to(dtype)
    probabilities = torch.empty_like(logits, dtype=dtype)
    top = logits.new_empty(len(logits), dtype=dtype)
    rows = max(1, -(-len(logits) // PARTS))
    room = probabilities.new_empty(rows, logits.shape[1])
    for half, out, highest in zip(*(x.split(rows) for x in (logits, probabilities, top)), strict=True):
        full = room[: len(half)].copy_(half)
        torch.softmax(full, 1, out=out)
        torch.amax(full, 1, out=highest)  # 7 times as fast as that of bfloat16
    return probabilities, top


def _traceable(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits = logits if logits.dtype == torch.float64 else logits.float()
    losses = functional.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
    scores = logits.detach()
    of_label = scores.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    correct = (labels != IGNORE_INDEX) & (of_label == scores.amax(1))
    return losses, correct, scores.softmax(1)
