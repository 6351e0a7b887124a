"""Depth of a parameter in its network, from its name."""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import nn

from transformers_framework.exceptions import ConfigurationError

# `encoder.layer.3.`, `transformer.layer.3.`, `layers.3.`, `block.3.`, `h.3.`; ALBERT's groups are layers that repeat
_LAYER = re.compile(r"(?:^|(?<=\.))(?:layers?|blocks?|h|albert_layer_groups)\.(\d+)\.")
# what feeds the layers: embeddings, and DeBERTa's norm of its relative position embeddings
_INPUT = re.compile(r"embed|^LayerNorm\.")
# DeBERTa-v2's convolution joins the output of its first layer
_FIRST_LAYER = re.compile(r"^conv\.")


class Depth(NamedTuple):
    """Position of a parameter in its stack of layers.

    Args:
        depth: 0 for embeddings, i + 1 for layer i, ``last_depth`` for all that comes after the layers.
        last_depth: Depth of the last layer of the stack.
    """

    depth: int
    last_depth: int


def depths(model: nn.Module) -> dict[str, Depth]:
    """Return the depth of every parameter, by the names of ``model.named_parameters()``.

    Each stack (encoder, decoder, generator, discriminator) counts alone; a parameter outside of any layer belongs to
    the stack whose name shares most with its own, the deepest among equals. A tied tensor has the least of its
    depths: the embeddings', not the head's. ALBERT's repeated layer counts once.

    Args:
        model: Any model whose layers are numbered in a ``ModuleList``.

    Raises:
        ConfigurationError: When no parameter is in a numbered layer.
    """
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    stacks: dict[str, int] = {}  # what stands before the first number of a name -> depth of the stack's last layer
    for name in names:
        if layer := _LAYER.search(name):
            stack = name[: layer.start()]
            stacks[stack] = max(stacks.get(stack, 0), int(layer[1]) + 1)
    if not stacks:
        raise ConfigurationError(
            "--scheduler polynomial_decay_layerwise: no numbered layers were found among the parameters of "
            f"{type(model).__name__} (names such as encoder.layer.3.): use --scheduler polynomial_decay."
        )
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    found: dict[int, Depth] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        place = _locate(name, stacks, id(parameter) in embeddings)
        known = found.get(id(parameter), place)
        found[id(parameter)] = min(known, place, key=lambda place: (place.depth, -place.last_depth))
    return {name: found[id(parameter)] for name, parameter in model.named_parameters()}


def _locate(name: str, stacks: dict[str, int], is_embedding: bool) -> Depth:
    if layer := _LAYER.search(name):
        return Depth(int(layer[1]) + 1, stacks[name[: layer.start()]])
    stack = max(stacks, key=lambda stack: (len(_shared(name, stack)), stacks[stack]))
    last = stacks[stack]
    own = name.removeprefix(_shared(name, stack))
    if is_embedding or _INPUT.search(own):
        return Depth(0, last)
    return Depth(1 if _FIRST_LAYER.match(own) else last, last)


def _shared(name: str, stack: str) -> str:
    """Return the whole components, with their dots, with which a name and a stack both begin."""
    shared = ""
    for ours, theirs in zip(name.split("."), stack.split("."), strict=False):
        if ours != theirs:
            break
        shared += f"{ours}."
    return shared
