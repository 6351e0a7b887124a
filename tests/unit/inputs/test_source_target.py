"""Documents of sequence to sequence: what the tokenizer makes of prefix and text, checked before training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from tests import tiny
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.source_target import SourceTarget
from transformers_framework.sources.columns import DatasetSource

SOURCE = DatasetSource("train", "rows.jsonl", lambda row: f"rows.jsonl:{row + 1}")
DOCUMENTS = ["the old storm, and the new wind.", "x", "every spoon near the kettle " * 8, "  spaces   and\nlines  "]
FAMILIES = ("t5", "bart", "pegasus", "mbart")


def inputs(family: str = "t5", *, column: str = "d", length: Any = (40, 12), **flags: Any) -> SourceTarget:
    tokenizer = tiny.tokenizer_for(family)
    return SourceTarget(tokenizer, 0, document_column=column, max_sequence_length=list(length), **flags)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefix", ["", "summarize: "])
def test_equal_to_the_tokenizer(family: str, prefix: str) -> None:
    tokenizer = tiny.tokenizer_for(family)
    made = inputs(family, length=(20, 12), prefix=prefix).post_process({"d": DOCUMENTS})
    texts = [prefix + text for text in DOCUMENTS]
    expected = tokenizer(texts, truncation=True, max_length=20, padding=True, return_tensors="np")
    assert sorted(made) == ["attention_mask", "input_ids", "truncated"]
    assert np.array_equal(made["input_ids"], expected["input_ids"])
    assert np.array_equal(made["attention_mask"], expected["attention_mask"])
    assert made["truncated"].tolist() == [len(ids) > 20 for ids in tokenizer(texts)["input_ids"]]
    assert made["truncated"][2] > made["truncated"][1]


@pytest.mark.parametrize("prefix", ["", "summarize: "])
def test_lengths_are_those_of_the_batches(prefix: str) -> None:
    made, dataset = inputs(length=(20, 12), prefix=prefix), Dataset.from_dict({"d": DOCUMENTS})
    batch = made.post_process({"d": DOCUMENTS})
    assert made.token_lengths(dataset).tolist() == batch["attention_mask"].sum(axis=1).tolist()
    characters = [len(prefix + text) for text in DOCUMENTS]
    assert made.lengths(dataset).tolist() == made.row_lengths({"d": DOCUMENTS}).tolist() == characters
    assert made.max_length == 20


def test_lengths_of_another_prefix_are_others() -> None:
    assert inputs(prefix="a ").length_key != inputs(prefix="b ").length_key
    assert inputs(prefix="a ").length_key == inputs(prefix="a ").length_key


@pytest.mark.parametrize(("column", "expected"), [("a:b", "x y z"), ("+l", "p q"), ("a", "x y")])
def test_the_column_language(column: str, expected: str) -> None:
    made = inputs(column=column, prefix="go: ")
    rows: dict[str, list[Any]] = {"a": ["x y"], "b": ["z"], "l": [["p", "q"]]}
    ids = made.post_process(rows)["input_ids"][0].tolist()
    assert ids == tiny.tokenizer_for("t5")(f"go: {expected}")["input_ids"]
    assert made.columns == tuple(column.removeprefix("+").split(":"))
    assert made.pre_process(Dataset.from_dict(rows), SOURCE) is not None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"length": [40]}, "--max_sequence_length: two lengths are needed.*and 1 was given"),
        ({"length": [40, 20, 10]}, "and 3 were given"),
        ({"length": [1, 20]}, "Use 2 or more"),
        ({"column": "*l"}, "--document_column: '\\*l' names several texts.*'\\+l'"),
        ({"column": "a::b"}, "--document_column: 'a::b' is not valid"),
        ({"length": [12, 5], "prefix": "summarize this text: "}, "--prefix: with special tokens .* leaves no space"),
    ],
)
def test_flags_are_checked(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        inputs(**flags)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("documnt", {"document": ["x"]}, "--document_column: .* no column 'documnt'. Did you mean 'document'"),
        ("d", {"d": [["x"]]}, "--document_column: 'd' of rows.jsonl is a list column. Write '\\+d'"),
        ("+d", {"d": ["x"]}, "--document_column: .* not a list column"),
        ("d", {"d": ["x", " \n"]}, "rows.jsonl:2: the text in 'd' is null or empty"),
        ("d", {"d": ["x", None]}, "rows.jsonl:2: the text in 'd' is null or empty"),
        ("d", {"d": [b"x"]}, "--document_column: .* not text"),
    ],
)
def test_columns_are_checked(column: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        inputs(column=column, prefix="summarize: ").pre_process(Dataset.from_dict(values), SOURCE)
