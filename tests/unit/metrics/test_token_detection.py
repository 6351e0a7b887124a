"""Detection of replaced tokens equals torchmetrics' and a calculation by hand, whatever the batches."""

import math

import pytest
import torch
from torchmetrics.functional.classification import binary_accuracy, binary_f1_score, binary_precision, binary_recall

from transformers_framework.metrics.token_detection import TokenDetection

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")


def data(shape=(40, 25), seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = (torch.rand(shape, generator=generator) < 0.15).long()
    noise = torch.rand(shape, generator=generator)
    preds = torch.where(target == 1, noise < 0.6, noise < 0.1)
    target[torch.rand(shape, generator=generator) < 0.2] = -100
    return preds, target


def by_hand(preds, target):
    pairs = [(p, t) for p, t in zip(preds.flatten().tolist(), target.flatten().tolist(), strict=True) if t != -100]
    hits = sum(p and t == 1 for p, t in pairs)
    found, actual = sum(p for p, _ in pairs), sum(t for _, t in pairs)
    precision, recall = hits / found, hits / actual
    return {
        "accuracy": sum(p == bool(t) for p, t in pairs) / len(pairs),
        "f1": 2 * precision * recall / (precision + recall),
        "precision": precision,
        "recall": recall,
        "replaced_ratio": actual / len(pairs),
    }


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_equal_to_torchmetrics_and_by_hand_whatever_the_batches(rows):
    preds, target = data()
    metric = TokenDetection()
    for part in torch.arange(40).split(rows):
        metric.update(preds=preds[part], target=target[part])
    result = metric.compute()
    assert result == pytest.approx(by_hand(preds, target), abs=1e-12)
    references = {
        "accuracy": binary_accuracy,
        "f1": binary_f1_score,
        "precision": binary_precision,
        "recall": binary_recall,
    }
    for name, reference in references.items():
        assert result[name] == pytest.approx(reference(preds.int(), target, ignore_index=-100).item()), name
    assert metric.names == list(result)


def test_padding_counts_nothing_whatever_was_predicted():
    metric = TokenDetection()
    metric.update(torch.tensor([[True, False, True]]), torch.tensor([[1, 0, -100]]))
    assert metric.compute() == {"accuracy": 1, "f1": 1, "precision": 1, "recall": 1, "replaced_ratio": 0.5}


@pytest.mark.parametrize(
    ("preds", "target", "wanted"),
    [
        ([False, False], [0, 0], (1.0, 0.0, 0.0, 0.0, 0.0)),
        ([True, False], [0, 0], (0.5, 0.0, 0.0, 0.0, 0.0)),
        ([False, False], [1, 0], (0.5, 0.0, 0.0, 0.0, 0.5)),
    ],
)
def test_nothing_found_or_nothing_to_find_is_zero(preds, target, wanted):
    metric = TokenDetection()
    metric.update(torch.tensor(preds), torch.tensor(target))
    assert tuple(metric.compute().values()) == wanted


@pytest.mark.parametrize("updates", [0, 1])
def test_no_labels_give_nan(updates):
    metric = TokenDetection()
    for _ in range(updates):
        metric.update(torch.tensor([True]), torch.tensor([-100]))
    assert list(metric.compute()) == metric.names
    assert all(math.isnan(value) for value in metric.compute().values())


def test_counts_are_exact_beyond_float32():
    metric = TokenDetection()
    metric.counts += 2**24
    before = metric.counts.clone()
    metric.update(torch.tensor([True]), torch.tensor([1]))
    assert (metric.counts - before).tolist() == [1, 1, 1, 1]


def test_updates_work_in_and_out_of_inference_mode():
    metric = TokenDetection()
    with torch.inference_mode():
        metric.reset()
        metric.update(torch.tensor([True]), torch.tensor([1]))
    metric.update(torch.tensor([False]), torch.tensor([1]))
    assert metric.compute()["recall"] == 0.5
    metric.reset()
    assert math.isnan(metric.compute()["recall"])
