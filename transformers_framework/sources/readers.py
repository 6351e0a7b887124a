"""Readers of text files with rows (JSON lines, JSON, CSV, TSV) and of Parquet, strict about every line.

Columns get one Arrow type each, decided over all rows of all files before anything is written: no guess from the
first rows, no text that looks like a date turned into one, no "NA" turned into nothing. What is broken is named by
file and line; a column whose values go into no type is left out, and missed only where a flag names it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from transformers_framework.sources import csv_files, json_files, parquet_files
from transformers_framework.sources.data_files import FORMATS, DataFile

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


READERS: dict[str, Reader] = {"json": json_files, "csv": csv_files, "parquet": parquet_files}


def schema_of(files: Sequence[DataFile], numbers: Collection[str] = ()) -> tuple[pa.Schema, dict[str, str]]:
    """Read all files once; return columns and types that hold every row of them, and what is wrong with others.

    Args:
        files: Files of one format.
        numbers: Columns of numbers: those of CSV files need not be written as Python writes them.

    Raises:
        DataError: When a line is broken.
    """
    return READERS[FORMATS[files[0].suffix]].schema_of(files, numbers)


def tables_of(files: Sequence[DataFile], schema: pa.Schema) -> Iterator[pa.Table]:
    """Read all files again as tables of one schema, rows in the files' order."""
    reader = READERS[FORMATS[files[0].suffix]]
    for file in files:
        yield from reader.tables_of(file, schema)


def places_of(file: DataFile) -> Iterator[str]:
    """Name the place of every row of a file: ``path:line``, or its number where there are no lines."""
    return READERS[FORMATS[file.suffix]].places_of(file)
