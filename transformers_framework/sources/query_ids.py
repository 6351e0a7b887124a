"""Query ids: which rows, or which candidates of a row, belong to the same question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transformers_framework.exceptions import DataError
from transformers_framework.sources.columns import (
    DatasetSource,
    check_column,
    empty_rows,
    list_sizes,
    null_rows,
    shown,
    type_name,
    value_numbers,
)

if TYPE_CHECKING:
    from datasets import Dataset


def check_queries(dataset: Dataset, column: str, source: DatasetSource) -> None:
    """Raise if a column does not have a query id in each row.

    Raises:
        DataError: When the column is absent, does not hold numbers or texts, or is null in a row.
    """
    check_ids(dataset, column, source, flag="index_column", what="query")
    rows = rows_without_id(dataset, column)
    source.refuse(
        rows,
        lambda at: f"'{column}' has no query id ({shown(dataset[int(rows[at])][column])}). Give each question an id.",
    )


def check_ids(dataset: Dataset, column: str, source: DatasetSource, *, flag: str, what: str) -> None:
    """Raise if a column of ids is absent or holds neither numbers nor texts.

    Raises:
        DataError: When it is; the message has the type that was found.
    """
    from datasets import ClassLabel, Value

    check_column(dataset, column, source, flag=flag)
    feature = dataset.features[column]
    if not isinstance(feature, (ClassLabel, Value)) or "binary" in feature.dtype:
        raise DataError(
            f"--{flag}: '{column}' of {source.name} holds {type_name(feature)}; expected a number or a text, the "
            f"{what}'s id."
        )


def rows_without_id(dataset: Dataset, column: str) -> np.ndarray:
    """Return the rows in which an id is null or a blank text ``(N,) int64``."""
    is_text = getattr(dataset.features[column], "dtype", None) == "string"
    return empty_rows(dataset, [column]) if is_text else null_rows(dataset, column)


def repeated_queries(dataset: Dataset, column: str, candidates: str, source: DatasetSource) -> np.ndarray:
    """Return the query of each row as a number, from lists with one id per candidate ``(N,) int64``.

    Args:
        dataset: Rows with lists of candidates.
        column: Column of lists of ids; the ids of a row must be equal.
        candidates: Column of lists of candidates.
        source: Source of the rows, for messages.

    Raises:
        DataError: When a list of ids is not as long as the list of candidates, or ids differ or are null.
    """
    sizes, found = list_sizes(dataset, candidates), list_sizes(dataset, column)
    unequal = np.flatnonzero(found != sizes)
    source.refuse(
        unequal,
        lambda at: (
            f"'{column}' has {found[unequal[at]]} items for the {sizes[unequal[at]]} candidates of "
            f"'{candidates}'; expected the id of the query for each, or a column with one id per row."
        ),
    )
    if len(unequal):
        dataset, source = source.sound(dataset)
        sizes = list_sizes(dataset, candidates)
    numbers, of_item = value_numbers(dataset, column, flat=True), np.repeat(np.arange(len(sizes)), sizes)
    queries = np.arange(len(sizes)) + len(numbers)  # a row without candidates is a query of its own
    queries[sizes > 0] = numbers[(np.cumsum(sizes) - sizes)[sizes > 0]]
    different = of_item[np.flatnonzero((numbers != queries[of_item]) | (numbers < 0))]

    def describe(at: int) -> str:
        values = ", ".join(dict.fromkeys(map(shown, dataset[int(different[at])][column])))
        return f"'{column}' has {values}; expected the same id for each candidate of a row."

    source.refuse(different, describe)
    return queries
