"""Metrics that users add with ``--metrics``: they are updated with the inputs of an objective's own metrics."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from transformers_framework.constants import IGNORE_INDEX
from transformers_framework.distributed.collectives import all_gather_json
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.import_paths import build_object, object_and_arguments
from transformers_framework.metrics.stage_metric import NamedMetric, StageMetric, Values, signature_of

HOME = "torchmetrics"
NEEDED = ("preds", "target")  # inputs of a metric whose update() has no named parameters


def added_metrics(*, metrics: tuple[str, ...] = ()) -> list[Metric]:
    """Create the metrics of ``--metrics``.

    Args:
        metrics: Metrics to add to each objective that has the inputs of their `update`, such as preds and target: names
            of torchmetrics, or import paths such as my_package:MyMetric. A config file may give arguments, such as
            {class_path: MulticlassCohenKappa, init_args: {num_classes: 3}}. Logged as {stage}/{objective}/my_metric.

    Raises:
        ConfigurationError: When one cannot be imported or created, or is not a metric.
    """
    return [_built(text) for text in metrics]


def _built(text: str) -> Metric:
    path, _ = object_and_arguments(text, "metrics")
    home = f"{HOME}.classification" if path.startswith(("Binary", "Multiclass", "Multilabel")) else HOME
    metric: Metric = build_object(text, "metrics", home, Metric)
    return metric


class AddedMetric(NamedMetric):
    """A metric of the user, updated with the inputs of a metric of the objective; padding rows are left out.

    Args:
        metric: The metric. Without ``names`` it is logged under the name of its class.
        source: Key of the objective's metric whose inputs it gets.
        keywords: Names of the inputs that its ``update`` accepts.
    """

    def __init__(self, metric: Metric, source: str, keywords: Sequence[str]) -> None:
        super().__init__(name_of(metric), metric)
        self.source, self.keywords = source, tuple(keywords)
        self.logs_several = hasattr(metric, "names")
        if self.logs_several:
            self.names = tuple(metric.names)  # type: ignore[arg-type]
            self.directions = dict(getattr(metric, "directions", {}))

    def update(self, **inputs: Any) -> None:
        """Update the metric with the rows of a batch that have a label."""
        target = inputs.get("target")
        if isinstance(target, Tensor) and target.ndim:
            wrong = target.isnan() if target.is_floating_point() else target == IGNORE_INDEX
            labelled = ~wrong.flatten(1).any(dim=1) if target.ndim > 1 else ~wrong
            inputs = {
                name: value[labelled] if isinstance(value, Tensor) and len(value) == len(labelled) else value
                for name, value in inputs.items()
            }
            if not labelled.any():
                return
        self.metric.update(**inputs)

    def compute(self) -> Values:
        """Return the value, or the values by name; nan if no rank had a labelled row."""
        if not self._share_kinds_of_lists():
            return dict.fromkeys(self.names, math.nan)
        return self.metric.compute() if self.logs_several else super().compute()

    def _share_kinds_of_lists(self) -> bool:
        """Give empty list states of a rank the shape and dtype of other ranks, which all-gather needs.

        Returns:
            Whether any rank has been updated.
        """
        parts = {name: part for name, part in self.metric.named_modules() if isinstance(part, Metric)}
        states = {(name, state): value for name, part in parts.items() for state, value in part.metric_state.items()}
        lists: dict[tuple[str, str], list[Tensor]] = {key: v for key, v in states.items() if isinstance(v, list)}
        kinds = [[*key, [*found[0].shape[1:]], str(found[0].dtype)] for key, found in lists.items() if found]
        everyone = all_gather_json([any(part.update_count > 0 for part in parts.values()), kinds])
        for name, state, shape, dtype in [kind for _, theirs in everyone for kind in theirs]:
            if not lists[name, state]:
                empty = torch.zeros(0, *shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
                lists[name, state].append(empty.to(parts[name].device))
        return any(counted for counted, _ in everyone)


def name_of(metric: Metric) -> str:
    """Return the name under which a metric is logged.

    Examples:
        >>> from torchmetrics.classification import MulticlassF1Score
        >>> name_of(MulticlassF1Score(num_classes=3))
        'multiclass_f1_score'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(metric).__name__).lower()


def with_added(own: Mapping[str, StageMetric], added: Iterable[Metric], objective: str) -> dict[str, StageMetric]:
    """Return an objective's metrics in a stage, and those added metrics that can be updated with their inputs.

    Args:
        own: Metrics of the objective, by key.
        added: New metrics of the user, not shared with other objectives or stages.
        objective: Name of the objective.

    Raises:
        ConfigurationError: When two would be logged under the same name.
    """
    found = dict(own)
    taken = {name for metric in own.values() for name in metric.names} | {"loss"}
    given = {key: list(signature_of(metric).parameters) for key, metric in own.items()}
    for number, metric in enumerate(added):
        needed, taken_in = needs_of(metric)
        source = next((key for key, names in given.items() if set(needed) <= set(names)), None)
        if source is None:
            continue
        new = AddedMetric(metric, source, [name for name in given[source] if name in taken_in])
        if twice := sorted(taken & set(new.names)):
            raise ConfigurationError(
                f"--metrics: objective '{objective}' logs '{twice[0]}' already. Give {type(metric).__name__} another "
                "name, or other `names`."
            )
        taken |= set(new.names)
        found[f"added_{number}"] = new
    return found


def needs_of(metric: Metric) -> tuple[list[str], list[str]]:
    """Return the required parameters of a metric's ``update``, and all of its parameters."""
    named = [
        parameter
        for parameter in inspect.signature(metric.update).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if not named:
        return list(NEEDED), list(NEEDED)
    return [p.name for p in named if p.default is p.empty], [p.name for p in named]


def inputs_of_added(
    metrics: Mapping[str, StageMetric], inputs: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the inputs of the added metrics, by their keys."""
    return {
        key: {name: inputs[metric.source][name] for name in metric.keywords if name in inputs[metric.source]}
        for key, metric in metrics.items()
        if isinstance(metric, AddedMetric) and metric.source in inputs
    }


def check_added(metrics: Sequence[str], by_objective: Mapping[str, Sequence[Mapping[str, StageMetric]]]) -> None:
    """Check that some objective has the inputs of each added metric.

    Args:
        metrics: Entries of ``--metrics``.
        by_objective: Metrics of each stage that has data, by objective.

    Raises:
        ConfigurationError: With the inputs that the metric needs and those that each objective has.
    """
    stages = [stage for of_stages in by_objective.values() for stage in of_stages]
    if not stages:  # no stage is evaluated
        return
    used = {type(m.metric) for stage in stages for m in stage.values() if isinstance(m, AddedMetric)}
    for text, metric in zip(metrics, added_metrics(metrics=tuple(metrics)), strict=True):
        if type(metric) not in used:
            path, _ = object_and_arguments(text, "metrics")
            fed = "; ".join(_fed(name, of_stages) for name, of_stages in by_objective.items())
            needed = ", ".join(needs_of(metric)[0])
            raise ConfigurationError(f"--metrics {path}: it is updated with {needed}, which nothing here has: {fed}.")


def _fed(objective: str, stages: Sequence[Mapping[str, StageMetric]]) -> str:
    own = [metric for stage in stages for metric in stage.values() if not isinstance(metric, AddedMetric)]
    sets = dict.fromkeys(", ".join(signature_of(metric).parameters) for metric in own)
    return f"objective '{objective}' has {' or '.join(f'({names})' for names in sets)}"
