"""Private parts of torchmetrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric

# what is used, as `module:name`, and why the public interface does not do
PARTS: Final = {
    "torchmetrics:Metric.add_state": "`_defaults`, `_reductions`, `_update_count`: states of training that are resumed",
}


def names_of_states(metric: Metric) -> list[str]:
    """Return the names of a metric's states, in the order in which they were added."""
    return list(metric._defaults)


def is_list_state(metric: Metric, state: str) -> bool:
    """Return whether a state is a list with one entry per batch, and not a tensor."""
    return isinstance(metric._defaults[state], list)


def reduction_of(metric: Metric, state: str) -> Any:
    """Return how a state is reduced over ranks: a function, None where the metric does it itself."""
    return metric._reductions[state]


def set_state(metric: Metric, state: str, value: Tensor) -> None:
    """Give a metric a state, as if it had been updated."""
    setattr(metric, state, [value] if is_list_state(metric, state) else value)
    metric._update_count = max(1, metric._update_count)
