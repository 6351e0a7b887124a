"""Rows of Python as a data set: dictionaries, and tables of pandas, pyarrow and datasets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import DataError
from transformers_framework.sources.columns import shown

ROWS = "rows"  # source of rows from Python, in messages

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


def dataset_of(rows: Any, columns: Collection[str], needed: Collection[str]) -> Dataset:
    """Return rows as a data set in memory, with those of the columns that they have.

    Args:
        rows: Dictionaries; or a ``DataFrame`` of pandas, a ``Table`` of pyarrow or a ``Dataset``.
        columns: Columns that may be read.
        needed: Those that rows must have, for messages.

    Raises:
        DataError: When a row is no dictionary, there is none of the columns, or a column has values of several types;
            with the row, counted from 0.
    """
    import datasets
    import pyarrow as pa

    if isinstance(rows, datasets.Dataset):
        return rows.select_columns(_known(rows.column_names, columns, needed, len(rows))).with_format(None)
    if isinstance(rows, pa.Table):
        table = rows.select(_known(rows.column_names, columns, needed, len(rows)))
    elif hasattr(rows, "iloc"):
        table = pa.Table.from_pandas(rows[_known(rows.columns, columns, needed, len(rows))], preserve_index=False)
        table = table.replace_schema_metadata(None)
    else:
        table = _of_dictionaries([rows] if isinstance(rows, str) else rows, columns, needed)
    return datasets.Dataset(table, fingerprint=ROWS)  # nothing is cached by it, and to hash the rows takes time


def _of_dictionaries(rows: Iterable[Any], columns: Collection[str], needed: Collection[str]) -> pa.Table:
    import pyarrow as pa

    found = list(rows)
    for number, row in enumerate(found):
        if not isinstance(row, Mapping):
            raise DataError(
                f"row {number}: found {type(row).__name__} {shown(row)[:100]}, expected a dictionary with the columns "
                f"{', '.join(needed)}."
            )
    names = _known(dict.fromkeys(name for row in found for name in row), columns, needed, len(found))
    return pa.table({name: _array(name, [row.get(name) for row in found]) for name in names})


def _known(names: Iterable[str], columns: Collection[str], needed: Collection[str], num_rows: int) -> list[str]:
    """Return the names of columns that may be read; without any, Arrow would have no rows."""
    names = list(names)
    known = [name for name in names if name in columns]
    if num_rows and not known:
        raise DataError(
            f"row 0: none of the columns {', '.join(needed)} is there. Found: {', '.join(map(str, names))}. Rename "
            "them, or give their names to load: input_columns=[…], or query_column=… where the model has it."
        )
    return known


def _array(name: str, values: list[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, UnicodeEncodeError):  # half a pair of UTF-16, as JSON may have
            row = next(row for row, value in enumerate(values) if repr(error.object) in repr(value))
            raise DataError(f"row {row}: '{name}' is no valid text ({error}).") from None
        if all(isinstance(value, str | int | float | None) for value in values):  # texts, some written as numbers
            return _array(name, [None if value is None else str(value) for value in values])
        kinds = [type(value).__name__ for value in values]
        first = next((kind for value, kind in zip(values, kinds, strict=True) if value is not None), "")
        odd = next((row for row, value in enumerate(values) if value is not None and kinds[row] != first), 0)
        raise DataError(
            f"row {odd}: '{name}' is {kinds[odd]} {shown(values[odd])[:100]}, expected values of one type, as "
            f"{first} ({' '.join(str(error).split())[:200]})."
        ) from None
