"""Sampled tokens follow the softmax, as Gumbel noise does, and depend on nothing but logits and numbers."""

import pytest
import torch

from transformers_framework.models import sampling
from transformers_framework.models.sampling import BLOCK, sample_from, sample_tokens

SIZES = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7]


def uniform(n, seed=0):
    return torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def chi_square(counts, expected):
    """Return the statistic as standard deviations from its mean."""
    counts, expected = counts[expected > 0], expected[expected > 0]
    freedom = len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_tokens_are_where_the_cumulative_distribution_passes_the_number(size, dtype):
    logits = (torch.randn(300, size, generator=torch.Generator().manual_seed(size)) * 2).to(dtype)
    numbers = uniform(300, seed=1)
    cumulative = logits.double().softmax(1).cumsum(1)
    wanted = torch.searchsorted(cumulative, numbers[:, None], right=True)[:, 0].clamp(max=size - 1)
    tokens = sample_tokens(logits, numbers)
    assert tokens.dtype == torch.int64
    assert tokens.shape == (300,)
    assert torch.equal(tokens, wanted)  # to 1e-7 of a block's probability


def test_tokens_follow_the_softmax_as_gumbel_noise_does():
    n, generator = 40000, torch.Generator().manual_seed(0)
    logits = torch.randn(200, generator=generator) * 1.5
    expected = logits.double().softmax(0) * n
    rows = logits.expand(n, -1)
    noise = -torch.empty(n, 200).exponential_(generator=generator).log()
    samples = {"ours": sample_tokens(rows, uniform(n)), "gumbel": (rows + noise).argmax(1)}
    for name, tokens in samples.items():
        assert abs(chi_square(torch.bincount(tokens, minlength=200), expected)) < 4, name
    wrong = sample_tokens(rows * 0.95, uniform(n))
    assert chi_square(torch.bincount(wrong, minlength=200), expected) > 4  # the test sees a small difference


def test_numbers_at_the_ends_give_tokens_within_the_vocabulary():
    for size in SIZES:
        logits = torch.randn(4, size, generator=torch.Generator().manual_seed(size))
        for dtype in (torch.float32, torch.float64):
            below_one = torch.nextafter(torch.tensor(1.0, dtype=dtype), torch.tensor(0.0, dtype=dtype)).item()
            numbers = torch.tensor([0.0, below_one, 1.0, 0.5], dtype=dtype)
            tokens = sample_tokens(logits, numbers)
            assert tokens[0] == 0
            assert tokens[1] == tokens[2] == size - 1
            assert ((tokens >= 0) & (tokens < size)).all()


def test_a_token_of_probability_zero_is_never_sampled():
    size = 2 * BLOCK + 10
    probabilities = torch.zeros(4, size)
    probabilities[:, [5, BLOCK + 3, BLOCK + 4]] = torch.tensor([0.25, 0.5, 0.25])
    for numbers in torch.tensor([[0.0, 0.25, 0.75, 1.0], [0.2499, 0.5, 0.7499, 0.99999999]], dtype=torch.float64):
        tokens = sample_from(probabilities, numbers)
        assert (probabilities.gather(1, tokens[:, None]) > 0).all()
    assert sample_from(probabilities, torch.tensor([0.0, 0.25, 0.75, 1.0]).double()).tolist() == [
        5,
        BLOCK + 3,
        BLOCK + 4,
        BLOCK + 4,
    ]
    masked = torch.randn(500, size).masked_fill(torch.rand(500, size) < 0.9, -torch.inf)
    masked[:, 7] = 0.0
    tokens = sample_tokens(masked, uniform(500))
    assert torch.isfinite(masked.gather(1, tokens[:, None])).all()


def test_a_running_sum_that_rises_at_a_zero_draws_no_zero(monkeypatch):
    added = torch.tensor([0.0, 1e-9, 0.0], dtype=torch.float64)  # as the sums of a GPU may, by rounding
    cumsum = torch.Tensor.cumsum
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda self, dim: cumsum(self, dim) + added)
    place, _ = sampling._pass(torch.tensor([[1.0, 0.0, 1.0]]).double(), torch.tensor([1 + 5e-10]).double())
    assert place.tolist() == [2]


def test_rows_need_not_sum_to_one():
    probabilities = torch.rand(50, 300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sample_from(probabilities, uniform(50)), sample_from(probabilities * 8, uniform(50)))


def test_a_row_does_not_depend_on_the_others_and_nothing_on_random_state():
    logits, numbers = torch.randn(20, 300), uniform(20)
    tokens = sample_tokens(logits, numbers)
    torch.manual_seed(1)
    assert torch.equal(torch.cat([sample_tokens(logits[i : i + 1], numbers[i : i + 1]) for i in range(20)]), tokens)
    assert torch.equal(sample_tokens(logits, numbers), tokens)
    assert sample_tokens(logits[:0], numbers[:0]).shape == (0,)


def test_no_graph_is_made():
    logits = torch.randn(3, 10, requires_grad=True)
    assert not sample_tokens(logits, uniform(3)).requires_grad
    assert not sample_from(logits.softmax(1), uniform(3)).requires_grad


def test_a_large_vocabulary_is_sampled_as_in_double_precision():
    logits = torch.randn(100, 128_000, generator=torch.Generator().manual_seed(0)) * 2
    numbers = uniform(100)
    wanted = torch.searchsorted(logits.double().softmax(1).cumsum(1), numbers[:, None], right=True)[:, 0]
    assert (sample_tokens(logits, numbers) == wanted).all()  # a cumulative sum in float32 misplaces 1 to 6 in 100
