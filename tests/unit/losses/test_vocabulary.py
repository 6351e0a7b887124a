"""The loss over a vocabulary is torch's, with its gradient, in one buffer; accuracy is that of an argmax."""

import gc
import weakref

import pytest
import torch
from torch.nn import functional

from tests.tolerances import STORED, approx, assert_close, rounding
from transformers_framework.losses import vocabulary
from transformers_framework.losses.vocabulary import cross_entropy_and_probabilities, vocabulary_cross_entropy

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def data(n=70, size=501, dtype=torch.float32, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(n, size, generator=generator) * scale).to(dtype)
    labels = torch.where(
        torch.rand(n, generator=generator) < 0.5,
        logits.argmax(1),
        torch.randint(0, size, (n,), generator=generator),
    )
    labels[::7] = -100
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("parts", [1, 2, 3, 100])
def test_loss_and_gradient_are_those_of_torch_in_double_precision(dtype, parts, monkeypatch):
    monkeypatch.setattr(vocabulary, "PARTS", parts)  # also with a smaller last one, and more than there are rows
    logits, labels = data(dtype=dtype)
    loss, _ = vocabulary_cross_entropy(logits, labels)
    (loss * 0.7).backward()
    exact = logits.detach().double().requires_grad_()
    wanted = functional.cross_entropy(exact, labels, reduction="sum")
    (wanted * 0.7).backward()
    assert loss.shape == ()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == approx(wanted.item(), dtype=loss.dtype)
    assert logits.grad.dtype == dtype
    tolerance = rounding(STORED if dtype in (torch.float64, torch.float32) else 1, dtype)
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=tolerance, atol=tolerance / 10)


def test_gradient_is_the_numerical_one():
    logits, labels = data(n=8, size=12, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: vocabulary_cross_entropy(x, labels)[0], (logits,))


@pytest.mark.parametrize("dtype", FLOATS)
def test_ignored_labels_have_no_loss_and_a_gradient_of_exactly_zero(dtype):
    logits, labels = data(dtype=dtype)
    loss, correct = vocabulary_cross_entropy(logits, labels)
    loss.backward()
    ignored = labels == -100
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).any(1).all()
    assert not correct[ignored].any()
    kept = vocabulary_cross_entropy(logits[~ignored], labels[~ignored])[0]
    assert loss.item() == approx(kept.item())


@pytest.mark.parametrize("n", [0, 5])
def test_no_labels_at_all_are_a_loss_of_zero(n):
    logits, labels = data(n=n)
    loss, correct = vocabulary_cross_entropy(logits, torch.full_like(labels, -100))
    loss.backward()
    assert loss.item() == 0
    assert correct.sum() == 0
    assert correct.shape == (n,)
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_correct_is_what_an_argmax_finds(dtype):
    logits, labels = data(n=500, dtype=dtype)
    correct = vocabulary_cross_entropy(logits, labels)[1]
    assert correct.dtype == torch.bool
    assert torch.equal(correct, logits.argmax(1) == labels)
    assert 0.3 < correct.float().mean() < 0.6


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_label_that_shares_the_maximum_counts_as_correct(dtype):
    logits = torch.tensor([[1.0, 3.0, 3.0], [1.0, 3.0, 3.0], [1.0, 3.0, 3.0]], dtype=dtype)
    assert vocabulary_cross_entropy(logits, torch.tensor([1, 2, 0]))[1].tolist() == [True, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_are_right_where_probabilities_underflow(dtype):
    logits = torch.tensor([[500.0, 0.0, -1000.0], [0.0, 80.0, 0.0]], dtype=dtype, requires_grad=True)
    loss, _ = vocabulary_cross_entropy(logits, torch.tensor([2, 0]))
    loss.backward()
    assert loss.item() == 1500 + 80
    assert_close(logits.grad.float(), torch.tensor([[1.0, 0, -1], [-1, 1, 0]]))


def test_one_buffer_is_kept_and_the_gradient_is_made_in_it():
    logits, labels = data()
    loss, _, probabilities = cross_entropy_and_probabilities(logits, labels)
    assert_close(probabilities, logits.detach().softmax(1))
    assert not probabilities.requires_grad
    place = probabilities.data_ptr()
    gradient = torch.autograd.grad(loss, logits)[0]
    assert gradient.data_ptr() == place
    loss, _, probabilities = cross_entropy_and_probabilities(logits, labels)
    big = [tensor for tensor in loss.grad_fn.saved_tensors if tensor.numel() >= logits.numel()]
    assert [tensor.data_ptr() for tensor in big] == [probabilities.data_ptr()]


def test_the_buffer_goes_with_the_graph():
    logits, labels = data()
    loss, _, probabilities = cross_entropy_and_probabilities(logits, labels)
    kept = weakref.ref(probabilities.untyped_storage())
    del probabilities
    loss.backward()
    logits.grad = None
    del loss
    gc.collect()
    assert kept() is None


def test_nothing_is_kept_in_evaluation():
    logits, labels = data()
    with torch.inference_mode():
        loss, correct = vocabulary_cross_entropy(logits.detach(), labels)
    assert loss.grad_fn is None
    assert loss.item() == pytest.approx(vocabulary_cross_entropy(logits, labels)[0].item())
    assert torch.equal(correct, vocabulary_cross_entropy(logits, labels)[1])


def test_a_graph_that_is_kept_gives_its_gradient_twice_and_one_that_is_used_up_none():
    logits, labels = data()
    loss, _ = vocabulary_cross_entropy(logits, labels)
    first = torch.autograd.grad(loss, logits, retain_graph=True)[0].clone()
    second = torch.autograd.grad(loss, logits)[0]
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(loss, logits)


def test_half_precision_under_autocast_is_computed_in_float32():
    torch.manual_seed(0)
    layer, hidden = torch.nn.Linear(16, 501), torch.randn(70, 16)
    labels = torch.randint(0, 501, (70,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = layer(hidden)
        loss, _ = vocabulary_cross_entropy(logits, labels)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    exact = functional.cross_entropy(logits.double(), labels, reduction="sum")
    assert loss.item() == approx(exact.item())
    loss.backward()
    assert layer.weight.grad.dtype == torch.float32
    assert layer.weight.grad.abs().sum() > 0


def test_compiled_loss_is_the_same():
    logits, labels = data()
    loss, correct = vocabulary_cross_entropy(logits, labels)
    gradient = torch.autograd.grad(loss, logits)[0]
    compiled = torch.compile(vocabulary_cross_entropy, backend="eager", fullgraph=True)
    other, found = compiled(logits, labels)
    assert other.item() == approx(loss.item())
    assert torch.equal(found, correct)
    assert_close(torch.autograd.grad(other, logits)[0], gradient)
