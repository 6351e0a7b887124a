"""Passages of a corpus, and rows that name them by their ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transformers_framework.compat.datasets import fingerprint_of
from transformers_framework.constants import SOURCE_ROW
from transformers_framework.processing.text_ids import value_hashes
from transformers_framework.restricted import LocalPath
from transformers_framework.sources.columns import (
    DatasetSource,
    arrow_chunks,
    check_column,
    check_text_type,
    chunks,
    empty_rows,
    item_feature,
    list_sizes,
    shown,
)
from transformers_framework.sources.data_files import Reading
from transformers_framework.sources.fields import Field, NamedColumns, field_texts, parse_field
from transformers_framework.sources.loading import load_dataset, row_place
from transformers_framework.sources.query_ids import check_ids, rows_without_id
from transformers_framework.storage.cache import cache_folder

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

Numbers = NDArray[np.int64]


class Lookup:
    """Find numbers by keys.

    Args:
        keys: Keys, which may repeat, (N,) int64.
        numbers: Number of each, (N,) int64; those of equal keys are equal.
    """

    def __init__(self, keys: Numbers, numbers: Numbers) -> None:
        order = np.argsort(keys, kind="stable")
        self.keys, self.numbers = keys[order], numbers[order]

    def __call__(self, keys: Numbers) -> Numbers:
        """Return the numbers of keys, -1 for unknown keys, (M,) int64."""
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, self.numbers[places], -1)


class Passages(NamedTuple):
    """The passages of a corpus.

    Args:
        dataset: Data set of the passages.
        source: Where it comes from, for messages.
        field: Column of the text.
    """

    dataset: datasets.Dataset
    source: DatasetSource
    field: Field


@dataclass(frozen=True)
class CorpusFiles:
    """A corpus that is not loaded yet.

    Args:
        name: The source, as the user wrote it.
        text: Column of the text, in the syntax of `--input_columns`.
        text_flag: Flag that names this column.
        config: Hub configuration.
        columns: Columns that the flags of the run name.
        reading: How files are read.
        cache_dir: Folder for downloads and prepared data; None is the user's cache folder.
        keep_in_memory: Load data into memory instead of mapping files.
    """

    name: str
    text: str
    text_flag: str
    config: str | None
    columns: NamedColumns
    reading: Reading
    cache_dir: LocalPath | None = None
    keep_in_memory: bool = False

    def load(self, *, verify: bool = False) -> Passages:
        """Load the corpus and check the texts.

        Args:
            verify: Verify checksums now.

        Raises:
            DataError: When it is absent, or a column is missing or not text, or a text is null or empty.
        """
        which: dict[str, Any] = {
            "stage": "corpus",
            "config": self.config,
            "columns": self.columns,
            "cache_dir": cache_folder(self.cache_dir),
            "reading": self.reading,
        }
        dataset: Any = load_dataset(self.name, **which, keep_in_memory=self.keep_in_memory, verify=verify)
        source = DatasetSource("corpus", self.name, partial(row_place, self.name, **which))  # type: ignore[arg-type]
        field = parse_field(self.text, flag=self.text_flag)
        for column in field.columns:
            check_column(dataset, column, source, flag="corpus_column")
            check_text_type(dataset, column, source, is_list=field.is_list, flag="corpus_column")
        source.refuse(
            empty_rows(dataset, field.columns),
            lambda at: f"the text in '{':'.join(field.columns)}' is null or empty. Remove the row.",
        )
        return Passages(dataset, source, field)


def id_hashes(dataset: datasets.Dataset, column: str | None, source: DatasetSource) -> Numbers:
    """Return the hash of each passage's id, the row number without a column ``(N,) int64``.

    Raises:
        DataError: When an id is null.
    """
    if column is None:
        return value_hashes(list(range(len(dataset))))
    check_ids(dataset, column, source, flag="corpus_id_column", what="passage")
    absent = rows_without_id(dataset, column)
    source.refuse(absent, lambda at: f"'{column}' has no id ({shown(dataset[int(absent[at])][column])}).")
    return np.concatenate([value_hashes(rows[column]) for rows in chunks(dataset.select_columns([column]))])


def relevant_passages(
    dataset: datasets.Dataset, column: str, source: DatasetSource, by_id: Lookup, corpus: DatasetSource
) -> tuple[Numbers, Numbers]:
    """Return the row and the number of each relevant passage, both ``(R,) int64``.

    Args:
        dataset: Rows with queries.
        column: Column of the id of the relevant passage, or of a list of ids.
        source: Where the rows come from, for messages.
        by_id: Finds passages by the hash of their id.
        corpus: Where the passages come from, for messages.

    Raises:
        DataError: When the column is missing, or the corpus does not contain an id, with the place of the row.
    """
    check_column(dataset, column, source, flag="relevant_column")
    of_row, arrays = np.arange(len(dataset)), arrow_chunks(dataset, column)
    if item_feature(dataset.features[column]) is not None:
        of_row = np.repeat(of_row, list_sizes(dataset, column))
        arrays = (array.flatten() for array in arrays)
    wanted = [value for array in arrays for value in array.to_pylist()]
    numbers = by_id(value_hashes(wanted)) if wanted else np.zeros(0, np.int64)
    check_found(
        of_row,
        numbers,
        source,
        corpus,
        lambda at: f"'{column}' names {shown(wanted[at])}, but no passage of the corpus has this id",
    )
    return of_row, numbers


def check_found(
    of_row: Numbers, numbers: Numbers, source: DatasetSource, corpus: DatasetSource, what: Callable[[int], str]
) -> None:
    """Report relevant passages that the corpus does not contain.

    Args:
        of_row: Row of each relevant passage ``(R,) int64``.
        numbers: Number of each in the corpus, -1 if it is not there ``(R,) int64``.
        source: Where the rows come from.
        corpus: Where the passages come from.
        what: Returns the description of a missing passage, by the index in ``numbers``.
    """
    absent = np.flatnonzero(numbers < 0)
    source.refuse(
        of_row[absent],
        lambda at: (
            f"{what(int(absent[at]))} ({corpus.name}; {len(absent)} of {len(numbers)} relevant passages are missing). "
            "Add them, or check --corpus_column, --corpus_id_column and --relevant_column."
        ),
    )


@dataclass(frozen=True)
class PassagesById:
    """Join of training rows and the passages of a corpus that they name by id: one row for each relevant passage.

    Args:
        corpus: The corpus.
        id_column: Its column of ids; without it, the row number is the id.
        relevant_column: Column of training rows with the id of the relevant passage, or a list of ids.
        copied: Other columns of training rows that are read.
        passage_columns: Columns of the passage in joined rows.
    """

    corpus: CorpusFiles
    id_column: str | None
    relevant_column: str
    copied: tuple[str, ...]
    passage_columns: tuple[str, ...]

    def rows(self, dataset: datasets.Dataset, source: DatasetSource) -> tuple[Passages, Numbers, Numbers]:
        """Return the corpus, and for each joined row its training row and its row of the corpus, both ``(R,) int64``.

        Raises:
            DataError: When the corpus does not contain an id, with the place of the row.
        """
        passages = self.corpus.load()
        ids = id_hashes(passages.dataset, self.id_column, passages.source)
        by_id = Lookup(ids, np.arange(len(ids)))
        return passages, *relevant_passages(dataset, self.relevant_column, source, by_id, passages.source)

    def key(self, passages: Passages) -> dict[str, object]:
        """Return the cache key of rows that are joined with these passages."""
        return {
            "form": "passages by id",
            "corpus": fingerprint_of(passages.dataset),
            "ids": [self.id_column, self.relevant_column],
            "columns": [self.copied, self.corpus.text, self.passage_columns],
        }

    def tables(self, dataset: datasets.Dataset, source: DatasetSource, batch_size: int) -> Iterator[pa.Table]:
        """Yield tables of joined rows, with the text of the passage and ``source_row``.

        Args:
            dataset: The training rows.
            source: Where they come from, for messages.
            batch_size: Number of joined rows per table.
        """
        import pyarrow as pa

        passages, of_row, numbers = self.rows(dataset, source)
        names = [name for name in self.copied if name in dataset.column_names]
        own = dataset.select_columns(names).with_format("arrow")
        corpus = passages.dataset.select_columns(list(passages.field.columns))
        for start in range(0, len(of_row), batch_size):
            rows, found = (part[start : start + batch_size] for part in (of_row, numbers))
            # further columns of a joined passage are null, which is an empty text
            texts: list[Sequence[Any]] = [field_texts(corpus[found.tolist()], passages.field)]
            texts += [[None] * len(rows)] * (len(self.passage_columns) - 1)
            columns = {name: pa.array(t, pa.string()) for name, t in zip(self.passage_columns, texts, strict=True)}
            yield pa.table({**dict(_columns(own[rows.tolist()])), **columns, SOURCE_ROW: rows})


def _columns(table: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    return zip(table.column_names, table.columns, strict=True)
