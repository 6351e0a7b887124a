"""Parsing of the values of a label column: integers, class names, words for yes and no."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, RELEVANT
from transformers_framework.exceptions import DataError
from transformers_framework.sources.columns import DatasetSource, arrow_chunks, item_chunks, item_feature

if TYPE_CHECKING:
    from datasets import Dataset

MAX_CLASSES = 10_000  # a column with more distinct values is not accepted as labels
WORDS = {"yes": 1, "no": 0, "true": 1, "false": 0}  # case-insensitive
WORD_PAIRS = ({"yes", "no"}, {"true", "false"})
WHOLE = re.compile(r"-?(0|[1-9]\d{0,15})(\.0*)?")
NUMBER_NAME = re.compile(r"-?\d{1,16}(\.0*)?")
KINDS = ("bool", "int", "uint", "float", "decimal", "string", "large_string", "null")  # of a column of labels
# parts of a list: numbers, strings, True, None, brackets, commas, and the names of types of numpy and torch
_PARTS = (
    r"(?:[\d.,\s\[\](){}]|[-+](?=[\d.ni])|(?<=\d)e(?=[-+\d])|(?<=['\"]):|:(?=\s)|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
    r"|True|False|None|true|false|null|nan|NaN|inf|(?:np\.\w+|tensor|array|b)(?=[('\"])|(?:dtype|device)=[\w.]*)*"
)
# a list, tuple, set or dict as Python, numpy, torch or JSON write it: [], [0. 1.], ['a' 'b'], (0,), {"a": 1}, tensor(…)
LIST = re.compile(
    rf"\[{_PARTS}\]|\{{{_PARTS}\}}|\((?=\s*\)|.*[,'\"]){_PARTS}\)|(?:np\.)?\w+\(\s*[\[({{]{_PARTS}\)"
    r"|[\[({]\s*(['\"]).*\1,?\s*[\])}]",
    re.DOTALL,
)


def number_of(value: Any) -> Any:
    """Convert a value to an integer where it represents one; other values are returned unchanged.

    Examples:
        >>> [number_of(value) for value in (1.0, Decimal("2.00"), "1.0", "TRUE", "no", True, 0.5, "maybe", "01")]
        [1, 2, 1, 1, 0, True, 0.5, 'maybe', '01']
    """
    if isinstance(value, str):
        text = value.strip()
        return int(float(text)) if WHOLE.fullmatch(text) else WORDS.get(text.casefold(), value)
    return int(value) if isinstance(value, (float, Decimal)) and not is_fraction(value) else value


def is_fraction(value: Any) -> bool:
    """Return whether a value is a number, but not an integer.

    Examples:
        >>> [is_fraction(value) for value in (0.5, Decimal("0.50"), float("nan"), 1.0, Decimal("1.0"), 1, "0.5")]
        [True, True, True, False, False, False, False]
    """
    if isinstance(value, Decimal):
        return value != value.to_integral_value()
    return isinstance(value, float) and not value.is_integer()


def numbers_in_names(names: Sequence[str]) -> Mapping[int, str]:
    """Return the names keyed by the integers that they represent; empty if one is not an integer or two are equal.

    Examples:
        >>> numbers_in_names(["1", "02"]), numbers_in_names(["1", "two"]), numbers_in_names(["1", "01"])
        ({1: '1', 2: '02'}, {}, {})
    """
    if not all(NUMBER_NAME.fullmatch(name.strip()) for name in names):
        return {}
    found = {int(float(name)): name for name in names}
    return found if len(found) == len(names) else {}


def can_be_labels(feature: Any) -> bool:
    """Return whether the type of a column is allowed for labels: strings or numbers, but not bytes or dates.

    Examples:
        >>> from datasets import Value
        >>> [can_be_labels(Value(kind)) for kind in ("int8", "string", "decimal128(4, 1)", "binary", "date32")]
        [True, True, True, False, False]
    """
    from datasets import ClassLabel, Value

    return isinstance(feature, ClassLabel) or (isinstance(feature, Value) and feature.dtype.startswith(KINDS))


def are_rewritten_numbers(texts: Sequence[str]) -> bool:
    """Return whether texts are integers of which some are written as decimals, such as 0.0 and 1.0.

    Examples:
        >>> are_rewritten_numbers(["0.0", "1"]), are_rewritten_numbers(["0", "1"]), are_rewritten_numbers(["1.0", "a"])
        (True, False, False)
    """
    return all(WHOLE.fullmatch(text) for text in texts) and any("." in text for text in texts)


def names_of(texts: Iterable[str]) -> list[str]:
    """Return the sorted names of the classes in a column of texts.

    If yes and no (or true and false) occur in several spellings, they are two classes with lower-case names.

    Examples:
        >>> names_of(["no", "yes"]), names_of(["True", "FALSE", "TRUE"]), names_of(["US", "us"])
        (['no', 'yes'], ['false', 'true'], ['US', 'us'])
    """
    spellings = set(texts)
    words = {text.casefold() for text in spellings}
    merge = len(spellings) > len(words) and any(words <= pair for pair in WORD_PAIRS)
    return sorted(words if merge else spellings)


def is_written_list(value: Any) -> bool:
    """Return whether a label is the string form of a list, as pandas writes lists to CSV files.

    Examples:
        >>> all(map(is_written_list, ("['old', 'slow']", "[0. 1.]", '["a"]', "[]", "(0,)", "{'a': 1}", "tensor([0])")))
        True
        >>> any(map(is_written_list, ("[MASK]", "(1)", "old, slow", "{name}", "(0, 10]", 7)))
        False
    """
    return isinstance(value, str) and LIST.fullmatch(value.strip()) is not None


def is_missing(value: Any) -> bool:
    """Return whether there is no label: null, nan, or an empty or blank text."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def distinct(dataset: Dataset, column: str, source: DatasetSource) -> list[Any]:
    """Return the distinct values of a column, or of its lists, in the order of their first occurrence.

    Raises:
        DataError: When there are too many to be labels.
    """
    found: dict[Any, None] = {}
    for array in item_chunks(dataset, column):
        encoded = array.dictionary_encode(null_encoding="encode")
        numbers = np.unique(encoded.indices.to_numpy())
        if len(numbers) > MAX_CLASSES:
            raise DataError(
                f"--label_column: '{column}' of {source.name} has more than {MAX_CLASSES:,} different values, too "
                f"many for classes. Check that it is the label. Columns: {', '.join(dataset.column_names)}."
            )
        found |= dict.fromkeys(encoded.dictionary.take(numbers).to_pylist())
    return list(found)


def rows_with(dataset: Dataset, column: str, is_wrong: Callable[[Any], bool]) -> tuple[np.ndarray, list[Any]]:
    """Return the rows with certain values in a column, or in its lists ``(N,) int64``, and the value in each.

    Args:
        dataset: The rows.
        column: The column.
        is_wrong: Returns whether a value is searched; called for the distinct values of each chunk of rows.
    """
    import pyarrow.compute as pc

    rows, values, start = [np.zeros(0, np.int64)], list[Any](), 0
    in_lists = item_feature(dataset.features[column]) is not None
    for chunk in arrow_chunks(dataset, column):
        array = pc.list_flatten(chunk) if in_lists else chunk
        encoded = array.dictionary_encode(null_encoding="encode")
        known = encoded.dictionary.to_pylist()
        wrong = np.array([is_wrong(value) for value in known], dtype=bool)
        indices = encoded.indices.to_numpy()
        if len(places := np.flatnonzero(wrong[indices])):
            owners = pc.list_parent_indices(chunk).to_numpy()[places] if in_lists else places
            rows.append(start + owners.astype(np.int64))
            values += [known[index] for index in indices[places].tolist()]
        start += len(chunk)
    return np.concatenate(rows), values


def column_numbers(array: Any, what: str, expected: str) -> np.ndarray:
    """Convert labels of an Arrow array, also words for yes and no, to numbers ``(N,) float64``; null becomes nan."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(array.type):
        encoded = array.dictionary_encode()
        numbers = [number_of(text) for text in encoded.dictionary.to_pylist()]
        if any(not isinstance(number, str) for number in numbers):
            known = pa.array([None if isinstance(number, str) else number for number in numbers], pa.float64())
            array = known.take(encoded.indices)
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    if not any(is_kind(array.type) for is_kind in kinds):
        raise DataError(f"{what} holds {array.type}; expected {expected}.")
    return np.asarray(pc.fill_null(pc.cast(array, pa.float64()), float("nan")).to_numpy(zero_copy_only=False))


def target_of(labels: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return 1 for a positive, 0 for a negative, -100 for a row without label ``(N,) int64``."""
    values = labels if isinstance(labels, np.ndarray) else [*map(number_of, labels)]
    numbers = np.array(values, dtype=np.float64)
    return np.where(numbers == IGNORE_INDEX, IGNORE_INDEX, numbers >= RELEVANT).astype(np.int64)
