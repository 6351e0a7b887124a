"""Pooling: one vector for each text from its hidden states."""

from __future__ import annotations

import torch
from torch import Tensor

from transformers_framework.models.sentence_transformers import Pooling


def pool(hidden_states: Tensor, attention_mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Return one vector for each text.

    Args:
        hidden_states: ``(B, L, H)``, any float type.
        attention_mask: 1 at tokens, 0 at padding ``(B, L) int64``; none: there is no padding.
        pooling: ``mean`` of all tokens, or the first one (``cls``).

    Returns:
        ``(B, H) float32``.

    Examples:
        >>> hidden_states = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> pool(hidden_states, torch.tensor([[1, 1, 0]]), "mean").tolist()
        [[2.0]]
        >>> pool(hidden_states, torch.tensor([[0, 1, 1]]), "cls").tolist()
        [[3.0]]
    """
    if attention_mask is None:
        return hidden_states.mean(dim=1, dtype=torch.float32) if pooling == "mean" else hidden_states[:, 0].float()
    if pooling == "cls":
        first = attention_mask.argmax(dim=1)  # not 0 where padding is on the left
        return hidden_states[torch.arange(len(hidden_states), device=hidden_states.device), first].float()
    kept = (hidden_states * attention_mask[..., None]).sum(dim=1, dtype=torch.float32)
    return kept / attention_mask.sum(dim=1, keepdim=True).clamp(min=1)
