"""Data files and their formats."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, TypeVar

from transformers_framework.constants import STAGES
from transformers_framework.display import counted
from transformers_framework.exceptions import DataError
from transformers_framework.sources.row_errors import broken_rows

T = TypeVar("T")

COMPRESSIONS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
FORMATS = {
    **{".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"},
    **{".txt": "text", ".conll": "conll", ".conllu": "conll", ".iob": "conll", ".iob2": "conll", ".bio": "conll"},
}
SUFFIXES = (*FORMATS, *(f + c for f, kind in FORMATS.items() if kind != "parquet" for c in COMPRESSIONS))
SHEETS = (".xlsx", ".xls", ".ods")

CONVERT = "not UTF-8: {found}; convert the file: iconv -f {encoding} -t utf-8 OLD > NEW"
EXAMPLES = "that of the file, such as latin1 (Western Europe), cp1251 (Cyrillic) or iso-8859-7 (Greek)"

TextUnit = Literal["file", "paragraph", "line", "conll"]


@dataclass(frozen=True)
class Reading:
    """How files are read where their content does not tell.

    Args:
        text_unit: What a row of a ``.txt`` file is; None: a whole file, if there are several.
        field: Key of the list of rows in a JSON object.
        stage: Stage of the flags, for messages.
    """

    text_unit: TextUnit | None = None
    field: str | None = None
    stage: str = "train"


class FileOptions:
    """Flags of how files are read.

    Args:
        text_unit: Row of a .txt file: the whole file (the default for several files), a paragraph (between blank
            lines), a line, or a sentence of a file in CoNLL's format, with one word and its labels per line.
        train_field: Key of the list of rows, where a training file is one JSON object.
        valid_field: The same for validation files.
        test_field: The same for test files.
        predict_field: The same for files to predict.
    """

    def __init__(
        self,
        *,
        text_unit: TextUnit | None = None,
        train_field: str | None = None,
        valid_field: str | None = None,
        test_field: str | None = None,
        predict_field: str | None = None,
    ) -> None:
        self.text_unit = text_unit
        self.fields: dict[str, str | None] = dict(
            zip(STAGES, (train_field, valid_field, test_field, predict_field), strict=True)
        )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> FileOptions:
        """Return the options among all flags of a run."""
        flags = ("text_unit", *(f"{stage}_field" for stage in STAGES))
        return cls(**{flag: options[flag] for flag in flags if flag in options})

    def reading(self, stage: str) -> Reading:
        """Return how the files of a stage are read."""
        return Reading(self.text_unit, self.fields.get(stage), stage)


@dataclass(frozen=True)
class DataFile:
    """A data file.

    Args:
        path: Local path.
        name: Name in messages (the address of a downloaded file).
        reading: How it is read.
    """

    path: Path
    name: str
    reading: Reading = Reading()

    @property
    def suffix(self) -> str:
        """Suffix of the format, without the suffix of a compression."""
        suffixes = [suffix for suffix in self.path.suffixes if suffix.lower() not in COMPRESSIONS]
        return suffixes[-1].lower() if suffixes else ""

    @property
    def format(self) -> str:
        """Format of the content."""
        kind = FORMATS[self.suffix]
        return "conll" if kind == "text" and self.reading.text_unit == "conll" else kind

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

    def fail_all(self, problems: Iterable[tuple[int | str, str]]) -> NoReturn:
        """Raise the error of all broken rows: it counts them, and describes the first ones.

        Args:
            problems: Line, counted from 1, and problem of each broken row, at least one.
        """
        raise broken_rows(self.name, (f"{self.name}:{line}: {what}" for line, what in problems))

    def check_encoding(self) -> None:
        """Raise if the file is UTF-16, which is called Unicode by Windows programs."""
        head = b""
        with (
            suppress(EOFError, OSError, lzma.LZMAError, zlib.error),
            self.open() as stream,
        ):  # reported where it is read
            head = stream.read(2)
        if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            self.fail(1, CONVERT.format(found="it is UTF-16", encoding="utf-16"))

    def lines(self) -> Iterator[str]:
        """Yield the lines as text.

        Raises:
            DataError: When the file cannot be decompressed, or a line is not UTF-8.
        """
        try:
            with self.open() as stream:
                for number, line in enumerate(self.counted(stream, len), 1):
                    try:
                        yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                    except UnicodeDecodeError as error:
                        self.fail(number, not_utf8(error))
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            raise DataError(f"{self.name}: cannot be read ({error})") from error


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
    return f"{CONVERT.format(found=f'byte 0x{byte:02x}', encoding='ENCODING')}, where ENCODING is {EXAMPLES}"
