"""Details of a tested stage that an objective reports in addition to its metrics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transformers_framework.sources.fields import as_text

if TYPE_CHECKING:
    from transformers_framework.objectives.details.predicted import Predicted, Row

MOST_ABOVE = 3  # candidates that are shown above a positive


class Strong(str):
    """A part of a text that is emphasized."""

    __slots__ = ()


Cell = str | Sequence[str]  # a text, or its parts, some of them `Strong`


@dataclass(frozen=True)
class Table:
    """A table of mistakes.

    Args:
        columns: Names of the columns.
        rows: A cell per column.
        heading: Heading above the table, if there are several.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    heading: Cell = ""


@dataclass(frozen=True)
class Mistakes:
    """The most confident mistakes of a stage.

    Args:
        found: Number of mistakes in the stage with its unit, such as "17 of 400 rows".
        order: How they are sorted, in words.
        tables: The first of them.
    """

    found: str
    order: str
    tables: Sequence[Table]


@dataclass(frozen=True)
class StageDetails:
    """Details of a tested stage.

    Args:
        values: Entries of results.json: numbers, texts, lists and dictionaries.
        figures: Data of each figure by its name in file names, such as ``confusion_matrix``.
            :mod:`~transformers_framework.reports.figures` draws the types of :mod:`~transformers_framework.metrics`.
        mistakes: The most confident mistakes; None if they are not asked for.
        warnings: What is wrong with the predictions as a whole, with the remedy.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    mistakes: Mistakes | None = None
    warnings: Sequence[str] = ()


class Highest:
    """The N entries with the highest values, of any number of entries that are added in arrays.

    Args:
        size: N.
        width: Number of integers by which an entry is found again.

    Examples:
        >>> highest = Highest(2)
        >>> highest.add([0.1, 0.9], [0, 1])
        >>> highest.add([0.5], [2])
        >>> highest.values.tolist(), highest.entries.tolist()
        ([0.9, 0.5], [[1], [2]])
    """

    def __init__(self, size: int, width: int = 1) -> None:
        self.size, self.total = size, 0
        self.values: NDArray[np.float64] = np.zeros(0)
        self.entries: NDArray[np.int64] = np.zeros((0, width), dtype=np.int64)

    def add(self, values: ArrayLike, *entries: ArrayLike) -> None:
        """Add entries; values that are nan come last."""
        new, keys = np.asarray(values, dtype=np.float64), np.stack([np.asarray(part) for part in entries], axis=1)
        self.total += len(new)
        values, keys = np.concatenate([self.values, new]), np.concatenate([self.entries, keys])
        order = np.argsort(-values, kind="stable")[: self.size]
        self.values, self.entries = values[order], keys[order].astype(np.int64)

    def with_rows(self, predicted: Predicted) -> zip[tuple[float, Row, list[int]]]:
        """Return value, row and entry of each; the first integer of an entry is the place of its row in the file."""
        entries = self.entries.tolist()
        return zip(self.values.tolist(), predicted.rows([entry[0] for entry in entries]), entries, strict=True)


def texts_of(row: Mapping[str, Any], without: Collection[str]) -> dict[str, str]:
    """Return the columns of a row that hold text, or lists of texts joined by spaces.

    Args:
        row: The row, with its predictions.
        without: Columns to leave out.

    Examples:
        >>> texts_of({"id": 3, "words": ["a", "b"], "text": "c", "label": "x"}, {"label"})
        {'words': 'a b', 'text': 'c'}
    """
    found = {}
    for name, value in row.items():
        if name not in without and (isinstance(value, str) or _are_texts(value)):
            found[name] = value if isinstance(value, str) else " ".join(map(as_text, value))
    return found


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(text is None or isinstance(text, str) for text in value)


def shown_id(row: Mapping[str, Any]) -> str:
    """Return the id of a row for readers: that of the data if it has one, else its number."""
    return as_text(row.get("id"))


def listed_mistakes(
    found: str, order: str, columns: Sequence[str], listed: Sequence[tuple[Any, ...]], num_mistakes: int
) -> Mistakes | None:
    """Return mistakes with one table of them; None if none are asked for.

    Args:
        found: See :class:`Mistakes`.
        order: See :class:`Mistakes`.
        columns: Names of the first columns.
        listed: Cells of these columns of each mistake, and last its texts by column, see :func:`texts_of`.
        num_mistakes: Number of mistakes that are asked for.
    """
    if not num_mistakes:
        return None
    names = list(dict.fromkeys(name for *_, texts in listed for name in texts))
    rows = [(*cells, *(texts.get(name, "") for name in names)) for *cells, texts in listed]
    return Mistakes(found, order, [Table((*columns, *names), rows)] if rows else [])
