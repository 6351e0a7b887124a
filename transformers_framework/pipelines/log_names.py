"""Which names a run will log, and whether the largest or the smallest of their values is best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from transformers_framework.constants import Direction, Stage
from transformers_framework.metrics.stage_metric import direction_of
from transformers_framework.objectives.objective import Objective, active, metric_names, stage_metrics


def log_names(objectives: Sequence[Objective], stage: Stage) -> list[str]:
    """Return every name that a stage will log."""
    learned = [objective for objective in active(objectives, stage) if objective.has_loss(stage)]
    names = [f"{stage}/loss"] if learned else []
    for objective in active(objectives, stage):
        metrics = [*(["loss"] if objective in learned else []), *metric_names(objective, stage)]
        names += [f"{stage}/{objective.name}/{name}" for name in [*metrics, *objective.further_names(stage)]]
    return names


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
