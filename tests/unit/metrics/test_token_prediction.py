"""Accuracy and perplexity are those of all labels of the data set."""

import math

import pytest
import torch
from torch.nn import functional

from tests.tolerances import approx
from transformers_framework.losses.vocabulary import vocabulary_cross_entropy
from transformers_framework.metrics.token_prediction import TokenPrediction

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")


def data(n=300, size=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, size, generator=generator) * 2
    labels = torch.where(torch.rand(n, generator=generator) < 0.3, logits.argmax(1), logits.argmin(1))
    labels[torch.rand(n, generator=generator) < 0.2] = -100
    return logits, labels


def updated(logits, labels, size):
    metric = TokenPrediction()
    for part in torch.arange(len(labels)).split(size):
        losses, correct = vocabulary_cross_entropy(logits[part], labels[part])
        metric.update(losses_sum=losses, correct=correct, labels=labels[part])
    return metric


@pytest.mark.parametrize("size", [1, 37, 300])
def test_equal_to_a_calculation_over_everything_whatever_the_batches(size):
    logits, labels = data()
    kept = labels >= 0
    right = (logits.argmax(1) == labels)[kept].double().mean().item()
    loss = functional.cross_entropy(logits.double()[kept], labels[kept]).item()
    metric = updated(logits, labels, size)
    assert metric.compute() == {"accuracy": right, "perplexity": approx(math.exp(loss))}
    assert metric.names == list(metric.compute())


def test_a_uniform_prediction_has_the_perplexity_of_the_vocabulary():
    labels = torch.arange(10)
    metric = updated(torch.zeros(10, 64), labels, 3)
    assert metric.compute()["perplexity"] == pytest.approx(64)


def test_ignored_labels_count_nothing_even_if_called_correct():
    metric = TokenPrediction()
    metric.update(torch.tensor(2.0), torch.tensor([True, True, False]), torch.tensor([4, -100, 0]))
    assert metric.compute() == {"accuracy": 0.5, "perplexity": pytest.approx(math.e)}


@pytest.mark.parametrize("updates", [0, 1])
def test_no_labels_give_nan(updates):
    metric = TokenPrediction()
    for _ in range(updates):
        metric.update(torch.tensor(0.0), torch.tensor([False]), torch.tensor([-100]))
    assert all(math.isnan(value) for value in metric.compute().values())


def test_a_perplexity_above_all_numbers_is_infinite():
    metric = TokenPrediction()
    metric.update(torch.tensor(800.0), torch.tensor([False]), torch.tensor([1]))
    assert metric.compute()["perplexity"] == math.inf
    metric.update(torch.tensor(math.nan), torch.tensor([False]), torch.tensor([1]))
    assert math.isnan(metric.compute()["perplexity"])


def test_reset_forgets_losses_and_counts():
    logits, labels = data()
    metric = updated(logits, labels, 50)
    metric.reset()
    metric.update(torch.tensor(0.0), torch.tensor([True]), torch.tensor([1]))
    assert metric.compute() == {"accuracy": 1, "perplexity": 1}


def test_sums_do_not_lose_what_float32_rounds_off():
    metric = TokenPrediction()
    metric.update(torch.tensor(2.0**25), torch.zeros(1).bool(), torch.ones(1).long())
    for _ in range(1000):
        metric.update(torch.tensor(1.0), torch.ones(2**15).bool(), torch.ones(2**15).long())
    expected = (2.0**25 + 1000) / (1 + 1000 * 2**15)
    assert metric.compute()["perplexity"] == pytest.approx(math.exp(expected), rel=1e-9)
    assert metric.compute()["accuracy"] == 1000 * 2**15 / (1000 * 2**15 + 1)


def test_updates_work_in_and_out_of_inference_mode_and_keep_no_graph():
    metric = TokenPrediction()
    with torch.inference_mode():
        metric.reset()
        metric.update(torch.tensor(1.0), torch.tensor([True]), torch.tensor([1]))
    metric.update(torch.ones((), requires_grad=True), torch.tensor([False]), torch.tensor([1]))
    assert metric.compute() == {"accuracy": 0.5, "perplexity": pytest.approx(math.e)}
    assert not metric.mean_loss.sums.requires_grad


def test_the_metric_survives_a_module_in_half_precision():
    metric = TokenPrediction().to(torch.bfloat16)
    metric.update(torch.tensor(300.5), torch.ones(300).bool(), torch.ones(300).long())
    assert metric.compute() == {"accuracy": 1, "perplexity": pytest.approx(math.exp(300.5 / 300))}


@pytest.mark.parametrize("size", [1, 37, 300])
def test_the_perplexity_of_frequencies_is_that_of_predicting_each_label_from_all_others(size):
    _, labels = data()
    metric = TokenPrediction(vocab_size=50)
    for part in labels.split(size):
        metric.update(torch.tensor(1.0), torch.zeros(len(part)).bool(), part)
    known = labels[labels >= 0].tolist()
    types, log_likelihood = len(set(known)), 0.0
    for number, label in enumerate(known):  # Witten-Bell: a uniform distribution has the weight of `types` labels
        others = known[:number] + known[number + 1 :]
        log_likelihood += math.log((others.count(label) + types / 50) / (len(others) + types))
    assert metric.compute()["unigram_perplexity"] == approx(math.exp(-log_likelihood / len(known)))
    assert metric.names == list(metric.compute())
    metric.reset()
    assert math.isnan(metric.compute()["unigram_perplexity"])
