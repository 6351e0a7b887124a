"""Adam and AdamW of bitsandbytes, with averages in 8 bits."""

from __future__ import annotations

from typing import Any

import torch

from transformers_framework.exceptions import MissingDependencyError
from transformers_framework.restricted import Beta, PositiveFloat


def adam8bit(
    groups: list[dict[str, Any]],
    *,
    learning_rate: PositiveFloat = 1e-4,
    adam8bit_betas: tuple[Beta, Beta] = (0.9, 0.999),
    adam8bit_epsilon: PositiveFloat = 1e-8,
) -> torch.optim.Optimizer:
    """Build Adam with 8-bit state; embeddings keep 32 bits.

    Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization". bitsandbytes decouples weight decay here too,
    so with ``--weight_decay`` it computes what ``adamw8bit`` does.

    Args:
        groups: Groups of parameters, embeddings marked ``embeddings``.
        learning_rate: Learning rate at the schedule's top.
        adam8bit_betas: Decay rates of the running averages of the gradient and of its square.
        adam8bit_epsilon: Added to the denominator against division by zero.

    Raises:
        MissingDependencyError: When bitsandbytes is not installed.
    """
    return _build("Adam8bit", groups, lr=learning_rate, betas=adam8bit_betas, eps=adam8bit_epsilon)


def adamw8bit(
    groups: list[dict[str, Any]],
    *,
    learning_rate: PositiveFloat = 1e-4,
    adamw8bit_betas: tuple[Beta, Beta] = (0.9, 0.999),
    adamw8bit_epsilon: PositiveFloat = 1e-8,
) -> torch.optim.Optimizer:
    """Build AdamW with 8-bit state; embeddings keep 32 bits.

    Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization".

    Args:
        groups: Groups of parameters, embeddings marked ``embeddings``.
        learning_rate: Learning rate at the schedule's top.
        adamw8bit_betas: Decay rates of the running averages of the gradient and of its square.
        adamw8bit_epsilon: Added to the denominator against division by zero.

    Raises:
        MissingDependencyError: When bitsandbytes is not installed.
    """
    return _build("AdamW8bit", groups, lr=learning_rate, betas=adamw8bit_betas, eps=adamw8bit_epsilon)


def _build(name: str, groups: list[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingDependencyError("bitsandbytes", f"--optimizer {name.lower()}", "bitsandbytes") from error
    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    # the manager never forgets and knows tensors by id(), which a later model reuses: register every tensor, one
    # by one (tensors named in one call share their settings for ever)
    for group in groups:
        for parameter in group["params"]:
            manager.override_config(parameter, "optim_bits", 32 if group["embeddings"] else 8)
    manager.register_parameters(groups)  # last: older releases copy the settings here, by position in the groups
    made: torch.optim.Optimizer = getattr(bitsandbytes.optim, name)(groups, **settings)
    return made
