"""Answers' places: rows that are plain are read in bulk, all others one by one, to the same end."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset

from transformers_framework.exceptions import DataError
from transformers_framework.objectives import answers as module
from transformers_framework.objectives.answers import Answers
from transformers_framework.sources.columns import DatasetSource

CONTEXT = "we go on ü  so"
PLAIN, NONE = {"text": ["go"], "answer_start": [3]}, {"text": [], "answer_start": []}


def spans(*values: Any) -> list[list[int]]:
    rows = Dataset.from_list([{"context": CONTEXT, "answers": value} for value in values])
    return Answers("context", "answers").spans(rows, DatasetSource("train", "rows", "rows:{}".format)).tolist()


@pytest.mark.parametrize(
    ("texts", "starts", "expected"),
    [
        ([], [], [-1, -1]),
        (["so"], [12], [12, 14]),
        (["ü"], [9], [9, 10]),
        (["go", "so"], [3, 12], [3, 5]),
        (["so", "go"], [12, 3], [12, 14]),
        ([" on "], [5], [6, 8]),
        (["  ", "go"], [10, 3], [3, 5]),
        ([""], [2], [-1, -1]),
        (["", "on"], [0, 6], [6, 8]),
        ([None], [1], [-1, -1]),
        (None, None, [-1, -1]),
    ],
)
def test_first_answers_of_all_rows(texts: Any, starts: Any, expected: list[int]) -> None:
    assert spans(PLAIN, {"text": texts, "answer_start": starts}, NONE) == [[3, 5], expected, [-1, -1]]


@pytest.mark.parametrize(
    ("texts", "starts", "message"),
    [
        (["on"], [5], "the answer 'on' starts at 5, but there the context has ' o'"),
        (["go", "on"], [3, 5], "the answer 'on' starts at 5, but there the context has ' o'"),
        (["so"], [-2], "the answer 'so' starts at -2, but the context has 14 characters"),
        (["so"], [99], "the answer 'so' starts at 99, but the context has 14 characters"),
        (["so"], [None], "the answer 'so' starts at None, but the context has 14 characters"),
        (["so", "go"], [12], "there are 2 answers but 1 starts"),
    ],
)
def test_wrong_answers_are_named_by_their_row(texts: Any, starts: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^rows:2: {message}"):
        spans(PLAIN, NONE, {"text": texts, "answer_start": starts}, PLAIN)


def test_sizes_are_compared_row_by_row() -> None:
    with pytest.raises(DataError, match=r"rows:0: there are 1 answers but 0 starts"):
        spans({"text": ["go"], "answer_start": []}, {"text": [], "answer_start": [3]})


def test_plain_rows_are_read_in_bulk_and_only_they(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at, one_by_one = [], module._starts

    def counted(value: Any, texts: Any, context: str) -> Any:
        looked_at.append(texts)
        return one_by_one(value, texts, context)

    monkeypatch.setattr(module, "_starts", counted)
    monkeypatch.setattr(module, "CHUNK", 2)
    odd = {"text": ["on "], "answer_start": [6]}
    assert spans(PLAIN, NONE, odd, PLAIN, PLAIN) == [[3, 5], [-1, -1], [6, 8], [3, 5], [3, 5]]
    assert looked_at == [["on "]]
