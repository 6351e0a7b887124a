"""Clipping of gradients, which also returns their norm."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn


def clip_gradients(
    module: pl.LightningModule, optimizer: Any, value: float | None, algorithm: str | None, *, measure: bool
) -> Tensor | None:
    """Clip the gradients of an optimizer step; return their global norm before, a scalar.

    Lightning refuses to clip in bf16 with a fused optimizer, though nothing is scaled there.

    Args:
        module: The module, attached to a trainer.
        optimizer: The optimizer.
        value: Largest norm, or largest absolute value with the algorithm ``value``; none: gradients stay as they are.
        algorithm: ``norm``, the default, or ``value``.
        measure: Whether the norm is needed, also if clipping does not compute it.

    Returns:
        The norm, over all ranks; None if it was not computed, or is only known after the step, as with DeepSpeed.
    """
    precision, strategy = module.trainer.precision_plugin, module.trainer.strategy
    by_norm = bool(value) and algorithm != "value"
    if getattr(strategy, "owns_gradients", False):  # it clips in its step
        return None
    norm: Tensor | None = None
    if hasattr(strategy, "clip"):  # each rank has a part of the gradients
        if by_norm or measure:
            norm = strategy.clip(value if by_norm else math.inf)
    elif by_norm or measure:
        parameters = list(precision.main_params(optimizer))
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if by_norm:
            nn.utils.clip_grads_with_norm_(parameters, float(value or 0), norm)
    if value and algorithm == "value":
        if isinstance(precision, MixedPrecision) and precision.scaler is None:
            nn.utils.clip_grad_value_(precision.main_params(optimizer), value)
        else:
            module.clip_gradients(optimizer, value, algorithm)
    return norm
