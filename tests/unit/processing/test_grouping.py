"""Groups of candidates against definitions written out, and the layout of their inputs against transformers' tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests import tiny
from transformers_framework.processing.backend import bare_tokenizer
from transformers_framework.processing.encoding import Template, tokenize
from transformers_framework.processing.grouping import Grouping, assemble_candidates, grouped, permuted

QUERIES = np.random.default_rng(3).integers(0, 40, 200) * 7 - 50  # in any order, no number like another


def groups_of(grouping: Grouping, epoch: int = 0, seed: int = 1337) -> list[list[int]]:
    bins = grouping.bins(seed, epoch)
    assert len(bins) == len(grouping)
    return [bins[number] for number in range(len(bins))]


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("k", [1, 3, 50])
def test_each_candidate_is_in_one_group_of_its_question(k: int, shuffled: bool) -> None:
    groups = groups_of(Grouping.of(QUERIES, k=k, shuffled=shuffled))
    assert sorted(row for group in groups for row in group) == list(range(200))
    assert all(len({QUERIES[row] for row in group}) == 1 and 1 <= len(group) <= k for group in groups)
    expected = {query: -(-count // k) for query, count in Counter(QUERIES).items()}
    assert Counter(QUERIES[group[0]] for group in groups) == expected, "no more groups than needed"
    if not shuffled:
        assert [row for group in groups for row in group if QUERIES[row] == QUERIES[5]] == [
            row for row in range(200) if QUERIES[row] == QUERIES[5]
        ]


@pytest.mark.parametrize("shuffled", [False, True])
def test_each_candidate_is_first_once_beside_others_of_its_question(shuffled: bool) -> None:
    groups = groups_of(Grouping.of(QUERIES, k=4, in_turn=True, shuffled=shuffled))
    assert sorted(group[0] for group in groups) == list(range(200))
    sizes = Counter(QUERIES)
    for group in groups:
        assert len(set(group)) == len(group) == min(4, sizes[QUERIES[group[0]]])
        assert {QUERIES[row] for row in group} == {QUERIES[group[0]]}


def test_random_groups_follow_seed_epoch_and_row_alone() -> None:
    grouping = Grouping.of(QUERIES, k=3, shuffled=True)
    assert groups_of(grouping) == groups_of(Grouping.of(QUERIES, k=3, shuffled=True))
    assert groups_of(grouping) != groups_of(grouping, epoch=1)
    assert groups_of(grouping) != groups_of(grouping, seed=1)
    first = [row for group in groups_of(grouping) for row in group if QUERIES[row] == QUERIES[0]]
    alone = groups_of(Grouping.of(np.where(QUERIES[0] == QUERIES, 1, 1000 + np.arange(200)), k=3, shuffled=True))
    assert [row for group in alone for row in group if QUERIES[row] == QUERIES[0]] == first, "whatever others there are"


def test_candidates_meet_everywhere_equally_often() -> None:
    """χ² of the place of one of five candidates, over epochs."""
    grouping = Grouping.of(np.zeros(5), k=5, shuffled=True)
    places = np.bincount([groups_of(grouping, epoch)[0].index(2) for epoch in range(500)], minlength=5)
    assert ((places - 100) ** 2 / 100).sum() < 18.5, places  # 4 degrees of freedom, p = .001


def test_scores_decide_who_goes_first_and_who_is_kept() -> None:
    scores = np.random.default_rng(4).integers(0, 5, 200) / 4  # with ties
    grouping = Grouping.of(QUERIES, k=3, scores=scores)
    for query in np.unique(QUERIES):
        rows = np.flatnonzero(query == QUERIES)
        expected = sorted(rows, key=lambda row: (-scores[row], row))
        assert [row for group in groups_of(grouping) for row in group if QUERIES[row] == query] == expected
        kept = [row for group in groups_of(grouping.kept(grouping.k)) for row in group if QUERIES[row] == query]
        assert kept == expected[:3]


def test_short_questions_are_found() -> None:
    assert Grouping.of([4, 4, 1, 1, 1], k=2).short_questions().tolist() == [1]
    assert Grouping.of([4, 4, 1, 1, 1], k=2, in_turn=True).short_questions().tolist() == []
    assert Grouping.of([4, 4, 1, 1, 1], k=3, in_turn=True).short_questions().tolist() == [0]


def test_orders_are_permutations_and_all_occur() -> None:
    rows = grouped({"answer": list("abcdefg"), "row_ids": range(7)}, [3, 3, 1])
    found = permuted(rows, [0, 3, 6], count=200, k=4)
    orders = Counter("".join(group) for group in found["answer"][3::3])
    assert set(orders) == {"abc", "acb", "bac", "bca", "cab", "cba"}
    assert min(orders.values()) > 15
    assert [["abcdefg"[row] for row in group] for group in found["row_ids"]] == found["answer"]
    assert {group[0] for group in permuted(rows, [0, 3, 6], count=9, k=4, keep_first=True)["answer"]} == set("adg")


# ---------------------------------------------------------------- layout

TEXTS = [
    ["What about tiger and rabbit?", "the old eagle, near a spider.", "rain", "a violin and some drum"],
    ["rain?", "snow without thunder"],
]


def joined(tokenizer: Any, texts: list[str], separated: bool, between: int) -> tuple[list[int], list[int]]:
    """Ids, and the place of the special token before each text, by hand."""
    ids, places = [], []
    for number, text in enumerate(texts):
        if separated or not number:
            places.append(len(ids))
            ids.append(tokenizer.cls_token_id)
        else:
            places.append(len(ids) - 1)
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += [tokenizer.sep_token_id] * (1 if separated or number == len(texts) - 1 else between)
    return ids, places


@pytest.mark.parametrize("separated", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["bert", "roberta", "deberta_v2"])
def test_layout(family: str, side: str, separated: bool) -> None:
    tokenizer = tiny.tokenizer_for(family)
    template, flat = Template.of(tokenizer), [text for texts in TEXTS for text in texts]
    ids, lengths = tokenize(bare_tokenizer(tokenizer), flat)
    batch = assemble_candidates(
        ids, lengths, np.array([4, 2]), template, max_length=100, separated=separated,
        pad_token_id=tokenizer.pad_token_id, pad_left=side == "left", token_types=(0, 1, 2),
    )  # fmt: skip
    for row, texts in enumerate(TEXTS):
        expected, places = joined(tokenizer, texts, separated, len(template.between))
        there = batch["attention_mask"][row] > 0
        assert batch["input_ids"][row][there].tolist() == expected
        offset = int(np.argmax(there))
        assert batch["first_tokens"][row].tolist() == [place + offset for place in places] + [-1] * (4 - len(texts))
        types = [min(sum(place >= start for start in places) - 1, 2) for place in range(len(expected))]
        assert batch["token_type_ids"][row][there].tolist() == types
    assert not batch["truncated"].any()
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()


def test_long_texts_are_cut_each_alone_or_the_longest_of_a_group() -> None:
    bert = Template(prefix=(1,), between=(2,), suffix=(2,))
    lengths, counts = np.array([2, 9, 3, 2, 1]), np.array([3, 2])
    ids = np.arange(10, 10 + lengths.sum())
    options: dict[str, Any] = {"pad_token_id": 0}
    alone = assemble_candidates(ids, lengths, counts, bert, max_length=6, separated=True, **options)
    assert alone["attention_mask"].sum(axis=1).tolist() == [4 + 6 + 5, 4 + 3]
    assert alone["truncated"].tolist() == [True, False]
    ends = replace(bert, keeps_end=True)
    end = assemble_candidates(ids, lengths, counts, ends, max_length=6, separated=True, **options)
    assert alone["input_ids"][0].tolist() == [1, 10, 11, 2, 1, 12, 13, 14, 15, 2, 1, 21, 22, 23, 2]
    assert end["input_ids"][0].tolist() == [1, 10, 11, 2, 1, 17, 18, 19, 20, 2, 1, 21, 22, 23, 2]
    whole = assemble_candidates(ids, lengths, counts, bert, max_length=14, **options)
    assert whole["attention_mask"].sum(axis=1).tolist() == [14, 6]
    assert whole["first_tokens"].tolist() == [[0, 3, 9], [0, 3, -1]]
    assert whole["truncated"].tolist() == [True, False]
