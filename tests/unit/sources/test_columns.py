"""Whole columns, looked at through Arrow, also when rows were picked before."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from transformers_framework.exceptions import DataError
from transformers_framework.sources.columns import (
    DatasetSource,
    arrow_chunks,
    check_column,
    check_text_type,
    column_lengths,
    empty_rows,
)

SOURCE = DatasetSource("train", "data.jsonl", "data.jsonl:{}".format)


@pytest.fixture
def dataset():
    return Dataset.from_dict(
        {
            "text": ["ab", "", None, " \t", "über"],
            "other": ["x", None, "y", "", "z"],
            "number": [1, 22, None, 4, 5],
            "list": [["ab", "c"], [], None, ["", " "], ["z"]],
            "missing": [None] * 5,
        }
    )


def test_lengths_count_characters(dataset):
    assert column_lengths(dataset, "text").tolist() == [2, 0, 0, 2, 4]
    assert column_lengths(dataset, "number").tolist() == [1, 2, 0, 1, 1]
    assert column_lengths(dataset, "list").tolist() == [3, 0, 0, 1, 1]
    assert column_lengths(dataset, "missing").tolist() == [0] * 5
    assert column_lengths(dataset.select([4, 0]), "text").tolist() == [4, 2]
    assert column_lengths(dataset.select([]), "text").tolist() == []


@pytest.mark.parametrize(
    ("columns", "row"),
    [(["text"], 1), (["number"], 2), (["list"], 1), (["text", "other"], 1), (["other"], 1), (["missing"], 0)],
)
def test_rows_without_a_visible_text_are_found(dataset, columns, row):
    assert empty_rows(dataset, columns)[0] == row


def test_rows_of_sharded_data_are_counted_as_they_are_read(dataset):
    assert empty_rows(dataset.select([4, 0, 2]), ["text"]).tolist() == [2]
    assert empty_rows(dataset.select([4, 0]), ["text"]).tolist() == []


def test_chunks_are_in_order():
    dataset = Dataset.from_dict({"n": list(range(10))}).shuffle(seed=1)
    chunks = np.concatenate([chunk.to_numpy() for chunk in arrow_chunks(dataset, "n", size=3)])
    assert chunks.tolist() == dataset["n"][:]


def test_a_missing_column_names_the_closest_one(dataset):
    with pytest.raises(
        DataError, match=r"--label_column: the train data set \(data.jsonl\) has no column 'txt'.*'text'"
    ):
        check_column(dataset, "txt", SOURCE, flag="label_column")


@pytest.mark.parametrize(
    ("column", "is_list", "message"),
    [("list", False, r"Write '\+list'.*or '\*list'"), ("text", True, "not a list column"), ("raw", False, "not text")],
)
def test_columns_that_are_no_text_say_what_they_are(dataset, column, is_list, message):
    dataset = dataset.add_column("raw", [b"a"] * 5)
    with pytest.raises(DataError, match=message):
        check_text_type(dataset, column, SOURCE, is_list=is_list)


def test_numbers_names_and_lists_of_texts_are_texts():
    features = Features({"n": Value("int64"), "c": ClassLabel(names=["a"]), "l": List(Value("string"))})
    dataset = Dataset.from_dict({"n": [1], "c": [0], "l": [["x"]]}, features=features)
    check_text_type(dataset, "n", SOURCE, is_list=False)
    check_text_type(dataset, "l", SOURCE, is_list=True)
