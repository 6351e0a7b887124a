"""Tensors of all processes, with gradients that find their way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Gathered(torch.autograd.Function):
    """All processes' rows, one process after the other; each gets the sum of the gradients that all have for its rows.

    ``all_reduce`` and not ``reduce_scatter``, which gloo does not have; embeddings are small.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(summed)
        return summed.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]


def num_processes() -> int:
    """Return how many processes train together."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if together else 1


def gathered(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, those of the first process first: ``(B, …)`` to ``(B · processes, …)``.

    All must have as many. Where a loss of one process depends on rows of another, the gradient goes there.
    """
    if num_processes() == 1:
        return tensor
    found: Tensor = _Gathered.apply(tensor)
    return found


def gathered_ragged(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of all processes where one may have more than another: ``(N, …)`` to ``(all, …)`` each.

    Args:
        *tensors: With as many rows as the first.
    """
    if num_processes() == 1:
        return tensors
    sizes = gathered(torch.tensor([len(tensors[0])], device=tensors[0].device)).tolist()
    most = max(sizes)
    even = (torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])]) for rows in tensors)
    parts = (gathered(rows).view(len(sizes), most, *rows.shape[1:]) for rows in even)
    return tuple(torch.cat([rows[:size] for rows, size in zip(part, sizes, strict=True)]) for part in parts)


def first_row() -> int:
    """Return by how many times the rows of a process those of this one stand behind the beginning, once gathered."""
    return torch.distributed.get_rank() if num_processes() > 1 else 0
