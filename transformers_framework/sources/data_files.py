"""Data files and their formats."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

from transformers_framework.display import counted
from transformers_framework.exceptions import DataError

T = TypeVar("T")

COMPRESSIONS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
SUFFIXES = (*FORMATS, *(f + c for f, kind in FORMATS.items() if kind != "parquet" for c in COMPRESSIONS))


@dataclass(frozen=True)
class DataFile:
    """A data file.

    Args:
        path: Local path.
        name: Name in messages (the address of a downloaded file).
    """

    path: Path
    name: str

    @property
    def suffix(self) -> str:
        """Suffix of the format, without the suffix of a compression."""
        suffixes = [suffix for suffix in self.path.suffixes if suffix.lower() not in COMPRESSIONS]
        return suffixes[-1].lower() if suffixes else ""

    def open(self) -> IO[bytes]:
        """Open for reading, decompressed."""
        opened: IO[bytes] = COMPRESSIONS.get(self.path.suffix.lower(), open)(self.path, "rb")
        return opened

    def counted(self, parts: Iterable[T], num_bytes: Callable[[T], int]) -> Iterator[T]:
        """Yield parts of the file, and show how much of it is read.

        Args:
            parts: What is read, one after the other.
            num_bytes: Returns the size of a part.
        """
        is_compressed = self.path.suffix.lower() in COMPRESSIONS
        total = None if is_compressed else self.path.stat().st_size
        return counted(parts, f"Reading {self.name}", total=total, unit="bytes", units=num_bytes)

    def fail(self, line: int | str, what: str) -> NoReturn:
        """Raise the error of a line, counted from 1."""
        raise DataError(f"{self.name}:{line}: {what}")


class UnreadableColumnError(DataError):
    """A value cannot be converted to the type of its column, which was determined without reading values.

    Args:
        message: Message for users.
        column: The column.
    """

    def __init__(self, message: str, column: str) -> None:
        super().__init__(message)
        self.column = column


def excerpt(line: bytes) -> str:
    """Return the start of a line, quoted."""
    text = line.decode(errors="replace").strip()
    return repr(text if len(text) <= 60 else text[:60] + "…")


def not_utf8(error: UnicodeDecodeError) -> str:
    """Return a message with the invalid byte and how to convert the file."""
    byte = error.object[error.start]
    return f"not UTF-8: byte 0x{byte:02x}; convert the file, for instance: iconv -f latin1 -t utf-8 OLD > NEW"
