"""Queries and passages: batches are what the tokenizer makes of each text, each distinct one once in evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from tests import tiny
from transformers_framework.inputs.query_passage import QueryPassage

ROWS = {
    "q": ["what about the rain?", "snow", "what about the rain?"],
    "p": ["the tiger and the moon", "bread " * 30, "the tiger and the moon"],
    "w": ["a drum", "some old violin near a comet", "wind"],
    "l": [["a", "b c", "bread " * 30], [], ["the spoon"]],
}


def inputs_of(*columns: str, style: str = "bert", **options: Any) -> QueryPassage:
    lengths = options.pop("lengths", [8, 12])
    return QueryPassage(
        tiny.tokenizer(style=style), 2, input_columns=list(columns), max_sequence_length=lengths, **options
    )


def texts_of(inputs: QueryPassage, batch: dict[str, np.ndarray], prefix: str = "") -> list[list[int]]:
    return [ids[mask > 0].tolist() for ids, mask in zip(batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"], strict=True)]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("style", ["bert", "roberta", "t5"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_are_what_the_tokenizer_makes(style: str, side: str, monkeypatch: Any) -> None:
    """Wrong passages stand behind the passages of all rows, row by row, whichever columns they come from."""
    monkeypatch.setattr(PreTrainedTokenizerFast, "truncation_side", side)
    inputs = inputs_of("q", "p", "w", "*l", style=style, query_prefix="the ", passage_prefix="near ")
    batch, tokenizer = inputs.post_process(ROWS), inputs.tokenizer
    wrong = [text for w, many in zip(ROWS["w"], ROWS["l"], strict=True) for text in (w, *many)]
    for prefix, said, texts, length in (("", "the ", ROWS["q"], 8), ("passage_", "near ", [*ROWS["p"], *wrong], 12)):
        expected = tokenizer([said + text for text in texts], truncation=True, max_length=length)["input_ids"]
        assert texts_of(inputs, batch, prefix) == expected
        assert batch[f"{prefix}input_ids"].shape == batch[f"{prefix}attention_mask"].shape
    assert batch["negative_rows"].tolist() == [0, 0, 0, 0, 1, 2, 2]
    cut = [len(tokenizer("the " + query)["input_ids"]) > 8 for query in ROWS["q"]]
    assert batch["truncated"].tolist() == [True, True, cut[2]], "a hard negative of row 0, the passage of row 1"


def test_evaluation_has_each_text_once() -> None:
    inputs = inputs_of("q", "p")
    batch = inputs.post_process(ROWS)
    once = inputs.distinct(dict(batch))
    assert len(once["input_ids"]) == len(once["passage_input_ids"]) == 2
    for prefix in ("", "passage_"):
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            np.testing.assert_array_equal(once[prefix + name][once[f"{prefix}rows"]], batch[prefix + name])


def test_rows_may_have_no_passage() -> None:
    batch = inputs_of("q", "p", corpus_dataset="corpus").distinct(inputs_of("q", "p").post_process({"q": ROWS["q"]}))
    assert {name for name in batch if name.startswith("passage_")} == set()
    assert batch["rows"].tolist() == [batch["rows"][0], 1 - batch["rows"][0], batch["rows"][0]]


def test_lengths_are_of_all_texts() -> None:
    from datasets import Dataset

    inputs = inputs_of("q", "p", "*l", query_prefix="the ")
    data = Dataset.from_dict({name: ROWS[name] for name in ("q", "p", "l")})
    characters = [
        len(q) + len(p) + sum(map(len, many)) for q, p, many in zip(ROWS["q"], ROWS["p"], ROWS["l"], strict=True)
    ]
    assert inputs.lengths(data).tolist() == inputs.row_lengths(ROWS).tolist() == characters
    batch = inputs.post_process(ROWS)
    queries, passages = (batch[name].sum(axis=1) for name in ("attention_mask", "passage_attention_mask"))
    wrong = np.bincount(batch["negative_rows"], passages[3:], minlength=3)
    assert inputs.token_lengths(data).tolist() == (queries + passages[:3] + wrong).tolist()


def test_batches_by_length_are_the_same_texts() -> None:
    inputs = inputs_of("q", "p")
    texts = [*ROWS["p"], *ROWS["w"], *ROWS["q"]]
    found = list(inputs.encoded_by_length("passage", texts, 4))
    assert sorted(np.concatenate([places for places, _ in found]).tolist()) == list(range(len(texts)))
    widths = [batch["input_ids"].shape[1] for _, batch in found]
    assert widths == sorted(widths, reverse=True)
    for places, batch in found:
        expected = inputs.tokenizer([texts[i] for i in places], truncation=True, max_length=12)["input_ids"]
        assert texts_of(inputs, batch) == expected
