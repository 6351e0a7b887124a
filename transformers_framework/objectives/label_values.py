"""What the values of a label column stand for: whole numbers, names, words for yes and no."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.exceptions import DataError
from transformers_framework.processing.columns import Origin, arrow_chunks, item_feature

if TYPE_CHECKING:
    from datasets import Dataset

MAX_CLASSES = 10_000  # more distinct labels than this are no labels
WORDS = {"yes": 1, "no": 0, "true": 1, "false": 0}  # in any case
WORD_PAIRS = ({"yes", "no"}, {"true", "false"})
WHOLE = re.compile(r"-?(0|[1-9]\d{0,15})(\.0*)?")
# a list as Python, numpy or JSON write it: [], [1, 0], [0. 1.], ['a' 'b'], ["a", "b"]; a tuple or a set of texts
LIST = re.compile(r"\[\s*(([-+\d.,\s]|True|False)*|(['\"]).*\3,?)\s*\]|[({]\s*(['\"]).*\4,?\s*[)}]", re.DOTALL)


def number_of(value: Any) -> Any:
    """Return the whole number that a value stands for; the value itself where it stands for none.

    Examples:
        >>> [number_of(value) for value in (1.0, "1.0", "TRUE", "no", True, 0.5, "maybe", "01")]
        [1, 1, 1, 0, True, 0.5, 'maybe', '01']
    """
    if isinstance(value, str):
        text = value.strip()
        return int(float(text)) if WHOLE.fullmatch(text) else WORDS.get(text.casefold(), value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
        >>> [is_written_list(text) for text in ("['old', 'slow']", "[0, 1]", "[0. 1.]", '["a"]', "[]", "('a', 'b')")]
        [True, True, True, True, True, True]
        >>> [is_written_list(text) for text in ("[MASK]", "(1)", "old, slow", "{name}", 7)]
        [False, False, False, False, False]
    """
    return isinstance(value, str) and LIST.fullmatch(value.strip()) is not None


def is_missing(value: Any) -> bool:
    """Return whether there is no label: null, nan, or a text without a visible sign."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def distinct(dataset: Dataset, column: str, origin: Origin) -> list[tuple[Any, int]]:
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
