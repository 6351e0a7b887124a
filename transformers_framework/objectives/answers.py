"""Answers of a question answering data set: their texts and their positions in the context."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.processing.answers import normalized
from transformers_framework.sources.columns import DatasetSource, check_column, distinct_texts, item_feature, type_name
from transformers_framework.sources.fields import as_text
from transformers_framework.sources.row_errors import NUM_DESCRIBED

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

CHUNK = 1000  # rows per read
NOWHERE = (-1, -1)
SQUAD_KEYS = ("text", "answer_start")

Span = tuple[int, int]  # first character, and the one after the last


@dataclass(frozen=True)
class Answers:
    """Columns of the answers of a data set, in SQuAD's format or as a list of texts and a list of spans.

    Args:
        context_column: Column of the text that contains the answers.
        answers_column: Column with SQuAD's ``{text: […], answer_start: […]}``, or with a list of texts.
        spans_column: Column with the spans of the answers if these are a list of texts.
    """

    context_column: str
    answers_column: str | None
    spans_column: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read in addition to the context."""
        return tuple(column for column in (self.answers_column, self.spans_column) if column is not None)

    def check_columns(self, dataset: Dataset, source: DatasetSource) -> None:
        """Check that the columns exist and have the expected types.

        Raises:
            ConfigurationError: When a column is needed and not given.
            DataError: When a column is missing or has another type.
        """
        if self.answers_column is None:
            raise ConfigurationError(
                f"--answers_column is needed for the {source.stage} data set. "
                f"Columns of {source.name}: {', '.join(dataset.column_names)}."
            )
        check_column(dataset, self.answers_column, source, flag="answers_column")
        feature = dataset.features[self.answers_column]
        is_squad, is_list = _is_squad(feature), _is_text(item_feature(feature))
        if not (is_squad or is_list):
            raise DataError(
                f"--answers_column: '{self.answers_column}' of {source.name} holds {type_name(feature)}; expected "
                "SQuAD's {text: [...], answer_start: [...]}, texts and whole numbers, or a list of texts beside "
                "--label_column."
            )
        if is_squad and self.spans_column is not None:
            raise ConfigurationError(
                f"--label_column: '{self.answers_column}' contains the starts of the answers already. Leave the flag "
                "out."
            )
        if is_list and self.spans_column is None:
            raise ConfigurationError(
                f"--label_column is needed: '{self.answers_column}' of {source.name} holds texts without positions. "
                "Give the column of their spans, the first and last character of each in the context."
            )
        if self.spans_column is not None:
            check_column(dataset, self.spans_column, source, flag="label_column")
            if not _holds_spans(found := dataset.features[self.spans_column]):
                raise DataError(
                    f"--label_column: '{self.spans_column}' of {source.name} holds {type_name(found)}; expected "
                    "spans of characters, a list of [first, last] or of {start, end}."
                )

    def distribution(self, spans: np.ndarray) -> str:
        """Return the number of questions with and without an answer, as text; spans are those of :meth:`spans`."""
        num_empty = int((spans[:, 0] < 0).sum())
        return f"{self.answers_column}: {len(spans) - num_empty:,} with an answer, {num_empty:,} without"

    def read(self, dataset: Dataset, rows: np.ndarray) -> Iterator[tuple[int, list[str], Any, str]]:
        """Yield row number, answer texts, the raw value with the positions of the answers, and context of some rows."""
        for start in range(0, len(rows), CHUNK):
            numbers = rows[start : start + CHUNK].tolist()
            found = dataset[numbers]
            values = (found[column] for column in (self.columns[0], self.columns[-1], self.context_column))
            for row, value, where, context in zip(numbers, *values, strict=True):
                yield row, answer_texts(value), where, as_text(context)

    def spans(self, dataset: Dataset, source: DatasetSource) -> np.ndarray:
        """Return the character span of the first answer of each row, -1 where there is none ``(N, 2) int64``.

        White space around an answer is removed.

        Raises:
            DataError: When the context does not contain an answer at the given position, with its place.
        """
        dataset = dataset.select_columns([self.context_column, *self.columns])
        tables = dataset.with_format("arrow")
        found, is_plain = np.full((len(dataset), 2), -1, dtype=np.int64), np.zeros(len(dataset), dtype=bool)
        for start in range(0, 0 if self.spans_column else len(dataset), CHUNK):
            part = slice(start, start + CHUNK)
            found[part], is_plain[part] = _plain_spans(*map(tables[part].column, (self.context_column, *self.columns)))
        wrong, reasons = array("q"), list[str]()
        for row, texts, where, context in self.read(dataset, np.flatnonzero(~is_plain)):
            try:
                if where is None:
                    expected = "expected empty lists for a question without an answer"
                    raise ValueError(f"'{self.columns[-1]}' is null; {expected}")
                spans = _spans(where, texts, context) if self.spans_column else _starts(where, texts, context)
            except ValueError as error:
                wrong.append(row)
                reasons += [f"{error}. Correct the row or remove it."] if len(reasons) < NUM_DESCRIBED else []
                continue
            found[row] = next(iter(spans), NOWHERE)
        source.refuse(np.array(wrong, dtype=np.int64), reasons.__getitem__)
        return found


def answer_texts(value: Any) -> list[str]:
    """Return the texts of the answers in a value of either format.

    Examples:
        >>> answer_texts({"text": ["a", "b"], "answer_start": [0, 2]}), answer_texts(["a"]), answer_texts(None)
        (['a', 'b'], ['a'], [])
    """
    if isinstance(value, dict):
        value = value[SQUAD_KEYS[0]]
    return [as_text(item[SQUAD_KEYS[0]] if isinstance(item, dict) else item) for item in value or ()]


def _is_squad(feature: Any) -> bool:
    """Return whether a column is in SQuAD's format: lists of texts and of integers, or a list of such pairs."""
    pair = item_feature(feature)
    if pair is None and isinstance(feature, Mapping):
        pair = {key: item_feature(feature.get(key)) for key in SQUAD_KEYS}
    return isinstance(pair, Mapping) and _is_text(pair.get(SQUAD_KEYS[0])) and _is_number(pair.get(SQUAD_KEYS[1]))


def _is_text(feature: Any) -> bool:
    from datasets import Value

    return isinstance(feature, Value) and feature.dtype in ("string", "large_string", "null")


def _is_number(feature: Any) -> bool:
    from datasets import Value

    return isinstance(feature, Value) and ("int" in feature.dtype or feature.dtype == "null")


def _holds_spans(feature: Any) -> bool:
    """Return whether a column holds numbers in lists or in ``{start, end}``; also true if all lists are empty."""
    while (item := item_feature(feature)) is not None:
        feature = item
        if _is_number(feature):
            return True
    if not isinstance(feature, Mapping) or not {"start", "end"} <= feature.keys():
        return False
    return all(_is_number(feature[key]) or _is_number(item_feature(feature[key])) for key in ("start", "end"))


def _plain_spans(contexts: pa.ChunkedArray, answers: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the character span of the first answer of each row, -1 where there is none, and which rows are plain.

    A row is plain if it is in SQuAD's format and its answers are found at their starts, without white space around
    them. Nearly all rows are; checking the others one by one takes more than twice as long per row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found, is_plain = np.full((len(answers), 2), -1, dtype=np.int64), np.zeros(len(answers), dtype=bool)
    if not pa.types.is_struct(answers.type):
        return found, is_plain
    lists = [pc.struct_field(answers, key).combine_chunks() for key in SQUAD_KEYS]
    items, sizes = [pc.list_flatten(part) for part in lists], [pc.list_value_length(part) for part in lists]
    if any(part.null_count for part in (*lists, *items)) or not sizes[0].equals(sizes[1]):
        return found, is_plain
    (texts, starts), counts = (part.to_pylist() for part in items), sizes[0].to_numpy()
    owner, (numbers, distinct) = np.repeat(np.arange(len(counts)), counts), distinct_texts(contexts)
    wrong = [
        start < 0 or not distinct[number].startswith(text, start) or text.strip() != text or not text
        for number, text, start in zip(numbers[owner].tolist(), texts, starts, strict=True)
    ]
    is_plain = np.bincount(owner, weights=wrong, minlength=len(counts)) == 0
    first = (np.cumsum(counts) - counts)[counts > 0]
    begins, lengths = np.array(starts, dtype=np.int64)[first], np.array([*map(len, texts)], dtype=np.int64)[first]
    found[counts > 0] = np.stack([begins, begins + lengths], axis=1)
    return found, is_plain


def _starts(value: Any, texts: Sequence[str], context: str) -> list[Span]:
    """Return the spans of SQuAD's answers without surrounding white space.

    Raises:
        ValueError: When the context does not have the text at its start.
    """
    starts = value[SQUAD_KEYS[1]] if isinstance(value, dict) else [item[SQUAD_KEYS[1]] for item in value]
    if len(starts or ()) != len(texts):
        raise ValueError(f"there are {len(texts)} answers but {len(starts or ())} starts")
    for text, start in zip(texts, starts or (), strict=True):
        if start is None or not 0 <= start <= len(context) - len(text):
            raise ValueError(f"the answer {text!r} starts at {start}, but the context has {len(context)} characters")
        if (found := context[start : start + len(text)]) != text:
            raise ValueError(f"the answer {text!r} starts at {start}, but there the context has {found!r}")
    spans = (_visible(context, start, start + len(text)) for text, start in zip(texts, starts or (), strict=True))
    return [span for span in spans if span != NOWHERE]


def _spans(value: Any, texts: Sequence[str], context: str) -> list[Span]:
    """Return the given spans of answers without surrounding white space.

    The end of a span may be the last character of the answer or the one after it; comparison with the text decides.

    Raises:
        ValueError: When the text of a span is not one of the answers, or there are answers but no spans.
    """
    pairs, wanted = list(_pairs(value)), {normalized(text) for text in texts}
    if bool(pairs) != bool(texts):
        raise ValueError(f"there are {len(texts)} answers but {len(pairs)} spans")
    spans = []
    for begin, last in pairs:
        if begin is None or last is None or not 0 <= begin <= last <= len(context):
            raise ValueError(f"the span {begin} to {last} is not inside the context of {len(context)} characters")
        ends = [end for end in (last, last + 1) if context[begin:end] in texts]
        ends += [end for end in (last + 1, last) if normalized(context[begin:end]) in wanted]
        if not ends:
            raise ValueError(f"the span {begin} to {last} is {context[begin : last + 1]!r}, not one of the answers")
        spans.append(_visible(context, begin, ends[0]))
    return [span for span in spans if span != NOWHERE]


def _pairs(value: Any) -> Iterator[Span]:
    """Yield start and end of all spans of a value: nested pairs, or ``{start, end}`` with numbers or lists."""
    if isinstance(value, dict):
        starts, ends = (item if isinstance(item, list) else [item] for item in (value["start"], value["end"]))
        yield from zip(starts, ends, strict=True)
    elif len(value) == 2 and all(type(item) is int for item in value):
        yield value[0], value[1]
    else:
        yield from chain.from_iterable(map(_pairs, value))


def _visible(context: str, begin: int, end: int) -> Span:
    text = context[begin:end]
    bare = text.strip()
    return (begin + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())) if bare else NOWHERE
