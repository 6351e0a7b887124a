"""Intervals and p-values, against scipy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.stats

from tests import tolerances
from transformers_framework.metrics.statistics import Measure, holm, intervals, p_values, welch
from transformers_framework.several.rank_correlation import RankCorrelation

GENERATOR = np.random.default_rng(0)


def accuracy(right: np.ndarray) -> Measure:
    return Measure(
        ("accuracy",), np.stack([right, np.ones(len(right))], axis=1), lambda sums: sums[:, :1] / sums[:, 1:]
    )


def f1(true: np.ndarray, found: np.ndarray) -> Measure:
    statistics = np.stack([true & found, true, found], axis=1).astype(float)
    return Measure(("f1",), statistics, lambda sums: 2 * sums[:, :1] / np.maximum(1, sums[:, 1:2] + sums[:, 2:]))


TRUE = GENERATOR.random(300) < 0.3
FIRST, SECOND = (np.where(GENERATOR.random(300) < noise, ~TRUE, TRUE) for noise in (0.25, 0.18))


def reference_f1(true: np.ndarray, found: np.ndarray, axis: int = -1) -> np.ndarray:
    return 2 * (true & found).sum(axis) / (true.sum(axis) + found.sum(axis))


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_intervals_are_those_of_scipy(confidence):
    expected = scipy.stats.bootstrap(
        (TRUE, FIRST), reference_f1, paired=True, n_resamples=20_000, confidence_level=confidence, method="BCa",
        vectorized=True, rng=1,
    ).confidence_interval  # fmt: skip
    found = intervals([f1(TRUE, FIRST)], num_resamples=20_000, confidence=confidence)
    # two samples of resamples: the quantiles have a standard error of about 0.001
    assert found[0].tolist() == pytest.approx([*expected], abs=tolerances.RESAMPLED)


def test_p_values_are_those_of_scipy():
    def difference(first, second, axis=-1):
        return reference_f1(np.broadcast_to(TRUE, first.shape), first.astype(bool), axis) - reference_f1(
            np.broadcast_to(TRUE, second.shape), second.astype(bool), axis
        )

    expected = scipy.stats.permutation_test(
        (FIRST, SECOND), difference, permutation_type="samples", n_resamples=20_000, vectorized=True, rng=1
    ).pvalue
    found = p_values(f1(TRUE, FIRST), f1(TRUE, SECOND), num_resamples=20_000)
    assert found.item() == pytest.approx(expected, abs=tolerances.RESAMPLED)
    assert 0.001 < expected < 0.2  # neither sure nor hopeless, so that both are told apart


def test_few_units_have_the_p_value_of_all_exchanges():
    """Eight rows, all better: of 256 exchanges only two are as good, the observed one and its opposite."""
    better, worse = accuracy(np.ones(8)), accuracy(np.zeros(8))
    assert p_values(worse, better, num_resamples=50_000).item() == pytest.approx(2 / 256, abs=tolerances.RESAMPLED)
    assert p_values(better, better).item() == 1.0


def test_seeds_are_fixed_and_blocks_do_not_matter(monkeypatch):
    from transformers_framework.metrics import statistics

    measures = [f1(TRUE, FIRST)], (f1(TRUE, FIRST), f1(TRUE, SECOND))
    first = intervals(measures[0], num_resamples=100), p_values(*measures[1], num_resamples=100)
    monkeypatch.setattr(statistics, "BLOCK", 7 * 300)
    again = intervals(measures[0], num_resamples=100), p_values(*measures[1], num_resamples=100)
    assert [found.tolist() for found in first] == [found.tolist() for found in again]


def test_what_does_not_vary_or_is_not_known():
    same = accuracy(np.ones(20))
    assert intervals([same], num_resamples=100).tolist() == [[1.0, 1.0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = Measure(("mean",), np.ones((1, 2)), lambda sums: sums[:, :1] / np.where(sums[:, 1:], 1, np.nan))
        assert intervals([single], num_resamples=100).tolist() == [[1.0, 1.0]]
    nothing = Measure(("nan",), np.ones((20, 1)), lambda sums: np.full((len(sums), 1), np.nan))
    assert np.isnan(intervals([nothing], num_resamples=100)).all()
    assert np.isnan(p_values(nothing, nothing, num_resamples=100)).all()


def test_seeds_of_a_run_are_averaged():
    first, second = accuracy((TRUE == FIRST).astype(float)), accuracy((TRUE == SECOND).astype(float))
    mean = (first.observed + second.observed) / 2
    assert first.mean_with([second]).observed == pytest.approx(mean)
    low, high = intervals([first, second], num_resamples=1000)[0]
    assert low < mean.item() < high
    assert high - low < np.diff(intervals([first], num_resamples=1000)[0]).item()


def test_spearman_is_that_of_scipy_on_resampled_and_exchanged_rows():
    """With equal numbers: ranks are computed again for each data set."""
    labels = np.round(GENERATOR.normal(size=120), 1)
    noises = (0.7, 0.9)
    first, second = (np.round(labels + noise * GENERATOR.normal(size=120), 1) for noise in noises)

    def spearman(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return scipy.stats.spearmanr(x, y).statistic

    mine, its = (RankCorrelation(labels, found[:, None]) for found in (first, second))
    weights = GENERATOR.multinomial(120, [1 / 120] * 120, size=5).astype(float)
    for row, value in zip(weights.astype(int), mine.of_weights(weights), strict=True):
        assert value.item() == pytest.approx(spearman(np.repeat(first, row), np.repeat(labels, row)))
    without = [spearman(np.delete(first, row), np.delete(labels, row)) for row in range(120)]
    assert mine.without_each()[:, 0] == pytest.approx(without)
    exchanged = GENERATOR.integers(0, 2, (5, 120)).astype(float)
    for row, value in zip(exchanged == 1, mine.differences(its, exchanged), strict=True):
        ours, theirs = np.where(row, second, first), np.where(row, first, second)
        assert value.item() == pytest.approx(spearman(theirs, labels) - spearman(ours, labels))
    low, high = intervals([mine], num_resamples=1000)[0]
    assert low < mine.observed.item() < high
    both = mine.mean_with([its])
    assert both.observed == pytest.approx((mine.observed + its.observed) / 2)
    assert 0 < p_values(mine, its, num_resamples=500).item() < 1
    assert p_values(both, both, num_resamples=100).item() == 1


def test_the_test_over_seeds_is_that_of_scipy():
    for count, another in ((2, 2), (2, 9), (3, 3), (5, 2), (30, 40)):
        for distance in (0, 1e-2, 0.5, 2, 5, 100):
            first, second = GENERATOR.normal(0, 1, count).tolist(), GENERATOR.normal(distance, 3, another).tolist()
            expected = scipy.stats.ttest_ind(first, second, equal_var=False).pvalue
            assert welch(first, second) == pytest.approx(expected, rel=1e-9)
    lucky, constant = [0.707, 0.49, 0.49], [0.49] * 3
    assert welch(lucky, constant) == pytest.approx(scipy.stats.ttest_ind(lucky, constant, equal_var=False).pvalue)
    assert [welch([0.5, 0.5], [value] * 2) for value in (0.5, 0.6)] == [1, 0], "the seed changes nothing"
    assert np.isnan([welch([0.5], [0.6, 0.7]), welch([], [0.6, 0.7]), welch([0.5, np.inf], [0.6, 0.7])]).all()


def test_holm():
    values = GENERATOR.random(6).tolist()
    # Holm's procedure, as it is written: the smallest first, until one is not rejected
    for level in (0.01, 0.05, 0.2, 0.5):
        rejected, order = set(), sorted(range(6), key=values.__getitem__)
        for place, number in enumerate(order):
            if values[number] > level / (6 - place):
                break
            rejected.add(number)
        assert {n for n, value in enumerate(holm(values)) if value <= level} == rejected
    assert holm([0.02, float("nan"), 0.01])[0::2] == [0.02, 0.02]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
