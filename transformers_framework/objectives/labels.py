"""The label encoder: converts the values of a label column to class numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, TRAIN, Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.objectives.label_values import (
    WORDS,
    are_rewritten_numbers,
    can_be_labels,
    distinct,
    is_fraction,
    is_missing,
    is_written_list,
    names_of,
    number_of,
    numbers_in_names,
    rows_with,
)
from transformers_framework.sources.columns import DatasetSource, check_column, item_feature, type_name

if TYPE_CHECKING:
    from datasets import Dataset

UNNAMED = "LABEL_{}"  # default name of a class in transformers

logger = logging.getLogger(__name__)


class LabelEncoder:
    """Label encoder of a column: the number of classes, their names, and the class number of each value.

    Names come from ``--labels``; else from the training data: ``ClassLabel`` names, sorted strings, or integers from 0.
    If the data have the same names as the checkpoint, its order is kept; with other names or another number of classes,
    the output layer is newly initialized. In runs without training, the classes are those of the checkpoint.

    Args:
        column: The label column.
        num_labels: Number of classes if given by a flag; else it is taken from the data.
        known: Classes of a checkpoint that was fine-tuned before: names, or numbers if they have no names.
        asked: Names of all classes in the order of their numbers, if given by a flag.
        in_lists: Each row has a list of labels.
        is_binary: Labels are 1 or 0, or words for yes and no.
        known_as_texts: Known classes are names even if they look like numbers.

    Raises:
        ConfigurationError: When the names of the flag are empty or repeated, or their number is not ``num_labels``.
    """

    def __init__(
        self,
        column: str,
        num_labels: int | None = None,
        known: Sequence[str] | None = None,
        asked: Sequence[str] | None = None,
        *,
        in_lists: bool = False,
        is_binary: bool = False,
        known_as_texts: bool = False,
    ) -> None:
        if asked is not None:
            _check_names(asked, num_labels)
        self.column, self.in_lists, self.is_binary = column, in_lists, is_binary
        self.num_labels, self.asked = num_labels, list(asked or ())
        self.known = list(known or ())
        self.names = self.known if known_as_texts or not _are_numbers(self.known) else None
        self.named_by_data = False  # names are the sorted texts of the column
        self.keeps_head = True  # the checkpoint's output layer has the same classes
        self._is_fixed = False
        self._declared: dict[Stage | None, list[str] | None] = {}  # names of a ClassLabel column, in its own order
        self._found: dict[Stage | None, dict[Any, int]] = {}  # class number of each value that was seen

    def inspect(self, dataset: Dataset, source: DatasetSource) -> None:
        """Determine the classes from the first data set; check the labels of this and of all further ones.

        Raises:
            DataError: When a label is missing, of an invalid type or out of range, with its place.
        """
        from datasets import ClassLabel

        check_column(dataset, self.column, source, flag="label_column")
        found = dataset.features[self.column]
        feature = item_feature(found) if self.in_lists else found
        if not can_be_labels(feature):
            expected = "a list of whole numbers or names" if self.in_lists else "a whole number or a name"
            lists = item_feature(found) is not None and not self.in_lists
            raise DataError(
                f"--label_column: '{self.column}' of {source.name} holds {type_name(found)}; expected {expected} in "
                "each row." + (" (For lists, use seq_class with --problem_type multi_label.)" if lists else "")
            )
        values = distinct(dataset, self.column, source)
        if any(self._reason(value) for value in values):
            self._refuse(dataset, source, self._reason)
            values = [value for value in values if not self._reason(value)]
            if not values:
                return
        declared = self._declared[source.stage] = list(feature.names) if isinstance(feature, ClassLabel) else None
        labels = [self._label_of(value, declared) for value in values]
        texts = [label for label in labels if isinstance(label, str)]
        if texts and declared is None and not self._is_fixed and are_rewritten_numbers(texts):
            logger.info("'%s' of %s holds %r: texts are read as whole numbers.", self.column, source.name, texts[0])
            labels = [number_of(label) for label in labels]
        self.fix_classes(labels, declared, trains=source.stage == TRAIN)
        self._check_order(declared, labels, source)
        known = {value for value in values if self._class_of(value, declared) is not None}
        if len(known) < len(values):
            unknown = set(values) - known
            self._refuse(dataset, source, lambda value: self._expected(value) if value in unknown else None)

    def _reason(self, value: Any) -> str | None:
        """Return what is expected instead of a value that is no label; None if it is one."""
        if is_missing(value):
            return "a label"
        if is_written_list(value):
            return (
                "a whole number or a name, but this is a list in the form of a string. CSV and TSV files cannot store "
                "lists: use JSON lines or Parquet"
            )
        if is_fraction(value):
            remedy = "" if self.in_lists else " (for numbers, use seq_class with --problem_type regression)"
            return f"a whole number or a name{remedy}"
        if self.is_binary and isinstance(self._label_of(value), str):
            return "1 (relevant candidate) or 0 (irrelevant), or yes and no"
        return None

    def _refuse(self, dataset: Dataset, source: DatasetSource, expected: Callable[[Any], str | None]) -> None:
        """Report the rows with a wrong label; ``expected`` returns what is expected instead of one."""
        rows, values = rows_with(dataset, self.column, lambda value: expected(value) is not None)
        source.refuse(rows, lambda at: self._wrong(values[at], str(expected(values[at]))))

    def _check_order(self, declared: Sequence[str] | None, labels: Sequence[Any], source: DatasetSource) -> None:
        """Raise an error when a ``ClassLabel`` column has other names; log when the names are in another order."""
        if not declared or not self.names or list(declared) == self.names:
            return
        if not {label for label in labels if isinstance(label, str)} <= set(self.names):
            raise DataError(
                f"--label_column: '{self.column}' of {source.name} has the classes {listed(declared)}; expected "
                f"{listed(self.names)}. Cast the column to these classes."
            )
        logger.info(
            "'%s' of %s has the classes %s: they are matched by name with the classes %s.",
            self.column, source.name, listed(declared), listed(self.names),
        )  # fmt: skip

    def fix_classes(self, values: Sequence[Any] = (), declared: Sequence[str] | None = None, *, trains: bool) -> None:
        """Determine the classes; only the first call has an effect.

        Args:
            values: Distinct labels of the first data set: names or numbers.
            declared: Names of its ``ClassLabel`` column.
            trains: Whether it is the training data; without training, the classes are those of the checkpoint.

        Raises:
            ConfigurationError: When the checkpoint's output layer is needed and its classes are not those of the flags.
            DataError: When labels are invalid, or the number of classes cannot be determined from the data.
        """
        if self._is_fixed:
            return
        self._is_fixed = True
        known = self.names
        named = {} if self.is_binary else numbers_in_names(known or ())
        if named and trains and not declared and set(values) - {IGNORE_INDEX} <= set(named):
            values = [named[value] for value in values if value in named]
        if self.asked:
            self._take_asked(trains=trains)
        elif self.known and not trains:
            self._take_known(declared)
        elif names := list(declared or names_of(value for value in values if isinstance(value, str))):
            self.named_by_data = not declared
            self._take_names(names)
        else:
            self._take_numbers(values)
        if self.known and trains:
            self.keeps_head = self.count == len(self.known) and (known is None or self.names in (None, known))
            if not self.keeps_head:
                logger.warning(
                    "The checkpoint has the classes %s, but this run has %s: the output layer is newly initialized.",
                    listed(self.known), listed(self.display_names),
                )  # fmt: skip

    def _take_asked(self, *, trains: bool) -> None:
        others = (self.names and self.names != self.asked) or len(self.known) != len(self.asked)
        if self.known and others and (not trains or set(self.known) == set(self.asked)):
            raise ConfigurationError(
                f"--labels: the checkpoint has the classes {listed(self.known)}; found {listed(self.asked)}. Leave "
                "the flag out, or give the checkpoint's classes in their order."
            )
        self.names, self.num_labels = self.asked, len(self.asked)

    def _take_known(self, declared: Sequence[str] | None) -> None:
        if self.num_labels not in (None, len(self.known)):
            raise ConfigurationError(
                f"--pre_trained_model: it has {len(self.known)} classes ({listed(self.known)}), but "
                f"{self.num_labels} are needed. Change --num_labels or use another checkpoint."
            )
        self.num_labels = len(self.known)
        if self.names is None and declared and len(declared) == self.num_labels:
            self.names = list(declared)

    def _take_names(self, names: list[str]) -> None:
        """Use the names of the data; in the checkpoint's order if it has the same names."""
        known = self.names or []
        if set(names) == set(known) or (self.num_labels == len(known) and set(names) <= set(known)):
            self.num_labels = len(known)
            return
        if len(names) == 1 and self.num_labels is None:
            raise DataError(
                f"--label_column: every label of '{self.column}' is '{names[0]}'; expected two or more classes."
            )
        count = self.num_labels or len(names)
        if count < len(names):
            raise DataError(
                f"--num_labels {count}: '{self.column}' has {len(names)} classes ({listed(names)}). Give {len(names)} "
                "or more, or leave the flag out."
            )
        if more := [UNNAMED.format(number) for number in range(len(names), count)]:
            logger.warning(
                "--num_labels %d: '%s' has %d classes (%s); no row has one of the others, %s.",
                count, self.column, len(names), listed(names), listed(more),
            )  # fmt: skip
        self.names, self.num_labels = [*names, *more], count

    def _take_numbers(self, values: Sequence[Any]) -> None:
        """Use classes without names in the data; if the checkpoint has as many, they get its names."""
        count = self.num_labels or max(2, 1 + max(values, default=0))
        if count != len(self.known):
            self.names = None
        if self.num_labels is None and not self.names:
            self._require_all_classes(values, count)
        if self.names:
            logger.info("'%s' has numbers, which are read as the checkpoint's %s.", self.column, listed(self.names))
            self.names = None if _are_numbers(self.names) else self.names
        self.num_labels = count

    def _require_all_classes(self, values: Sequence[Any], count: int) -> None:
        """Raise an error when a class has no row: an invalid label would silently add classes."""
        if not values:  # the data are only predicted
            return
        present = {int(value) for value in values if value != IGNORE_INDEX}
        absent = list(islice((str(number) for number in range(count) if number not in present), 11))
        if absent and min(present, default=0) >= 0:
            raise DataError(
                f"--label_column: '{self.column}' has labels up to {max(present, default=0)}, numbered from 0, but no "
                f"row has class {listed(absent)}. Correct the labels, or give --num_labels {count} if they are right."
            )

    def _wrong(self, found: Any, expected: str) -> str:
        empty = f"no label ({'null' if found is None else found})" if not isinstance(found, str) else "an empty label"
        what = empty if is_missing(found) else f"the label {repr(found) if isinstance(found, str) else found}"
        return f"'{self.column}' has {what}; expected {expected}."

    def _expected(self, value: Any) -> str:
        """Return a text with the allowed labels, for the message about an invalid value."""
        if self.names and (isinstance(value, str) or self.named_by_data or self._number_of_whole):
            return f"one of {listed(self.names)}"
        if isinstance(value, str):
            return f"a whole number, 0 to {self.count - 1}"
        remedy = ". Hidden test labels: use --predict_dataset" if value == -1 else ""
        return f"0 to {self.count - 1} (--num_labels {self.count}){remedy}"

    @property
    def count(self) -> int:
        """Return the number of classes."""
        assert self.num_labels is not None, "classes are known after the first data set was inspected"
        return self.num_labels

    @property
    def display_names(self) -> list[str]:
        """Return the name of every class, or its number if classes have no names."""
        return self.names or [str(number) for number in range(self.count)]

    @property
    def number_of_prediction(self) -> Mapping[Any, int]:
        """Return the class numbers by their form in files of predictions: the name, or the number without names."""
        return self._number if self.names else {number: number for number in range(self.count)}

    @property
    def are_texts(self) -> bool:
        """Return whether classes have names that look like numbers or like default names."""
        names = self.names or ()
        unnamed = [UNNAMED.format(number) for number in range(len(names))]
        return bool(names) and (_are_numbers(names) or list(names) == unnamed)

    # ---------------------------------------------------------------- values to numbers

    def numbers(self, values: Sequence[Any], stage: Stage | None = None) -> np.ndarray:
        """Return the class number of each label, -100 where there is none: ``(B,) int64``.

        Args:
            values: Values of the column.
            stage: Stage of their data set: its ``ClassLabel`` column may have the names in another order.

        Raises:
            DataError: When a label is not one of the classes: of a stream, only the first rows were checked before.
        """
        found = self._found.setdefault(stage, {None: IGNORE_INDEX})
        try:
            return np.array([found[value] for value in values], dtype=np.int64)
        except KeyError:
            numbers = [self._class_of(value, self._declared.get(stage)) for value in values]
        if None in numbers:
            raise DataError(
                f"'{self.column}' has the label {values[numbers.index(None)]!r} in a row that was not checked before "
                f"training; expected one of {listed(self.display_names)}."
            )
        found.update(zip(values, numbers, strict=True))  # type: ignore[arg-type]
        return np.array(numbers, dtype=np.int64)

    def _label_of(self, value: Any, declared: Sequence[str] | None = None) -> Any:
        """Convert a value of a column to a label: an integer or a name."""
        if declared is None:
            return value if isinstance(value, str) and not self.is_binary else number_of(value)
        if not 0 <= value < len(declared):
            return value
        said = [number_of(name) for name in declared]
        return said[value] if self.is_binary and sorted(map(str, said)) == ["0", "1"] else declared[value]

    def _class_of(self, value: Any, declared: Sequence[str] | None = None) -> int | None:
        """Return the class number of a value, -100 if it is missing, None if it is not one of the classes."""
        if value is None or value != value or value == IGNORE_INDEX:
            return IGNORE_INDEX
        label = self._label_of(value, declared)
        if self.names:
            if isinstance(label, str):
                return self._number.get(label, self._number_of_word.get(WORDS.get(label.strip().casefold(), -1)))
            if self._number_of_whole and declared is None:
                return self._number_of_whole.get(label)
            if self.named_by_data:
                return self._number_of_word.get(int(label)) if isinstance(label, bool) else None
        elif isinstance(label, str):
            label = value if declared else number_of(label)
            if isinstance(label, str) or (self.count > 2 and WORDS.get(value.strip().casefold()) == label):
                return None
        return int(label) if 0 <= label < self.count and not is_fraction(label) else None

    @cached_property
    def _number(self) -> Mapping[str, int]:
        """Class numbers by name, cached because there may be thousands."""
        return {name: number for number, name in enumerate(self.names or ())}

    @cached_property
    def _number_of_whole(self) -> Mapping[int, int]:
        """Class numbers by integer, if all names are integers: 1 is the class named "1", not the second class."""
        named = {} if self.is_binary else numbers_in_names(self.names or ())
        return {whole: self._number[name] for whole, name in named.items()}

    @cached_property
    def _number_of_word(self) -> Mapping[int, int]:
        """Class numbers of 1 and 0, if the names are words for yes and no."""
        words = [WORDS.get(name.strip().casefold()) for name in self.names or ()]
        return {word: number for number, word in enumerate(words) if word is not None} if set(words) == {0, 1} else {}


def _are_numbers(names: Sequence[str]) -> bool:
    """Return whether names are "0", "1", and so on, as for classes without names."""
    return list(names) == [str(number) for number in range(len(names))]


def _check_names(names: Sequence[str], num_labels: int | None) -> None:
    if not all(name.strip() for name in names) or len(set(names)) < max(2, len(names)):
        raise ConfigurationError(
            f"--labels: found {listed(names) or 'nothing'}; expected two or more different names, one per class."
        )
    if num_labels not in (None, len(names)):
        raise ConfigurationError(f"--num_labels {num_labels}: --labels has {len(names)} names. Leave one of them out.")


def listed(names: Sequence[str]) -> str:
    """Join names with commas, the first ten if there are more.

    Examples:
        >>> listed(["cat", "dog"])
        'cat, dog'
    """
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
