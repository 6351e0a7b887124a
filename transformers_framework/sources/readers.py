"""Strict readers of data files: JSON lines, JSON, CSV, TSV, Parquet, texts and CoNLL.

The type of each column is determined from all rows of all files before anything is written: types are not guessed from
the first rows, texts that look like dates stay text, and "NA" does not become null. Errors have the file and the line.
A column without a common type is left out; this is an error only if a flag names the column.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from transformers_framework.sources import conll_files, csv_files, json_files, parquet_files, text_files
from transformers_framework.sources.data_files import DataFile

if TYPE_CHECKING:
    import pyarrow as pa


class Reader(Protocol):
    """What the module of a format has."""

    def schema_of(self, files: Sequence[DataFile], numbers: Collection[str] = ()) -> tuple[pa.Schema, dict[str, str]]:
        """Return columns and types of all files, and what is wrong with columns that have none."""

    def tables_of(self, file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
        """Read a file as tables of a schema."""

    def places_of(self, file: DataFile) -> Iterator[str]:
        """Name the place of every row."""


READERS: dict[str, Reader] = {
    "json": json_files,
    "csv": csv_files,
    "parquet": parquet_files,
    "text": text_files,
    "conll": conll_files,
}


def schema_of(files: Sequence[DataFile], numbers: Collection[str] = ()) -> tuple[pa.Schema, dict[str, str]]:
    """Read all files once; return the columns with their types, and a message for each column that cannot be read.

    Args:
        files: Files of one format.
        numbers: Columns of numbers; in CSV files, their values may be written in any format.

    Raises:
        DataError: When a line is broken.
    """
    for file in files:
        file.check_encoding()
    return READERS[files[0].format].schema_of(files, numbers)


def tables_of(files: Sequence[DataFile], schema: pa.Schema) -> Iterator[pa.Table]:
    """Read all files again as tables of one schema, in the order of the files."""
    reader = READERS[files[0].format]
    for file in files:
        yield from reader.tables_of(file, schema)


def places_of(file: DataFile) -> Iterator[str]:
    """Yield the place of every row of a file: ``path:line``, or its number in formats without lines."""
    return READERS[file.format].places_of(file)
