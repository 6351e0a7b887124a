"""Names that a run logs, whether higher or lower values are better, and the logging interval."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, SupportsFloat, cast

from transformers_framework.constants import MEASURED, Direction, Stage
from transformers_framework.metrics.stage_metric import direction_of
from transformers_framework.objectives.capabilities import HasMainMetric, LogsByData
from transformers_framework.objectives.objective import Objective, active, metric_names, stage_metrics

if TYPE_CHECKING:
    import pytorch_lightning as pl


def log_names(objectives: Sequence[Objective], stage: Stage) -> list[str]:
    """Return the names that a stage logs and that can be monitored.

    Training logs more, by which no state is better than another: its learning rate, padding, the norm of the gradients
    and :data:`~transformers_framework.constants.MEASURED`.
    """
    names, has_loss = [], False
    for objective in active(objectives, stage):
        depends = objective if isinstance(objective, LogsByData) else LogsByData()
        own = [*(["loss"] if depends.has_loss(stage) else []), *metric_names(objective, stage)]
        names += [f"{stage}/{objective.name}/{name}" for name in [*own, *depends.further_names(stage)]]
        has_loss |= depends.has_loss(stage)
    return [*([f"{stage}/loss"] if has_loss else []), *names]


def main_metric(objectives: Sequence[Objective]) -> str | None:
    """Return the logged name by which the best state is selected by default: the main metric of the last task.

    Args:
        objectives: Objectives of the run; those that corrupt the text are left out if there are others.

    Returns:
        A name that validation logs, its loss where tasks have no main metric; None if it logs nothing.
    """
    logged, task = log_names(objectives, "valid"), active(objectives, "valid")[-1]
    main = f"valid/{task.name}/{task.main_metric}" if isinstance(task, HasMainMetric) else "valid/loss"
    return main if main in logged else next(iter(logged), None)


def main_metrics(objectives: Sequence[Objective]) -> list[str]:
    """Return the main metric of each objective that has one, as it is logged, without the stage."""
    return [f"{each.name}/{each.main_metric}" for each in objectives if isinstance(each, HasMainMetric)]


def direction(objectives: Sequence[Objective], name: str) -> Direction | None:
    """Return whether the largest or the smallest value of a logged name is best; None where neither is."""
    stage, _, rest = name.partition("/")
    owner, _, value = rest.partition("/")
    if (value or owner) == "loss":
        return "min"
    objective = next(o for o in objectives if o.name == owner)
    for metric in stage_metrics(objective, cast("Stage", stage)).values():
        if value in metric.names:
            return direction_of(metric, value)
    return "max"


def reproducible(metrics: Mapping[str, SupportsFloat]) -> dict[str, float]:
    """Return logged values as numbers, sorted by name, without :data:`~transformers_framework.constants.MEASURED`."""
    return {name: float(value) for name, value in sorted(metrics.items()) if name not in MEASURED}


def logging_interval(trainer: pl.Trainer) -> int:
    """Return the number of optimizer steps between logging steps."""
    return int(trainer.log_every_n_steps) or sys.maxsize  # type: ignore[attr-defined]
