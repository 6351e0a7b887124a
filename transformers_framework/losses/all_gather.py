"""All-gather of tensors whose gradients flow back to the rank that each row came from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _AllGather(torch.autograd.Function):
    """Concatenate the rows of all ranks; backward, each rank gets the sum of all ranks' gradients for its rows.

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


def world_size() -> int:
    """Return the world size, 1 without a process group."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if together else 1


def rank() -> int:
    """Return the rank of this process; 0 without a process group."""
    return torch.distributed.get_rank() if world_size() > 1 else 0


def all_gather(tensor: Tensor) -> Tensor:
    """Return the rows of all ranks, those of rank 0 first: ``(B, …)`` to ``(B · world size, …)``.

    All ranks must have the same number of rows. Gradients flow back to the rank of each row.
    """
    if world_size() == 1:
        return tensor
    found: Tensor = _AllGather.apply(tensor)
    return found


def all_gather_ragged(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All-gather tensors whose numbers of rows differ between ranks: ``(N, …)`` to ``(all, …)`` each.

    Args:
        *tensors: All with the same number of rows.
    """
    if world_size() == 1:
        return tensors
    sizes = all_gather(torch.tensor([len(tensors[0])], device=tensors[0].device)).tolist()
    most = max(sizes)
    even = (torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])]) for rows in tensors)
    parts = (all_gather(rows).view(len(sizes), most, *rows.shape[1:]) for rows in even)
    return tuple(torch.cat([rows[:size] for rows, size in zip(part, sizes, strict=True)]) for part in parts)
