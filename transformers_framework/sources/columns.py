"""Checks and statistics of whole columns, computed with Arrow: types, empty texts, lengths, values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.compat.datasets import table_of
from transformers_framework.constants import Stage
from transformers_framework.display import counted
from transformers_framework.exceptions import DataError, did_you_mean
from transformers_framework.sources.fields import as_text
from transformers_framework.sources.row_errors import RowErrors

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

Rows = Mapping[str, Sequence[Any]]  # some rows of a data set: for each column, one value per row


@dataclass(frozen=True)
class DatasetSource:
    """Source of a data set, for messages.

    Args:
        stage: Stage that uses the data set.
        name: Name of the source as the user wrote it.
        place: Returns the place of a row, for instance ``file:line``.
        errors: Collects the broken rows of all checks; without it, the first check that finds one raises.
    """

    stage: Stage
    name: str
    place: Callable[[int], str]
    errors: RowErrors | None = None

    def refuse(self, rows: np.ndarray, describe: Callable[[int], str]) -> None:
        """Report broken rows.

        Args:
            rows: The rows, in order; one of several broken items may be there several times ``(N,) int64``.
            describe: Returns what is wrong and what to do, by the index in ``rows``; called for the first rows only.

        Raises:
            DataError: When there are broken rows, and nothing collects them.
        """
        found, firsts = np.unique(rows, return_index=True)
        errors = RowErrors() if self.errors is None else self.errors
        errors.add(found, lambda at: describe(int(firsts[at])))
        if self.errors is None:
            self.check(errors)

    def check(self, errors: RowErrors | None = None) -> None:
        """Check that no row is broken.

        Raises:
            DataError: When one is; all are counted, and the first ones named.
        """
        if errors := errors or self.errors:
            raise errors.error(f"--{self.stage}_dataset {self.name}", self.place)

    def sound(self, dataset: Dataset) -> tuple[Dataset, DatasetSource]:
        """Return the rows that no check has found broken, and their source."""
        if not self.errors:
            return dataset, self
        rows = self.errors.sound(len(dataset))
        return dataset.select(rows), SoundRows(
            self.stage, self.name, lambda row: self.place(int(rows[row])), self.errors, rows
        )


@dataclass(frozen=True)
class SoundRows(DatasetSource):
    """Source of some rows of a data set.

    Args:
        rows: Their numbers in the data set ``(N,) int64``.
    """

    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def refuse(self, rows: np.ndarray, describe: Callable[[int], str]) -> None:
        """Report broken rows, by their numbers among these rows."""
        super().refuse(self.rows[rows], describe)


def chunks(dataset: Dataset, size: int = 1000, *, title: str | None = None) -> Iterator[dict[str, list[Any]]]:
    """Yield the rows of a data set in chunks, as columns.

    Args:
        dataset: The rows.
        size: Number of rows of a chunk.
        title: Title of the progress bar; without it, there is none.
    """
    starts, rows = range(0, len(dataset), size), len(dataset)
    found = (dataset[start : start + size] for start in starts)
    sizes = (min(size, rows - start) for start in starts)
    return found if title is None else counted(found, title, total=rows, units=lambda _: next(sizes))


def rows_at(dataset: Dataset, rows: np.ndarray) -> dict[str, list[Any]]:
    """Return the columns of some rows; consecutive rows are read as a range, which is faster.

    Args:
        dataset: The rows.
        rows: Their numbers ``(N,) int64``.
    """
    are_consecutive = len(rows) > 0 and bool((np.diff(rows) == 1).all())
    found: dict[str, list[Any]] = dataset[range(rows[0], rows[-1] + 1) if are_consecutive else rows.tolist()]
    return found


def arrow_chunks(dataset: Dataset, column: str, size: int = 100_000) -> Iterator[Any]:
    """Yield a column as Arrow arrays, in chunks of rows."""
    if (whole := table_of(dataset)) is not None:  # a selection of columns costs a millisecond, much for a single row
        values = whole.column(column)
        yield from (values.slice(start, size).combine_chunks() for start in range(0, len(dataset), size))
        return
    table = dataset.select_columns([column]).with_format("arrow")
    for start in range(0, len(dataset), size):
        yield table[start : start + size].column(column).combine_chunks()


def item_chunks(dataset: Dataset, column: str) -> Iterator[Any]:
    """Yield the values of a column, or the items of its lists, as Arrow arrays, in chunks of rows."""
    import pyarrow.compute as pc

    in_lists = item_feature(dataset.features[column]) is not None
    for array in arrow_chunks(dataset, column):
        yield pc.list_flatten(array) if in_lists else array


def check_column(dataset: Dataset, column: str, source: DatasetSource, *, flag: str) -> None:
    """Raise if a data set has no such column.

    Raises:
        DataError: When the column is missing; the message lists the columns and suggests the closest one.
    """
    if column not in dataset.column_names:
        raise DataError(
            f"--{flag}: the {source.stage} data set ({source.name}) has no column '{column}'."
            f"{did_you_mean(column, dataset.column_names)} It has: {', '.join(dataset.column_names)}. "
            f"If {'columns have other names, give all' if flag.endswith('s') else 'it has another name, give it'} "
            f"with --{flag}."
        )


def check_text_type(
    dataset: Dataset, column: str, source: DatasetSource, *, is_list: bool, flag: str = "input_columns"
) -> None:
    """Raise if a column does not hold texts, or lists of texts; numbers are read as text.

    Raises:
        DataError: When it does not; the message has the type that was found.
    """
    from datasets import Value

    feature = dataset.features[column]
    item = item_feature(feature)
    if item is not None and not is_list:
        raise DataError(
            f"--{flag}: '{column}' of {source.name} is a list column. "
            f"Write '+{column}' to join its texts or '*{column}' for one segment each."
        )
    if item is None and is_list:
        raise DataError(f"--{flag}: '{column}' of {source.name} is not a list column. Remove the '+' or '*'.")
    value = feature if item is None else item
    if not isinstance(value, Value) or "binary" in value.dtype:
        raise DataError(f"--{flag}: '{column}' of {source.name} holds {type_name(feature)}, not text.")


def empty_rows(dataset: Dataset, columns: Sequence[str]) -> np.ndarray:
    """Return the rows in which no column has a visible character ``(N,) int64``."""
    arrays = zip(*(arrow_chunks(dataset, column) for column in columns), strict=True)
    empty = [np.logical_and.reduce([_lengths(array, visible=True) == 0 for array in parts]) for parts in arrays]
    return np.flatnonzero(np.concatenate(empty or [np.zeros(0, bool)]))


def has_text(dataset: Dataset, columns: Sequence[str]) -> bool:
    """Return whether any row has a visible character in any of these columns."""
    return any(_lengths(array, visible=True).any() for column in columns for array in arrow_chunks(dataset, column))


def rows_without_characters(dataset: Dataset, columns: Sequence[str]) -> np.ndarray:
    """Return the rows without any letter, number, punctuation mark or symbol in their texts: ``(N,) int64``.

    Other characters, such as control characters or single accents, may result in no token.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for arrays in zip(*(arrow_chunks(dataset, column) for column in columns), strict=True):
        written = np.zeros(len(arrays[0]), dtype=bool)
        for array in arrays:
            lists = pa.types.is_list(array.type) or pa.types.is_large_list(array.type)
            text = pc.binary_join(pc.cast(array, pa.list_(pa.string())), " ") if lists else pc.cast(array, pa.string())
            matches = pc.match_substring_regex(text, r"[\p{L}\p{N}\p{P}\p{S}]")
            written |= pc.fill_null(matches, False).to_numpy(zero_copy_only=False)
        found.append(~written)
    return np.flatnonzero(np.concatenate(found)) if found else np.zeros(0, np.int64)


def item_feature(feature: Any) -> Any:
    """Return the feature of the items of a list column, None if it is not a list column."""
    from datasets import LargeList, List

    if isinstance(feature, list):
        return feature[0]
    return feature.feature if isinstance(feature, (List, LargeList)) else None


def type_name(feature: Any) -> str:
    """Return the name of a column's type for messages.

    Examples:
        >>> from datasets import List, Value
        >>> type_name(List(Value("string"))), type_name({"text": Value("string"), "start": Value("int64")})
        ('lists of string', '{text: string, start: int64}')
    """
    from datasets import Value

    if (item := item_feature(feature)) is not None:
        return f"lists of {type_name(item)}"
    if isinstance(feature, dict):
        return f"{{{', '.join(f'{name}: {type_name(value)}' for name, value in feature.items())}}}"
    return feature.dtype if isinstance(feature, Value) else str(feature)


def shown(value: Any) -> str:
    """Return a value as it is shown in messages; None is shown as null.

    Examples:
        >>> shown("a"), shown(None)
        ("'a'", 'null')
    """
    return "null" if value is None else repr(value)


def null_rows(dataset: Dataset, column: str) -> np.ndarray:
    """Return the rows in which a column is null ``(N,) int64``."""
    nulls = [array.is_null().to_numpy(zero_copy_only=False) for array in arrow_chunks(dataset, column)]
    return np.flatnonzero(np.concatenate(nulls or [np.zeros(0, bool)]))


def null_items(dataset: Dataset, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of each null item of a list column, and its position in the list: ``(N,) int64``."""
    return _items(dataset, column, lambda items: items.is_null().to_numpy(zero_copy_only=False))


def empty_items(dataset: Dataset, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of each null or empty item of a list column, and its position in the list: ``(N,) int64``."""
    return _items(dataset, column, lambda items: _lengths(items, visible=True) == 0)


def _items(dataset: Dataset, column: str, are_wrong: Callable[[Any], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow.compute as pc

    start, found, places = 0, [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for array in arrow_chunks(dataset, column):
        if len(wrong := np.flatnonzero(are_wrong(pc.list_flatten(array)))):
            rows = pc.list_parent_indices(array).to_numpy().astype(np.int64)
            found.append(start + rows[wrong])
            places.append(wrong - np.searchsorted(rows, rows[wrong]))
        start += len(array)
    return np.concatenate(found), np.concatenate(places)


def column_lengths(dataset: Dataset, column: str) -> np.ndarray:
    """Return the number of characters of each text, or of all texts of each list, in a column: ``(N,) int64``."""
    return np.concatenate([_lengths(array) for array in arrow_chunks(dataset, column)] or [np.zeros(0, np.int64)])


def value_numbers(dataset: Dataset, column: str, *, flat: bool = False) -> np.ndarray:
    """Return the values of a column as numbers, -1 for null ``(N,) int64``.

    Equal values have equal numbers; values are numbered from 0 in the order of their first occurrence.

    Args:
        dataset: Data set with N values.
        column: The column.
        flat: Number the items of a list column instead of its lists.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays = [pc.list_flatten(array) if flat else array for array in arrow_chunks(dataset, column)]
    values = pa.chunked_array(arrays or [pa.array([], pa.int64())])
    encoded = values.dictionary_encode().unify_dictionaries()
    numbers = [pc.fill_null(chunk.indices, -1).to_numpy() for chunk in encoded.chunks]
    return np.concatenate(numbers).astype(np.int64)


def distinct_rows(dataset: Dataset, columns: Sequence[str]) -> np.ndarray:
    """Return a number for each row, equal for rows with equal values in all of these columns: ``(N,) int64``."""
    values = np.stack([value_numbers(dataset, column) for column in columns], axis=1)
    return np.unique(values, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def distinct_texts(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return the index of each value's text among the distinct texts ``(N,) int64``, and the distinct texts.

    Examples:
        >>> import pyarrow as pa
        >>> numbers, texts = distinct_texts(pa.chunked_array([["to be", "or not", "to be"]]))
        >>> numbers.tolist(), texts
        ([0, 1, 0], ['to be', 'or not'])
    """
    encoded = column.combine_chunks().dictionary_encode("encode")
    return encoded.indices.to_numpy().astype(np.int64), [as_text(value) for value in encoded.dictionary.to_pylist()]


def list_sizes(dataset: Dataset, column: str) -> np.ndarray:
    """Return the number of items in the list of each row, 0 for null: ``(N,) int64``."""
    import pyarrow.compute as pc

    sizes = [pc.fill_null(pc.list_value_length(array), 0).to_numpy() for array in arrow_chunks(dataset, column)]
    return np.concatenate(sizes or [np.zeros(0)]).astype(np.int64)


def _lengths(array: Any, *, visible: bool = False) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(array.type):
        return np.zeros(len(array), dtype=np.int64)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        offsets = array.offsets.to_numpy().astype(np.int64)
        flat = np.concatenate([[0], np.cumsum(_lengths(array.values, visible=visible))])
        nulls = array.is_null().to_numpy(zero_copy_only=False)
        return np.where(nulls, 0, flat[offsets[1:]] - flat[offsets[:-1]])
    text = array if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) else array.cast(pa.string())
    lengths = pc.utf8_length(pc.utf8_trim_whitespace(text) if visible else text)
    counted: np.ndarray = pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)
    return counted.astype(np.int64)
