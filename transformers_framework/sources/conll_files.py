"""Reader of CoNLL files: one word per line with its labels, a blank line between sentences; and of CoNLL-U.

A row is a sentence; each column is a list with one value per word. Files of CoNLL's shared tasks have 2 to 4 columns:
the word, optionally its part of speech and its chunk, and the label; to predict, the word is enough. CoNLL-U has ten
(https://universaldependencies.org/format).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from transformers_framework.exceptions import DataError
from transformers_framework.sources.data_files import DataFile, excerpt

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # rows that are converted together
# names of the columns by their number, None for those that are not read
COLUMNS: dict[int, tuple[str | None, ...]] = {
    1: ("words",),  # only to predict
    2: ("words", "labels"),
    3: ("words", "pos", "labels"),
    4: ("words", "pos", "chunks", "labels"),
    10: (None, "words", "lemmas", "upos", "xpos", *[None] * 5),
}
DOCUMENT = "-DOCSTART-"  # between two documents
NO_WORD = re.compile(r"\d+[-.]\d+")  # ids of CoNLL-U: several words in one token, and words that are not in the text


def schema_of(files: Sequence[DataFile], numbers: Collection[str] = ()) -> tuple[pa.Schema, dict[str, str]]:
    """Return the columns of all files: lists of texts.

    Raises:
        DataError: When files have different columns.
    """
    import pyarrow as pa

    known, first = 0, ""
    for file in files:
        width = max((len(words[0]) for _, words in _sentences(file)), default=0)  # every line is checked
        if known and width not in (0, known):
            raise DataError(f"{file.name}: {width} columns, but {first} has {known}")
        known, first = (known, first) if known else (width, file.name)
    return pa.schema([(name, pa.list_(pa.string())) for name in COLUMNS[known or 2] if name]), {}


def tables_of(file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
    """Read a file as tables of a schema."""
    import pyarrow as pa

    sentences = (words for _, words in _sentences(file))
    while batch := list(itertools.islice(sentences, ROWS)):
        names = COLUMNS[len(batch[0][0])]
        columns = {
            name: pa.array([[word[at] for word in words] for words in batch], pa.list_(pa.string()))
            for at, name in enumerate(names)
            if name in schema.names
        }
        yield pa.table(columns, schema=schema)


def places_of(file: DataFile) -> Iterator[str]:
    """Yield the place of every row: the line of its first word."""
    return (f"{file.name}:{line}" for line, _ in _sentences(file))


def _sentences(file: DataFile) -> Iterator[tuple[int, list[list[str]]]]:
    """Yield the line of the first word of each sentence, and the fields of its words."""
    words: list[list[str]] = []
    first = width = 0
    lines = enumerate(file.lines(), 1)
    for number, line in lines:
        fields = _fields(line, width, inside=bool(words))
        if fields is None:
            continue
        if not fields or fields[0] == DOCUMENT:
            if words:
                yield first, words
            words = []
            continue
        least = 1 if file.reading.stage == "predict" else 2
        if not width and (len(fields) not in COLUMNS or len(fields) < least):
            found = _columns(len(fields))
            file.fail(number, f"found {found}, expected {least} to 4, or the 10 of CoNLL-U: {_shown(line)}")
        if len(fields) != (width := width or len(fields)):
            file.fail_all(_torn(itertools.chain([(number, line)], lines), width))
        if width == max(COLUMNS) and NO_WORD.fullmatch(fields[0]):
            continue
        first = first if words else number
        words.append(fields)
    if words:
        yield first, words


def _torn(lines: Iterable[tuple[int, str]], width: int) -> Iterator[tuple[int, str]]:
    """Yield number and problem of the lines that have another number of columns than the lines before."""
    inside = True
    for number, line in lines:
        fields = _fields(line, width, inside=inside)
        if fields is None:
            continue
        inside = bool(fields) and fields[0] != DOCUMENT
        if inside and len(fields) != width:
            yield number, f"found {_columns(len(fields))}, but the lines before have {width}: {_shown(line)}"


def _fields(line: str, width: int, *, inside: bool) -> list[str] | None:
    """Return the fields of a line, none for a blank line, and None for a comment.

    Args:
        line: The line.
        width: Number of columns of the lines before, 0 at the start.
        inside: Whether it follows a word; a comment stands before a sentence.
    """
    text = line.strip()
    fields = text.split("\t") if "\t" in text else text.split()
    is_comment = text.startswith("#") and not inside and (len(fields) != width or " = " in text)
    return None if is_comment else fields


def _columns(number: int) -> str:
    return "1 column" if number == 1 else f"{number} columns"


def _shown(line: str) -> str:
    return excerpt(line.encode())
