"""Rows of arrays that are sorted on disk, in memory that does not depend on their number."""

from __future__ import annotations

import contextlib
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RUN_BYTES = 1 << 23  # of a sorted run
KEYS_TOGETHER = 1000  # range of keys that is read at once


class SortedColumns:
    """Rows of columns that are added in any order and read in the order of their keys.

    An external merge sort (Knuth, The Art of Computer Programming 3, section 5.4): rows are collected up to
    ``run_bytes``, sorted and written; reading takes the same range of keys from each of these runs. The temporary file
    has no name where the system can do that, so that a killed process leaves nothing; few rows need no file.

    Args:
        folder: Folder of the temporary file; the system's by default.
        run_bytes: Size of a run.

    Examples:
        >>> with SortedColumns(run_bytes=1) as rows:
        ...     rows.add(np.array([4, 0]), {"scores": np.array([[0.5], [0.25]])})
        ...     rows.add(np.array([1]), {"scores": np.array([[0.75, 0.5]])})
        ...     [(keys.tolist(), columns["scores"].tolist()) for keys, columns in rows.ranges(2)]
        [([0, 1], [[0.25, -1.0], [0.75, 0.5]]), ([4], [[0.5]])]
    """

    def __init__(self, folder: Path | None = None, run_bytes: int = RUN_BYTES) -> None:
        self.folder, self.run_bytes = folder, run_bytes
        self._file: IO[bytes] | None = None
        self._runs: list[_Run] = []
        self._waiting: list[_Run] = []
        self._waiting_bytes = 0

    def add(self, keys: NDArray[np.int64], columns: Mapping[str, np.ndarray]) -> None:
        """Add N rows.

        Args:
            keys: Key of each row ``(N,) int64``; several rows may have the same.
            columns: Columns ``(N, …)`` with a dtype of numbers, the same ones in each call; rows of two or more
                dimensions may be wider or narrower, see :func:`joined`.

        Raises:
            OSError: When the disk is full.
        """
        if not len(keys):
            return
        self._waiting.append(_Run(keys, columns))
        self._waiting_bytes += keys.nbytes + sum(column.nbytes for column in columns.values())
        if self._waiting_bytes >= self.run_bytes:
            run = _merged(self._waiting)
            self._runs.append(_Run(self._stored(run.keys), {n: self._stored(c) for n, c in run.columns.items()}))
            self._waiting, self._waiting_bytes = [], 0

    def _stored(self, array: np.ndarray) -> _Stored:
        if self._file is None:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - closed by close()
        return _Stored(self._file, array)

    def ranges(self, size: int = KEYS_TOGETHER) -> Iterator[tuple[NDArray[np.int64], dict[str, np.ndarray]]]:
        """Yield keys and columns of rows in ascending order of keys, those of ``size`` consecutive keys at a time.

        All rows with the same key come together, in the order in which they were added; ranges without rows are left
        out.
        """
        runs = [*self._runs, *([_merged(self._waiting)] if self._waiting else [])]
        starts = [0] * len(runs)
        while first := [run.keys[start] for run, start in zip(runs, starts, strict=True) if start < len(run.keys)]:
            stop = int(min(first)) + size
            ends = [bisect_left(run.keys, stop, start) for run, start in zip(runs, starts, strict=True)]
            parts = [run.rows(*span) for run, *span in zip(runs, starts, ends, strict=True) if span[0] < span[1]]
            yield _merged(parts)
            starts = ends

    def close(self) -> None:
        """Remove the temporary file."""
        self._runs, self._waiting = [], []
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written before, on a full disk
                self._file.close()

    def __enter__(self) -> SortedColumns:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Run(NamedTuple):
    """Rows with their keys; arrays, or arrays in a file."""

    keys: Any
    columns: Mapping[str, Any]

    def rows(self, start: int, end: int) -> _Run:
        return _Run(self.keys[start:end], {name: column[start:end] for name, column in self.columns.items()})


class _Stored:
    """An array at the end of a file, of which parts are read; a mapped file would count as memory of the process."""

    def __init__(self, file: IO[bytes], array: np.ndarray) -> None:
        self.file, self.number_type, self.shape = file, array.dtype, array.shape
        self.start = file.seek(0, 2)
        file.write(np.ascontiguousarray(array).data)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, at: Any) -> Any:
        start, end, _ = at.indices(len(self)) if isinstance(at, slice) else (at, at + 1, 1)
        found = np.empty((end - start, *self.shape[1:]), self.number_type)
        self.file.seek(self.start + start * (found.nbytes // max(1, len(found))))
        self.file.readinto(found.reshape(-1).view(np.uint8))  # type: ignore[attr-defined]
        return found if isinstance(at, slice) else found[0]


def _merged(runs: Sequence[_Run]) -> Any:
    """Return the rows of several runs, sorted by their keys."""
    keys = np.concatenate([run.keys for run in runs])
    order = np.argsort(keys, kind="stable")
    return _Run(keys[order], {name: joined([run.columns[name] for run in runs])[order] for name in runs[0].columns})


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate arrays; -1 fills the rows of those that have fewer values per row than others.

    Examples:
        >>> joined([np.array([[1, 2]]), np.array([[3]])]).tolist()
        [[1, 2], [3, -1]]
    """
    width = max(array.shape[-1] for array in arrays) if arrays[0].ndim > 1 else 0
    if any(array.ndim > 1 and array.shape[-1] < width for array in arrays):
        arrays = [
            np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])], constant_values=-1)
            for array in arrays
        ]
    return np.concatenate(arrays)
