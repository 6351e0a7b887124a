"""Floating-point operations of training, and how many of them devices can do: model FLOPs utilization (MFU).

(Chowdhery et al. 2022, "PaLM", appendix B.) A token takes 6 N operations in the forward and the backward pass, with N
weights besides embeddings, and 12 L H Q T in the attention of L layers with H heads of size Q to T tokens. Padding is
no work, nor is what is computed twice, as with ``--gradient_checkpointing``. Heads are not counted, and the last layer
is counted whole, even if it is computed at some positions only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# peak without sparsity in 10¹² operations per second, from the data sheets of NVIDIA: with TF32, float16, bfloat16
PEAKS: dict[str, tuple[float | None, float, float | None]] = {
    r"B200\b": (1125, 2250, 2250),
    r"H200\b": (494.7, 989.4, 989.4),
    r"H100 PCIe\b": (378, 756, 756),
    r"H100 NVL\b": (417.5, 835, 835),
    r"(H100|H800)\b": (494.7, 989.4, 989.4),
    r"(A100|A800)\b": (156, 312, 312),
    r"L40S\b": (183, 362, 362),
    r"L40\b": (90.5, 181, 181),
    r"L4\b": (60, 121, 121),
    r"A10G\b": (35, 70, 70),
    r"A10\b": (62.5, 125, 125),
    r"RTX 4090$": (82.6, 165.2, 165.2),
    r"RTX 3090$": (35.6, 71, 71),
    r"V100-PCIE": (None, 112, None),
    r"V100\b": (None, 125, None),
    r"T4\b": (None, 65, None),
}


def peak_flops(device_name: str, precision: str) -> float | None:
    """Return how many floating-point operations per second a device can do, None where it is not known.

    Args:
        device_name: Name of the device; of a part of one (MIG) nothing is known.
        precision: Lightning's name of the precision; ``tf32`` for 32-bit matrices that are multiplied with TF32.

    Examples:
        >>> peak_flops("NVIDIA A100-SXM4-80GB", "bf16-mixed")
        312000000000000.0
        >>> peak_flops("Tesla V100-SXM2-16GB", "bf16-mixed"), peak_flops("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "tf32")
        (None, None)
    """
    column = next((number for number, name in enumerate(("tf32", "16-", "bf16")) if precision.startswith(name)), None)
    if column is None or "MIG" in device_name:
        return None
    rates = next((rates for name, rates in PEAKS.items() if re.search(rf"\b{name}", device_name)), None)
    rate = None if rates is None else rates[column]
    return None if rate is None else rate * 1e12


def peak_of(device: torch.device, precision: str) -> float | None:
    """Return the peak of a device, see :func:`peak_flops`; None for everything but CUDA devices."""
    if device.type != "cuda":
        return None
    if precision.startswith("32") and torch.get_float32_matmul_precision() != "highest":
        precision = "tf32"
    return peak_flops(torch.cuda.get_device_name(device), precision)


@dataclass(frozen=True)
class Work:
    """Floating-point operations of training: for each token of a part of a network, and for each pair that attends.

    Args:
        per_token: Of a token.
        per_pair: Of a token and a token that it attends to.
    """

    per_token: float = 0.0
    per_pair: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.per_token + other.per_token, self.per_pair + other.per_pair)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of training batches.

    Args:
        source: Of the tokens of inputs.
        target: Of the tokens of a decoder.
    """

    source: Work
    target: Work

    @classmethod
    def of(cls, backbones: Sequence[PreTrainedModel], num_prefixes: int = 1) -> Flops:
        """Return the operations of networks, before their weights are sharded.

        Args:
            backbones: The networks without heads. Each reads all tokens.
            num_prefixes: Number of texts of a row that are encoded separately; with as many networks, each reads one.
        """
        source = target = Work()
        for backbone in backbones:
            if backbone.config.is_encoder_decoder:
                source += _work(backbone.get_encoder(), backbone.config)
                target += _work(backbone.get_decoder(), backbone.config, "num_decoder_layers", "decoder_layers")
            else:
                source += _work(backbone, backbone.config)
        share = num_prefixes if len(backbones) == num_prefixes else 1
        return cls(Work(source.per_token / share, source.per_pair / share), target)

    def __call__(self, counts: Mapping[str, int]) -> float:
        """Return the operations of a batch, forward and backward, from its token counts."""
        found = counts["tokens"] * self.source.per_token + counts["pairs"] * self.source.per_pair
        return found + counts["target_tokens"] * self.target.per_token + counts["target_pairs"] * self.target.per_pair


def _work(network: nn.Module, config: Any, *names_of_layers: str) -> Work:
    """Return the operations of a stack of layers; weights that are not trained have a forward pass only."""
    tables = {id(p) for part in network.modules() if isinstance(part, nn.Embedding) for p in part.parameters()}
    weights = [parameter for parameter in network.parameters() if id(parameter) not in tables]
    trained = sum(parameter.numel() for parameter in weights if parameter.requires_grad)
    frozen = sum(parameter.numel() for parameter in weights) - trained
    names = [name for name in names_of_layers if hasattr(config, name)]
    layers = getattr(config, names[0] if names else "num_hidden_layers")
    width = config.num_heads * config.d_kv if hasattr(config, "d_kv") else config.hidden_size  # all heads together
    return Work(6 * trained + 2 * frozen, (12 if trained else 4) * layers * width)
