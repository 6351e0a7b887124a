"""Exact search in pieces: the best of all, whichever pieces they come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tolerances import assert_close
from transformers_framework.metrics import search


@pytest.mark.parametrize("at_once", [1, 40, 2**24])
@pytest.mark.parametrize(("k", "size"), [(5, 7), (100, 3), (1, 30)])
def test_the_best_of_all_are_kept(k: int, size: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SCORES_AT_ONCE", at_once)
    draw = torch.Generator().manual_seed(1)
    queries, passages = (torch.randn(n, 4, generator=draw) for n in (6, 30))
    best, order = search.TopPassages(queries, k), torch.randperm(30, generator=draw)
    for start in range(0, 30, size):
        part = order[start : start + size]
        best.add(passages[part], part)
    scores, numbers = search.ranked(best.scores.numpy(), best.numbers.numpy(), k)
    every = (queries @ passages.T).numpy()
    expected = np.argsort(-every, axis=1)[:, :k]
    np.testing.assert_array_equal(numbers, expected)
    assert_close(scores, np.take_along_axis(every, expected, axis=1))


def test_ties_do_not_follow_the_order_in_which_passages_come() -> None:
    numbers = np.arange(50)[None]
    scores = np.zeros((1, 50), dtype=np.float32)
    first = search.ranked(scores, numbers, 10)[1]
    np.testing.assert_array_equal(first, search.ranked(scores, numbers[:, ::-1], 10)[1])
    assert first[0].tolist() != sorted(first[0].tolist())


def test_no_query_finds_nothing() -> None:
    best = search.TopPassages(torch.zeros(0, 4), 3)
    best.add(torch.zeros(5, 4), torch.arange(5))
    assert best.scores.shape[0] == 0
