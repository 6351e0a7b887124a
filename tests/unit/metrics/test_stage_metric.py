"""Plain metrics of torchmetrics as those of a stage, and metrics that are not fed."""

import pytest
import torch
from torchmetrics import MeanSquaredError, MetricCollection, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.metrics.classification import ClassificationMetrics
from transformers_framework.metrics.stage_metric import check_inputs, direction_of, named

PREDS, TARGET = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0])


def test_a_plain_metric_is_logged_under_its_key():
    (metric,) = named({"squared_error": MeanSquaredError()}, "similarity").values()
    metric.update(preds=PREDS, target=TARGET)
    assert {name: float(value) for name, value in metric.compute().items()} == {"squared_error": 2.0}
    metric.reset()
    metric.update(preds=PREDS[:1], target=TARGET[:1])
    assert float(metric.compute()["squared_error"]) == 0.0
    assert list(metric.names) == ["squared_error"]


def test_directions_are_those_of_the_metrics():
    plain = named({"error": MeanSquaredError(), "hits": MulticlassAccuracy(2), "total": SumMetric()}, "o")
    assert [direction_of(metric, name) for name, metric in plain.items()] == ["min", "max", None]


def test_a_metric_with_names_is_taken_as_it_is():
    own = ClassificationMetrics(2)
    assert named({"classes": own}, "o")["classes"] is own


def test_what_is_no_metric_is_refused():
    with pytest.raises(ConfigurationError, match=r"'both' of metrics\(\) is a MetricCollection; expected a torchmetri"):
        named({"both": MetricCollection([MeanSquaredError()])}, "o")


def test_a_metric_of_several_numbers_is_refused():
    (metric,) = named({"hits": MulticlassAccuracy(2, average=None)}, "o").values()
    metric.update(preds=torch.tensor([0, 1]), target=torch.tensor([0, 1]))
    with pytest.raises(ConfigurationError, match=r"computes a tensor of shape \(2,\); expected a single number"):
        metric.compute()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"stage valid: metrics\(\) has 'error', which evaluate\(\) does not feed; it feeds nothing"),
        ({"errors": {}}, r"metrics\(\) has 'error', which evaluate\(\) does not feed; it feeds 'errors'"),
        ({"error": {}, "more": {}}, r"evaluate\(\) feeds 'more', which metrics\(\) does not have; it has 'error'"),
        ({"error": {"preds": PREDS}}, r"feeds 'error' with 'preds'; its update\(\) takes 'preds', 'target' \(missing"),
        ({"error": {"preds": PREDS, "labels": TARGET}}, r"its update\(\) takes 'preds', 'target'"),
    ],
)
def test_a_metric_that_is_not_fed_is_named(inputs, message):
    with pytest.raises(ConfigurationError, match=message):
        check_inputs("similarity", "valid", named({"error": MeanSquaredError()}, "similarity"), inputs)


def test_metrics_that_are_fed_pass():
    metrics = named({"error": MeanSquaredError(), "classes": ClassificationMetrics(2)}, "o")
    check_inputs("o", "valid", metrics, {key: {"preds": PREDS, "target": TARGET} for key in metrics})
