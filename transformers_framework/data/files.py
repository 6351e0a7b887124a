"""Data files, the formats they may have, and the types that hold the values of several of them."""

from __future__ import annotations

import bz2
import gzip
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from transformers_framework.exceptions import DataError

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
SUFFIXES = (*FORMATS, *(f + c for f, kind in FORMATS.items() if kind != "parquet" for c in COMPRESSIONS))


@dataclass(frozen=True)
class DataFile:
    """A file with rows.

    Args:
        path: Where it lies.
        name: How users know it (its S3 address when it was downloaded).
    """

    path: Path
    name: str

    @property
    def suffix(self) -> str:
        """Suffix that tells the format, without the compression's."""
        suffixes = [suffix for suffix in self.path.suffixes if suffix.lower() not in COMPRESSIONS]
        return suffixes[-1].lower() if suffixes else ""

    def open(self) -> IO[bytes]:
        """Open for reading, decompressed."""
        return COMPRESSIONS.get(self.path.suffix.lower(), open)(self.path, "rb")

    def fail(self, line: int | str, what: str) -> NoReturn:
        """Raise the error of a line, counted from 1."""
        raise DataError(f"{self.name}:{line}: {what}")


class MixedTypesError(Exception):
    """Two types that no column can hold together.

    Args:
        column: Where, with dots for what is inside.
        earlier: What was there before.
        here: What is there now.
    """

    def __init__(self, column: str, earlier: pa.DataType, here: pa.DataType) -> None:
        super().__init__(f"column '{column}' holds {_plain(here)} here and {_plain(earlier)} in an earlier row")


def merged(earlier: pa.DataType, here: pa.DataType, column: str) -> pa.DataType:
    """Return the type that holds the values of both: nothing with anything, integers with floats, fields together.

    Raises:
        MixedTypesError: When there is none.
    """
    import pyarrow as pa

    if earlier.equals(here) or pa.types.is_null(here):
        return earlier
    if pa.types.is_null(earlier):
        return here
    if pa.types.is_struct(earlier) and pa.types.is_struct(here):
        fields = {field.name: field.type for field in earlier}
        for field in here:
            known = fields.get(field.name)
            fields[field.name] = field.type if known is None else merged(known, field.type, f"{column}.{field.name}")
        return pa.struct(list(fields.items()))
    if pa.types.is_list(earlier) and pa.types.is_list(here):
        return pa.list_(merged(earlier.value_type, here.value_type, column))
    if _is_number(earlier) and _is_number(here):
        same_kind = pa.types.is_integer(earlier) == pa.types.is_integer(here)
        return max(earlier, here, key=lambda kind: kind.bit_width) if same_kind else pa.float64()
    raise MixedTypesError(column, earlier, here)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _plain(kind: pa.DataType) -> str:
    """Name a type as users do."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return f"a list of {_plain(kind.value_type)}"
    names = ((pa.types.is_string, "text"), (_is_number, "numbers"), (pa.types.is_boolean, "true/false"))
    return next((name for test, name in names if test(kind)), "an object" if pa.types.is_struct(kind) else str(kind))


def merged_schemas(earlier: pa.Schema | None, here: pa.Schema) -> pa.Schema:
    """Merge columns by name."""
    import pyarrow as pa

    if earlier is None:
        return here
    fields = {field.name: field.type for field in earlier}
    for field in here:
        fields[field.name] = merged(fields.get(field.name, pa.null()), field.type, field.name)
    return pa.schema(list(fields.items()), metadata=earlier.metadata)


def excerpt(line: bytes) -> str:
    """Show the start of a line."""
    text = line.decode(errors="replace").strip()
    return repr(text if len(text) <= 60 else text[:60] + "…")


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte is wrong, and how to convert the file."""
    byte = error.object[error.start]
    return f"not UTF-8: byte 0x{byte:02x}; convert the file, for instance: iconv -f latin1 -t utf-8 OLD > NEW"
