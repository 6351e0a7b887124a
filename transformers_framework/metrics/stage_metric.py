"""The interface of metrics of a stage, and a wrapper for metrics of torchmetrics that compute a single number."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn
from torchmetrics import Metric

from transformers_framework.constants import Direction, Stage
from transformers_framework.exceptions import ConfigurationError

Values = Mapping[str, "float | Tensor | None"]  # None where there is nothing to compute a loss of


class StageMetric(Protocol):
    """A metric over all rows of a stage, which computes any number of values; it is a ``torch.nn.Module``.

    A metric may also have ``directions``, a mapping from names of values to 'min', 'max' or None, for values whose
    direction differs from ``higher_is_better``. A value called ``loss`` is not listed in the names: it replaces the
    mean loss of the stage that is computed from batches.
    """

    higher_is_better: bool | None

    @property
    def names(self) -> Sequence[str]:
        """Names of the values in the log, without prefix."""

    @property
    def update(self) -> Callable[..., None]:
        """Count a batch; called with keyword arguments on every rank; must not wait for a GPU in training."""

    def compute(self) -> Values:
        """Return the values by name, over the rows of all ranks."""

    def reset(self) -> None:
        """Reset the metric."""


class NamedMetric(nn.Module):
    """A metric of torchmetrics that computes a single number, which is logged under one name.

    Args:
        name: The name in the log.
        metric: The metric.
    """

    def __init__(self, name: str, metric: Metric) -> None:
        super().__init__()
        self.names, self.metric = (name,), metric
        self.higher_is_better: bool | None = metric.higher_is_better
        self.directions: dict[str, Direction | None] = {name: None} if self.higher_is_better is None else {}

    def update(self, **inputs: object) -> None:
        """Count a batch."""
        self.metric.update(**inputs)

    def compute(self) -> Values:
        """Return the number.

        Raises:
            ConfigurationError: When it is not a single one.
        """
        value = self.metric.compute()
        if isinstance(value, Tensor) and value.numel() != 1:
            found = f"a tensor of shape {tuple(value.shape)}"
        elif not isinstance(value, (Tensor, float, int)):
            found = f"a {type(value).__name__}"
        else:
            return {self.names[0]: value}
        raise ConfigurationError(
            f"The metric '{self.names[0]}' ({type(self.metric).__name__}) computes {found}; expected a single number. "
            "Average it (average='macro'), or give the metric `names` and return a dictionary of its values by these."
        )

    def reset(self) -> None:
        """Reset the metric."""
        self.metric.reset()


def named(metrics: Mapping[str, object], objective: str) -> dict[str, StageMetric]:
    """Return the metrics of an objective; those without ``names`` are logged under their keys.

    Args:
        metrics: By the keys of their inputs in the result of :meth:`Objective.evaluate`.
        objective: Name of the objective.

    Raises:
        ConfigurationError: When one is not a metric.
    """
    found: dict[str, StageMetric] = {}
    for key, metric in metrics.items():
        if not isinstance(metric, Metric):
            raise ConfigurationError(
                f"Objective '{objective}': '{key}' of metrics() is a {type(metric).__name__}; expected a "
                "torchmetrics.Metric. Of several metrics, give each its own key."
            )
        found[key] = metric if hasattr(metric, "names") else NamedMetric(key, metric)  # type: ignore[assignment]
    return found


def direction_of(metric: StageMetric, name: str) -> Direction | None:
    """Return whether the largest or the smallest value of a name is best; None where neither is."""
    default: Direction = "min" if metric.higher_is_better is False else "max"
    directions: Mapping[str, Direction | None] = getattr(metric, "directions", {})
    return directions.get(name, default)


def signature_of(metric: StageMetric) -> inspect.Signature:
    """Return the signature of a metric's ``update``."""
    return inspect.signature(metric.metric.update if isinstance(metric, NamedMetric) else metric.update)


def check_inputs(
    objective: str, stage: Stage, metrics: Mapping[str, StageMetric], inputs: Mapping[str, Mapping[str, object]]
) -> None:
    """Check that every metric has inputs and all inputs have a metric, since a metric without inputs logs nothing.

    Args:
        objective: Name of the objective.
        stage: The stage.
        metrics: Its metrics.
        inputs: Keyword arguments of each metric in the first batch.

    Raises:
        ConfigurationError: When a key is only in one of both, or a metric takes other keywords.
    """
    which = f"Objective '{objective}', stage {stage}"
    if unfed := [key for key in metrics if key not in inputs]:
        raise ConfigurationError(
            f"{which}: metrics() has {_listed(unfed)}, which evaluate() does not feed; it feeds {_listed(inputs)}. Use "
            "the same keys in both."
        )
    if unknown := [key for key in inputs if key not in metrics]:
        raise ConfigurationError(
            f"{which}: evaluate() feeds {_listed(unknown)}, which metrics() does not have; it has {_listed(metrics)}. "
            "Use the same keys in both."
        )
    for key, metric in metrics.items():
        signature = signature_of(metric)
        try:
            signature.bind(**inputs[key])
        except TypeError as error:
            raise ConfigurationError(
                f"{which}: evaluate() feeds '{key}' with {_listed(inputs[key])}; its update() takes "
                f"{_listed(signature.parameters)} ({error})."
            ) from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
