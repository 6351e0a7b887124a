"""Build torch's scheduler from a schedule."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from transformers_framework.compat.torch import set_last_learning_rates
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.schedulers.schedules import constant, sqrt_decay

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

# their formulas have no T, so they can follow a stream of unknown length
UNBOUNDED = (constant, sqrt_decay)


def needs_depth(schedule: Callable[..., float]) -> bool:
    """Return whether a schedule wants groups of parameters by depth.

    Examples:
        >>> from transformers_framework.schedulers.schedules import cosine, polynomial_decay_layerwise
        >>> needs_depth(polynomial_decay_layerwise), needs_depth(cosine)
        (True, False)
    """
    return "depth" in inspect.signature(schedule).parameters


def check_schedule(schedule: Callable[..., float], total_steps: float | None, options: Mapping[str, Any]) -> int:
    """Return the total number of steps that a schedule will be given.

    Args:
        schedule: A function of :mod:`transformers_framework.schedulers.schedules`.
        total_steps: Steps of the run, None or infinite where it is unknown.
        options: The schedule's flags.

    Raises:
        ConfigurationError: When the schedule needs a total that is unknown, when the warm-up is longer than the run,
            or when the schedule cannot be called or does not return a number.

    Examples:
        >>> check_schedule(constant, 100, {"num_warmup_steps": 10})
        100
    """
    if total_steps is None or math.isinf(total_steps):
        if schedule not in UNBOUNDED:
            raise ConfigurationError(
                f"--scheduler {schedule.__name__}: it needs the total number of steps, which this run does not know: "
                f"give --max_steps, or use one of {', '.join(known.__name__ for known in UNBOUNDED)}."
            )
        return _called(schedule, sys.maxsize, options)
    num_warmup_steps = options.get("num_warmup_steps", 0)
    if num_warmup_steps > total_steps:
        raise ConfigurationError(
            f"--num_warmup_steps: {num_warmup_steps} is more than the {int(total_steps)} steps of this run, so the "
            "learning rate would never arrive: warm up for less, or train for longer (--max_steps, --max_epochs)."
        )
    return _called(schedule, int(total_steps), options)


def _called(schedule: Callable[..., float], total_steps: int, options: Mapping[str, Any]) -> int:
    """Return the total number of steps; the schedule is called once, because it may be a user's."""
    depth = {"depth": 1, "last_depth": 1} if needs_depth(schedule) else {}
    expected = "Expected a function of (step, total_steps), with its flags as keyword-only parameters"
    try:
        factor = schedule(0, total_steps=total_steps, **depth, **options)
    except Exception as error:
        raise ConfigurationError(
            f"--scheduler {schedule.__name__}: calling it at step 0 fails: {type(error).__name__}: {error}. {expected}."
        ) from error
    if not isinstance(factor, (int, float)) or not math.isfinite(factor):
        raise ConfigurationError(
            f"--scheduler {schedule.__name__}: it returned {factor!r} at step 0. {expected}, that returns the "
            "factor of the learning rate."
        )
    return total_steps


def build_scheduler(
    optimizer: Optimizer,
    schedule: Callable[..., float],
    total_steps: float | None,
    options: Mapping[str, Any],
    *,
    frequency: int = 1,
) -> LambdaLR:
    """Return a scheduler that multiplies the learning rate of each group by its schedule.

    Its state holds numbers only: the functions are partials, which ``LambdaLR`` does not save, so a checkpoint loads
    with ``weights_only=True``.

    Args:
        optimizer: Its groups carry ``depth`` and ``last_depth`` where the schedule :func:`needs_depth`.
        schedule: A function of :mod:`transformers_framework.schedulers.schedules`.
        total_steps: Steps of the run, None or infinite where it is unknown.
        options: The schedule's flags.
        frequency: Steps between two updates of the learning rate, which stays as it is in between.

    Raises:
        ConfigurationError: As :func:`check_schedule`.
    """
    from torch.optim.lr_scheduler import LambdaLR

    total_steps = check_schedule(schedule, total_steps, options)
    function = partial(_held, schedule=schedule, frequency=frequency, total_steps=total_steps, **options)
    if not needs_depth(schedule):
        return LambdaLR(optimizer, function)
    places = [{key: group[key] for key in ("depth", "last_depth")} for group in optimizer.param_groups]
    return LambdaLR(optimizer, [partial(function, **place) for place in places])


def _held(step: int, *, schedule: Callable[..., float], frequency: int, **options: Any) -> float:
    """Return the factor of a schedule at the last step at which it is updated."""
    return schedule(step - step % frequency, **options)


def keep_highest(scheduler: LambdaLR, num_warmup_steps: int) -> None:
    """Let a scheduler keep the highest learning rate of each group from now on, once the warm-up is over.

    Args:
        scheduler: As :func:`build_scheduler` makes it.
        num_warmup_steps: Steps of the warm-up, after which a schedule is at its highest.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
        >>> scheduler = build_scheduler(optimizer, sqrt_decay, 9, {"num_warmup_steps": 1})
        >>> optimizer.step()
        >>> for _ in range(4):
        ...     scheduler.step()
        >>> keep_highest(scheduler, 1)
        >>> optimizer.param_groups[0]["lr"]
        0.5
    """
    scheduler.lr_lambdas = [
        function
        if getattr(function, "func", None) is _highest
        else partial(_highest, function=function, num_warmup_steps=num_warmup_steps)
        for function in scheduler.lr_lambdas
    ]
    groups = scheduler.optimizer.param_groups
    for group, base, factor in zip(groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        group["lr"] = base * factor(scheduler.last_epoch)
    set_last_learning_rates(scheduler, [group["lr"] for group in groups])


def _highest(step: int, *, function: Callable[..., float], num_warmup_steps: int) -> float:
    return function(step) if step < num_warmup_steps else function(num_warmup_steps, frequency=1)
