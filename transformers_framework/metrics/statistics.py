"""Confidence intervals by the bootstrap, paired randomization tests over units, and Welch's test over seeds.

Intervals and randomization tests are of metrics that are functions of sums over the units of a data set (rows, queries,
questions or sentences): the number of correct rows, the true positives of each class, and so on. A resampled data set
is then a weighted sum, and thousands of them are one matrix product.
"""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
BLOCK = 2**22  # weights of units that are in memory at once
MOST_TERMS = 200  # pairs of terms of a continued fraction
EQUAL = 1e-12  # tolerance for differences that differ only in the order of summation


class Resampled(ABC):
    """Metrics of a data set that can be computed again on resampled data sets, and with units of two runs exchanged."""

    names: tuple[str, ...]
    statistics: Array
    unit: str
    classes: tuple[str, ...]

    @cached_property
    def observed(self) -> Array:
        """The metrics of the data set itself, (N,) float64."""
        return np.asarray(self.of_weights(np.ones((1, len(self.statistics))))[0])

    @abstractmethod
    def of_weights(self, weights: Array) -> Array:
        """Return the metrics of data sets with each unit so many times, (R, N) float64.

        Args:
            weights: (R, U) float64.
        """

    @abstractmethod
    def without_each(self) -> Array:
        """Return the metrics without each unit in turn, (U, N) float64."""

    @abstractmethod
    def mean_with(self, others: Sequence[Any]) -> Resampled:
        """Return the measure of the mean of this run and others, of the same kind."""

    @abstractmethod
    def differences(self, other: Any, exchanged: Array) -> Array:
        """Return by how much the metrics of another run are larger when units are exchanged, (R, N) float64.

        Args:
            other: The other run, of the same kind.
            exchanged: 1 for each unit that is exchanged, else 0, (R, U) float64.
        """


@dataclass(frozen=True)
class Measure(Resampled):
    """Metrics of a data set that are functions of sums over its units.

    Args:
        names: Names of the N metrics.
        statistics: Statistics of each unit, (U, S) float64.
        values: Computes the metrics of R data sets, (R, N) float64, from the sums of their statistics, (R, S).
        unit: Name of a unit, in the plural.
        classes: Names of the classes in the order of the statistics, which must be equal to exchange those of two runs.
    """

    names: tuple[str, ...]
    statistics: Array
    values: Callable[[Array], Array]
    unit: str = "rows"
    classes: tuple[str, ...] = ()

    def of_weights(self, weights: Array) -> Array:
        """Return the metrics of data sets with each unit so many times."""
        return self.values(weights @ self.statistics)

    def without_each(self) -> Array:
        """Return the metrics without each unit in turn."""
        return self.values(self.statistics.sum(axis=0, keepdims=True) - self.statistics)

    def mean_with(self, others: Sequence[Measure]) -> Measure:
        """Return the measure of the mean statistics of this run and others.

        For metrics that are means over units, it is the mean of the runs' metrics.
        """
        return replace(self, statistics=np.mean([each.statistics for each in (self, *others)], axis=0))

    def differences(self, other: Measure, exchanged: Array) -> Array:
        """Return by how much the metrics of another run are larger when units are exchanged."""
        moved = exchanged @ (other.statistics - self.statistics)
        mine, its = self.statistics.sum(axis=0), other.statistics.sum(axis=0)
        return other.values(its - moved) - self.values(mine + moved)


def intervals(
    measures: Sequence[Resampled],
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Array:
    """Return bias-corrected and accelerated (BCa) bootstrap intervals of the mean metrics of runs on the same units.

    Units are resampled with replacement, the same ones for all runs. (Efron and Tibshirani 1993, "An Introduction to
    the Bootstrap", chapter 14.)

    Args:
        measures: One for each run, for instance for each seed.
        num_resamples: Number of resampled data sets R.
        confidence: Probability that the interval covers the metric.
        seed: Seed of the resampling.

    Returns:
        Lower and upper bound of each metric, (N, 2) float64; nan where the metric is.
    """
    observed = np.mean([measure.observed for measure in measures], axis=0)
    left_out = np.mean([measure.without_each() for measure in measures], axis=0)
    weights = _resampled(len(measures[0].statistics), num_resamples, seed)
    resampled = np.concatenate([np.mean([each.of_weights(w) for each in measures], axis=0) for w in weights])
    levels = ((1 - confidence) / 2, (1 + confidence) / 2)
    return np.array(
        [_bca(*columns, levels) for columns in zip(observed.tolist(), resampled.T, left_out.T, strict=True)]
    ).reshape(-1, 2)


def _bca(observed: float, resampled: Array, left_out: Array, levels: tuple[float, float]) -> Array:
    """Return the bounds of one metric from its values of resampled data sets (R,) and of those without a unit (U,)."""
    resampled, normal = resampled[~np.isnan(resampled)], statistics.NormalDist()
    if np.isnan(observed) or not len(resampled):
        return np.full(2, np.nan)
    below = (np.count_nonzero(resampled < observed) + np.count_nonzero(resampled <= observed)) / (2 * len(resampled))
    if below in (0, 1):  # no unit differs, or the metric is at a bound that no resample leaves
        return _quantiles(resampled, levels)
    bias = normal.inv_cdf(below)
    left_out = left_out[~np.isnan(left_out)]  # none is left of a single unit
    influence = left_out.sum() / max(1, len(left_out)) - left_out
    spread = np.sum(influence**2)
    skew = float(np.sum(influence**3) / (6 * spread**1.5)) if spread > 0 else 0.0
    points = [bias + normal.inv_cdf(level) for level in levels]
    shares = [normal.cdf(bias + point / (1 - skew * point)) for point in points]
    return _quantiles(resampled, shares)


def _quantiles(values: Array, shares: Sequence[float]) -> Array:
    found: Array = np.quantile(values, shares)
    return found


def _resampled(num_units: int, num_resamples: int, seed: int) -> Iterator[Array]:
    """Yield how often each unit is in resampled data sets, in blocks (r, U) float64."""
    generator = np.random.default_rng(seed)
    for count in map(len, blocks(num_resamples, num_units)):
        units = generator.integers(0, num_units, (count, num_units))
        places = (units + np.arange(count)[:, None] * num_units).ravel()
        yield np.bincount(places, minlength=count * num_units).reshape(count, num_units).astype(np.float64)


def p_values(first: Resampled, second: Resampled, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Array:
    """Return two-sided p-values of the differences of two runs on the same units, by approximate randomization.

    If both runs were the same, each unit's results could as well be exchanged between them. The p-value is the share of
    random exchanges after which the difference is as large as the observed one, which counts as one of them. (Noreen
    1989, "Computer-Intensive Methods for Testing Hypotheses"; Yeh 2000, "More accurate tests for the statistical
    significance of result differences".)

    Args:
        first: One run.
        second: The other run.
        num_resamples: Number of random exchanges.
        seed: Seed of the exchanges.

    Returns:
        The p-value of each metric, (N,) float64; nan where a metric is.
    """
    assert first.statistics.shape == second.statistics.shape
    observed = np.abs(second.observed - first.observed)
    as_large = np.zeros(len(first.names))
    for exchanged in _exchanged(len(first.statistics), num_resamples, seed):
        differences = np.abs(first.differences(second, exchanged))
        as_large += (differences >= observed - EQUAL * np.maximum(1, observed)).sum(axis=0)
    found: Array = np.where(np.isnan(observed), np.nan, (1 + as_large) / (1 + num_resamples))
    return found


def _exchanged(num_units: int, num_resamples: int, seed: int) -> Iterator[Array]:
    """Yield which units are exchanged, in blocks (r, U) of 0 and 1, float64."""
    generator = np.random.default_rng(seed)
    for block in blocks(num_resamples, num_units):
        yield generator.integers(0, 2, (len(block), num_units)).astype(np.float64)


def blocks(count: int, num_units: int) -> Iterator[range]:
    """Yield the numbers of weighted data sets in parts whose weights fit into memory together.

    Args:
        count: Number of data sets.
        num_units: Number of units, each of which has a weight in each data set.
    """
    size = max(1, BLOCK // num_units)
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p-value of the difference of two means, by Welch's t-test for unequal variances.

    (Welch 1947, "The Generalization of 'Student's' Problem when Several Different Population Variances are Involved".)

    Args:
        first: A metric of each seed of one run.
        second: The metric of each seed of another run, independent of the first ones.

    Returns:
        The p-value; nan if one of them has fewer than two values, or one that is not finite.

    Examples:
        >>> round(welch([70.7, 49.0, 49.0], [49.0, 49.0, 49.0]), 3)
        0.423
    """
    if min(len(first), len(second)) < 2 or not all(map(math.isfinite, (*first, *second))):
        return math.nan
    difference = abs(statistics.fmean(first) - statistics.fmean(second))
    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    if not (total := sum(parts)):  # the seed changes nothing
        return float(not difference)
    degrees = total**2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (first, second), strict=True))
    return _incomplete_beta(degrees / (degrees + difference**2 / total), degrees / 2)


def _incomplete_beta(x: float, a: float, b: float = 0.5) -> float:
    """Return the regularized incomplete beta function, by its continued fraction (Abramowitz and Stegun 26.5.8).

    With b = 1/2 and x = df / (df + t²), it is the two-sided p-value of Student's t for df = 2 a degrees of freedom.
    """
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):  # there, the fraction converges slowly
        return 1 - _incomplete_beta(1 - x, b, a)
    fraction = 1.0
    for m in range(MOST_TERMS, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(scale) / (a * fraction)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for several comparisons.

    (Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".)

    Args:
        values: p-values; nan stays nan and does not count.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    found, largest = list(values), 0.0
    order = sorted((number for number, value in enumerate(values) if value == value), key=lambda n: values[n])
    for place, number in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * values[number]))
        found[number] = largest
    return found
