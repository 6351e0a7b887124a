"""Data sets saved with ``save_to_disk``, by old versions of ``datasets`` too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.compat.datasets import fingerprint_of, saved_files, saved_indices, with_fingerprint
from transformers_framework.exceptions import DataError
from transformers_framework.sources.integrity import check_files
from transformers_framework.storage.cache import digest
from transformers_framework.storage.paths import is_inside

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Saved:
    """A folder written by ``save_to_disk``.

    Args:
        path: The folder.
        name: Its name in messages.
    """

    path: Path
    name: str


def load_saved(
    saved: Saved, stage: str, *, cache_dir: Path, keep_in_memory: bool = False, verify: bool = False
) -> Dataset:
    """Load a saved data set.

    Args:
        saved: The folder.
        stage: Stage of the flag, for messages.
        cache_dir: Cache folder, for checksums.
        verify: Verify checksums now, even if that was done within a day.
        keep_in_memory: Copy the table into memory instead of memory-mapping the files.

    Raises:
        DataError: When the data set is broken or has no rows.
    """
    import datasets

    flag = f"--{stage}_dataset {saved.name}"
    try:
        state = json.loads((saved.path / "state.json").read_text("utf-8"))
        if not saved_files(state):
            raise DataError(f"{flag}: the data set has no rows")
        if outside := [name for name in _names(state) if not is_inside(name)]:
            raise DataError(
                f"{flag}: its state.json refers to '{outside[0]}', which is not in its folder. Save the data set again "
                "with save_to_disk"
            )
        check_files(_files(saved.path, state), flag, cache_dir=cache_dir, verify=verify)
        data = datasets.load_from_disk(str(saved.path), keep_in_memory=keep_in_memory)
        assert isinstance(data, datasets.Dataset)
        # the saved fingerprint depends on the steps that created the data, not on the content of the files
        fingerprint = digest([fingerprint_of(data), *_stamps(saved.path)])
        if (rows := _selected(saved.path, state)) is not None:
            data = data.select(rows, keep_in_memory=True)
        return with_fingerprint(data, fingerprint)
    except DataError:
        raise
    except Exception as error:  # pyarrow, json and datasets raise many types of errors
        raise DataError(f"{flag}: the saved data set is broken ({error}). Save it again with save_to_disk") from error


def _names(state: Mapping[str, Any]) -> list[str]:
    """Return the names of the Arrow files of a data set."""
    return [file["filename"] for file in (*saved_files(state), *saved_indices(state))]


def _files(folder: Path, state: Mapping[str, Any]) -> list[Path]:
    """Return the paths of the Arrow files of a data set."""
    return [folder / Path(name).name for name in _names(state)]


def _selected(folder: Path, state: Mapping[str, Any]) -> np.ndarray | None:
    """Return the indices of the selected rows ``(N,) int64``, None if all rows of the files are selected.

    Before version 1.4, ``datasets`` saved a selection as the whole table with row indices, and a slice of a split as
    whole files with the numbers of rows to skip and to take; later versions cannot read these.
    """
    from datasets.table import MemoryMappedTable

    def table(file: Mapping[str, Any]) -> Any:
        return MemoryMappedTable.from_file(str(folder / Path(file["filename"]).name))

    files = saved_files(state)
    indices = [table(file).column("indices").to_numpy() for file in saved_indices(state)]
    if not indices and all(file.get("take") is None for file in files):
        return None
    starts = np.cumsum([0] + [table(file).num_rows for file in files])
    parts = [
        np.arange(start, stop)[file.get("skip") or 0 :][: file.get("take")]
        for file, start, stop in zip(files, starts, starts[1:], strict=False)
    ]
    rows = np.concatenate(parts)
    return rows[np.concatenate(indices).astype(np.int64)] if indices else rows


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """Return names, sizes and modification times of the files of a folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "cache-")))
    return [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
