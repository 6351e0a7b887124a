"""What the values of a label column stand for: whole numbers, names, words for yes and no."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.exceptions import DataError
from transformers_framework.sources.columns import DatasetSource, arrow_chunks, item_feature

if TYPE_CHECKING:
    from datasets import Dataset

MAX_CLASSES = 10_000  # more distinct labels than this are no labels
WORDS = {"yes": 1, "no": 0, "true": 1, "false": 0}  # in any case
WORD_PAIRS = ({"yes", "no"}, {"true", "false"})
WHOLE = re.compile(r"-?(0|[1-9]\d{0,15})(\.0*)?")
NUMBER_NAME = re.compile(r"-?\d{1,16}(\.0*)?")
KINDS = ("bool", "int", "uint", "float", "decimal", "string", "large_string", "null")  # of a column of labels
# what lists consist of: numbers, texts, True, None, brackets, commas, and what numpy and torch call theirs
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
    """Return the whole number that a value stands for; the value itself where it stands for none.

    Examples:
        >>> [number_of(value) for value in (1.0, Decimal("2.00"), "1.0", "TRUE", "no", True, 0.5, "maybe", "01")]
        [1, 2, 1, 1, 0, True, 0.5, 'maybe', '01']
    """
    if isinstance(value, str):
        text = value.strip()
        return int(float(text)) if WHOLE.fullmatch(text) else WORDS.get(text.casefold(), value)
    return int(value) if isinstance(value, (float, Decimal)) and not is_fraction(value) else value


def is_fraction(value: Any) -> bool:
    """Return whether a value is a number, but no whole one.

    Examples:
        >>> [is_fraction(value) for value in (0.5, Decimal("0.50"), float("nan"), 1.0, Decimal("1.0"), 1, "0.5")]
        [True, True, True, False, False, False, False]
    """
    if isinstance(value, Decimal):
        return value != value.to_integral_value()
    return isinstance(value, float) and not value.is_integer()


def numbers_in_names(names: Sequence[str]) -> Mapping[int, str]:
    """Return which whole number each name is; nothing where one is none, or two are the same.

    Examples:
        >>> numbers_in_names(["1", "02"]), numbers_in_names(["1", "two"]), numbers_in_names(["1", "01"])
        ({1: '1', 2: '02'}, {}, {})
    """
    if not all(NUMBER_NAME.fullmatch(name.strip()) for name in names):
        return {}
    found = {int(float(name)): name for name in names}
    return found if len(found) == len(names) else {}


def can_be_labels(feature: Any) -> bool:
    """Return whether a column has the type of labels: names or numbers, and no bytes or dates.

    Examples:
        >>> from datasets import Value
        >>> [can_be_labels(Value(kind)) for kind in ("int8", "string", "decimal128(4, 1)", "binary", "date32")]
        [True, True, True, False, False]
    """
    from datasets import ClassLabel, Value

    return isinstance(feature, ClassLabel) or (isinstance(feature, Value) and feature.dtype.startswith(KINDS))


def are_rewritten_numbers(texts: Sequence[str]) -> bool:
    """Return whether texts are whole numbers that a program has written as fractions, such as 0.0 and 1.0.

    Examples:
        >>> are_rewritten_numbers(["0.0", "1"]), are_rewritten_numbers(["0", "1"]), are_rewritten_numbers(["1.0", "a"])
        (True, False, False)
    """
    return all(WHOLE.fullmatch(text) for text in texts) and any("." in text for text in texts)


def names_of(texts: Iterable[str]) -> list[str]:
    """Return the names of the classes that texts name, in the order of the alphabet.

    Words for yes and no that are written in several ways are one class each, called in lower case.

    Examples:
        >>> names_of(["no", "yes"]), names_of(["True", "FALSE", "TRUE"]), names_of(["US", "us"])
        (['no', 'yes'], ['false', 'true'], ['US', 'us'])
    """
    spellings = set(texts)
    words = {text.casefold() for text in spellings}
    merge = len(spellings) > len(words) and any(words <= pair for pair in WORD_PAIRS)
    return sorted(words if merge else spellings)


def is_written_list(value: Any) -> bool:
    """Return whether a label is a list that was written as a text, as pandas writes lists into CSV files.

    Examples:
        >>> all(map(is_written_list, ("['old', 'slow']", "[0. 1.]", '["a"]', "[]", "(0,)", "{'a': 1}", "tensor([0])")))
        True
        >>> any(map(is_written_list, ("[MASK]", "(1)", "old, slow", "{name}", "(0, 10]", 7)))
        False
    """
    return isinstance(value, str) and LIST.fullmatch(value.strip()) is not None


def is_missing(value: Any) -> bool:
    """Return whether there is no label: null, nan, or a text without a visible sign."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def distinct(dataset: Dataset, column: str, source: DatasetSource) -> list[tuple[Any, int]]:
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
                f"--label_column: '{column}' of {source.name} has more than {MAX_CLASSES:,} different values. Is it "
                f"the label? There are: {', '.join(dataset.column_names)}."
            )
        rows = pc.list_parent_indices(chunk).to_numpy()[places] if in_lists else places
        for value, row in zip(encoded.dictionary.take(numbers).to_pylist(), rows.tolist(), strict=True):
            first.setdefault(value, start + row)
        start += len(chunk)
    return list(first.items())
