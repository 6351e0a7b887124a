"""Private parts of datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datasets import Dataset

# what is used, as `module:name`, and why the public interface does not do
PARTS: Final = {
    "datasets:Dataset": "`_fingerprint`, `_indices`: names of cached results, selections that keep their files",
}
DATA_FILES, INDICES_FILES = "_data_files", "_indices_data_files"  # keys of the state.json of a saved data set


def fingerprint_of(dataset: Dataset) -> str:
    """Return the fingerprint of a data set: a hash of its files and of all transforms."""
    return str(dataset._fingerprint)


def with_fingerprint(dataset: Dataset, fingerprint: str) -> Dataset:
    """Return the same rows under another fingerprint."""
    kind = type(dataset)
    return kind(dataset.data, dataset.info, dataset.split, indices_table=dataset._indices, fingerprint=fingerprint)


def table_of(dataset: Dataset) -> Any:
    """Return the Arrow table of a data set that has all rows of its table in their order; None for a selection."""
    return dataset.data if dataset._indices is None else None


def saved_files(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the Arrow files with the rows of a saved data set, as its state.json describes them."""
    return list(state[DATA_FILES])


def saved_indices(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the Arrow files with the numbers of its rows, where it is a selection."""
    return list(state.get(INDICES_FILES) or ())
