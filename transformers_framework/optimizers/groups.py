"""Groups of parameters: which tensors have weight decay, and the depth of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from transformers_framework.optimizers.depths import depths

# what DDP, FSDP, torch.compile and activation checkpointing write into names
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_fsdp_wrapped_module|_orig_mod|_checkpoint_wrapped_module)\.")


def dimensions(model: nn.Module) -> dict[str, int]:
    """Return the number of dimensions of every parameter, before a strategy shards them.

    FSDP turns each parameter into a flat piece of one dimension, which would silently end weight decay.

    Args:
        model: The model as it was built, before any wrapper.
    """
    return {_WRAPPERS.sub("", name): p.ndim for name, p in model.named_parameters(remove_duplicate=False)}


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float = 0.0,
    by_depth: bool = False,
    split_embeddings: bool = False,
    dimensions: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Return groups for an optimizer: weight decay on tensors of two or more dimensions and on nothing else.

    Every trainable tensor is in exactly one group, tied ones once. Besides ``params`` and ``weight_decay`` a group has
    ``depth`` and ``last_depth`` when asked ``by_depth``, and ``embeddings`` (a bool) when asked ``split_embeddings``.

    Args:
        model: The model to train, wrapped or not.
        weight_decay: Share of the weights, times the learning rate, that each step removes.
        by_depth: One group per depth, for schedules that give each layer its own learning rate.
        split_embeddings: Groups of their own for the weights of ``nn.Embedding``.
        dimensions: What :func:`dimensions` returned before the model was sharded.
    """
    places = depths(model) if by_depth else {}
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        ndim = dimensions.get(_WRAPPERS.sub("", name), parameter.ndim) if dimensions else parameter.ndim
        traits: dict[str, Any] = {"weight_decay": weight_decay if ndim >= 2 else 0.0}
        if by_depth:
            traits |= places[name]._asdict()
        if split_embeddings:
            traits["embeddings"] = id(parameter) in embeddings
        groups.setdefault(tuple(traits.values()), {"params": [], **traits})["params"].append(parameter)
    return list(groups.values())
