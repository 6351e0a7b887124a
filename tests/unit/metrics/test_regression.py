"""Correlations equal scipy's, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests.tolerances import approx
from transformers_framework.metrics.regression import NAMES, RegressionMetrics, regression_metrics

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")


def data(n: int = 500, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(n)
    target = draw.normal(2.5, 1.5, n).astype(np.float32)
    preds = (0.6 * target + draw.normal(0, 1, n)).astype(np.float32)
    return (preds.round(0), target.round(1)) if ties else (preds, target)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 500])
def test_values_are_scipys_whatever_the_batches(ties: bool, batch_size: int) -> None:
    preds, target = data(ties=ties)
    metric = RegressionMetrics()
    for start in range(0, len(preds), batch_size):
        part = slice(start, start + batch_size)
        metric.update(torch.from_numpy(preds[part]), torch.from_numpy(target[part]))
    found = metric.compute()
    assert list(found) == metric.names == list(NAMES)
    wide, wanted = preds.astype(np.float64), target.astype(np.float64)
    assert found["pearson"] == pytest.approx(stats.pearsonr(wide, wanted).statistic, abs=1e-12)
    assert found["spearman"] == pytest.approx(stats.spearmanr(wide, wanted).statistic, abs=1e-12)
    assert found["mean_squared_error"] == pytest.approx(((wide - wanted) ** 2).mean(), rel=1e-12)
    assert found["mean_absolute_error"] == pytest.approx(np.abs(wide - wanted).mean(), rel=1e-12)


def test_the_order_of_rows_changes_no_bit() -> None:
    preds, target = data(ties=True)
    order = np.random.default_rng(1).permutation(len(preds))
    assert regression_metrics(preds, target) == regression_metrics(preds[order], target[order])


def test_rows_without_a_number_count_nothing() -> None:
    preds, target = data(20)
    holes = np.append(target, [np.nan, np.nan]).astype(np.float32)
    assert regression_metrics(np.append(preds, [1e30, -5]), holes) == regression_metrics(preds, target)


def test_correlations_of_extreme_numbers() -> None:
    target = np.array([1.0, 2.0, 3.0, 4.0])
    for scale, shift in ((1e-30, 0), (1e30, 0), (1e-6, 1e6), (-2, 5)):
        found = regression_metrics(target * scale + shift, target)
        assert found["pearson"] == approx(np.sign(scale))
        assert found["spearman"] == np.sign(scale)


def test_what_is_not_defined_is_nan() -> None:
    assert all(np.isnan(value) for value in RegressionMetrics().compute().values())
    constant = regression_metrics([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    assert np.isnan(constant["pearson"])
    assert np.isnan(constant["spearman"])
    assert constant["mean_squared_error"] == pytest.approx(5 / 3)
    assert np.isnan(regression_metrics([0.1, 0.1, 0.1], [1.0, 2.0, 3.0])["pearson"]), "not what rounding leaves of 0"
    assert all(np.isnan(value) for value in regression_metrics([1.0, np.nan], [1.0, 2.0]).values())


def test_half_precision_predictions() -> None:
    metric = RegressionMetrics().to(torch.bfloat16)
    metric.update(torch.tensor([1.0, 2.0, 4.0]).bfloat16(), torch.tensor([1.0, 2.0, 4.0]))
    assert metric.compute()["mean_squared_error"] == 0
