"""The output layer of a classifier: the part of a head whose size is the number of its classes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from transformers_framework.compat.transformers import initialize
from transformers_framework.constants import ARE_TEXTS, BINARY_LABELS

if TYPE_CHECKING:
    from torch import Tensor
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
    if len(names) == 1:  # a number, a detector of replaced tokens, or the score of a ranker
        return getattr(config, BINARY_LABELS, None)
    unnamed = all(name == f"LABEL_{number}" for number, name in names.items())
    return list(map(str, names)) if unnamed and not getattr(config, ARE_TEXTS, False) else [*names.values()]


def output_parameters(model: PreTrainedModel) -> list[str]:
    """Return the names of the parameters that would have another shape with one class more.

    They are those of its class and config: a strategy that shards gives the model's own other names and shapes.
    """
    config: Any = copy.deepcopy(model.config)
    with torch.device("meta"):
        own = dict(type(model)(config).named_parameters())
        config.num_labels += 1
        wider = dict(type(model)(config).named_parameters())
    return [name for name, parameter in own.items() if parameter.shape != wider[name].shape]


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


def with_outputs(
    model: PreTrainedModel, weights: Mapping[str, Tensor], num_outputs: int
) -> tuple[PreTrainedConfig, dict[str, Tensor]]:
    """Return config and weights of a binary classifier with another number of outputs, 1 or 2.

    The one output is the logit of class 1 minus that of class 0, ``(w₁ − w₀)·h + b₁ − b₀``: its sigmoid is the
    probability of class 1 by the softmax of two logits. Two outputs made of one are halves of it, ``∓(w·h + b) / 2``,
    whose difference, and so scores, probabilities and loss are the same. No other weights are copied.

    Args:
        model: A classifier of two classes or with one output.
        weights: Its weights, with the keys of ``state_dict()``.
        num_outputs: Number of outputs to have.
    """
    names = output_parameters(model)
    config: Any = copy.deepcopy(model.config)
    if num_outputs == 1:
        setattr(config, BINARY_LABELS, [name for _, name in sorted(config.id2label.items())])
        config.problem_type = None  # transformers refuses that of classes for one output
        config.num_labels = 1
        changed = {name: _folded(weights[name]) for name in names}
    else:
        classes = getattr(config, BINARY_LABELS, None) or ["0", "1"]
        config.id2label, config.label2id = dict(enumerate(classes)), {name: i for i, name in enumerate(classes)}
        config.problem_type = "single_label_classification"
        vars(config).pop(BINARY_LABELS, None)
        changed = {name: _unfolded(weights[name]) for name in names}
    return config, {**weights, **changed}


def _folded(parameter: Tensor) -> Tensor:
    """Return the second row of a parameter minus the first: ``(2, …)`` to ``(1, …)``."""
    return (parameter[1:].float() - parameter[:1].float()).to(parameter.dtype)


def _unfolded(parameter: Tensor) -> Tensor:
    """Return the negative half and the half of a parameter's row: ``(1, …)`` to ``(2, …)``."""
    return torch.cat([-parameter / 2, parameter / 2])
