"""Build an optimizer from its factory, over the groups of parameters that it needs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError, MissingDependencyError
from transformers_framework.optimizers.groups import parameter_groups

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

STRATEGIES: dict[str, str] = {"fuse_adam": "deepspeed"}  # what the name of the strategy must begin with
PACKAGES: dict[str, str] = {"fuse_adam": "deepspeed", "adam8bit": "bitsandbytes", "adamw8bit": "bitsandbytes"}
SPLIT_EMBEDDINGS = frozenset({"adam8bit", "adamw8bit"})


def check_optimizer(
    optimizer: str, options: Mapping[str, Any], *, strategy: str, scheduler: str, num_warmup_steps: int = 0
) -> None:
    """Raise when an optimizer does not work with the other flags of a run.

    Args:
        optimizer: Name of the optimizer.
        options: The optimizer's flags.
        strategy: Name of the strategy, as given to ``--strategy``.
        scheduler: Name of the schedule.
        num_warmup_steps: Steps of the schedule's warm-up.

    Raises:
        ConfigurationError: When the optimizer does not work with the strategy, or when both the optimizer and the
            schedule would set the learning rate.
    """
    needed = STRATEGIES.get(optimizer)
    if needed and (not strategy.startswith(needed) or "offload" in strategy):
        raise ConfigurationError(
            f"--optimizer {optimizer}: it does not work with --strategy {strategy}, only with those of {needed} that "
            f"keep the optimizer on the device: use --strategy {needed}_stage_2, or --optimizer adamw."
        )
    if options.get("adafactor_relative_step") and (scheduler != "constant" or num_warmup_steps):
        raise ConfigurationError(
            f"--adafactor_relative_step: the step alone sets the learning rate, so --scheduler {scheduler} with "
            f"{num_warmup_steps} warm-up steps would have no effect: use --scheduler constant without "
            "--num_warmup_steps, or leave --adafactor_relative_step out."
        )


def require_package(optimizer: str) -> None:
    """Import the package that an optimizer needs.

    Raises:
        MissingDependencyError: When it is not installed; names the extra that installs it.
    """
    if package := PACKAGES.get(optimizer):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingDependencyError(package, f"--optimizer {optimizer}", package) from error


def build_optimizer(
    factory: Callable[..., Optimizer],
    model: nn.Module,
    options: Mapping[str, Any],
    *,
    weight_decay: float = 0.0,
    by_depth: bool = False,
    dimensions: Mapping[str, int] | None = None,
) -> Optimizer:
    """Return an optimizer over all trainable parameters of a model.

    Args:
        factory: One of the optimizers of this package.
        model: The model to train.
        options: The optimizer's flags.
        weight_decay: Share of the weights, times the learning rate, that each step removes.
        by_depth: One group per depth, which some schedules need.
        dimensions: What :func:`~transformers_framework.optimizers.groups.dimensions` returned before sharding.

    Raises:
        ConfigurationError: When the optimizer's flags contradict each other, or when nothing is left to train.
        MissingDependencyError: When it needs a package that is not installed.
    """
    groups = parameter_groups(
        model,
        weight_decay=weight_decay,
        by_depth=by_depth,
        split_embeddings=factory.__name__ in SPLIT_EMBEDDINGS,
        dimensions=dimensions,
    )
    if not groups:
        raise ConfigurationError(
            f"--optimizer {factory.__name__}: no parameter of {type(model).__name__} can be trained."
        )
    return factory(groups, **options)
