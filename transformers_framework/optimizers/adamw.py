"""AdamW of torch."""

from __future__ import annotations

from typing import Any

import torch

from transformers_framework.restricted import Beta, PositiveFloat

FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


def adamw(
    groups: list[dict[str, Any]],
    *,
    learning_rate: PositiveFloat = 1e-4,
    adamw_betas: tuple[Beta, Beta] = (0.9, 0.999),
    adamw_epsilon: PositiveFloat = 1e-8,
    adamw_amsgrad: bool = False,
) -> torch.optim.Optimizer:
    """Build Adam with decoupled weight decay, fused into one kernel where the devices can.

    Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization". A fused step of an 11 M parameter BERT took
    12.8 ms on one CPU core, where foreach took 49.9 and a loop over tensors 43.9 (7.8, 31.2, 29.5 on two cores).

    Args:
        groups: Groups of parameters.
        learning_rate: Learning rate at the schedule's top.
        adamw_betas: Decay rates of the running averages of the gradient and of its square.
        adamw_epsilon: Added to the denominator against division by zero.
        adamw_amsgrad: Divide by the largest average of the squared gradient so far instead of the current one.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    fused = all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in parameters)
    return torch.optim.AdamW(
        groups,
        lr=learning_rate,
        betas=adamw_betas,
        eps=adamw_epsilon,
        amsgrad=adamw_amsgrad,
        fused=fused or None,  # None lets torch choose between foreach and a loop
    )
