"""Sampling of tokens from predicted distributions, with random numbers that are given."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 128  # tokens whose probabilities are added up together


def sample_tokens(logits: Tensor, numbers: Tensor) -> Tensor:
    """Sample one token of each row from the softmax of its logits.

    Gumbel noise and ``torch.multinomial`` sample from the same distribution, but this takes less than a tenth of their
    time on a CPU, and the token is a function of logits and number: no random state, so no resume changes it.

    Args:
        logits: ``(N, V)``, any float type.
        numbers: Random numbers in [0, 1), ``(N,)`` float; float32 has steps of 6e-8, so float64 where rarer tokens
            matter.

    Returns:
        Tokens, ``(N,) int64``, below V. A token of probability 0 is never sampled. Nothing has a gradient.
    """
    kept = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return sample_from(torch.softmax(logits.detach(), 1, dtype=kept), numbers)


@torch.no_grad()
def sample_from(probabilities: Tensor, numbers: Tensor) -> Tensor:
    """Sample one token of each row: the one at which the cumulative distribution passes the row's number.

    The vocabulary is cut into blocks: first the block is found, then the token in it, so that only sums of blocks are
    accumulated, in float64. A cumulative sum over 128,000 tokens in float32 samples the wrong token once in 20 to 50
    times, and takes five times as long.

    Args:
        probabilities: ``(N, V)`` float; rows need not sum to 1.
        numbers: Random numbers in [0, 1), ``(N,)`` float, or integers in [0, 2^31), which no half precision rounds.

    Returns:
        Tokens, ``(N,) int64``.
    """
    wide = torch.float32 if probabilities.device.type == "mps" else torch.float64  # which Apple GPUs lack
    size = probabilities.shape[1]
    whole = size // BLOCK
    head, tail = probabilities[:, : whole * BLOCK], probabilities[:, whole * BLOCK :]
    sums = torch.cat([head.unflatten(1, (whole, BLOCK)).sum(2), tail.sum(1, keepdim=True)], 1).to(wide)  # (N, blocks)
    scale = 1.0 if numbers.is_floating_point() else 2.0**-31
    block, rest = _pass(sums, numbers.to(wide) * scale * sums.sum(1))
    tokens = block[:, None] * BLOCK + torch.arange(BLOCK, device=block.device)  # (N, BLOCK)
    weights = probabilities.gather(1, tokens.clamp(max=size - 1)).to(wide).where(tokens < size, 0.0)
    within, _ = _pass(weights, rest)
    return (block * BLOCK + within).clamp(max=size - 1)


def _pass(weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the running sum of each row's weights first exceeds its target, and how far it was below it before.

    An index of weight 0 is never returned, not even where a GPU's running sum, which is no sum from left to right,
    rises there by rounding. A target that rounding has put at the sum of all weights means the last other index.
    """
    sums = weights.cumsum(1)
    below_all = sums[:, -1] * (1 - 4 * torch.finfo(sums.dtype).eps)
    past = (weights > 0) & (sums > torch.minimum(target, below_all)[:, None])
    index = past.byte().argmax(1, keepdim=True)  # the first of them
    return index[:, 0], target - (sums.gather(1, index) - weights.gather(1, index))[:, 0]
