"""Accuracy and F1 equal torchmetrics' and a calculation by hand, whatever the batches."""

import time

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from transformers_framework.metrics.classification import ClassificationMetrics, MultiLabelMetrics

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")


def random_data(num_classes, n=500, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, num_classes, generator=generator)
    target = torch.randint(0, num_classes, (n,), generator=generator)
    logits[torch.arange(n), target] += 1
    target[torch.rand(n, generator=generator) < 0.1] = -100
    return logits, target


def by_hand(preds, target, num_classes):
    pairs = [(p, t) for p, t in zip(preds.tolist(), target.tolist(), strict=True) if t >= 0]
    per_class, occurs = [], []
    for c in range(num_classes):
        hits = sum(p == t == c for p, t in pairs)
        wrong = sum((p == c) != (t == c) for p, t in pairs)
        per_class.append(2 * hits / (2 * hits + wrong) if hits + wrong else 0.0)
        occurs.append(hits + wrong > 0)
    macro = sum(per_class) / sum(occurs)
    return {
        "accuracy": sum(p == t for p, t in pairs) / len(pairs),
        "f1": per_class[1] if num_classes == 2 else macro,
        **{f"f1_class_{c}": value for c, value in enumerate(per_class)},
    }


@pytest.mark.parametrize("num_classes", [2, 3, 7])
@pytest.mark.parametrize("as_logits", [True, False])
def test_equal_to_torchmetrics_and_by_hand(num_classes, as_logits):
    logits, target = random_data(num_classes)
    metric = ClassificationMetrics(num_classes)
    for part in torch.arange(500).split(33):
        metric.update(logits[part] if as_logits else logits[part].argmax(-1), target[part])
    result = metric.compute()
    assert result == pytest.approx(by_hand(logits.argmax(-1), target, num_classes), abs=1e-12)
    same = {"num_classes": num_classes, "ignore_index": -100}
    assert result["accuracy"] == pytest.approx(multiclass_accuracy(logits, target, average="micro", **same).item())
    of_classes = multiclass_f1_score(logits, target, average="none", **same)
    assert [result[f"f1_class_{c}"] for c in range(num_classes)] == pytest.approx(of_classes.tolist())
    if num_classes > 2:
        assert result["f1"] == pytest.approx(multiclass_f1_score(logits, target, average="macro", **same).item())
    else:
        assert result["f1"] == pytest.approx(of_classes[1].item())


def test_macro_f1_leaves_out_classes_that_do_not_occur():
    metric = ClassificationMetrics(4, class_names=["a", "b", "c", "d"])
    metric.update(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 0]))
    result = metric.compute()
    assert result["f1"] == pytest.approx((0.5 + 0 + 0) / 3)  # d occurs neither in rows nor in predictions
    assert result["f1_class_d"] == 0
    reference = multiclass_f1_score(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 0]), num_classes=4, average="macro")
    assert result["f1"] == pytest.approx(reference.item())


def test_f1_of_two_classes_is_that_of_class_one():
    metric = ClassificationMetrics(2, class_names=["wrong", "right"])
    metric.update(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 1, 1]))
    assert metric.compute() == pytest.approx(
        {"accuracy": 0.25, "f1": 2 / 5, "f1_class_wrong": 0.0, "f1_class_right": 2 / 5}
    )


def test_ignored_rows_count_nothing_whatever_was_predicted():
    metric = ClassificationMetrics(3)
    metric.update(torch.tensor([0, 1, 2]), torch.tensor([0, -100, -100]))
    assert metric.compute()["accuracy"] == 1
    assert metric.counts[:, :3].sum() == 3  # one row: one true positive, one prediction, one label


@pytest.mark.parametrize("num_classes", [2, 5])
def test_no_rows_give_nan(num_classes):
    for updates in (0, 1):
        metric = ClassificationMetrics(num_classes)
        for _ in range(updates):
            metric.update(torch.zeros(2, num_classes), torch.tensor([-100, -100]))
        assert all(np.isnan(value) for value in metric.compute().values())
    metric.update(torch.zeros(0, num_classes), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize(("num_classes", "class_names", "named"), [(50, None, 50), (51, None, 0), (3, [], 0)])
def test_many_classes_are_not_named_one_by_one(num_classes, class_names, named):
    metric = ClassificationMetrics(num_classes, class_names=class_names)
    metric.update(torch.tensor([1]), torch.tensor([1]))
    result = metric.compute()
    assert sum(name.startswith("f1_class_") for name in result) == named
    assert result["f1"] == 1
    assert metric.names == list(result)


def test_counts_are_exact_beyond_float32():
    metric = ClassificationMetrics(2)
    metric.counts += 2**24
    before = metric.counts.clone()
    metric.update(torch.tensor([1]), torch.tensor([1]))
    assert (metric.counts - before).sum() == 3


def test_updates_work_in_and_out_of_inference_mode():
    metric = ClassificationMetrics(2)
    with torch.inference_mode():
        metric.reset()
        metric.update(torch.tensor([1]), torch.tensor([1]))
    metric.update(torch.tensor([1]), torch.tensor([0]))
    assert metric.compute()["accuracy"] == 0.5


def test_the_metric_survives_a_module_in_half_precision():
    metric = ClassificationMetrics(2).to(torch.bfloat16)
    metric.update(torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16), torch.tensor([1]))
    assert metric.counts.dtype == torch.int64
    assert metric.compute()["accuracy"] == 1


def test_an_update_is_cheap():
    metric, (logits, target) = ClassificationMetrics(2), random_data(2, n=32)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(20):
            metric.update(logits, target)
        best = min(best, (time.perf_counter() - start) / 20)
    assert best < 1e-3  # 40 µs measured


# --- any number of classes a row --------------------------------------------------------------------------------------


def random_labels(num_classes, n=300, seed=0):
    draw = np.random.default_rng(seed)
    target = (draw.random((n, num_classes)) < 0.3).astype(np.int8)
    target[:, -1] = 0  # a class that no row has
    preds = np.where(draw.random((n, num_classes)) < 0.15, 1 - target, target).astype(bool)
    preds[:, -1] = False
    target[::17] = -100
    return preds, target


@pytest.mark.parametrize("batch_size", [1, 32, 300])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_rows_of_many_classes_equal_scikit_learns(num_classes, batch_size):
    from sklearn import metrics as sklearn

    preds, target = random_labels(num_classes)
    metric = MultiLabelMetrics(num_classes)
    for start in range(0, len(preds), batch_size):
        part = slice(start, start + batch_size)
        metric.update(torch.from_numpy(preds[part]), torch.from_numpy(target[part]))
    result, kept = metric.compute(), target[:, 0] >= 0
    preds, target = preds[kept], target[kept]
    assert metric.names == list(result)
    assert result["accuracy"] == pytest.approx(sklearn.accuracy_score(target, preds))
    assert result["micro_f1"] == pytest.approx(sklearn.f1_score(target, preds, average="micro"))
    of_classes = sklearn.f1_score(target, preds, average=None, zero_division=0)
    assert [result[f"f1_class_{c}"] for c in range(num_classes)] == pytest.approx(of_classes.tolist())
    assert result["f1"] == pytest.approx(of_classes[:-1].mean()), "the class that does not occur is left out"


def test_rows_without_any_class_are_right_when_nothing_is_predicted():
    metric = MultiLabelMetrics(3)
    metric.update(torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.int8))
    assert metric.compute() == {
        "accuracy": 1,
        "f1": 0,
        "micro_f1": 0,
        "f1_class_0": 0,
        "f1_class_1": 0,
        "f1_class_2": 0,
    }
    assert all(np.isnan(value) for value in MultiLabelMetrics(3).compute().values())


@pytest.mark.parametrize("metric", [ClassificationMetrics, MultiLabelMetrics])
def test_thousands_of_classes_take_memory_that_is_linear_in_them(metric):
    made = metric(5000)
    assert sum(state.numel() for state in (getattr(made, name) for name in made._defaults)) < 4 * 5001
    assert not any(name.startswith("f1_class_") for name in made.names)
