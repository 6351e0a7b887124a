"""Load the state of an optimizer into one with other settings: groups are matched by their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from transformers_framework.compat.torch import set_last_learning_rates
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.optimizers.groups import parameter_groups

TRAITS = ("depth", "last_depth", "embeddings")  # of groups, beside what optimizers read
# what an optimizer keeps of a parameter only with a setting that may be new
KEPT_WITH = {"amsgrad": "max_exp_avg_sq", "beta1": "exp_avg"}


def regrouped(
    state: Mapping[str, Any], optimizer: Optimizer, model: nn.Module, dimensions: Mapping[str, int]
) -> dict[str, Any]:
    """Return the state of an optimizer with the groups and indexes of another optimizer of the same parameters.

    Weight decay from or to 0 and schedules by depth make other groups.

    Args:
        state: A state dict.
        optimizer: The optimizer that is to load it.
        model: The model of both.
        dimensions: What :func:`~transformers_framework.optimizers.groups.dimensions` returned before sharding.

    Raises:
        ConfigurationError: When it is a state of other parameters.
    """
    saved = state["param_groups"]
    then = parameter_groups(
        model,
        weight_decay=max(group["weight_decay"] for group in saved),
        by_depth="depth" in saved[0],
        split_embeddings="embeddings" in saved[0],
        dimensions=dimensions,
    )
    if [len(group["params"]) for group in saved] != [len(group["params"]) for group in then]:
        raise ConfigurationError(
            "--ckpt_path: the state of its optimizer is that of other parameters than are trained now. Start from an "
            "export: --pre_trained_model."
        )
    parameters = chain.from_iterable(group["params"] for group in then)
    numbers = chain.from_iterable(group["params"] for group in saved)
    number = {id(parameter): saved_as for parameter, saved_as in zip(parameters, numbers, strict=True)}
    order = [[number[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    new = {old: position for position, old in enumerate(chain.from_iterable(order))}
    settings = {old: group for group in saved for old in group["params"]}
    return {
        **state,
        "state": {new[old]: kept for old, kept in state["state"].items()},
        "param_groups": [
            {
                **{name: value for name, value in settings[group[0]].items() if name not in TRAITS},
                "params": [new[old] for old in group],
            }
            for group in order
        ],
    }


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the settings of each group of an optimizer, except the learning rate, which a schedule sets."""
    return [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]


def apply_settings(optimizer: Any, scheduler: Any, settings: Sequence[Mapping[str, Any]]) -> None:
    """Give an optimizer that has loaded a state its own settings again, at the step of its schedule.

    Args:
        optimizer: The optimizer.
        scheduler: Its schedule, which has loaded its state too.
        settings: What :func:`settings_of` returned before.
    """
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
    if isinstance(scheduler, LambdaLR):
        scheduler.base_lrs = [own["initial_lr"] for own in settings]
        for group, base, factor in zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
            group["lr"] = base * factor(scheduler.last_epoch)
        set_last_learning_rates(scheduler, [group["lr"] for group in optimizer.param_groups])
    for setting, kept in KEPT_WITH.items():
        if settings[0].get(setting) not in (None, False):
            for parameter, state in optimizer.state.items():
                if kept not in state:
                    like = state.get("exp_avg_sq", parameter.float())
                    state[kept] = torch.zeros_like(like)
