"""Reader of text files: a row is a file, a paragraph or a line, in the column ``text``."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from transformers_framework.exceptions import DataError
from transformers_framework.sources.data_files import DataFile

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # rows that are converted together
COLUMN = "text"


def schema_of(files: Sequence[DataFile], numbers: Collection[str] = ()) -> tuple[pa.Schema, dict[str, str]]:
    """Return the column of texts.

    Raises:
        DataError: When there is a single file and no unit: as one row it would be one text, which few want.
    """
    import pyarrow as pa

    if len(files) == 1 and files[0].reading.text_unit is None:
        lines = [line.strip() for line in files[0].lines()]
        paragraphs = sum(1 for filled, _ in itertools.groupby(lines, bool) if filled)
        raise DataError(
            f"{files[0].name}: what is a row of this text? Give --text_unit paragraph ({_rows_in_words(paragraphs)}), "
            f"line ({_rows_in_words(sum(map(bool, lines)))}), file (1 row), or conll for lines of words with labels."
        )
    return pa.schema([(COLUMN, pa.string())]), {}


def tables_of(file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
    """Read a file as tables of a schema."""
    import pyarrow as pa

    rows = (text for _, text in _rows(file))
    while batch := list(itertools.islice(rows, ROWS)):
        yield pa.table([pa.array(batch, pa.string())], schema=schema)


def places_of(file: DataFile) -> Iterator[str]:
    """Yield the place of every row: the line where it starts."""
    return (f"{file.name}:{line}" for line, _ in _rows(file))


def _rows_in_words(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def _rows(file: DataFile) -> Iterator[tuple[int, str]]:
    """Yield the rows, each with the line where it starts; white space around them is left out."""
    unit = file.reading.text_unit
    if unit == "line":
        yield from ((n, text) for n, line in enumerate(file.lines(), 1) if (text := line.strip()))
    elif unit == "paragraph":
        for filled, lines in itertools.groupby(enumerate(file.lines(), 1), lambda numbered: bool(numbered[1].strip())):
            if filled:
                (first, text), *rest = lines
                yield first, "".join((text, *(line for _, line in rest))).strip()
    else:
        yield 1, "".join(file.lines()).strip()
