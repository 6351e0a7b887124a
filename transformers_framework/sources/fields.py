"""The column syntax of flags: which columns of a row become the segments of one input.

``name`` a text column · ``a:b`` two text columns joined by a space · ``+name`` a list column joined by spaces ·
``*name`` a list column, one segment each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from transformers_framework.exceptions import ConfigurationError

NUMBERS = ("label_column", "scores_column")  # flags that name columns of numbers


@dataclass(frozen=True)
class Field:
    """One parsed item of the column syntax.

    Args:
        columns: Columns that are read; more than one only if they are joined.
        is_list: Whether the column holds lists of texts.
        spreads: Whether each text of the list is a segment.
    """

    columns: tuple[str, ...]
    is_list: bool = False
    spreads: bool = False


@dataclass(frozen=True)
class NamedColumns:
    """Columns that the flags of a run name.

    Args:
        read: Columns that are read; None if all columns may be read.
        numbers: Columns that must hold numbers.
    """

    read: frozenset[str] | None = None
    numbers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> NamedColumns:
        """Find the column names in the values of flags.

        Examples:
            >>> named = NamedColumns.of({"input_columns": ["a:b", "*c"], "label_column": "d", "k": 3})
            >>> sorted(named.read), sorted(named.numbers)
            (['a', 'b', 'c', 'd'], ['d'])
        """
        given = [value for name, value in options.items() if name.endswith(("_column", "_columns")) and value]
        words = chain.from_iterable([value] if isinstance(value, str) else value for value in given)
        ranker: list[str] = list(options.get("top_k_from") or ())[:1]  # and a number
        read = frozenset(name for word in words for name in word.lstrip("+*").split(":"))
        numbers = (value for flag in NUMBERS if (value := options.get(flag)))
        return cls(read.union(ranker), frozenset([*numbers, *ranker]))


def columns_of_fields(fields: Iterable[Field]) -> tuple[str, ...]:
    """Return the columns of several fields, each once."""
    return tuple(dict.fromkeys(column for field in fields for column in field.columns))


def parse_field(text: str, *, flag: str = "input_columns") -> Field:
    """Parse one item of the column syntax.

    Args:
        text: The item.
        flag: Name of the flag, for the message.

    Raises:
        ConfigurationError: When a column name is empty, or a marker is used with joined columns.

    Examples:
        >>> parse_field("question")
        Field(columns=('question',), is_list=False, spreads=False)
        >>> parse_field("title:body").columns
        ('title', 'body')
        >>> parse_field("*passages")
        Field(columns=('passages',), is_list=True, spreads=True)
    """
    marker, name = (text[0], text[1:]) if text[:1] in ("+", "*") else ("", text)
    columns = tuple(name.split(":"))
    if not all(columns) or (marker and len(columns) > 1):
        raise ConfigurationError(
            f"--{flag}: '{text}' is not valid. Write 'name', 'first:second' (joined by a space), "
            "'+list' (joined by spaces) or '*list' (one segment each)."
        )
    return Field(columns, is_list=bool(marker), spreads=marker == "*")


def field_texts(rows: Mapping[str, Sequence[Any]], field: Field) -> list[Any]:
    """Return the text of a field for every row, or a list of texts if each text is a segment.

    Null becomes an empty text; whether it is allowed was checked before.

    Examples:
        >>> rows = {"a": ["x", "y"], "b": ["1", None], "l": [["p", "q"], []]}
        >>> field_texts(rows, parse_field("a:b"))
        ['x 1', 'y']
        >>> field_texts(rows, parse_field("+l"))
        ['p q', '']
        >>> field_texts(rows, parse_field("*l"))
        [['p', 'q'], []]
    """
    first = rows[field.columns[0]]
    if field.spreads:
        return [[as_text(text) for text in texts or ()] for texts in first]
    if field.is_list:
        return [" ".join(as_text(text) for text in texts or ()) for texts in first]
    if len(field.columns) == 1:
        return [text if type(text) is str else as_text(text) for text in first]
    parts = zip(*(rows[column] for column in field.columns), strict=True)
    return [" ".join(text for text in map(as_text, part) if text) for part in parts]


def as_text(value: Any) -> str:
    """Return a value as text; None becomes an empty text.

    Examples:
        >>> as_text(12), as_text(None)
        ('12', '')
    """
    return "" if value is None else str(value)


def segments(rows: Mapping[str, Sequence[Any]], fields: Sequence[Field]) -> tuple[list[str], np.ndarray]:
    """Return the segments of every row.

    Args:
        rows: Columns of a batch of B rows.
        fields: Fields of the segments, in order.

    Returns:
        All segments, row by row, and the number of segments of each row: ``(B,) int64``.

    Examples:
        >>> rows = {"q": ["a", "b"], "c": [["x", "y"], ["z"]]}
        >>> texts, counts = segments(rows, [parse_field("q"), parse_field("*c")])
        >>> texts, counts.tolist()
        (['a', 'x', 'y', 'b', 'z'], [3, 2])
    """
    columns = [field_texts(rows, field) for field in fields]
    if not any(field.spreads for field in fields):
        num_rows = len(columns[0])
        texts = columns[0] if len(columns) == 1 else list(chain.from_iterable(zip(*columns, strict=True)))
        return texts, np.full(num_rows, len(columns), dtype=np.int64)
    pieces = [
        column if field.spreads else [[text] for text in column] for field, column in zip(fields, columns, strict=True)
    ]
    by_row = [list(chain.from_iterable(parts)) for parts in zip(*pieces, strict=True)]
    return list(chain.from_iterable(by_row)), np.array([len(texts) for texts in by_row], dtype=np.int64)


def word_column(input_columns: Sequence[str]) -> str:
    """Return the list column that holds the words of a row.

    Raises:
        ConfigurationError: When it is not one list column.

    Examples:
        >>> word_column(["tokens"]), word_column(["+tokens"])
        ('tokens', 'tokens')
    """
    fields = [parse_field(column) for column in input_columns]
    if len(fields) != 1 or fields[0].spreads or len(fields[0].columns) != 1:
        raise ConfigurationError(
            f"--input_columns: {' '.join(input_columns)} is not one column of lists of words. Give the list "
            "column, for instance --input_columns tokens."
        )
    return fields[0].columns[0]
