"""Sums of losses over the number of labels are torch's means, with weights and smoothing."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.tolerances import assert_close
from transformers_framework.losses.classification import binary_cross_entropy, cross_entropy, squared_error

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(7, 5, generator=GENERATOR)
WEIGHTS = torch.tensor([0.5, 3.0, 1.0, 0.0, 2.0])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_cross_entropy_is_torchs_and_its_definition(weights: torch.Tensor | None, smoothing: float) -> None:
    labels = torch.tensor([0, 1, 4, -100, 2, 1, 3])
    known = labels[labels >= 0]
    num_items = float(len(known) if weights is None else weights[known].sum())
    found = cross_entropy(LOGITS, labels, weights, smoothing)
    same = {"weight": weights, "ignore_index": -100, "label_smoothing": smoothing}
    assert_close(found / num_items, functional.cross_entropy(LOGITS, labels, **same))
    # the definition: the target is a mixture of the label and of all classes, each class with its weight
    target = (1 - smoothing) * functional.one_hot(known, 5) + smoothing / 5
    each = torch.ones(5) if weights is None else weights
    expected = -(target * each * LOGITS[labels >= 0].log_softmax(-1)).sum()
    assert_close(found, expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_is_that_of_two_classes(weights: torch.Tensor | None, smoothing: float) -> None:
    """Yes and no are two classes with logits x and 0, so smoothing and weights mean what they mean there."""
    labels = (torch.rand(7, 5, generator=GENERATOR) < 0.4).to(torch.int8)
    labels[2] = -100
    kept = torch.arange(7) != 2
    found = binary_cross_entropy(LOGITS, labels, weights, smoothing)
    two = torch.stack([torch.zeros(7, 5), LOGITS], dim=-1)[kept]
    expected = torch.zeros(())
    for c in range(5):
        of_two = None if weights is None else torch.tensor([1.0, float(weights[c])])
        expected += cross_entropy(two[:, c], labels[kept][:, c].long(), of_two, smoothing)
    assert_close(found, expected)
    if not smoothing:
        mean = functional.binary_cross_entropy_with_logits(LOGITS[kept], labels[kept].float(), pos_weight=weights)
        assert_close(found / (6 * 5), mean)


def test_rows_without_a_label_have_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    assert binary_cross_entropy(logits, torch.full((7, 5), -100, dtype=torch.int8)) == 0
    numbers = LOGITS[:, 0].clone().requires_grad_()
    target = torch.tensor([1.0, float("nan"), 2.0, -100.0, 0.0, float("nan"), 5.0])
    (
        binary_cross_entropy(logits, torch.full((7, 5), -100, dtype=torch.int8)) + squared_error(numbers, target)
    ).backward()
    assert not logits.grad.any()
    known = ~target.isnan()
    assert_close(numbers.grad, torch.where(known, 2 * (numbers.detach() - target), 0).nan_to_num())
    expected = functional.mse_loss(numbers[known], target[known], reduction="sum")
    assert_close(squared_error(numbers, target), expected)


def test_half_precision_is_computed_in_full() -> None:
    half, labels = LOGITS.bfloat16(), torch.ones(7, 5, dtype=torch.int8)
    assert binary_cross_entropy(half, labels).dtype == torch.float32
    assert_close(binary_cross_entropy(half, labels), binary_cross_entropy(half.float(), labels))
    assert squared_error(half[:, 0], torch.full((7,), 1000.5)).dtype == torch.float32
