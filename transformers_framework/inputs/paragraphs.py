"""Paragraphs of documents with the positions of their sentences: how they are found, and texts of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.constants import SOURCE_ROW
from transformers_framework.processing.sentences import sentence_spans
from transformers_framework.processing.structure import Paragraphs, Spans
from transformers_framework.processing.text_ids import value_hashes
from transformers_framework.processing.windows import Ragged
from transformers_framework.sources.columns import arrow_chunks
from transformers_framework.sources.fields import as_text

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

LEAST_SENTENCES = 2  # of a paragraph


def paragraphs_of(
    first_row: int, documents: Sequence[str | Sequence[str] | None], separator: str, shortest: int
) -> Any:
    r"""Return a table with one row for each paragraph of two sentences or more.

    Its columns are ``text``; ``starts`` and ``ends`` of its sentences in characters, and their ``hashes``, lists of
    equal length; ``text_hash``; how many different sentences and paragraphs the document has besides,
    ``other_sentences`` and ``other_paragraphs``; how many paragraphs were left out before it, shorter ones and copies,
    ``left_out``; and ``source_row``. A sentence that a paragraph repeats counts once, as does a paragraph in its
    document. Hashes ignore case and white space.

    Args:
        first_row: Number of the first document.
        documents: Texts, or lists of paragraphs.
        separator: Text between two paragraphs; \r\n is read as \n.
        shortest: Length of the shortest sentence in characters.

    Examples:
        >>> table = paragraphs_of(7, ["Title\n\nOne is. Two is? one  is.\n\nThree was. Four was."], "\n\n", 1)
        >>> table["starts"].to_pylist(), table["ends"].to_pylist(), table["source_row"].to_pylist()
        ([[0, 8], [0, 11]], [[7, 15], [10, 20]], [7, 7])
        >>> table["other_sentences"].to_pylist(), table["left_out"].to_pylist()
        ([2, 2], [1, 0])
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {"text": [], "starts": [], "ends": [], "left_out": [], SOURCE_ROW: []}
    sentences: list[str] = []
    separator = separator.replace("\r\n", "\n")
    for row, document in enumerate(documents, first_row):
        parts = document if isinstance(document, list) else as_text(document).replace("\r\n", "\n").split(separator)
        left_out, num_before = 0, len(columns["text"])
        seen: set[str] = set()  # a positive is another paragraph of the document, not a copy
        for part in parts:
            text = as_text(part)
            spans: dict[str, tuple[int, int]] = {}
            for start, end in sentence_spans(text):
                if end - start >= shortest:
                    spans.setdefault(normalized(text[start:end]), (start, end))
            if len(spans) < LEAST_SENTENCES or (whole := normalized(text)) in seen:
                left_out += bool(text.strip())
                continue
            seen.add(whole)
            sentences += spans
            starts, ends = zip(*spans.values(), strict=True)
            for name, value in zip(columns, (text, starts, ends, left_out, row), strict=True):
                columns[name].append(value)
            left_out = 0
        if left_out and len(columns["text"]) > num_before:
            columns["left_out"][-1] += left_out
    types = {"starts": pa.list_(pa.int32()), "ends": pa.list_(pa.int32()), "text": pa.large_string()}
    arrays = {name: pa.array(values, types.get(name, pa.int64())) for name, values in columns.items()}
    sizes = np.array([len(starts) for starts in columns["starts"]], dtype=np.int64)
    hashes, texts = value_hashes(sentences), value_hashes(list(map(normalized, columns["text"])))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    arrays["hashes"], arrays["text_hash"] = pa.ListArray.from_arrays(offsets, hashes), pa.array(texts)
    rows = np.array(columns[SOURCE_ROW], dtype=np.int64)
    arrays["other_sentences"] = pa.array(_num_distinct(hashes, np.repeat(rows, sizes), rows) - sizes)
    arrays["other_paragraphs"] = pa.array(_num_distinct(texts, rows, rows) - 1)
    return pa.table(arrays)


def normalized(text: str) -> str:
    """Return a text by which duplicates are found: without case, with single spaces.

    Examples:
        >>> normalized("The  End ")
        'the end'
    """
    return " ".join(text.split()).casefold()


def _num_distinct(hashes: np.ndarray, owners: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return how many different hashes the document of each paragraph has ``(P,) int64``."""
    pairs = np.unique(np.stack([owners, hashes], axis=1), axis=0)[:, 0]
    return np.searchsorted(pairs, rows, side="right") - np.searchsorted(pairs, rows)


class ParagraphReader:
    """Reads texts of the paragraphs of a stage; in workers too, as rows are memory-mapped.

    Args:
        rows: The rows of :func:`paragraphs_of`.
    """

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows.select_columns(["text", "starts", "ends"]).with_format("arrow")
        hashes = list(arrow_chunks(rows, "hashes"))
        lengths = [chunk.value_lengths().to_numpy() for chunk in hashes]
        self.paragraphs = Paragraphs(
            column(rows, SOURCE_ROW),
            Ragged(
                np.concatenate([chunk.flatten().to_numpy() for chunk in hashes]),
                np.concatenate(lengths).astype(np.int64),
            ),
            column(rows, "text_hash"),
        )

    def read(self, *spans: Spans) -> dict[int, tuple[str, list[int], list[int]]]:
        """Return the text of each paragraph that spans are in, and where its sentences start and end, by its row."""
        numbers = np.unique(np.concatenate([found.paragraphs.ravel() for found in spans]))
        numbers = numbers[numbers >= 0]
        table: pa.Table = self.rows[numbers.tolist()]
        parts = (table.column(name).to_pylist() for name in ("text", "starts", "ends"))
        return dict(zip(numbers.tolist(), zip(*parts, strict=True), strict=True))


Texts = Mapping[int, tuple[str, list[int], list[int]]]


def span_text(texts: Texts, paragraph: int, start: int, length: int) -> str:
    """Return the text of a run of sentences.

    Examples:
        >>> texts = {3: ("One is. Two is? Three was.", [0, 8, 16], [7, 15, 26])}
        >>> span_text(texts, 3, 1, 2), span_text(texts, 3, 0, 0)
        ('Two is? Three was.', '')
    """
    text, starts, ends = texts[paragraph]
    return text[starts[start] : ends[start + length - 1]] if length else ""


def text_without(texts: Texts, paragraph: int, start: int, length: int) -> str:
    """Return the text of a paragraph without a run of sentences.

    Examples:
        >>> texts = {3: ("One is. Two is? Three was.", [0, 8, 16], [7, 15, 26])}
        >>> text_without(texts, 3, 1, 1), text_without(texts, 3, 0, 0)
        ('One is. Three was.', 'One is. Two is? Three was.')
    """
    text, starts, ends = texts[paragraph]
    if not length:
        return text
    parts = text[: starts[start]].rstrip(), text[ends[start + length - 1] :].lstrip()
    return " ".join(part for part in parts if part)


def text_around(texts: Texts, paragraph: int, start: int, length: int, *, avoided: tuple[int, int, int]) -> str:
    """Return the sentences right before and after a run of sentences, not those of the span ``avoided``.

    Examples:
        >>> texts = {3: ("One is. Two is? Three was. Four?", [0, 8, 16, 27], [7, 15, 26, 32])}
        >>> text_around(texts, 3, 2, 1, avoided=(3, 1, 1))
        'One is. Four?'
        >>> text_around(texts, 3, 0, 1, avoided=(5, 1, 1))
        'Two is?'
    """
    other, first, count = avoided
    hidden = range(first, first + count) if other == paragraph else range(0)
    number = len(texts[paragraph][1])
    before = next((n for n in range(start - 1, -1, -1) if n not in hidden), None)
    after = next((n for n in range(start + length, number) if n not in hidden), None)
    return " ".join(span_text(texts, paragraph, n, 1) for n in (before, after) if n is not None)


def column(rows: Dataset, name: str) -> np.ndarray:
    """Return a column of numbers ``(P,) int64``."""
    return np.concatenate([chunk.to_numpy() for chunk in arrow_chunks(rows, name)]).astype(np.int64)
