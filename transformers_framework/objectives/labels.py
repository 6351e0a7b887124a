"""Classes of a label column: numbers or names, found in the data or asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import IGNORED_LABEL, TRAIN
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.processing.columns import Origin, arrow_chunks, check_column, item_feature, type_name

if TYPE_CHECKING:
    from datasets import Dataset


MAX_CLASSES = 10_000  # more distinct labels than this are no labels


class Classes:
    """The classes of one column: how many, how they are called, which number each has.

    What is trained decides, where names were not asked for: ``ClassLabel`` names, sorted strings, or ints from 0. Where
    nothing is trained, it is the checkpoint that knows.

    Args:
        column: The label column.
        num_labels: Number of classes when it was asked for; else it is found.
        known: Classes of a checkpoint that was fine-tuned before: names, or numbers where they have none.
        asked: Names of all classes in the order of their numbers, when they were asked for.
        in_lists: Each row has a list of labels.

    Raises:
        ConfigurationError: When names were asked for that cannot be those of classes, or of another number of them.
    """

    def __init__(
        self,
        column: str,
        num_labels: int | None = None,
        known: Sequence[str] | None = None,
        asked: Sequence[str] | None = None,
        *,
        in_lists: bool = False,
    ) -> None:
        if asked is not None:
            _check_names(asked, num_labels)
        self.column, self.in_lists = column, in_lists
        self.num_labels, self.asked = num_labels, list(asked or ())
        self.known = list(known or ())
        numbered = self.known == [str(number) for number in range(len(self.known))]
        self.names = None if numbered else self.known
        self.named_by_data = False  # names are the texts of the column, in the order of the alphabet
        self._settled = False

    def inspect(self, dataset: Dataset, origin: Origin) -> None:
        """Learn the classes from the first data set, check those of every other against them.

        Raises:
            DataError: When a label is missing, of the wrong type or out of range, with its place.
        """
        from datasets import ClassLabel, Value

        check_column(dataset, self.column, origin, flag="label_column")
        found = dataset.features[self.column]
        feature = item_feature(found) if self.in_lists else found
        if not isinstance(feature, (ClassLabel, Value)):
            expected = "a list of whole numbers or names" if self.in_lists else "a whole number or a name"
            lists = item_feature(found) is not None and not self.in_lists
            raise DataError(
                f"--label_column: '{self.column}' of {origin.source} holds {type_name(found)}; expected {expected} in "
                "each row." + (" (seq_class learns lists of classes with --problem_type multi_label.)" if lists else "")
            )
        values = _distinct(dataset, self.column, origin)
        for value, row in sorted(values, key=lambda found: not _is_fraction(found[0])):
            if value is None or (isinstance(value, str) and not value.strip()):
                raise self._wrong(origin, row, value, "a label")
            if not isinstance(value, (str, int)):
                remedy = "" if self.in_lists else " (seq_class learns numbers with --problem_type regression)"
                raise self._wrong(origin, row, value, f"a whole number or a name{remedy}")
        declared = list(feature.names) if isinstance(feature, ClassLabel) else None
        self.settle([value for value, _ in values], declared, trains=origin.stage == TRAIN)
        if declared and self.names and declared != self.names:
            raise DataError(
                f"--label_column: '{self.column}' of {origin.source} has the classes {listed(declared)}; expected "
                f"{listed(self.names)}, in this order. Cast the column to these classes."
            )
        for value, row in values:
            by_name = isinstance(value, str)
            if by_name and not self.names:
                raise self._wrong(origin, row, value, f"a whole number, 0 to {self.count - 1}")
            if self.names and (value not in self._number if by_name else self.named_by_data):
                raise self._wrong(origin, row, value, f"one of {listed(self.names)}")
            if not by_name and value != IGNORED_LABEL and not 0 <= value < self.count:
                remedy = ". Hidden test labels: use --predict_dataset" if value == -1 else ""
                raise self._wrong(origin, row, value, f"0 to {self.count - 1} (--num_labels {self.count}){remedy}")

    def settle(self, values: Sequence[Any] = (), declared: Sequence[str] | None = None, *, trains: bool) -> None:
        """Decide on the classes, once.

        Args:
            values: Distinct labels of the first data set.
            declared: Names that its column declares.
            trains: Whether it is trained on; else the checkpoint's classes are the only ones that make sense.

        Raises:
            ConfigurationError: When nothing is trained and the checkpoint has other classes than asked for.
            DataError: When the data leave no doubt that their labels are wrong, or leave doubts about how many there
                are.
        """
        if self._settled:
            return
        self._settled = True
        if self.asked:
            others = (self.names and self.names != self.asked) or len(self.known) != len(self.asked)
            if self.known and not trains and others:
                raise ConfigurationError(
                    f"--labels: the checkpoint has the classes {listed(self.known)}; found {listed(self.asked)}. Leave "
                    "the flag out, or give these in their order."
                )
            self.names, self.num_labels = self.asked, len(self.asked)
            return
        if self.known and not trains:
            if self.num_labels not in (None, len(self.known)):
                raise ConfigurationError(
                    f"--pre_trained_model: it has {len(self.known)} classes ({listed(self.known)}), "
                    f"{self.num_labels} are needed here."
                )
            self.num_labels = len(self.known)
            if self.names is None and declared and len(declared) == self.num_labels:
                self.names = list(declared)
            return
        texts = sorted(value for value in values if isinstance(value, str))
        if texts and not (self.names and set(texts) <= set(self.names)):
            self.names, self.named_by_data = texts, True
        elif declared:
            self.names = list(declared)
        found = len(self.names) if self.names else 1 + max((v for v in values if not isinstance(v, str)), default=0)
        if self.num_labels is None:
            self._require_all_classes(values, max(2, found))
            self.num_labels = max(2, found)
        if self.names and len(self.names) != self.num_labels:
            if texts:
                raise DataError(
                    f"--num_labels: {self.num_labels} classes were asked for, '{self.column}' has {len(self.names)}: "
                    f"{listed(self.names)}."
                )
            self.names = None

    def _require_all_classes(self, values: Sequence[Any], count: int) -> None:
        """Refuse classes that no row has: a wrong label would add classes, and silently so."""
        if not values:  # there is nothing but texts to predict
            return
        if self.names:
            if len(self.names) == 1:
                raise DataError(f"--label_column: every label of '{self.column}' is '{self.names[0]}'.")
            return
        present = {int(value) for value in values if value != IGNORED_LABEL}
        absent = list(islice((str(number) for number in range(count) if number not in present), 11))
        if absent and min(present, default=0) >= 0:
            raise DataError(
                f"--label_column: '{self.column}' has labels up to {max(present, default=0)}, numbered from 0, but no "
                f"row is of class {listed(absent)}: mend the labels, or give --num_labels {count} if they are right."
            )

    def _wrong(self, origin: Origin, row: int, found: Any, expected: str) -> DataError:
        what = "no label (null)" if found is None else "an empty label" if found == "" else f"the label {found!r}"
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
        """Return the class number of each label, -100 where there is none: ``(B,) int64``.

        Raises:
            DataError: When a label is none of the classes: only the first rows of a stream were looked at before.
        """
        try:
            return np.array([self._number[value] for value in values], dtype=np.int64)
        except KeyError as error:
            raise DataError(
                f"'{self.column}' has the label {error.args[0]!r} in a row that was not looked at before training; "
                f"expected one of {listed(self.display_names)}."
            ) from error

    @cached_property
    def _number(self) -> Mapping[Any, int]:
        """The number of everything that can stand for a class, made once: there may be thousands."""
        assert self._settled, "the data was not looked at yet"
        number: dict[Any, int] = {name: index for index, name in enumerate(self.names or ())}
        return (
            number | {index: index for index in range(self.count)} | {None: IGNORED_LABEL, IGNORED_LABEL: IGNORED_LABEL}
        )


def _check_names(names: Sequence[str], num_labels: int | None) -> None:
    if not all(name.strip() for name in names) or len(set(names)) < max(2, len(names)):
        raise ConfigurationError(
            f"--labels: found {listed(names) or 'nothing'}; expected two or more different names, one a class."
        )
    if num_labels not in (None, len(names)):
        raise ConfigurationError(f"--num_labels {num_labels}: --labels has {len(names)} names. Leave one of them out.")


def listed(names: Sequence[str]) -> str:
    """Return the first names of many.

    Examples:
        >>> listed(["cat", "dog"])
        'cat, dog'
    """
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def _is_fraction(value: Any) -> bool:
    return isinstance(value, float) and not value.is_integer()


def _distinct(dataset: Dataset, column: str, origin: Origin) -> list[tuple[Any, int]]:
    """Return the distinct values of a column, or of its lists, each with the first row that has it.

    Raises:
        DataError: When there are so many that they cannot be labels.
    """
    import pyarrow.compute as pc

    first: dict[Any, int] = {}
    start = 0
    in_lists = item_feature(dataset.features[column]) is not None
    for chunk in arrow_chunks(dataset, column):
        array = pc.list_flatten(chunk) if in_lists else chunk
        encoded = array.dictionary_encode(null_encoding="encode")
        numbers, places = np.unique(encoded.indices.to_numpy(), return_index=True)
        if len(numbers) > MAX_CLASSES:
            raise DataError(
                f"--label_column: '{column}' of {origin.source} has more than {MAX_CLASSES:,} different values. Is it "
                f"the label? There are: {', '.join(dataset.column_names)}."
            )
        rows = pc.list_parent_indices(chunk).to_numpy()[places] if in_lists else places
        for value, row in zip(encoded.dictionary.take(numbers).to_pylist(), rows.tolist(), strict=True):
            first.setdefault(value, start + row)
        start += len(chunk)
    return list(first.items())
