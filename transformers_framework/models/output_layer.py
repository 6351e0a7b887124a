"""The output layer of a classifier: the part of a head whose size is the number of its classes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from transformers_framework.compat.transformers import initialize
from transformers_framework.constants import ARE_TEXTS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def known_classes(config: PreTrainedConfig, head: str) -> list[str] | None:
    """Return the classes of a checkpoint that has such a head: their names, else their numbers; None without any.

    Args:
        config: Config of the checkpoint.
        head: Auto class of transformers.
    """
    if not any(name.endswith(head.removeprefix("AutoModel")) for name in config.architectures or ()):
        return None
    names = dict(sorted((config.id2label or {}).items()))
    if len(names) == 1:  # a number, or a detector of replaced tokens
        return None
    unnamed = all(name == f"LABEL_{number}" for number, name in names.items())
    return list(map(str, names)) if unnamed and not getattr(config, ARE_TEXTS, False) else [*names.values()]


def output_parameters(model: PreTrainedModel) -> list[str]:
    """Return the names of the parameters that would have another shape with one class more."""
    config: Any = copy.deepcopy(model.config)
    config.num_labels += 1
    with torch.device("meta"):
        wider = dict(type(model)(config).named_parameters())
    return [name for name, parameter in model.named_parameters() if parameter.shape != wider[name].shape]


def renew_output(model: PreTrainedModel) -> list[str]:
    """Initialize the output layer, as transformers does for a head that a checkpoint lacks; return its parameters.

    A checkpoint of as many other classes would be loaded silently: shapes do not tell classes apart.
    """
    names = output_parameters(model)
    for module in {name.rpartition(".")[0]: None for name in names}:
        part = model.get_submodule(module)
        with torch.no_grad():
            initialize(model, part)
    return names
