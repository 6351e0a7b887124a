"""The AdamW with which ELECTRA and BERT were trained in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from transformers_framework.compat import torch as compat
from transformers_framework.restricted import Beta, PositiveFloat


class TFAdamW(torch.optim.Optimizer):
    """Adam without bias correction, with weight decay before the step.

    With gradient g: ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2`` and
    ``p = p - lr (m / (sqrt(v) + eps) + wd p)``. Clark et al. 2020, "ELECTRA: Pre-training Text Encoders as
    Discriminators Rather Than Generators", and its code.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        betas: Decay rates of the running averages of the gradient and of its square.
        eps: Added to the denominator.
        weight_decay: Share of the weights, times the learning rate, that each step removes.
    """

    def __init__(
        self,
        params: list[Tensor] | list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step; parameters without a gradient are not changed."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in params:
                if not self.state[parameter]:
                    self.state[parameter] |= {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
            # one launch for all tensors pays on accelerators; on a CPU it only holds all denominators in memory at once
            together = [params] if any(p.device.type != "cpu" for p in params) else [[p] for p in params]
            for tensors in together:
                self._update(tensors, group)
        return loss

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        grads = [parameter.grad for parameter in params if parameter.grad is not None]
        averages = [self.state[parameter]["exp_avg"] for parameter in params]
        squares = [self.state[parameter]["exp_avg_sq"] for parameter in params]
        compat.foreach_lerp_(averages, grads, 1 - beta1)
        compat.foreach_mul_(squares, beta2)
        compat.foreach_addcmul_(squares, grads, grads, 1 - beta2)
        denominators = compat.foreach_sqrt(squares)
        compat.foreach_add_(denominators, group["eps"])
        if group["weight_decay"]:
            compat.foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        compat.foreach_addcdiv_(params, averages, denominators, -group["lr"])


def tf_adamw(
    groups: list[dict[str, Any]],
    *,
    learning_rate: PositiveFloat = 1e-4,
    tf_adamw_betas: tuple[Beta, Beta] = (0.9, 0.999),
    tf_adamw_epsilon: PositiveFloat = 1e-6,
) -> torch.optim.Optimizer:
    """Build ELECTRA's optimizer: Adam without bias correction, weight decay before the step.

    Args:
        groups: Groups of parameters.
        learning_rate: Learning rate at the schedule's top.
        tf_adamw_betas: Decay rates of the running averages of the gradient and of its square.
        tf_adamw_epsilon: Added to the denominator against division by zero.
    """
    return TFAdamW(groups, lr=learning_rate, betas=tf_adamw_betas, eps=tf_adamw_epsilon)
