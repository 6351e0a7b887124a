"""Classes of runs that are compared, in an order that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.several.results import OF_CLASS

if TYPE_CHECKING:
    from transformers_framework.several.measures import Labelled


class Classes:
    """Classes in an order that runs share: that of a model with more than two depends on its training data.

    Args:
        encoder: Label encoder of a run.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder, names = encoder, encoder.display_names
        order = sorted(range(len(names)), key=lambda number: place_of_class(names[number]))
        order = order if len(names) > 2 else [*range(len(names))]  # of two, the F1 is that of the second
        self.names = [names[number] for number in order]
        self._places = np.argsort(order)

    def numbers(self, values: Sequence[Any]) -> np.ndarray:
        """Return the number of each label or prediction, -100 where there is none: ``(N,) int64``."""
        found: np.ndarray = self.encoder.numbers(values)
        return np.where(found >= 0, self._places[np.maximum(found, 0)], found)

    def columns(self, values: Any) -> np.ndarray:
        """Return columns ``(…, C)`` of the model in this order."""
        return np.asarray(values)[..., np.argsort(self._places)]

    def weighted(self, run: Labelled) -> dict[str, Any]:
        """Return the flags of a run with the weights of its classes in this order."""
        weights = run.flags.get("label_weights")
        return {**run.flags, "label_weights": None if weights is None else self.columns(weights).tolist()}

    def logged(self, run: Labelled) -> list[str]:
        """Return the names of the classes whose F1 a run logs."""
        return [name for name in self.names if f"{OF_CLASS}{name}" in run.logged]


def place_of_class(name: str) -> tuple[int, str]:
    """Return a key that sorts numbers by their values, and names."""
    return int(name) if name.isdecimal() else 0, name
