"""The loss from hidden states is torch's over dense logits, with all its gradients, and no such logits are kept."""

import pytest
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tests.tolerances import BACKWARD, approx, assert_close, rounding
from transformers_framework.losses import linear
from transformers_framework.losses.linear import linear_cross_entropy, linear_top_tokens

N, H, V = 37, 16, 101
SIZES = [(V, 1), (5 * V, 2 * V), (36 * V, 5 * V), (2**20, 2**20)]  # of chunks and blocks; some have a smaller last one


def data(dtype=torch.float32, seed=0, n=N, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    states, weight = (torch.randn(*shape, generator=generator) * scale for shape in ((n, H), (V, H)))
    bias = torch.randn(V, generator=generator)
    labels = torch.randint(0, V, (n,), generator=generator)
    labels[::2] = (states @ weight.t() + bias).argmax(1)[::2]
    labels[::7] = -100
    return [tensor.to(dtype).requires_grad_() for tensor in (states, weight, bias)], labels


def dense(states, weight, bias, labels):
    logits = states @ weight.t() + bias
    return functional.cross_entropy(logits, labels, reduction="sum", ignore_index=-100), logits


def exact(inputs, labels):
    """Loss and gradients of the dense loss in double precision."""
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs]
    loss, logits = dense(*wide, labels)
    return loss, logits, torch.autograd.grad(loss * 0.7, wide)


@pytest.fixture(params=SIZES, ids=str)
def sizes(request, monkeypatch):
    monkeypatch.setattr(linear, "CHUNK", request.param[0])
    monkeypatch.setattr(linear, "BLOCK", request.param[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_loss_and_every_gradient_are_those_of_torch(dtype, sizes):
    inputs, labels = data(dtype)
    loss, correct = linear_cross_entropy(*inputs, labels)
    (loss * 0.7).backward()
    wanted, logits, gradients = exact(inputs, labels)
    assert loss.shape == ()
    assert loss.dtype == dtype
    assert loss.item() == approx(wanted.item(), dtype=dtype)
    for tensor, gradient in zip(inputs, gradients, strict=True):
        assert tensor.grad.dtype == dtype
        assert_close(tensor.grad, gradient, BACKWARD, dtype)
    assert torch.equal(correct, logits.argmax(1) == labels)
    assert 0.3 < correct.float().mean() < 0.6


def test_gradients_are_the_numerical_ones(sizes):
    inputs, labels = data(torch.float64, n=9)
    assert torch.autograd.gradcheck(lambda *given: linear_cross_entropy(*given, labels)[0], inputs)


def test_products_are_narrow_under_autocast_and_nothing_else_is(sizes):
    inputs, labels = data()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, correct = linear_cross_entropy(*inputs, labels)
    (loss * 0.7).backward()
    # the same with rounded inputs and products: what is added up and exponentiated is not rounded
    states, weight, bias = (tensor.detach() for tensor in inputs)
    products = (states.bfloat16() @ weight.bfloat16().t()).double()
    logits = (products + bias.double()).requires_grad_()
    wanted = functional.cross_entropy(logits, labels, reduction="sum")
    of_logits = torch.autograd.grad(wanted * 0.7, logits)[0]
    assert loss.dtype == torch.float32
    assert loss.item() == approx(wanted.item())
    assert torch.equal(correct, logits.argmax(1) == labels)
    gradients = (of_logits @ weight.double(), of_logits.t() @ states.double(), of_logits.sum(0))
    for tensor, gradient in zip(inputs, gradients, strict=True):
        assert tensor.grad.dtype == torch.float32
        error = (tensor.grad.double() - gradient).norm() / gradient.norm()
        assert error < 2 * torch.finfo(torch.bfloat16).eps


def test_gradients_of_confident_predictions_are_not_rounded_to_nothing():
    inputs, _ = data(scale=3.0)
    with torch.no_grad():
        top = (inputs[0] @ inputs[1].t() + inputs[2]).argmax(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = linear_cross_entropy(*inputs, top)
    loss.backward()
    products = (inputs[0].bfloat16() @ inputs[1].bfloat16().t()).detach().double() + inputs[2].detach().double()
    probability = products.softmax(1).gather(1, top[:, None])[:, 0]
    assert ((1 - probability < 2**-9) & (1 - probability > 1e-6)).sum() > 3  # bfloat16 has no number between
    assert loss.item() == approx(-probability.log().sum().item())
    assert (inputs[0].grad.abs().amax(1) > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_type_and_adds_up_in_float32(dtype, sizes):
    inputs, labels = data(dtype)
    loss, _ = linear_cross_entropy(*inputs, labels)
    loss.backward()
    wanted, _, _ = exact(inputs, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(wanted.item(), rel=rounding(1, dtype))
    assert [tensor.grad.dtype for tensor in inputs] == [dtype] * 3


def test_ignored_labels_have_no_loss_and_a_gradient_of_exactly_zero(sizes):
    inputs, labels = data()
    loss, correct = linear_cross_entropy(*inputs, labels)
    loss.backward()
    ignored, (states, weight, bias) = labels == -100, inputs
    assert (states.grad[ignored] == 0).all()
    assert (states.grad[~ignored] != 0).any(1).all()
    assert not correct[ignored].any()
    kept = [tensor.detach().requires_grad_() for tensor in (states[~ignored], weight, bias)]
    other, _ = linear_cross_entropy(*kept, labels[~ignored])
    other.backward()
    assert loss.item() == approx(other.item())
    assert_close(weight.grad, kept[1].grad)
    assert_close(bias.grad, kept[2].grad)


@pytest.mark.parametrize("n", [0, 5])
def test_no_labels_at_all_are_a_loss_of_zero(n):
    inputs, labels = data(n=n)
    loss, correct = linear_cross_entropy(*inputs, torch.full_like(labels, -100))
    loss.backward()
    assert loss.item() == 0
    assert correct.shape == (n,)
    assert not correct.any()
    assert all((tensor.grad == 0).all() and tensor.grad.shape == tensor.shape for tensor in inputs)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_is_frozen_gets_no_gradient_and_the_others_theirs(frozen):
    inputs, labels = data()
    _, _, gradients = exact(inputs, labels)
    inputs[frozen].requires_grad_(False)
    loss, _ = linear_cross_entropy(*inputs, labels)
    (loss * 0.7).backward()
    for place, (tensor, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        if place == frozen:
            assert tensor.grad is None
        else:
            assert_close(tensor.grad, gradient, dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_evaluation_gives_the_same_and_no_graph(mode, dtype, sizes):
    inputs, labels = data(dtype)
    loss, correct = linear_cross_entropy(*inputs, labels)
    with mode():
        other, found = linear_cross_entropy(*inputs, labels)
    assert other.grad_fn is None
    assert not other.requires_grad
    assert other.item() == loss.item()
    assert torch.equal(found, correct)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_are_right_where_probabilities_underflow(dtype):
    states = torch.tensor([[500.0], [80.0]], dtype=dtype, requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-2.0]], dtype=dtype)
    loss, _ = linear_cross_entropy(states, weight, weight.new_zeros(3), torch.tensor([2, 1]))
    loss.backward()
    assert loss.item() == 1500 + 80
    assert states.grad.flatten().tolist() == [3, 1]


def test_a_label_that_shares_the_maximum_counts_as_correct():
    states, weight = torch.ones(3, 1), torch.tensor([[1.0], [3.0], [3.0]])
    correct = linear_cross_entropy(states, weight, torch.zeros(3), torch.tensor([1, 2, 0]))[1]
    assert correct.tolist() == [True, True, False]


def test_a_graph_that_is_kept_gives_its_gradients_twice_and_one_that_is_used_up_none():
    inputs, labels = data()
    loss, _ = linear_cross_entropy(*inputs, labels)
    first = [gradient.clone() for gradient in torch.autograd.grad(loss * 2, inputs, retain_graph=True)]
    second = torch.autograd.grad(loss, inputs)
    for twice, once in zip(first, second, strict=True):
        assert_close(twice, 2 * once)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(loss, inputs)


def test_no_tensor_is_as_large_as_the_logits(monkeypatch):
    monkeypatch.setattr(linear, "CHUNK", 4 * V)
    monkeypatch.setattr(linear, "BLOCK", 2 * V)
    inputs, labels = data()
    largest = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor):
                largest.append(found.untyped_storage().nbytes() // 4)
            return found

    with Watch():
        loss, _ = linear_cross_entropy(*inputs, labels)
        linear_top_tokens(*inputs)
    loss.backward()
    assert len(largest) > 50
    assert max(largest) == V * H < N * V


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_top_tokens_and_their_probabilities_are_those_of_the_logits(dtype, sizes):
    inputs, _ = data(dtype)
    tokens, scores = linear_top_tokens(*inputs)
    products = (inputs[0] @ inputs[1].t()).detach()
    wanted, places = (products.double() + inputs[2].detach().double()).softmax(1).max(1)
    assert tokens.dtype == torch.int64
    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    assert torch.equal(tokens, places)
    assert_close(scores, wanted, dtype=torch.float32)


def test_top_tokens_of_nothing_are_nothing():
    inputs, _ = data(n=0)
    assert [found.shape for found in linear_top_tokens(*inputs)] == [(0,), (0,)]
