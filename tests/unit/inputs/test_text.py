"""Rows to model inputs: equal to what the tokenizer makes of one and two texts, and checked before training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from tests import tiny
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.inputs import InputNeeds
from transformers_framework.inputs.text import TextInputs
from transformers_framework.sources.columns import DatasetSource

SOURCE = DatasetSource("train", "rows.jsonl", lambda row: f"rows.jsonl:{row + 1}")
TEXTS = [
    ("what about rain?", "the old storm, and the new wind."),
    ("x", "every spoon near the kettle " * 8),
    ("piano and violin " * 9, "y"),
    ("the moon " * 12, "a rocket " * 15),
    ("ünï 雨 \u200b tab\there", "  spaces   and\nlines  "),
]


def inputs(
    family: str = "bert", *, types: int = 2, columns: Any = ("q", "a"), length: Any = (40,), **flags: Any
) -> Any:
    tokenizer = tiny.tokenizer_for(family)
    return TextInputs(tokenizer, types, input_columns=list(columns), max_sequence_length=list(length), **flags)


def rows(**columns: Any) -> dict[str, list[Any]]:
    return columns or {"q": [q for q, _ in TEXTS], "a": [a for _, a in TEXTS]}


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "deberta_v2", "distilbert", "t5", "albert", "modernbert", "bart"]
)
@pytest.mark.parametrize("columns", [["a"], ["q", "a"]])
@pytest.mark.parametrize("length", [17, 40])
def test_equal_to_the_tokenizer(family: str, columns: list[str], length: int) -> None:
    tokenizer = tiny.tokenizer_for(family)
    has_types = "token_type_ids" in tokenizer.model_input_names
    made = inputs(family, types=2 if has_types else 0, columns=columns, length=[length]).post_process(rows())
    texts = [rows()[column] for column in columns]
    options: dict[str, Any] = {"truncation": True, "max_length": length, "return_tensors": "np"}
    expected = tokenizer(*texts, padding=True, **options)
    assert np.array_equal(made["input_ids"], expected["input_ids"])
    assert np.array_equal(made["attention_mask"], expected["attention_mask"])
    if has_types:
        assert np.array_equal(made["token_type_ids"], expected["token_type_ids"])
    else:
        assert "token_type_ids" not in made, "zeros are what a model takes for absent types"
    whole = tokenizer(*texts)["input_ids"]
    assert made["truncated"].tolist() == [len(ids) > length for ids in whole]


def test_padding_goes_where_the_tokenizer_wants_it() -> None:
    left = tiny.tokenizer("wordpiece")
    left.padding_side = "left"
    made = TextInputs(left, 2, input_columns=["q", "a"], max_sequence_length=[40]).post_process(rows())
    expected = left(*rows().values(), padding=True, truncation=True, max_length=40, return_tensors="np")
    for key in ("input_ids", "attention_mask", "token_type_ids"):
        assert np.array_equal(made[key], expected[key])


def test_lengths_are_rounded_up_but_not_past_the_longest() -> None:
    short = {"q": ["x"], "a": ["y"]}
    assert inputs().post_process(short)["input_ids"].shape == (1, 5)
    assert inputs().post_process(short, pad_to_multiple_of=8)["input_ids"].shape == (1, 8)
    assert inputs(length=[18]).post_process(rows(), pad_to_multiple_of=8)["input_ids"].shape == (5, 18)


def test_what_the_tokenizer_was_set_to_is_left_alone() -> None:
    tokenizer = tiny.tokenizer_for("bert")
    tokenizer(["a b c"], truncation=True, max_length=4, padding="max_length")  # sets the Rust tokenizer up
    made = TextInputs(tokenizer, 2, input_columns=["q"], max_sequence_length=[40]).post_process(
        {"q": ["the moon " * 9]}
    )
    assert made["input_ids"].shape[1] == len(tokenizer("the moon " * 9)["input_ids"])


def test_rows_of_different_numbers_of_segments() -> None:
    made = inputs(columns=["q", "*more"], extended_token_type_ids=[0, 1, 2])
    batch = made.post_process({"q": ["a", "a", "a"], "more": [["b", "c"], [], ["b", "", "c", "d"]]})
    assert batch["attention_mask"].sum(axis=1).tolist() == [7, 3, 10]
    assert batch["token_type_ids"].tolist() == [
        [0, 0, 0, 1, 1, 2, 2, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 2, 2, 2, 2, 2],
    ]
    assert made.num_token_types == 3


def test_lengths_group_rows_of_a_table_and_of_a_stream_alike() -> None:
    columns: dict[str, list[Any]] = {
        "q": ["abc", "", "ünï"], "a": ["de", "f", "ghij"], "more": [["k", "lm"], [], ["n"]],
    }  # fmt: skip
    made = inputs(columns=["q", "a", "*more"])
    assert made.lengths(Dataset.from_dict(columns)).tolist() == [8, 1, 8]
    assert made.row_lengths(columns).tolist() == [8, 1, 8]


@pytest.mark.parametrize(
    ("columns", "values", "message"),
    [
        (["q", "b"], {"q": ["x"], "a": ["y"]}, "no column 'b'"),
        (["q", "more"], {"q": ["x"], "more": [["y"]]}, "Write '\\+more'"),
        (["q", "+a"], {"q": ["x"], "a": ["y"]}, "not a list column"),
        (["q", "a"], {"q": ["x", "x"], "a": ["y", None]}, "rows.jsonl:2: the text in 'a' is null or empty"),
        (["q", "a"], {"q": ["x", " \n"], "a": ["y", "y"]}, "rows.jsonl:2: the text in 'q' is null or empty"),
        (["q", "+a"], {"q": ["x", "x"], "a": [["y"], []]}, "rows.jsonl:2"),
        (["q", "a"], {"q": ["x"], "a": [b"y"]}, "not text"),
    ],
)
def test_columns_are_checked(columns: list[str], values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        inputs(columns=columns).pre_process(Dataset.from_dict(values), SOURCE)


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        (["q", "a", "c"], {"q": ["x"], "a": ["y"], "c": [None]}),
        (["q", "a", "*c"], {"q": ["x"], "a": ["y"], "c": [[]]}),
        (["t:q"], {"t": [""], "q": ["x"]}),
        (["q"], {"q": [7]}),
    ],
)
def test_what_may_be_empty_or_a_number(columns: list[str], values: dict[str, Any]) -> None:
    made = inputs(columns=columns)
    made.pre_process(Dataset.from_dict(values), SOURCE)
    assert made.post_process(values)["attention_mask"].sum() > 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"length": [40, 20]}, "one length is needed"),
        ({"length": [4]}, "Use 5 or more"),
    ],
)
def test_lengths_are_checked(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        inputs(**flags)


def test_token_lengths_are_those_of_the_batches() -> None:
    """Counted lengths equal what post_process makes of the rows, cut where it cuts."""
    from datasets import Dataset

    rows = [*tiny.pairs(30), {"question": "w " * 60, "answer": "x", "label": 0, "key": 9}]
    dataset = Dataset.from_list(rows)
    inputs = TextInputs(
        tiny.tokenizer_for("roberta"), 1, input_columns=["question", "answer"], max_sequence_length=[20]
    )
    batch = inputs.post_process({name: dataset[name][:] for name in ("question", "answer")})
    assert inputs.token_lengths(dataset).tolist() == batch["attention_mask"].sum(axis=1).tolist()
    assert batch["attention_mask"].sum(axis=1).max() == 20


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_words_are_numbered_through_the_segments_of_a_row(kind: str, side: str) -> None:
    tokenizer = tiny.tokenizer(kind)
    tokenizer.padding_side = side
    columns = ["q", "a", "*more"]
    plain_inputs, made = (
        TextInputs(tokenizer, 0, InputNeeds(word_ids=words), input_columns=columns, max_sequence_length=[60])
        for words in (False, True)
    )
    more = {"more": [["learning slowly", ""], [], ["unbelievable"], ["a", "b"], []]}
    plain = plain_inputs.post_process({**rows(), **more})
    assert "word_ids" not in plain
    batch = made.post_process({**rows(), **more})
    assert all(np.array_equal(batch[key], plain[key]) for key in plain)
    assert batch["word_ids"].dtype == np.int64
    for row, (question, answer) in enumerate(TEXTS):
        ids, words = batch["input_ids"][row], batch["word_ids"][row]
        special = np.isin(ids, [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id])
        assert ((words == -1) == special).all()
        expected, offset = [], 0
        for text in (question, answer, *more["more"][row]):
            of_text = tokenizer(text, add_special_tokens=False).word_ids()
            numbers = [offset + list(dict.fromkeys(of_text)).index(word) for word in of_text]
            offset = 1 + max(numbers, default=offset - 1)
            expected.append(numbers)
        if not batch["truncated"][row]:
            assert words[~special].tolist() == [number for numbers in expected for number in numbers]
        else:
            assert set(words[~special]) <= {number for numbers in expected for number in numbers}
            assert (np.diff(words[~special]) >= 0).all()
