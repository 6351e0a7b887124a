"""Reader of CSV and TSV files; a column has numbers if all its values are written as Python writes them, else text."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.sources.data_files import DataFile, excerpt

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # rows that are converted together

# Other values, such as 007 or +1, are ids or codes, and stay text.
TYPES = {
    "int64": re.compile(r"0|-?[1-9]\d{0,17}"),
    "float64": re.compile(r"-?(0|[1-9]\d{0,17})(\.\d*)?([eE][+-]?\d+)?"),
    "bool_": re.compile(r"True|False"),
}


def schema_of(files: Sequence[DataFile], numbers: Collection[str] = ()) -> tuple[pa.Schema, dict[str, str]]:
    """Return the columns of all files with the narrowest types that hold every value; empty fields are null.

    Args:
        files: Files of one data set.
        numbers: Columns in which 0.50, 1e3, or 1 and 2.5 together, are numbers; other columns are then text, so that
            values are kept as they are written.
    """
    import pyarrow as pa

    columns = [name for name in _header(files[0]) if name]
    possible = {name: list(TYPES) for name in columns}
    filled: set[str] = set()
    unreadable: dict[str, str] = {}
    for file in files:
        header = _header(file)
        for name in {*columns, *filter(None, header)} - ({*columns} & {*header}):
            found, others = ", ".join(header), ", ".join(columns)
            unreadable.setdefault(name, f"{file.name}:1: the columns are {found}, but {files[0].name} has {others}")
        for _, row in _rows(file):
            for name, value in zip(header, row, strict=True):
                if value and possible.get(name):
                    filled.add(name)
                    possible[name] = [kind for kind in possible[name] if _holds(kind, value, name in numbers)]
    # a column without values is text, so that an empty text column in a small file keeps its type
    kinds = {name: kinds[0] if (kinds := possible[name]) and name in filled else "string" for name in columns}
    return pa.schema([(n, getattr(pa, kind)()) for n, kind in kinds.items() if n not in unreadable]), unreadable


def _holds(kind: str, value: str, is_number: bool) -> bool:
    """Return whether a type can represent a value, such that it can be written again in the same way.

    Examples:
        >>> _holds("float64", "1.10", is_number=False), _holds("float64", "1.1", is_number=False)
        (False, True)
        >>> _holds("float64", "1.10", is_number=True), _holds("float64", "x", is_number=True)
        (True, False)
    """
    return bool(TYPES[kind].fullmatch(value)) and (is_number or kind != "float64" or repr(float(value)) == value)


def tables_of(file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
    """Read a file as tables of a schema."""
    import pyarrow as pa

    header = _header(file)
    rows = (row for _, row in _rows(file))
    while batch := list(itertools.islice(rows, ROWS)):
        columns = dict(zip(header, zip(*batch, strict=True), strict=True))
        arrays = [pa.array([v or None for v in columns[field.name]], pa.string()).cast(field.type) for field in schema]
        yield pa.table(arrays, schema=schema)


def places_of(file: DataFile) -> Iterator[str]:
    """Yield the place of every row: the line where it starts."""
    return (f"{file.name}:{line}" for line, _ in _rows(file))


def _rows(file: DataFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows after the header, each with the line where it starts."""
    return itertools.islice(_all_rows(file), 1, None)


def _all_rows(file: DataFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the header and the rows with the line where they start; check the number of fields, skip blank lines."""
    delimiter, quoting = _dialect(file)
    rows = _records(file, delimiter, quoting)
    width = 0
    for line, row in rows:
        if len(row) != (width := width or len(row)):
            others = ((line, row) for line, row in itertools.chain([(line, row)], rows) if len(row) != width)
            file.fail_all(
                (line, f"{len(row)} fields, but the header has {width}: {excerpt(delimiter.join(row).encode())}")
                for line, row in others
            )
        yield line, row


def _records(file: DataFile, delimiter: str, quoting: Any) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(1 << 30)  # the default of Python is 128 KiB
    reader = csv.reader(file.lines(), delimiter=delimiter, quoting=quoting, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            file.fail(line, f'invalid quotes ({error}); write a field with quotes "like ""this"""')
        if row:
            yield line, row


def _dialect(file: DataFile) -> tuple[str, Any]:
    """Return the delimiter, found in the header, and whether the quotes of a TSV file quote fields.

    Many TSV files are written without quoting and have unbalanced quotes, which would merge rows. If every line has
    the right number of fields, and reading with quoting fails or finds fewer rows, quotes are ordinary characters.
    """
    header = next(file.lines(), "")
    if file.suffix == ".csv":
        return ("," if "," in header else next((d for d in ";\t|" if d in header), ",")), csv.QUOTE_MINIMAL
    lines = 0
    for line in file.lines():
        if line.strip("\r\n"):
            lines += 1
            if line.count("\t") != header.count("\t"):
                return "\t", csv.QUOTE_MINIMAL
    try:
        quoted = sum(1 for row in csv.reader(file.lines(), delimiter="\t", strict=True) if row)
    except csv.Error:
        quoted = -1
    return "\t", csv.QUOTE_MINIMAL if quoted == lines else csv.QUOTE_NONE


def _header(file: DataFile) -> list[str]:
    """Return the names of the columns; an empty first name is the index column of pandas."""
    _, header = next(_all_rows(file), (1, []))
    header = [name.strip() for name in header]
    for number, name in enumerate(header, 1):
        if not name and (number > 1 or len(header) == 1):
            file.fail(1, f"the first line must have the names of the columns, but column {number} has no name")
        if name and TYPES["float64"].fullmatch(name):
            file.fail(1, f"the first line must have the names of the columns, but has the number {name}; add a header")
        if header.index(name) != number - 1:
            file.fail(1, f"two columns have the name '{name}'; rename one")
    return header
