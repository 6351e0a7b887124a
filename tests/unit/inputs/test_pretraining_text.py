"""Texts that are joined into windows or split: all of their tokens, once, in order, whoever prepares them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset

from tests import tiny
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.inputs import InputNeeds
from transformers_framework.inputs.pretraining_text import PretrainingText
from transformers_framework.inputs.text import TextInputs
from transformers_framework.processing.windows import Ragged
from transformers_framework.sources.columns import DatasetSource

SOURCE = DatasetSource("train", "rows.jsonl", lambda row: f"rows.jsonl:{row + 1}")
TEXTS = {
    "q": [
        "what about rain?",
        "x",
        "piano and violin " * 9,
        "the moon " * 30,
        "ünï 雨 \u200b tab\there",
        "an old storm",
    ],
    "a": ["the new wind.", "every spoon near the kettle " * 8, "", "a rocket " * 15, "  spaces   and\nlines  ", "x"],
}
FAMILIES = ["bert", "roberta", "deberta_v2", "t5"]


def corpus(
    family: str = "bert", *, columns: Any = ("q", "a"), length: int = 24, words: bool = False, **flags: Any
) -> PretrainingText:
    types = 2 if family == "bert" else 0
    return PretrainingText(
        tiny.tokenizer_for(family),
        types,
        InputNeeds(word_ids=words),
        input_columns=list(columns),
        max_sequence_length=[length],
        **flags,
    )


def rewritten(
    made: PretrainingText, texts: Any = None, *, batch_size: int = 1000, num_workers: int = 1
) -> dict[str, Any]:
    dataset = Dataset.from_dict(texts or TEXTS)
    tables = list(made.rewrite(dataset, SOURCE, batch_size=batch_size, num_workers=num_workers))
    return pa.concat_tables(tables).to_pydict()


def contents(made: PretrainingText, rows: dict[str, Any], column: str = "input_ids") -> list[list[int]]:
    before, after = len(made.template.prefix), len(made.template.suffix)
    return [row[before : len(row) - after] for row in rows[column]]


def stream_of(made: PretrainingText, texts: Any = None) -> list[int]:
    """All texts, one after the other, with the tokenizer's own separator: written out."""
    stream: list[int] = []
    for row in zip(*(texts or TEXTS).values(), strict=True):
        for text in row:
            ids = made.tokenizer(text, add_special_tokens=False)["input_ids"]
            stream += [*(made.template.between if stream and ids else ()), *ids]
    return stream


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_windows_are_the_whole_stream(family: str, words: bool) -> None:
    made = corpus(family, packing="full", words=words)
    rows = rewritten(made)
    assert [token for content in contents(made, rows) for token in content] == stream_of(made)
    assert {len(row) for row in rows["input_ids"][:-1]} == {24}, "all windows are full but the last"
    assert 0 < len(contents(made, rows)[-1]) <= made.capacity
    for row in rows["input_ids"]:
        assert row[: len(made.template.prefix)] == list(made.template.prefix)
        assert row[len(row) - len(made.template.suffix) :] == list(made.template.suffix)


def test_a_window_knows_the_row_of_its_first_text() -> None:
    """Also one that begins with what stands between two texts, whoever tokenized them together."""
    texts = {"text": [" ".join(["rain"] * length) for length in (22, 3, 7, 30, 21, 22, 1, 40)]}
    made = corpus("bert", columns=["text"], packing="full")
    rows = rewritten(made, texts)
    sizes = [len(ids) for ids in made.tokenizer(texts["text"], add_special_tokens=False)["input_ids"]]
    owners = [row for row, size in enumerate(sizes) for _ in range(size + (row > 0))]  # the separator before a text
    starts = range(0, len(owners), made.capacity)
    assert rows["source_row"] == [owners[start] for start in starts]
    assert any(content[0] == made.template.between[0] for content in contents(made, rows)), "such a window is there"


@pytest.mark.parametrize("flags", [{"packing": "full"}, {"split_long_texts": True}])
@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 1), (4, 1), (2, 2)])
def test_rows_do_not_depend_on_who_prepares_them(flags: Any, batch_size: int, num_workers: int) -> None:
    made = corpus("bert", words=True, **flags)
    assert rewritten(made, batch_size=batch_size, num_workers=num_workers) == rewritten(made)


@pytest.mark.parametrize("family", FAMILIES)
def test_words_of_windows(family: str) -> None:
    """A word has a number of its own within its window; what the border cuts is two words."""
    made = corpus(family, packing="full", words=True)
    rows = rewritten(made)
    plain = TextInputs(made.tokenizer, 0, made.needs, input_columns=["text"], max_sequence_length=[512])
    numbers: list[int] = []  # of the words of the stream, unique, -1 between texts
    for row in zip(*TEXTS.values(), strict=True):
        for text in row:
            found = plain.post_process({"text": [text]})["word_ids"][0]
            found = found[found >= 0]
            if len(found):
                first = max(numbers, default=-1) + 1
                numbers += [*([-1] * len(made.template.between) if numbers else []), *(found + first).tolist()]
    start = 0
    for words, content in zip(rows["word_ids"], contents(made, rows, "word_ids"), strict=True):
        expected = numbers[start : start + len(content)]
        start += len(content)
        assert [word < 0 for word in content] == [word < 0 for word in expected]
        assert min(word for word in content if word >= 0) == 0
        for (one, next_), (wanted, wanted_next) in zip(pairwise(content), pairwise(expected), strict=True):
            assert (one == next_) == (wanted == wanted_next)
        assert words.count(-1) == content.count(-1) + len(words) - len(content), "special tokens have no word"
    assert start == len(numbers)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_texts_that_fit_are_not_changed_by_splitting(family: str) -> None:
    texts = {"q": ["what about rain?", "the moon"], "a": ["the new wind.", "x"]}
    made, plain = corpus(family, split_long_texts=True, words=True), corpus(family, words=True)
    ours, theirs = made.post_process(rewritten(made, texts)), plain.post_process(texts)
    assert ours.keys() == theirs.keys()
    for key, values in theirs.items():
        assert np.array_equal(ours[key], values), key


@pytest.mark.parametrize("family", FAMILIES)
def test_long_texts_are_split_and_nothing_is_lost(family: str) -> None:
    made = corpus(family, columns=["q"], split_long_texts=True)
    rows = rewritten(made)
    for row, text in enumerate(TEXTS["q"]):
        parts = [part for part, source in zip(contents(made, rows), rows["source_row"], strict=True) if source == row]
        assert [token for part in parts for token in part] == made.tokenizer(text, add_special_tokens=False)[
            "input_ids"
        ]
        assert all(len(part) == made.capacity for part in parts[:-1])
    assert rows["source_row"] == sorted(rows["source_row"])
    assert not made.post_process(rows)["truncated"].any()


def test_two_segments_are_split_as_one_and_tokens_keep_their_type() -> None:
    made = corpus("bert", split_long_texts=True)
    rows = rewritten(made)
    long = 3  # the row whose segments are both long
    parts = [
        list(zip(row, types, strict=True))
        for row, types, source in zip(rows["input_ids"], rows["token_type_ids"], rows["source_row"], strict=True)
        if source == long
    ]
    whole = made.tokenizer(TEXTS["q"][long], TEXTS["a"][long])
    joined = [pair for part in parts for pair in part[1:-1]]
    assert joined == list(zip(whole["input_ids"], whole["token_type_ids"], strict=True))[1:-1]
    assert parts[0][0][1] == 0
    assert parts[-1][0][1] == parts[-1][-1][1] == 1


def test_arrow_and_lists_make_the_same_batch() -> None:
    made = corpus("bert", packing="full", words=True)
    rows = rewritten(made)
    tokens = {name: Ragged.of(rows[name]) for name in made.token_columns}
    ours, theirs = made.post_process(rows, pad_to_multiple_of=8), made.post_process(tokens, pad_to_multiple_of=8)
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    assert ours.keys() == {"input_ids", "attention_mask", "token_type_ids", "word_ids", "truncated"}
    assert not ours["token_type_ids"].any()
    last = {name: [values[-1]] for name, values in rows.items()}
    assert made.post_process(last, pad_to_multiple_of=8)["input_ids"].shape[1] % 8 == 0
    assert corpus("bert", packing="full", length=21).post_process(
        {"input_ids": [[2] * 21]}, pad_to_multiple_of=8
    )["input_ids"].shape == (1, 21)  # fmt: skip


def test_padding_goes_where_the_tokenizer_wants_it() -> None:
    made = corpus("bert", split_long_texts=True)
    made.tokenizer.padding_side = "left"
    batch = made.post_process(rewritten(made))
    made.tokenizer.padding_side = "right"
    mask = batch["attention_mask"]
    assert (np.diff(mask, axis=1) >= 0).all()
    assert (batch["input_ids"][mask == 0] == made.tokenizer.pad_token_id).all()


def test_lengths_are_those_of_the_rows() -> None:
    made = corpus("bert", split_long_texts=True)
    rows = rewritten(made)
    dataset = Dataset.from_dict(rows)
    assert made.lengths(dataset).tolist() == made.token_lengths(dataset).tolist() == list(map(len, rows["input_ids"]))


def test_what_rows_depend_on_is_in_the_key() -> None:
    keys = [
        corpus("bert", packing="full").rewrite_key,
        corpus("roberta", packing="full").rewrite_key,
        corpus("bert", packing="full", words=True).rewrite_key,
        corpus("bert", packing="full", length=30).rewrite_key,
        corpus("bert", packing="full", columns=["q"]).rewrite_key,
        corpus("bert", split_long_texts=True).rewrite_key,
        corpus("bert", split_long_texts=True, extended_token_type_ids=[0, 2]).rewrite_key,
    ]
    assert all(one != other for i, one in enumerate(keys) for other in keys[:i])
    assert corpus("bert", packing="full").rewrite_key == keys[0]
    assert corpus("bert").rewrite_key is None
    assert corpus("bert", packing="isolated").rewrite_key is None
    assert corpus("bert", packing="isolated", split_long_texts=True).rewrite_key == keys[5]


def test_rows_without_packing_are_those_of_texts() -> None:
    made, plain = corpus("bert", packing="isolated"), corpus("bert")
    assert made.columns == ("q", "a")
    assert made.token_columns == ()
    assert all(np.array_equal(value, plain.post_process(TEXTS)[key]) for key, value in made.post_process(TEXTS).items())


def test_people_can_read_rows() -> None:
    made = corpus("bert", columns=["q"], packing="full")
    rows = made.readable(rewritten(made))
    assert rows["source_row"][0] == 0
    assert rows["text"][0].startswith("what about rain? x piano and violin")
    assert corpus("bert").readable(TEXTS) is TEXTS


def test_a_text_without_tokens_has_its_place() -> None:
    made = corpus("bert", columns=["q"], split_long_texts=True)
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the tokenizer returns no token"):
        rewritten(made, {"q": ["x", "\u200b", "y"]})
    full = corpus("bert", columns=["q"], packing="full")
    assert rewritten(full, {"q": ["x", "\u200b", "y"]}) == {
        **rewritten(full, {"q": ["x", "y"]}), "source_row": [0]
    }  # fmt: skip


def test_windows_have_no_segments() -> None:
    with pytest.raises(ConfigurationError, match="--extended_token_type_ids: --packing full joins texts"):
        corpus("bert", packing="full", extended_token_type_ids=[0, 1])
