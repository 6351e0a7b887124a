"""Rows of a file of predictions."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CHUNK = 1000  # rows

Row = dict[str, Any]


def number(value: Any) -> float:
    """Return a number of a file of predictions; null, which stands for one that is not finite, is nan."""
    return float("nan") if value is None else float(value)


class Predicted:
    """The rows of a file of predictions: the columns of the data, and those that the objective predicted.

    Rows are read in chunks and not kept; 8 bytes per row are, by which single rows are found again.

    Args:
        path: A JSON lines file that :class:`~transformers_framework.callbacks.predictions.Predictions` has written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("q")

    def __len__(self) -> int:
        """Number of rows that were read."""
        return len(self._starts)

    def chunks(self, size: int = CHUNK) -> Iterator[list[Row]]:
        """Yield all rows in order, in lists."""
        del self._starts[:]
        rows: list[Row] = []
        position = 0
        with self.path.open("rb") as file:
            for line in file:
                self._starts.append(position)
                position += len(line)
                rows.append(json.loads(line))
                if len(rows) == size:
                    yield rows
                    rows = []
        if rows:
            yield rows

    def rows(self, places: Sequence[int]) -> list[Row]:
        """Return rows by their place in the file, after :meth:`chunks` has read them."""
        found = []
        with self.path.open("rb") as file:
            for place in places:
                file.seek(self._starts[place])
                found.append(json.loads(file.readline()))
        return found
