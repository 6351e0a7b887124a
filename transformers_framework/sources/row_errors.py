"""Broken rows of a data set: all are counted, the first ones are described."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from transformers_framework.exceptions import DataError

NUM_DESCRIBED = 5  # rows


class RowErrors:
    """Collects the broken rows of a data set from all of its checks.

    It keeps one bit per row and the messages of the first rows, however many are broken.

    Examples:
        >>> errors = RowErrors()
        >>> errors.add(np.arange(3, 1000), lambda at: f"'label' is {at}")
        >>> errors.add(np.array([1, 3]), lambda at: "'text' is empty")
        >>> print(errors.error("--train_dataset a.csv", lambda row: f"a.csv:{row + 1}"))
        --train_dataset a.csv: 998 rows are broken:
        a.csv:2: 'text' is empty
        a.csv:4: 'label' is 0
        a.csv:4: 'text' is empty
        a.csv:5: 'label' is 1
        a.csv:6: 'label' is 2
        a.csv:7: 'label' is 3
        and 993 more.
    """

    def __init__(self) -> None:
        self._bits = np.zeros(0, dtype=np.uint8)
        self._messages: dict[int, list[str]] = {}

    def __bool__(self) -> bool:
        """Return whether a row is broken."""
        return bool(self._messages)

    def add(self, rows: np.ndarray, describe: Callable[[int], str]) -> None:
        """Add broken rows.

        Args:
            rows: The rows, each once, in order ``(N,) int64``.
            describe: Returns what is wrong, by the index in ``rows``; called for the first rows only.
        """
        if not len(rows):
            return
        whole = self._flags(int(rows[-1]) + 1)
        whole[rows] = True
        self._bits = np.packbits(whole)
        for at, row in enumerate(rows[:NUM_DESCRIBED].tolist()):
            self._messages.setdefault(row, []).append(describe(at))
        self._messages = {row: self._messages[row] for row in sorted(self._messages)[:NUM_DESCRIBED]}

    def _flags(self, num_rows: int) -> np.ndarray:
        flags = np.unpackbits(self._bits).astype(bool)
        return np.concatenate([flags, np.zeros(max(0, num_rows - len(flags)), dtype=bool)])

    def sound(self, num_rows: int) -> np.ndarray:
        """Return the rows that are not known to be broken ``(N,) int64``.

        Args:
            num_rows: Number of rows of the data set.
        """
        return np.flatnonzero(~self._flags(num_rows)[:num_rows])

    def error(self, name: str, place: Callable[[int], str]) -> DataError:
        """Return the error that counts all broken rows, and names the first ones in the order of the data set.

        Args:
            name: The data set, for the message.
            place: Returns the place of a row.
        """
        lines = [f"{place(row)}: {message}" for row, messages in self._messages.items() for message in messages]
        return _error(name, int(np.unpackbits(self._bits).sum()), lines)


def broken_rows(name: str, messages: Iterator[str]) -> DataError:
    """Return the error that counts broken rows, and describes the first ones.

    Args:
        name: The data set or file, for the message.
        messages: Place and problem of each broken row, at least one.
    """
    first = list(itertools.islice(messages, NUM_DESCRIBED))
    return _error(name, len(first) + sum(1 for _ in messages), first)


def _error(name: str, count: int, lines: Sequence[str]) -> DataError:
    if count == 1:
        return DataError("\n".join(lines))
    more = [f"and {count - NUM_DESCRIBED:,} more."] if count > NUM_DESCRIBED else []
    return DataError("\n".join([f"{name}: {count:,} rows are broken:", *lines, *more]))
