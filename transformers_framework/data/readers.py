"""Readers of text files with rows (JSON lines, JSON, CSV, TSV) and of Parquet, strict about every line.

Columns get one Arrow type each, decided over all rows of all files before anything is written: no guess from the
first rows, no text that looks like a date turned into one, no "NA" turned into nothing. What is broken is named by
file and line.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import lzma
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.data.files import (
    FORMATS,
    DataFile,
    MixedTypesError,
    excerpt,
    merged_schemas,
    not_utf8,
)
from transformers_framework.exceptions import DataError

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 16 << 20  # bytes of JSON lines parsed at once
ROWS = 1000  # a record batch: what one random access touches, as in `datasets`


def schema_of(files: Sequence[DataFile]) -> pa.Schema:
    """Read all files once and return the columns and types that hold every row of them.

    Raises:
        DataError: When a line is broken, or a column holds values that do not go together.
    """
    return {"json": _json_schema, "csv": _csv_schema, "parquet": _parquet_schema}[FORMATS[files[0].suffix]](files)


def tables_of(files: Sequence[DataFile], schema: pa.Schema) -> Iterator[pa.Table]:
    """Read all files again as tables of one schema, rows in the files' order."""
    reader = {"json": _json_tables, "csv": _csv_tables, "parquet": _parquet_tables}[FORMATS[files[0].suffix]]
    for file in files:
        yield from reader(file, schema)


def places_of(file: DataFile) -> Iterator[str]:
    """Name the place of every row of a file: ``path:line``, or its number where there are no lines."""
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield from (f"{file.name}:row {row}" for row in range(pq.read_metadata(file.path).num_rows))
    elif FORMATS[file.suffix] == "csv":
        yield from (f"{file.name}:{line}" for line, _ in _csv_rows(file))
    else:
        what = "item " if _is_array(file) else ""
        for first, lines in _json_chunks(file):
            yield from (f"{file.name}:{what}{line}" for line, text in enumerate(lines, first) if text.strip())


# ---------------------------------------------------------------------------------------------------------------- JSON


def _is_array(file: DataFile) -> bool:
    """Tell a JSON list from JSON lines by the first sign that is not a space."""
    with file.open() as stream:
        head = stream.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith(b"[")


def _json_chunks(file: DataFile) -> Iterator[tuple[int, list[bytes]]]:
    """Yield lines in portions with the number of the first; the items of a JSON list are taken for lines."""
    with file.open() as stream:
        try:
            if _is_array(file):
                lines = [json.dumps(item).encode() for item in json.loads(stream.read().decode("utf-8-sig"))]
                yield from ((start + 1, lines[start : start + 10_000]) for start in range(0, len(lines), 10_000))
                return
            first = 1
            while lines := stream.readlines(CHUNK):
                if first == 1:
                    lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
                yield first, lines
                first += len(lines)
        except json.JSONDecodeError as error:
            file.fail(error.lineno, f"not JSON ({error.msg}, column {error.colno})")
        except (EOFError, OSError, UnicodeDecodeError, lzma.LZMAError) as error:
            raise DataError(f"{file.name}: cannot be read ({error})") from error


def _json_parse(lines: list[bytes], schema: pa.Schema | None = None) -> pa.Table:
    """Parse JSON lines with Arrow; texts that look like dates stay texts."""
    import pyarrow as pa
    import pyarrow.json as paj

    longest = max(map(len, lines), default=0)
    table = paj.read_json(
        io.BytesIO(b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)),
        read_options=paj.ReadOptions(block_size=max(1 << 20, longest + 1)),
        parse_options=paj.ParseOptions(explicit_schema=schema),
    )
    table.validate(full=True)  # texts must be UTF-8
    return table if schema is None else table.select(schema.names).cast(schema) if len(schema) else pa.table({})


def _json_schema(files: Sequence[DataFile]) -> pa.Schema:
    import pyarrow as pa

    schema = None
    for file in files:
        for first, lines in _json_chunks(file):
            if not any(line.strip() for line in lines):
                continue
            try:
                here = _json_parse(lines).schema
                if "double" in str(here):
                    _refuse_long_integers(file, first, lines)
                schema = merged_schemas(schema, _without_dates(here))
            except (pa.ArrowException, MixedTypesError) as error:
                _json_diagnose(file, first, lines, schema)
                file.fail(first, f"cannot be read ({error})")
    return pa.schema([]) if schema is None else schema


def _json_tables(file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
    for _, lines in _json_chunks(file):
        if any(line.strip() for line in lines):
            yield _json_parse(lines, schema)


def _without_dates(schema: pa.Schema) -> pa.Schema:
    """Replace the dates that Arrow sees in texts by texts."""
    import pyarrow as pa

    def text(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_temporal(kind):
            return pa.string()
        if pa.types.is_list(kind):
            return pa.list_(text(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([(field.name, text(field.type)) for field in kind])
        return kind

    return pa.schema([(field.name, text(field.type)) for field in schema])


def _refuse_long_integers(file: DataFile, first: int, lines: list[bytes]) -> None:
    """Raise where an integer has more than 64 bits: Arrow would round it to a float, and two ids could become one."""
    suspect = re.compile(rb"[:,\[]\s*-?\d{19,}\s*[,\]}]")
    if not suspect.search(b"".join(lines)):
        return

    def refuse(digits: str) -> int:
        if not -(1 << 63) <= (value := int(digits)) < 1 << 63:
            file.fail(place, f'the number {digits} has more than 64 bits; write it as a text: "{digits}"')
        return value

    what = "item " if _is_array(file) else ""
    for number, line in enumerate(lines, first):
        place = f"{what}{number}"
        if suspect.search(line):
            json.loads(line, parse_int=refuse)


def _json_diagnose(file: DataFile, first: int, lines: list[bytes], schema: pa.Schema | None) -> None:
    """Find the line that Arrow did not like and raise its error."""
    import pyarrow as pa

    what = "item " if _is_array(file) else ""
    for number, line in enumerate(lines, first):
        place = f"{what}{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            file.fail(place, f"not JSON: {error.msg} at character {error.colno} of {excerpt(line)}")
        except UnicodeDecodeError as error:
            file.fail(place, not_utf8(error))
        if not isinstance(row, dict):
            kind = {list: "a list", str: "a text", type(None): "null"}.get(type(row), "a number")
            file.fail(place, f'expected an object with the columns, {{"column": value, …}}, found {kind}')
        try:
            schema = merged_schemas(schema, _without_dates(_json_parse([line]).schema))
        except MixedTypesError as error:
            file.fail(place, f"{error}; write all values of a column alike")
        except pa.ArrowException as error:
            file.fail(place, f"{str(error).removesuffix(' in row 0')}: {excerpt(line)}")


# ----------------------------------------------------------------------------------------------------------- CSV, TSV

# What Python and pandas write for numbers; anything else, such as 007 or +1, would not survive and stays a text.
CSV_TYPES = {
    "int64": re.compile(r"-?(0|[1-9]\d{0,17})"),
    "float64": re.compile(r"-?(0|[1-9]\d{0,17})(\.\d*)?([eE][+-]?\d+)?"),
    "bool_": re.compile(r"True|False"),
}


def _csv_rows(file: DataFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows after the header, each with the line where it starts."""
    return itertools.islice(_csv_all_rows(file), 1, None)


def _csv_all_rows(file: DataFile) -> Iterator[tuple[int, list[str]]]:
    """Yield header and rows, each as long as the header, with the line where they start; blank lines are skipped."""
    csv.field_size_limit(1 << 30)  # Python's own limit is 128 KiB
    delimiter, quoting = _csv_dialect(file)
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
    except (EOFError, OSError, lzma.LZMAError) as error:
        raise DataError(f"{file.name}: cannot be read ({error})") from error


def _csv_dialect(file: DataFile) -> tuple[str, Any]:
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


def _csv_header(file: DataFile) -> list[str]:
    """Read the names of the columns; a first one without a name is the index that pandas writes, called ""."""
    _, header = next(_csv_all_rows(file), (1, []))
    header = [name.strip() for name in header]
    for number, name in enumerate(header, 1):
        if not name and (number > 1 or len(header) == 1):
            file.fail(1, f"the first line must name the columns, but column {number} has no name")
        if name and CSV_TYPES["float64"].fullmatch(name):
            file.fail(1, f"the first line must name the columns, but found the number {name}: add a header")
        if header.index(name) != number - 1:
            file.fail(1, f"two columns are called '{name}'")
    return header


def _csv_schema(files: Sequence[DataFile]) -> pa.Schema:
    """Decide types: the narrowest that holds every value; an empty field is a null of any type."""
    import pyarrow as pa

    columns = [name for name in _csv_header(files[0]) if name]
    possible = {name: list(CSV_TYPES) for name in columns}
    filled = set()
    for file in files:
        header = _csv_header(file)
        if sorted(filter(None, header)) != sorted(columns):
            file.fail(1, f"the columns are {', '.join(header)}, but {files[0].name} has {', '.join(columns)}")
        for _, row in _csv_rows(file):
            for name, value in zip(header, row, strict=True):
                if name and value and possible[name]:
                    filled.add(name)
                    possible[name] = [kind for kind in possible[name] if CSV_TYPES[kind].fullmatch(value)]
    # a column without any value is text, so that a text column of a small sample keeps its type
    kinds = {name: kinds[0] if (kinds := possible[name]) and name in filled else "string" for name in columns}
    return pa.schema([(name, getattr(pa, kind)()) for name, kind in kinds.items()])


def _csv_tables(file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
    import pyarrow as pa

    header = _csv_header(file)
    rows = (row for _, row in _csv_rows(file))
    while batch := list(itertools.islice(rows, 10 * ROWS)):
        columns = dict(zip(header, zip(*batch, strict=True), strict=True))
        arrays = [pa.array([v or None for v in columns[field.name]], pa.string()).cast(field.type) for field in schema]
        yield pa.table(arrays, schema=schema)


# ------------------------------------------------------------------------------------------------------------- Parquet


def _parquet_schema(files: Sequence[DataFile]) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = None
    for file in files:
        try:
            here = pq.read_schema(file.path)
            fields = [(field.name, _unencoded(field.type)) for field in here]
            schema = merged_schemas(schema, pa.schema(fields, metadata=here.metadata))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file.name}: not a Parquet file, or a broken one ({error})") from error
        except MixedTypesError as error:
            raise DataError(f"{file.name}: {error}") from error
    assert schema is not None
    return schema


def _unencoded(kind: pa.DataType) -> pa.DataType:
    """Replace the variants in which writers store texts and lists by the plain type."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _unencoded(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_unencoded(kind.value_type))
    return kind


def _parquet_tables(file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file.path) as parquet:
            for batch in parquet.iter_batches(10 * ROWS):
                table = pa.Table.from_batches([batch])
                columns = {name: table.column(name) for name in table.column_names}
                nulls = {f.name: pa.nulls(len(table), f.type) for f in schema if f.name not in columns}
                yield pa.table({f.name: {**columns, **nulls}[f.name] for f in schema}).cast(schema)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name}: broken Parquet file ({error})") from error
