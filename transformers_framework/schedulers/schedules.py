"""Learning rate schedules: pure functions from a step to the factor that multiplies ``--learning_rate``.

``t`` is the step, ``W`` the warm-up steps, ``T`` the total steps; all count in units of ``--scheduler_interval``. Every
schedule warms up with ``t / W``, except :func:`normal_decay`, whose bell has a left side of its own. A step past ``T``
keeps the value at ``T``. Where ``T == W`` nothing is left to decay over, and the factor stays 1.
"""

from __future__ import annotations

import math
from typing import Annotated

from transformers_framework.restricted import NonNegativeInt, PositiveFloat, Range

LayerDecay = Annotated[float, Range(above=0, le=1)]


def _phases(step: int, total_steps: int, num_warmup_steps: int) -> tuple[float, float]:
    """Return ``(min(t / W, 1), max(t - W, 0) / (T - W))``: how far the warm-up and the decay have come.

    Examples:
        >>> _phases(5, 110, 10), _phases(60, 110, 10), _phases(999, 110, 10), _phases(10, 10, 10)
        ((0.5, 0.0), (1.0, 0.5), (1.0, 1.0), (1.0, 0.0))
    """
    step = min(step, total_steps)
    warmup = min(step / num_warmup_steps, 1.0) if num_warmup_steps else 1.0
    decay = (
        max(step - num_warmup_steps, 0) / (total_steps - num_warmup_steps) if total_steps > num_warmup_steps else 0.0
    )
    return warmup, decay


def constant(step: int, total_steps: int, *, num_warmup_steps: NonNegativeInt = 0) -> float:
    """Keep the learning rate after the warm-up.

    Args:
        step: Steps done so far.
        total_steps: Steps of the whole run.
        num_warmup_steps: Steps over which the learning rate rises linearly from 0.

    Examples:
        >>> [constant(step, 100, num_warmup_steps=10) for step in (0, 5, 10, 100)]
        [0.0, 0.5, 1.0, 1.0]
    """
    warmup, _ = _phases(step, total_steps, num_warmup_steps)
    return warmup


def linear_decay(step: int, total_steps: int, *, num_warmup_steps: NonNegativeInt = 0) -> float:
    """Decay linearly to 0 at the last step: (T-t)/(T-W).

    Args:
        step: Steps done so far.
        total_steps: Steps of the whole run.
        num_warmup_steps: Steps over which the learning rate rises linearly from 0.

    Examples:
        >>> [linear_decay(step, 110, num_warmup_steps=10) for step in (0, 5, 10, 60, 110)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup, decay = _phases(step, total_steps, num_warmup_steps)
    return warmup * (1.0 - decay)


def cosine(
    step: int, total_steps: int, *, num_warmup_steps: NonNegativeInt = 0, num_cycles: PositiveFloat = 0.5
) -> float:
    """Follow a cosine after the warm-up: (1+cos(2*pi*c*(t-W)/(T-W)))/2.

    Args:
        step: Steps done so far.
        total_steps: Steps of the whole run.
        num_warmup_steps: Steps over which the learning rate rises linearly from 0.
        num_cycles: Waves of the cosine; 0.5 falls once from the learning rate to 0.

    Examples:
        >>> [round(cosine(step, 110, num_warmup_steps=10), 3) for step in (0, 5, 10, 60, 110)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup, decay = _phases(step, total_steps, num_warmup_steps)
    return warmup * 0.5 * (1.0 + math.cos(2.0 * math.pi * num_cycles * decay))


def polynomial_decay(
    step: int, total_steps: int, *, num_warmup_steps: NonNegativeInt = 0, decay_power: PositiveFloat = 1.0
) -> float:
    """Decay to 0 at the last step by a power: ((T-t)/(T-W))^p.

    Args:
        step: Steps done so far.
        total_steps: Steps of the whole run.
        num_warmup_steps: Steps over which the learning rate rises linearly from 0.
        decay_power: The power p; 1 is linear, larger falls earlier.

    Examples:
        >>> [polynomial_decay(step, 110, num_warmup_steps=10, decay_power=2.0) for step in (5, 10, 60, 110)]
        [0.5, 1.0, 0.25, 0.0]
    """
    warmup, decay = _phases(step, total_steps, num_warmup_steps)
    return float(warmup * (1.0 - decay) ** decay_power)


def polynomial_decay_layerwise(
    step: int,
    total_steps: int,
    depth: int,
    last_depth: int,
    *,
    num_warmup_steps: NonNegativeInt = 0,
    decay_power: PositiveFloat = 1.0,
    layerwise_lr_decay_power: LayerDecay = 0.8,
) -> float:
    """Decay by a power, and learn less in layers that are closer to the input.

    Clark et al. 2020, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", appendix B.

    Args:
        step: Steps done so far.
        total_steps: Steps of the whole run.
        depth: Where the parameters are: 0 for embeddings, i + 1 for layer i, the last one for heads.
        last_depth: Depth of the last layer.
        num_warmup_steps: Steps over which the learning rate rises linearly from 0.
        decay_power: The power p; 1 is linear, larger falls earlier.
        layerwise_lr_decay_power: Ratio between the learning rates of a layer and of the one above it, in (0, 1].

    Examples:
        >>> [round(polynomial_decay_layerwise(0, 100, d, 3, layerwise_lr_decay_power=0.5), 3) for d in range(4)]
        [0.125, 0.25, 0.5, 1.0]
    """
    factor = polynomial_decay(step, total_steps, num_warmup_steps=num_warmup_steps, decay_power=decay_power)
    return factor * layerwise_lr_decay_power ** (last_depth - depth)


def sqrt_decay(step: int, total_steps: int, *, num_warmup_steps: NonNegativeInt = 0) -> float:
    """Decay with the inverse square root of the step: 1/sqrt(max(t,W)/W), after the linear warm-up.

    Without a warm-up W counts as 1. Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer", section 3.1.2.

    Args:
        step: Steps done so far.
        total_steps: Steps of the whole run.
        num_warmup_steps: Steps over which the learning rate rises linearly from 0.

    Examples:
        >>> [sqrt_decay(step, 1000, num_warmup_steps=10) for step in (5, 10, 40, 160)]
        [0.5, 1.0, 0.5, 0.25]
    """
    warmup, _ = _phases(step, total_steps, num_warmup_steps)
    unit = max(num_warmup_steps, 1)
    return warmup / math.sqrt(max(min(step, total_steps), unit) / unit)


def normal_decay(step: int, total_steps: int, *, num_warmup_steps: NonNegativeInt = 0) -> float:
    """Follow a bell exp(-z^2) whose top is the end of the warm-up: z = 2(t-W)/W before, (t-W)/T after.

    Args:
        step: Steps done so far.
        total_steps: Steps of the whole run.
        num_warmup_steps: Steps over which the learning rate rises along the left side of the bell, from exp(-4).

    Examples:
        >>> [round(normal_decay(step, 100, num_warmup_steps=10), 3) for step in (0, 5, 10, 60, 100)]
        [0.018, 0.368, 1.0, 0.779, 0.445]
    """
    step = min(step, total_steps)
    before = step < num_warmup_steps
    z = 2 * (step - num_warmup_steps) / num_warmup_steps if before else (step - num_warmup_steps) / max(total_steps, 1)
    return math.exp(-z * z)
