"""FusedAdam of DeepSpeed."""

from __future__ import annotations

from typing import Any

import torch

from transformers_framework.exceptions import MissingDependencyError
from transformers_framework.restricted import Beta, PositiveFloat


def fuse_adam(
    groups: list[dict[str, Any]],
    *,
    learning_rate: PositiveFloat = 1e-4,
    fuse_adam_betas: tuple[Beta, Beta] = (0.9, 0.999),
    fuse_adam_epsilon: PositiveFloat = 1e-8,
    fuse_adam_bias_correction: bool = True,
) -> torch.optim.Optimizer:
    """Build DeepSpeed's FusedAdam with decoupled weight decay; only with the strategies of DeepSpeed.

    Other strategies, and those that offload the optimizer to the host, are refused before training
    (:func:`transformers_framework.optimizers.build.check_optimizer`).

    Args:
        groups: Groups of parameters.
        learning_rate: Learning rate at the schedule's top.
        fuse_adam_betas: Decay rates of the running averages of the gradient and of its square.
        fuse_adam_epsilon: Added to the denominator against division by zero.
        fuse_adam_bias_correction: Correct the averages for having started at zero.

    Raises:
        MissingDependencyError: When DeepSpeed is not installed.
    """
    try:
        from deepspeed.ops.adam import FusedAdam
    except ImportError as error:
        raise MissingDependencyError("deepspeed", "--optimizer fuse_adam", "deepspeed") from error
    made: torch.optim.Optimizer = FusedAdam(
        groups,
        lr=learning_rate,
        betas=fuse_adam_betas,
        eps=fuse_adam_epsilon,
        bias_correction=fuse_adam_bias_correction,
        adam_w_mode=True,
    )
    return made
