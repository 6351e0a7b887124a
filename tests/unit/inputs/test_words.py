"""Lists of words to model inputs: equal to transformers' own, aligned with their words, checked before training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, LargeList, List, Value

from tests import tiny
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.text import TextInputs
from transformers_framework.inputs.words import WordInputs
from transformers_framework.sources.columns import DatasetSource

SOURCE = DatasetSource("train", "rows.jsonl", lambda row: f"rows.jsonl:{row + 1}")
ROWS = [
    ["The", "quick", "brown", "fox", "isn't", "here", "."],
    ["", "Zürich", "\u200d", "雨", "x-ray", "", "unbelievable", ""],
    ["a"],
    ["learning", "slowly"] * 12,
    ["\u200d"],
]


def inputs(family: str = "bert", length: int = 20, *, column: str = "words", **flags: Any) -> WordInputs:
    return WordInputs(tiny.tokenizer_for(family), 2, input_columns=[column], max_sequence_length=[length], **flags)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta_v2", "modernbert", "t5", "mpnet"])
@pytest.mark.parametrize("length", [9, 80])
@pytest.mark.parametrize("side", ["left", "right"])
def test_equal_to_the_tokenizer(family: str, length: int, side: str) -> None:
    made = inputs(family, length)
    made.tokenizer.padding_side = side
    batch = made.post_process({"words": ROWS})
    tokenizer = made.tokenizer
    whole = [tokenizer(words, is_split_into_words=True) for words in ROWS]
    cut = [tokenizer(words, is_split_into_words=True, truncation=True, max_length=length) for words in ROWS]
    for row, expected in enumerate(cut):
        inside = batch["attention_mask"][row] > 0
        assert batch["input_ids"][row][inside].tolist() == expected["input_ids"]
        assert batch["word_ids"][row][inside].tolist() == [-1 if w is None else w for w in expected.word_ids()]
        assert set(batch["word_ids"][row][~inside]) <= {-1}
    assert batch["truncated"].tolist() == [len(encoded["input_ids"]) > length for encoded in whole]
    assert batch["word_ids"].dtype == np.int64


def test_a_list_may_be_marked_as_one() -> None:
    plain, marked = (inputs(column=column).post_process({"words": ROWS}) for column in ("words", "+words"))
    assert all(np.array_equal(plain[key], marked[key]) for key in plain)
    assert inputs(column="+words", iterable=True).columns == ("words",)


def test_a_word_that_is_cut_keeps_its_first_pieces() -> None:
    batch = inputs("bert", 6).post_process({"words": [["a", "unbelievable"]]})
    assert batch["word_ids"].tolist() == [[-1, 0, 1, 1, 1, -1]]
    assert batch["truncated"].tolist() == [True]


def test_lengths_are_those_of_batches() -> None:
    dataset = Dataset.from_dict({"words": ROWS})
    made = inputs("roberta", 12, iterable=True)
    assert made.token_lengths(dataset).tolist() == made.post_process({"words": ROWS})["attention_mask"].sum(1).tolist()
    assert made.lengths(dataset).tolist() == made.row_lengths({"words": ROWS}).tolist()
    text = TextInputs(made.tokenizer, 2, input_columns=["+words"], max_sequence_length=[12])
    assert made.length_key != text.length_key, "they are cached under it"


def test_what_the_framework_asks_inputs_for() -> None:
    made = inputs(length=17, iterable=True)
    assert made.max_length == 17
    assert made.model_keys == ("input_ids", "attention_mask", "token_type_ids")
    assert (made.num_token_types, made.token_columns, made.rewrite_key, made.uses_document_mask) == (2, (), None, False)
    batch = made.post_process({"words": [["a"]]}, pad_to_multiple_of=8)
    assert batch["input_ids"].shape == batch["token_type_ids"].shape == (1, 8)


@pytest.mark.parametrize("kind", [List, LargeList, lambda value: [value]])
def test_lists_of_all_kinds(kind: Any) -> None:
    dataset = Dataset.from_dict({"words": [["a", "b"], ["", "c"]]}, features=Features({"words": kind(Value("string"))}))
    assert inputs().pre_process(dataset, SOURCE) is dataset
    wrong = Dataset.from_dict({"words": [["a"], ["b", None]]}, features=dataset.features)
    with pytest.raises(DataError, match=r"rows.jsonl:2: word 1 of 'words' is null"):
        inputs().pre_process(wrong, SOURCE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"wrds": [["a"]]}, "no column 'words'. Did you mean 'wrds'"),
        ({"words": ["a b"]}, r"'words' of rows.jsonl holds .*, not lists of words. Split .* \{\"words\": \[\"Rome"),
        ({"words": [[["a"]]]}, "not lists of words"),
        ({"words": [[b"a"]]}, "not lists of words"),
        ({"words": [["a"], None]}, "rows.jsonl:2: 'words' is null or has no words"),
        ({"words": [["a"], [], ["b"]]}, "rows.jsonl:2: 'words' is null or has no words"),
        ({"words": [["a"], ["", " "]]}, "rows.jsonl:2: 'words' is null or has no words"),
        ({"words": [["a"], None, ["b", "c", None]]}, "rows.jsonl:3: word 2 of 'words' is null"),
        ({"words": [["a"], ["\u200d", ""]]}, "rows.jsonl:2: the tokenizer returns no token"),
    ],
)
def test_words_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        inputs().pre_process(Dataset.from_dict(values), SOURCE)


def test_numbers_are_words() -> None:
    made = inputs()
    made.pre_process(Dataset.from_dict({"words": [[1998, 7]]}), SOURCE)
    assert np.array_equal(
        made.post_process({"words": [[1998, 7]]})["input_ids"],
        made.post_process({"words": [["1998", "7"]]})["input_ids"],
    )


def test_there_must_be_room_for_a_word() -> None:
    with pytest.raises(ConfigurationError, match="Use 3 or more"):
        inputs(length=2)


# --- windows ----------------------------------------------------------------------------------------------------------


def windows_of(made: WordInputs, rows: Any, batch_size: int = 2) -> Any:
    import pyarrow as pa

    dataset = Dataset.from_dict({"words": rows})
    tables = list(made.rewrite(dataset, SOURCE, batch_size=batch_size))
    return Dataset(pa.concat_tables(tables))[:]


@pytest.mark.parametrize("family", ["bert", "roberta", "t5"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_that_fit_are_one_window_each(family: str, side: str) -> None:
    made = inputs(family, 300)
    made.tokenizer.padding_side = side
    windows = windows_of(made, ROWS)
    assert windows["source_row"] == list(range(len(ROWS)))
    assert windows["num_words"] == windows["owns_to"] == [len(words) for words in ROWS]
    assert set(windows["first_word"]) == set(windows["owns_from"]) == {0}
    whole, cut = made.post_process({"words": ROWS}), made.post_process(windows)
    assert whole.keys() == cut.keys()
    assert all(np.array_equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize(("length", "stride"), [(9, 0), (9, 3), (20, 128), (13, 4)])
def test_windows_hold_words_as_they_stand_in_their_rows(family: str, length: int, stride: int) -> None:
    made = inputs(family, length, doc_stride=stride)
    rows = [["the", "old", "lighthouse", "", "is", "near"] * 7, *ROWS, ["rain"] * 50]
    windows = windows_of(made, rows)
    pieces = {word: made.tokenize([word])[0].tolist() for words in rows for word in words}
    owned: list[list[int]] = [[] for _ in rows]
    prefix, suffix = len(made.template.prefix), len(made.template.suffix)
    names = ("input_ids", "word_ids", "source_row", "first_word", "owns_from", "owns_to", "is_cut")
    for ids, words, row, first, owns_from, owns_to, is_cut in zip(*(windows[name] for name in names), strict=True):
        assert len(ids) <= length
        inner = list(zip(ids, words, strict=True))[prefix : len(ids) - suffix]
        assert {word for word, _ in [*list(zip(words, ids, strict=True))[:prefix]]} <= {-1}
        seen = list(dict.fromkeys(word for _, word in inner))
        for word in seen:
            found = [token for token, of in inner if of == word]
            expected = pieces[rows[row][first + word]]
            assert found == (expected[: len(found)] if is_cut else expected), "no word is torn"
        there = {first + word for word in seen}
        assert {word for word in range(owns_from, owns_to) if pieces[rows[row][word]]} <= there
        owned[row] += range(owns_from, owns_to)
    assert owned == [list(range(len(words))) for words in rows], "each word is one window's"
    assert made.rewrite_key != inputs(family, length, doc_stride=stride + 1).rewrite_key


def test_a_stream_has_no_windows() -> None:
    made = inputs(iterable=True)
    assert made.rewrite_key is None
    assert made.token_columns == ()
    assert inputs().rewrite_key is not None
