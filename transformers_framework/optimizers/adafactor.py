"""Adafactor of transformers."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from transformers.optimization import Adafactor as TransformersAdafactor

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import Beta, PositiveFloat, Range

LEARNING_RATE = 1e-4


class Adafactor(TransformersAdafactor):
    """Adafactor whose state keeps its dtype in a checkpoint.

    Torch casts loaded state to its parameter's type, which would round the 32-bit averages of 16-bit parameters.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, each tensor in the type in which it was saved."""
        super().load_state_dict(state_dict)
        saved = (index for group in state_dict["param_groups"] for index in group["params"])
        parameters = (parameter for group in self.param_groups for parameter in group["params"])
        for index, parameter in zip(saved, parameters, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                if isinstance(value, torch.Tensor):
                    self.state[parameter][key] = value.to(parameter.device, copy=True)


def adafactor(
    groups: list[dict[str, Any]],
    *,
    learning_rate: PositiveFloat = LEARNING_RATE,
    adafactor_epsilon: tuple[PositiveFloat, PositiveFloat] = (1e-30, 1e-3),
    adafactor_beta1: Beta | None = None,
    adafactor_decay_rate: Annotated[float, Range(below=0)] = -0.8,
    adafactor_clip_threshold: PositiveFloat = 1.0,
    adafactor_scale_parameter: bool = False,
    adafactor_relative_step: bool = False,
    adafactor_warmup_init: bool = False,
) -> torch.optim.Optimizer:
    """Build Adafactor, which keeps a row and a column of the squared gradient's average instead of all of it.

    Shazeer and Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost".

    Args:
        groups: Groups of parameters.
        learning_rate: Learning rate at the schedule's top.
        adafactor_epsilon: Added to the squared gradient; smallest size of a parameter for scale_parameter.
        adafactor_beta1: Decay rate of the running average of updates; without it none is kept.
        adafactor_decay_rate: Power, below 0, by which the average of the squared gradient forgets.
        adafactor_clip_threshold: Largest root mean square of an update.
        adafactor_scale_parameter: Multiply the learning rate by the size of each parameter.
        adafactor_relative_step: Let the step alone set the learning rate, 1/sqrt(step) and at most 0.01.
        adafactor_warmup_init: With relative_step, rise by 1e-6 per step first.

    Raises:
        ConfigurationError: When warmup_init comes without relative_step, or relative_step with a learning rate.
    """
    if adafactor_warmup_init and not adafactor_relative_step:
        raise ConfigurationError(
            "--adafactor_warmup_init: it shapes the learning rate of --adafactor_relative_step, which is off: "
            "turn that on, or warm up with --num_warmup_steps."
        )
    if adafactor_relative_step and learning_rate != LEARNING_RATE:
        raise ConfigurationError(
            f"--adafactor_relative_step: the step alone sets the learning rate, so --learning_rate {learning_rate:g} "
            "would have no effect: leave one of the two out."
        )
    optimizer = Adafactor(
        groups,
        lr=None if adafactor_relative_step else learning_rate,
        eps=adafactor_epsilon,
        beta1=adafactor_beta1,
        decay_rate=adafactor_decay_rate,
        clip_threshold=adafactor_clip_threshold,
        scale_parameter=adafactor_scale_parameter,
        relative_step=adafactor_relative_step,
        warmup_init=adafactor_warmup_init,
    )
    if adafactor_relative_step:
        for group in optimizer.param_groups:
            group["lr"] = 1.0  # not read by the steps, but schedulers multiply it and loggers print it
    return optimizer
