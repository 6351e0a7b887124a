"""The loss of a data set is that of all its rows, not a mean of batches."""

import math

import numpy as np
import pytest
import torch

from transformers_framework.metrics.mean_loss import MeanLoss

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")


def updated(pairs):
    metric = MeanLoss()
    for total, num_items in pairs:
        metric.update(torch.tensor(total), torch.tensor(num_items))
    return metric


def test_batches_weigh_by_their_num_items():
    assert updated([(8.0, 4), (1.0, 1), (0.0, 0)]).compute() == pytest.approx(9 / 5)


def test_nothing_has_no_mean():
    assert MeanLoss().compute() is None
    assert updated([(0.0, 0)]).compute() is None
    assert math.isnan(updated([(math.nan, 1)]).compute())


def test_sums_do_not_lose_what_float32_rounds_off():
    totals = np.random.default_rng(0).lognormal(0, 3, 5000).astype(np.float32)
    metric = MeanLoss()
    metric.update(torch.tensor(2.0**24), torch.tensor(2**24))  # float32 alone would lose all that follows
    for total in totals:
        metric.update(torch.tensor(total), torch.tensor(1))
    expected = (2.0**24 + totals.astype(np.float64).sum()) / (2**24 + 5000)
    assert metric.compute() == pytest.approx(expected, rel=1e-10)


def test_no_graph_is_kept_and_dtypes_may_differ():
    metric = MeanLoss().to(torch.bfloat16)
    weight = torch.ones((), requires_grad=True)
    metric.update(weight * 3, torch.tensor([2]))
    metric.update(torch.tensor(0.5, dtype=torch.bfloat16), torch.tensor(1, dtype=torch.int64))
    assert not metric.sums.requires_grad
    assert metric.compute() == pytest.approx(3.5 / 3)


def test_updates_work_in_and_out_of_inference_mode():
    metric = MeanLoss()
    with torch.inference_mode():
        metric.reset()
        metric.update(torch.tensor(1.0), torch.tensor(1))
    metric.update(torch.tensor(2.0), torch.tensor(1))
    assert metric.compute() == 1.5
