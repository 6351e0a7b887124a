"""Reader of JSON lines, and of JSON documents that are or have a list of objects, also as SQuAD publishes it.

Lines are checked first, then parsed by Arrow.
"""

from __future__ import annotations

import io
import json
import lzma
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import DataError
from transformers_framework.sources.column_types import MixedTypesError, merged
from transformers_framework.sources.data_files import DataFile, excerpt, not_utf8

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 16 << 20  # bytes of JSON lines parsed at once
MAX_DEPTH = 50  # nested lists and objects: Arrow's schemas allow 64 levels, and its parser some thousands
TOO_DEEP = f"lists and objects are more than {MAX_DEPTH} levels deep"
LONG_INTEGER = re.compile(rb"[:,\[]\s*-?\d{19,}\s*[,\]}]")
MIXED = {b"numbers": b"with and without a fraction"}  # metadata of columns in which 1 would become 1.0
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)


def schema_of(files: Sequence[DataFile], numbers: Collection[str] = ()) -> tuple[pa.Schema, dict[str, str]]:
    """Return the columns and types of all files, and a message for each column that cannot be read."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {}
    mixed: set[str] = set()
    unreadable: dict[str, str] = {}
    for file in files:
        for first, lines in _chunks(file):
            _check_lines(file, lines)
            here = _chunk_schema(file, first, lines, types, unreadable)
            if "double" in str(here):
                _record_long_integers(file, first, lines, unreadable)
            for field in here:
                earlier = types.get(field.name, pa.null())
                try:
                    types[field.name] = merged(earlier, field.type, field.name)
                except MixedTypesError:
                    _record_mixed_types(file, first, lines, types, unreadable)
                if pa.types.is_floating(types[field.name]) and field.name not in mixed:
                    is_mixed = any(map(pa.types.is_integer, (earlier, field.type))) or _has_integer(lines, field.name)
                    mixed |= {field.name} if is_mixed else set()
    kinds = {name: _null_lists_as_text(kind) for name, kind in types.items() if name not in unreadable}
    fields = [pa.field(name, kind, metadata=MIXED if name in mixed else None) for name, kind in kinds.items()]
    return pa.schema(fields), unreadable


def numbers_as_text(schema: pa.Schema, columns: Collection[str]) -> pa.Schema | None:
    """Return a schema in which columns that mix integers and fractions are text, None without such columns."""
    import pyarrow as pa

    texts = {field.name for field in schema if field.name in columns and field.metadata == MIXED}
    fields = [pa.field(field.name, pa.string(), metadata=MIXED) if field.name in texts else field for field in schema]
    return pa.schema(fields) if texts else None


def tables_of(file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
    """Read a file as tables of a schema."""
    import pyarrow as pa

    written = [field for field in schema if field.metadata == MIXED and pa.types.is_string(field.type)]
    parsed = pa.schema([field for field in schema if field not in written])
    for _, lines in _chunks(file):
        if rows := [line for line in lines if line.strip()]:
            columns = dict(zip(parsed.names, _parsed(rows, parsed).columns, strict=True))
            if written:
                values = [json.loads(line, parse_int=str, parse_float=str) for line in rows]
                columns |= {field.name: pa.array([row.get(field.name) for row in values]) for field in written}
            yield pa.table({name: columns[name] for name in schema.names}).cast(schema)


def places_of(file: DataFile) -> Iterator[str]:
    """Yield the place of every row: its line, or its number in a list."""
    what = _item(file)
    for first, lines in _chunks(file):
        yield from (f"{file.name}:{what}{line}" for line, text in enumerate(lines, first) if text.strip())


# -------------------------------------------------------------------------------------------------------------- reading


def _is_document(file: DataFile) -> bool:
    """Return whether a file is one JSON document, a list or an object over several lines, and not JSON lines."""
    with file.open() as stream:
        head = stream.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith(b"[") or file.reading.field is not None:
            return True
        if file.suffix != ".json" or not head.startswith(b"{"):
            return False
        stream.seek(0)
        first = next(filter(bytes.strip, stream), b"")
        return not first.rstrip().endswith(b"}") or (b'"paragraphs"' in first and not any(map(bytes.strip, stream)))


def _item(file: DataFile) -> str:
    return "item " if _is_document(file) else ""


def _rows_of(document: Any, file: DataFile) -> list[Any]:
    """Return the rows of a JSON document: its list, the one under the key of ``--…_field``, or SQuAD's questions."""
    flag, field = f"--{file.reading.stage}_field", file.reading.field
    if not isinstance(document, dict):
        if field is not None:
            raise DataError(f"{file.name}: this is a list of rows, which has no keys. Leave {flag} {field} out.")
        return list(document)
    if field is None and _is_squad(document):
        try:
            return _questions(document)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{file.name}: this is not SQuAD's format: {type(error).__name__}: {error}") from error
    lists = [key for key, value in document.items() if isinstance(value, list)]
    keys = f"Lists in it: {', '.join(lists) or 'none'}"
    if field is None:
        raise DataError(
            f"{file.name}: this is one JSON object, not a list of rows or one row per line. Give the key of its rows "
            f"with {flag}. {keys}."
        )
    if field not in lists:
        raise DataError(f"{file.name}: {flag} {field}: no list has this key. {keys}.")
    return list(document[field])


def _is_squad(document: Mapping[str, Any]) -> bool:
    articles = document.get("data")
    return isinstance(articles, list) and all(isinstance(a, dict) and "paragraphs" in a for a in articles)


def _questions(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the questions of SQuAD's files as rows with id, title, context, question and answers."""
    return [
        {
            "id": question.get("id"),
            "title": article.get("title"),
            "context": paragraph["context"],
            "question": question["question"],
            "answers": {
                key: [answer[key] for answer in question.get("answers", ())] for key in ("text", "answer_start")
            },
        }
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def _chunks(file: DataFile) -> Iterator[tuple[int, list[bytes]]]:
    """Yield lines in chunks, with the number of the first line; each item of a JSON list is one line."""
    with file.open() as stream:
        try:
            if _is_document(file):
                rows = _rows_of(json.loads(stream.read().decode("utf-8-sig")), file)
                lines = [json.dumps(row).encode() for row in rows]
                yield from ((start + 1, lines[start : start + 10_000]) for start in range(0, len(lines), 10_000))
                return
            first = 1
            for lines in file.counted(iter(partial(stream.readlines, CHUNK), []), lambda lines: sum(map(len, lines))):
                if first == 1:
                    lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
                yield first, lines
                first += len(lines)
        except json.JSONDecodeError as error:
            field, stage = file.reading.field, file.reading.stage
            expected = "JSON" if field is None else f"one JSON object, as --{stage}_field {field} expects"
            file.fail(error.lineno, f"not {expected} ({error.msg}, column {error.colno})")
        except RecursionError as error:
            raise DataError(f"{file.name}: {TOO_DEEP}") from error
        except (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
            raise DataError(f"{file.name}: cannot be read ({error})") from error


def _parsed(lines: list[bytes], schema: pa.Schema | None = None) -> pa.Table:
    """Parse JSON lines with Arrow; ignore columns that are not in the schema."""
    import pyarrow as pa
    import pyarrow.json as paj

    longest = max(map(len, lines), default=0)
    table = paj.read_json(
        io.BytesIO(b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)),
        read_options=paj.ReadOptions(block_size=max(1 << 20, longest + 1)),
        parse_options=paj.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
        ),
    )
    if schema is None and any(map(_has_lists, table.schema.types)):
        try:
            table.validate()
        except pa.ArrowInvalid:  # if Arrow infers types, it miscounts the items of lists that start with null
            kinds = [(field.name, _null_lists_as_text(field.type)) for field in _without_dates(table.schema)]
            return _parsed(lines, pa.schema(kinds))
    table.validate(full=True)  # texts must be UTF-8
    return table if schema is None else table.select(schema.names).cast(schema) if len(schema) else pa.table({})


def _null_lists_as_text(kind: pa.DataType, *, inside: bool = False) -> pa.DataType:
    """Replace the type of lists with null items only by lists of strings."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return pa.list_(_null_lists_as_text(kind.value_type, inside=True))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _null_lists_as_text(field.type, inside=inside)) for field in kind])
    return pa.string() if inside and pa.types.is_null(kind) else kind


def _has_lists(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or (pa.types.is_struct(kind) and any(_has_lists(field.type) for field in kind))


def _without_dates(schema: pa.Schema) -> pa.Schema:
    """Replace date types, which Arrow infers for some texts, by strings."""
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


# ------------------------------------------------------------------------------------------------- before Arrow parses


def _check_lines(file: DataFile, lines: list[bytes]) -> None:
    """Raise for lines that crash Arrow's parser or that it reads as empty rows: not an object, or too deeply nested."""
    has_object = all(line.startswith(b"{") or line.lstrip()[:1] in (b"{", b"") for line in lines)
    if not has_object or any(map(_is_too_deep, lines)):
        file.fail_all(_broken_lines(file))


def _broken_lines(file: DataFile) -> Iterator[tuple[str, str]]:
    """Yield place and problem of each line of a file that is not a JSON object."""
    what = _item(file)
    for first, lines in _chunks(file):
        for number, line in enumerate(lines, first):
            if line.strip() and (problem := _problem_of(line.strip())):
                yield f"{what}{number}", problem


def _problem_of(line: bytes) -> str | None:
    if _is_too_deep(line):
        return f"{TOO_DEEP}: {excerpt(line)}"
    try:
        row = json.loads(line.decode())  # of bytes, it would also read UTF-16
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.colno} of {excerpt(line)}"
    except UnicodeDecodeError as error:
        return not_utf8(error)
    except ValueError:  # an integer of thousands of digits, which Arrow reads as a float
        row = {} if line.startswith(b"{") else 0
    kind = {list: "a list", str: "a text", type(None): "null"}.get(type(row), "a number")
    return (
        None if isinstance(row, dict) else f'expected an object with the columns, {{"column": value, …}}, found {kind}'
    )


def _is_too_deep(line: bytes) -> bool:
    return line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(line) > MAX_DEPTH


def _depth(line: bytes) -> int:
    """Return the maximum depth of nested lists and objects; brackets in texts are ignored.

    Examples:
        >>> _depth(b'{"a": [[1], "[[["]}')
        3
    """
    depth = deepest = 0
    for mark in re.findall(rb"[\[{\]}]", STRING.sub(b"", line)):
        depth += 1 if mark in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


# ---------------------------------------------------------------------------------------------------- what goes wrong


def _chunk_schema(
    file: DataFile, first: int, lines: list[bytes], types: dict[str, pa.DataType], unreadable: dict[str, str]
) -> pa.Schema:
    """Return the types of some lines; columns without a common type are left out and added to ``unreadable``."""
    import pyarrow as pa

    if not any(line.strip() for line in lines):
        return pa.schema([])
    while True:
        try:
            return _without_dates(_parsed(lines).schema)
        except pa.ArrowException as error:
            known = len(unreadable)
            lines = [_without(line, unreadable) for line in lines] if known else lines
            _record_mixed_types(file, first, lines, types, unreadable)
            if len(unreadable) == known:
                try:
                    return _without_dates(_parsed(lines).schema)
                except pa.ArrowException:
                    file.fail(first, f"cannot be read ({error})")
            lines = [_without(line, unreadable) for line in lines]


def _without(line: bytes, columns: Collection[str]) -> bytes:
    """Return a line without some columns."""
    if not line.strip() or not any(column.encode() in line for column in columns):
        return line
    try:
        return json.dumps({name: value for name, value in json.loads(line).items() if name not in columns}).encode()
    except (ValueError, RecursionError):  # reported later with its line
        return line


def _record_mixed_types(
    file: DataFile, first: int, lines: list[bytes], types: dict[str, pa.DataType], unreadable: dict[str, str]
) -> None:
    """Find the lines that Arrow cannot parse: record columns with values of two types, raise all other errors."""
    import pyarrow as pa

    seen, what = dict(types), _item(file)
    for number, line in enumerate(lines, first):
        place = f"{what}{number}"
        if not line.strip():
            continue
        if _problem_of(line):
            file.fail_all(_broken_lines(file))
        try:
            here = _without_dates(_parsed([line]).schema)
        except pa.ArrowException as error:
            # the list of one row may also have values of two types
            column = re.search(r"Column\(/([^/)]*).*changed from (\w+) to (\w+)", str(error))
            if column is None:
                file.fail(place, f"{str(error).removesuffix(' in row 0')}: {excerpt(line)}")
            unreadable.setdefault(
                column[1],
                f"{file.name}:{place}: column '{column[1]}' holds {column[3]} and {column[2]} in one row; write all "
                "values of a column with the same type",
            )
            continue
        for field in here:
            try:
                seen[field.name] = merged(seen.get(field.name, pa.null()), field.type, field.name)
            except MixedTypesError as error:
                message = f"{file.name}:{place}: {error}; write all values of a column with the same type"
                unreadable.setdefault(field.name, message)


def _record_long_integers(file: DataFile, first: int, lines: list[bytes], unreadable: dict[str, str]) -> None:
    """Record columns with integers of more than 64 bits: Arrow would round them to floats and could merge two ids."""
    if not LONG_INTEGER.search(b"".join(lines)):
        return
    what = _item(file)
    for number, line in enumerate(lines, first):
        if LONG_INTEGER.search(line):
            for name, value in json.loads(line, parse_int=_Digits).items():
                if digits := next(_long(value), None):
                    unreadable.setdefault(
                        name,
                        f"{file.name}:{what}{number}: the number {digits} does not fit into a signed 64-bit "
                        f'integer; write it as text: "{digits}"',
                    )


def _has_integer(lines: list[bytes], column: str) -> bool:
    """Return whether a column of floats also has an integer."""
    names = b"|".join({re.escape(json.dumps(column, ensure_ascii=ascii).encode()) for ascii in (True, False)})
    integer = re.compile(rb"(?:" + names + rb")\s*:\s*-?\d+\s*[,}]")
    found = (line for line in lines if integer.search(line))
    return any(isinstance(json.loads(line, parse_int=_Digits).get(column), _Digits) for line in found)


class _Digits(str):
    """An integer as it is written in the file."""

    __slots__ = ()


def _long(value: Any) -> Iterator[str]:
    """Yield the integers in a value that need more than 64 bits."""
    if isinstance(value, _Digits):
        if len(value) > 20 or not -(1 << 63) <= int(value) < 1 << 63:
            yield value if len(value) <= 60 else value[:60] + "…"
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _long(item)
