"""Classes of a label column: numbers or names, found in the data or asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import IGNORED_LABEL, TRAIN
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.processing.columns import Origin, arrow_chunks, check_column

if TYPE_CHECKING:
    from datasets import Dataset


class Classes:
    """The classes of one column: how many, how they are called, which number each has.

    What is trained decides: ``ClassLabel`` names, sorted strings, or ints from 0. Where nothing is trained, it is the
    checkpoint that knows.

    Args:
        column: The label column.
        num_labels: Number of classes when it was asked for; else it is found.
        known: Classes of a checkpoint that was fine-tuned before: names, or numbers where they have none.
    """

    def __init__(self, column: str, num_labels: int | None = None, known: Sequence[str] | None = None) -> None:
        self.column = column
        self.num_labels = num_labels
        self.known = list(known or ())
        numbered = self.known == [str(number) for number in range(len(self.known))]
        self.names = None if numbered else self.known
        self._settled = False

    def inspect(self, dataset: Dataset, origin: Origin) -> None:
        """Learn the classes from the first data set, check those of every other against them.

        Raises:
            DataError: When a label is missing, of the wrong type or out of range, with its place.
        """
        from datasets import ClassLabel

        check_column(dataset, self.column, origin, flag="label_column")
        feature = dataset.features[self.column]
        values = list(_distinct(dataset, self.column))
        if any(value is None for value, _ in values):
            raise self._wrong(origin, next(row for value, row in values if value is None), None, "a label")
        wrong = [(value, row) for value, row in values if not isinstance(value, (str, int))]
        if wrong:
            raise self._wrong(origin, wrong[0][1], wrong[0][0], "a whole number or a name")
        declared = list(feature.names) if isinstance(feature, ClassLabel) else None
        self.settle([value for value, _ in values], declared, trains=origin.stage == TRAIN)
        if declared and self.names and declared != self.names:
            raise DataError(
                f"--label_column: '{self.column}' of {origin.source} has the classes {', '.join(declared)}; expected "
                f"{', '.join(self.names)}, in this order. Cast the column to these classes."
            )
        for value, row in values:
            if isinstance(value, str) and value not in (self.names or ()):
                raise self._wrong(origin, row, value, f"one of {', '.join(self.names or ()) or 'numbers'}")
            if not isinstance(value, str) and value != IGNORED_LABEL and not 0 <= value < self.count:
                remedy = ". Hidden test labels: use --predict_dataset" if value == -1 else ""
                raise self._wrong(origin, row, value, f"0 to {self.count - 1} (--num_labels {self.count}){remedy}")

    def settle(self, values: Sequence[Any] = (), declared: Sequence[str] | None = None, *, trains: bool) -> None:
        """Decide on the classes, once.

        Args:
            values: Distinct labels of the first data set.
            declared: Names that its column declares.
            trains: Whether it is trained on; else the checkpoint's classes are the only ones that make sense.

        Raises:
            ConfigurationError: When nothing is trained and the checkpoint has another number of classes.
        """
        if self._settled:
            return
        self._settled = True
        if self.known and not trains:
            if self.num_labels not in (None, len(self.known)):
                raise ConfigurationError(
                    f"--pre_trained_model: it has {len(self.known)} classes ({', '.join(self.known)}), "
                    f"{self.num_labels} are needed here."
                )
            self.num_labels = len(self.known)
            if self.names is None and declared and len(declared) == self.num_labels:
                self.names = list(declared)
            return
        texts = sorted(value for value in values if isinstance(value, str))
        if texts and not (self.names and set(texts) <= set(self.names)):
            self.names = texts
        elif declared:
            self.names = list(declared)
        found = len(self.names) if self.names else 1 + max((v for v in values if not isinstance(v, str)), default=0)
        if self.num_labels is None:
            self.num_labels = max(2, found)
        if self.names and len(self.names) != self.num_labels:
            if texts:
                raise DataError(
                    f"--num_labels: {self.num_labels} classes were asked for, '{self.column}' has {len(self.names)}: "
                    f"{', '.join(self.names)}."
                )
            self.names = None

    def _wrong(self, origin: Origin, row: int, found: Any, expected: str) -> DataError:
        what = "no label (null)" if found is None else f"the label {found!r}"
        return DataError(f"{origin.place(row)}: '{self.column}' has {what}; expected {expected}.")

    @property
    def count(self) -> int:
        """Return the number of classes."""
        assert self.num_labels is not None, "the data was not looked at yet"
        return self.num_labels

    @property
    def display_names(self) -> list[str]:
        """Return the name of every class; its number where it has none."""
        return self.names or [str(number) for number in range(self.count)]

    def numbers(self, values: Sequence[Any]) -> np.ndarray:
        """Return the class number of each label, -100 where there is none: ``(B,) int64``."""
        if self.names and any(isinstance(value, str) for value in values):
            number = {name: index for index, name in enumerate(self.names)}
            return np.array([number.get(value, IGNORED_LABEL) for value in values], dtype=np.int64)
        return np.array([IGNORED_LABEL if value is None else int(value) for value in values], dtype=np.int64)


def _distinct(dataset: Dataset, column: str) -> list[tuple[Any, int]]:
    """Return the distinct values of a column, each with the first row that has it."""
    import pyarrow.compute as pc

    first: dict[Any, int] = {}
    start = 0
    for array in arrow_chunks(dataset, column):
        for value in pc.unique(array):
            if value.as_py() not in first:
                found = pc.is_null(array) if not value.is_valid else pc.equal(array, value)
                first[value.as_py()] = start + pc.index(found, True).as_py()
        start += len(array)
    return list(first.items())
