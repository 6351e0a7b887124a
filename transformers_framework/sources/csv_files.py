"""CSV and TSV files; a column has numbers where each of them is written as Python writes it, else texts."""

from __future__ import annotations

import csv
import itertools
import lzma
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import DataError
from transformers_framework.sources.data_files import DataFile, excerpt, not_utf8

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # are converted together

# Anything else, such as 007 or +1, is an id or a code, and stays a text.
TYPES = {
    "int64": re.compile(r"0|-?[1-9]\d{0,17}"),
    "float64": re.compile(r"-?(0|[1-9]\d{0,17})(\.\d*)?([eE][+-]?\d+)?"),
    "bool_": re.compile(r"True|False"),
}


def schema_of(files: Sequence[DataFile], numbers: Collection[str] = ()) -> tuple[pa.Schema, dict[str, str]]:
    """Return columns and types of all files, the narrowest that hold every value; an empty field is null in any.

    Args:
        files: Files of one data set.
        numbers: Columns in which 0.50, 1e3 and 1 beside 2.5 are numbers; in others they would not come back as written.
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
    # a column without any value is text, so that a text column of a small sample keeps its type
    kinds = {name: kinds[0] if (kinds := possible[name]) and name in filled else "string" for name in columns}
    return pa.schema([(n, getattr(pa, kind)()) for n, kind in kinds.items() if n not in unreadable]), unreadable


def _holds(kind: str, value: str, is_number: bool) -> bool:
    """Tell whether a type holds what is written, so that it can be written again.

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
    """Name the place of every row: the line where it starts."""
    return (f"{file.name}:{line}" for line, _ in _rows(file))


def _rows(file: DataFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows after the header, each with the line where it starts."""
    return itertools.islice(_all_rows(file), 1, None)


def _all_rows(file: DataFile) -> Iterator[tuple[int, list[str]]]:
    """Yield header and rows, each as long as the header, with the line where they start; blank lines are skipped."""
    csv.field_size_limit(1 << 30)  # Python's own limit is 128 KiB
    delimiter, quoting = _dialect(file)
    reader = csv.reader(_texts(file), delimiter=delimiter, quoting=quoting, strict=True)
    width = 0
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            file.fail(line, f'broken quotes ({error}): a field with quotes is written "like ""this"""')
        if not row:
            continue
        if len(row) != (width := width or len(row)):
            file.fail(line, f"{len(row)} fields where the header has {width}: {excerpt(delimiter.join(row).encode())}")
        yield line, row


def _texts(file: DataFile) -> Iterator[str]:
    """Yield lines as text."""
    try:
        with file.open() as stream:
            for number, line in enumerate(stream, 1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    file.fail(number, not_utf8(error))
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{file.name}: cannot be read ({error})") from error


def _dialect(file: DataFile) -> tuple[str, Any]:
    """Find the delimiter in the header, and whether the quotes of a TSV file are quotes or mere signs.

    Many TSV files are written without quoting and have unbalanced quotes, which would swallow rows. When every line
    has the right number of fields as it stands and reading with quotes fails or finds fewer rows, quotes are signs.
    """
    header = next(_texts(file), "")
    if file.suffix == ".csv":
        return ("," if "," in header else next((d for d in ";\t|" if d in header), ",")), csv.QUOTE_MINIMAL
    lines = 0
    for line in _texts(file):
        if line.strip("\r\n"):
            lines += 1
            if line.count("\t") != header.count("\t"):
                return "\t", csv.QUOTE_MINIMAL
    try:
        quoted = sum(1 for row in csv.reader(_texts(file), delimiter="\t", strict=True) if row)
    except csv.Error:
        quoted = -1
    return "\t", csv.QUOTE_MINIMAL if quoted == lines else csv.QUOTE_NONE


def _header(file: DataFile) -> list[str]:
    """Read the names of the columns; a first one without a name is the index that pandas writes, called ""."""
    _, header = next(_all_rows(file), (1, []))
    header = [name.strip() for name in header]
    for number, name in enumerate(header, 1):
        if not name and (number > 1 or len(header) == 1):
            file.fail(1, f"the first line must name the columns, but column {number} has no name")
        if name and TYPES["float64"].fullmatch(name):
            file.fail(1, f"the first line must name the columns, but found the number {name}: add a header")
        if header.index(name) != number - 1:
            file.fail(1, f"two columns are called '{name}'")
    return header
