"""Cross-entropy over a vocabulary from hidden states in chunks of rows, without the logits of the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from transformers_framework import device_reads
from transformers_framework.constants import IGNORE_INDEX
from transformers_framework.losses.vocabulary import graph_is_kept

# entries of a chunk of logits: large enough that adding up the gradient of the weights, one pass over them for each
# chunk, does not count, and small beside the logits of a batch
CHUNK = 2**25
# entries of these that a CPU turns into probabilities at a time, in float32: they stay in its caches from one pass to
# the next, which takes a third of the time
BLOCK = 2**19


def linear_cross_entropy(states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropies of ``states @ weight.T + bias``, and which labels score highest.

    Logits are computed in chunks of rows and discarded after the gradients of these rows are computed, already in the
    forward pass: gradients are linear in the loss weight, so the backward pass only scales them.

    Args:
        states: ``(N, H)``, any float type; under autocast the products are computed in its type, all else in float32.
        weight: ``(V, H)``.
        bias: ``(V,)``, without gradient where it needs none.
        labels: ``(N,) int64``; -100 is ignored: no loss, and a gradient of exactly 0.

    Returns:
        The sum of the losses, a scalar in float32, in float64 for such states, and ``(N,) bool``: True where no logit
        of the row is above that of the label; False where the label is ignored.
    """
    dtype = _product_dtype(states)
    found = _LinearCrossEntropy.apply(states, weight, bias, labels, dtype, torch.is_grad_enabled())
    return cast("tuple[Tensor, Tensor]", found)


def linear_top_tokens(states: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the likeliest token of each row ``(N,) int64`` and its probability ``(N,) float32``, without gradient."""
    tokens = torch.empty(len(states), dtype=torch.int64, device=states.device)
    scores = torch.empty(len(states), dtype=torch.float32, device=states.device)
    with torch.no_grad():
        narrow = weight.to(_product_dtype(states))
        for rows, products in _chunks(states, narrow):
            for block, logits in _blocks(products, bias):
                top, tokens[rows][block] = logits.max(dim=1)
                scores[rows][block] = logits.sub_(top[:, None]).exp_().sum(dim=1).reciprocal().float()
    return tokens, scores


def _product_dtype(states: Tensor) -> torch.dtype:
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _chunks(states: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield the slice of each chunk of rows and its products with the weights ``(n, V)``, in a reused buffer."""
    size = max(1, min(CHUNK // len(weight), len(states)))
    room = weight.new_empty((min(size, len(states)), len(weight)))
    for start in range(0, len(states), size):
        rows = slice(start, min(start + size, len(states)))
        found = room[: rows.stop - start]
        yield rows, torch.mm(states[rows].to(weight.dtype), weight.t(), out=found)


def _blocks(products: Tensor, bias: Tensor, *, keeps: bool = False) -> Iterator[tuple[slice, Tensor]]:
    """Yield the slice of a few rows and their logits ``(n, V)`` in float32 or float64, in a reused buffer.

    Args:
        products: Logits without bias ``(N, V)``; they may be overwritten.
        bias: What is added to each row ``(V,)``.
        keeps: Copy in-place changes of the logits back to the products.
    """
    on_cpu = products.device.type == "cpu"
    size = max(1, BLOCK // products.shape[1]) if on_cpu else len(products)
    wide = _wide(products.dtype)
    room = None if products.dtype == wide else products.new_empty((size, products.shape[1]), dtype=wide)
    added = bias.to(wide) if not device_reads.are_free(bias) or bias.any() else None  # saves a pass if the bias is 0
    for start in range(0, len(products), size):
        block = slice(start, min(start + size, len(products)))
        logits = products[block] if room is None else room[: block.stop - start].copy_(products[block])
        yield block, logits if added is None else logits.add_(added)
        if keeps and room is not None:
            products[block] = logits


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, dtype: torch.dtype, learns: bool
    ) -> tuple[Tensor, Tensor]:
        narrow, wide = weight.to(dtype), _wide(dtype)
        losses, correct = states.new_zeros((), dtype=wide), torch.zeros_like(labels, dtype=torch.bool)
        of_states, of_weight, of_bias = gradients = [
            torch.zeros_like(tensor) if learns and needed else None
            for tensor, needed in zip((states, weight, bias), ctx.needs_input_grad, strict=False)
        ]
        added = torch.empty_like(narrow) if of_weight is not None and of_weight.dtype != dtype else None
        for rows, products in _chunks(states, narrow):
            for block, logits in _blocks(products, bias, keeps=learns):
                loss, correct[rows][block] = _gradient_of_logits(logits, labels[rows][block])
                losses += loss
                if of_bias is not None:
                    of_bias += logits.sum(dim=0).to(of_bias.dtype)
            if of_states is not None:
                of_states[rows] = torch.mm(products, narrow)
            if of_weight is not None:
                factors = products.t(), states[rows].to(dtype)
                of_weight.addmm_(*factors) if added is None else of_weight.add_(torch.mm(*factors, out=added))
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(correct)
        return losses, correct

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_losses: Tensor, *_: Any) -> tuple[Any, ...]:
        # the gradients were computed in the forward pass for a loss of weight 1
        scale = Tensor.mul if graph_is_kept() else Tensor.mul_
        return *(None if found is None else scale(found, of_losses) for found in ctx.saved_tensors), None, None, None


def _gradient_of_logits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Replace logits ``(n, V)`` by their gradient in place; return the sum of the losses and which labels are top."""
    index, labelled = labels.clamp(min=0)[:, None], labels != IGNORE_INDEX
    of_label, top = logits.gather(1, index)[:, 0], logits.amax(dim=1)
    total = logits.sub_(top[:, None]).exp_().sum(dim=1)
    losses = torch.where(labelled, total.log() + top - of_label, 0.0).sum()
    kept = labelled.to(logits.dtype)[:, None]
    logits.mul_(kept / total[:, None]).scatter_add_(1, index, -kept)
    return losses, labelled & (of_label == top)
