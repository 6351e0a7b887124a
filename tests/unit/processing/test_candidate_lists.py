"""Lists of candidates: what is in them, and that nothing but seed, epoch and rows decides it."""

from __future__ import annotations

import numpy as np
import pytest

from transformers_framework.processing.candidate_lists import CandidateLists

SIZE = 5


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    queries = draw.permutation(np.repeat(np.arange(60) * 7, draw.integers(1, 14, 60)))
    return {
        "queries": queries,
        "positive": draw.random(len(queries)) < 0.3,
        "scores": draw.random(len(queries)).round(2),
    }


@pytest.mark.parametrize("num_hard", [None, 0, 2, 4])
@pytest.mark.parametrize("scored", [True, False])
def test_a_list_has_positives_then_the_hardest_then_random_candidates(
    columns: dict[str, np.ndarray], num_hard: int | None, scored: bool
) -> None:
    queries, positive, scores = columns["queries"], columns["positive"], columns["scores"]
    options = {"scores": scores, "num_hard": num_hard} if scored else {}
    lists = CandidateLists.of(queries, positive, size=SIZE, **options)
    epochs = [lists.bins(1337, epoch) for epoch in range(200)]
    counts = np.zeros(len(queries))
    for bins in epochs:
        counts += np.bincount(bins.rows, minlength=len(queries))
        assert len(bins) == len(np.unique(queries))
        assert len(np.unique(bins.rows)) == len(bins.rows), "a row is in one list, once"
    for query in np.unique(queries):
        rows = np.flatnonzero(queries == query)
        found = [np.intersect1d(bins.rows, rows) for bins in epochs]
        positives, negatives = rows[positive[rows]], rows[~positive[rows]]
        taken = min(len(positives), SIZE - (len(negatives) > 0))
        left = SIZE - taken
        assert {len(part) for part in found} == {taken + min(len(negatives), left)}
        assert {int(positive[part].sum()) for part in found} == {taken}
        hard = (left - left // 2 if num_hard is None else min(num_hard, left)) if scored else 0
        hardest = negatives[np.argsort(-scores[negatives], kind="stable")][:hard]
        assert (counts[hardest] == len(epochs)).all()
        rest = np.setdiff1d(negatives, hardest)
        if len(rest) > left - hard > 0:  # all of them are there equally often, within five standard deviations
            share = (left - hard) / len(rest)
            spread = 5 * np.sqrt(len(epochs) * share * (1 - share))
            assert np.abs(counts[rest] - len(epochs) * share).max() < spread


def test_lists_depend_on_seed_epoch_and_row_alone(columns: dict[str, np.ndarray]) -> None:
    queries, positive = columns["queries"], columns["positive"]
    lists = CandidateLists.of(queries, positive, size=SIZE)
    some = np.flatnonzero(np.isin(queries, np.unique(queries)[::2]))
    fewer = CandidateLists.of(queries, positive, size=SIZE, entries=some)
    for epoch in (0, 3):
        rows = lists.bins(1, epoch).rows
        assert np.array_equal(np.sort(rows[np.isin(rows, some)]), np.sort(fewer.bins(1, epoch).rows))
    assert not np.array_equal(lists.bins(1, 0).rows, lists.bins(1, 1).rows)
    assert not np.array_equal(lists.bins(1, 0).rows, lists.bins(2, 0).rows)
