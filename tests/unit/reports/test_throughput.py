"""Numbers of tokens, speed and the norm of gradients that training logs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from transformers import AutoTokenizer

from tests import runs, tiny
from tests.tolerances import approx
from transformers_framework.constants import MEASURED
from transformers_framework.reports.flops import Flops, peak_flops
from transformers_framework.reports.throughput import throughput_of

NAMES = ("padding", "grad_norm", "tokens_per_second", "peak_memory_gb")


class Norms(Callback):
    """The norm of the gradients of each step, before they are clipped."""

    found: ClassVar[list[float]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Compute it."""
        squares = [p.grad.double().square().sum() for p in pl_module.parameters() if p.grad is not None]
        self.found.append(math.sqrt(float(torch.stack(squares).sum())))


@pytest.mark.parametrize("flags", [{}, {"precision": "bf16", "gradient_clip_val": 0.1}], ids=["plain", "clipped"])
def test_tokens_and_norms_are_those_of_the_batches(flags: dict[str, Any], tmp_path: Path) -> None:
    Norms.found.clear()
    data = runs.datasets(tmp_path / "data", "seq_class", (19, 1, 1, 1))
    flags = flags | {"pipeline": "seq_class", "callbacks": f"{__name__}:Norms", "train_dataset": data["train_dataset"]}
    with runs.watched() as seen:
        folders = runs.run(tmp_path, max_epochs=2, accumulate_grad_batches=2, log_every_n_steps=2, **flags)
    logged = runs.scalars(folders, measured=True)
    assert {name for name in logged if name.split("/")[-1] in NAMES} == {f"train/{name}" for name in NAMES}
    assert logged.keys() & {*MEASURED} == {*MEASURED} - {"train/mfu"}, "of a CPU no peak is known"
    assert [value for _, value in logged["train/grad_norm"]] == approx(Norms.found[1::2])
    rows = [json.loads(line)["text"] for line in data["train_dataset"].read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "checkpoint-bert")
    counted = throughput_of(seen.experiment.trainer)
    assert counted is not None
    tokens, padding, _ = counted.totals
    assert tokens == 2 * sum(map(len, tokenizer(rows).input_ids))
    shares = [share for _, share in logged["train/padding"]]  # of an epoch each
    assert padding == approx(sum(share / (1 - share) for share in shares) * tokens / 2)
    assert all(value > 0 for name in ("tokens_per_second", "peak_memory_gb") for _, value in logged[f"train/{name}"])
    card = (folders.pre_trained_models / "final/README.md").read_text()
    assert "train/loss" in card
    assert "tokens_per_second" not in card


def test_operations_are_those_of_the_formula() -> None:
    bert, t5 = tiny.model_for("bert"), tiny.model_for("t5")
    counts = {"tokens": 5, "target_tokens": 3, "pairs": 13, "target_pairs": 7}

    def weights(module: torch.nn.Module) -> int:
        return sum(p.numel() for name, p in module.named_parameters() if "embed" not in name and "shared" not in name)

    norm = sum(p.numel() for p in bert.embeddings.LayerNorm.parameters())  # computed, whatever it is called
    layers, hidden = bert.config.num_hidden_layers, bert.config.hidden_size
    one = 6 * (weights(bert) + norm) * 5 + 12 * layers * hidden * 13
    assert Flops.of([bert])(counts) == one
    assert Flops.of([bert, bert])(counts) == 2 * one, "a generator and a discriminator read the same"
    assert Flops.of([bert, bert], num_prefixes=2)(counts) == one, "each tower reads its own"
    bert.requires_grad_(False)
    assert Flops.of([bert])(counts) * 3 == one, "no backward pass"
    width = t5.config.num_heads * t5.config.d_kv
    parts = ((t5.encoder, 5, 13, t5.config.num_layers), (t5.decoder, 3, 7, t5.config.num_decoder_layers))
    bias = sum(p.numel() for name, p in t5.named_parameters() if "relative_attention_bias" in name)
    expected = sum(6 * weights(part) * n + 12 * depth * width * pairs for part, n, pairs, depth in parts)
    assert expected - 6 * 5 * bias <= Flops.of([t5])(counts) <= expected


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA H200", "bf16-mixed", 989.4e12),
        ("NVIDIA H100 80GB HBM3", "16-mixed", 989.4e12),
        ("NVIDIA H100 PCIe", "bf16-true", 756e12),
        ("NVIDIA A100-SXM4-80GB", "tf32", 156e12),
        ("NVIDIA A100-SXM4-80GB", "32-true", None),
        ("NVIDIA A10", "bf16-mixed", 125e12),
        ("NVIDIA A10G", "bf16-mixed", 70e12),
        ("NVIDIA L4", "16-mixed", 121e12),
        ("Tesla V100-PCIE-16GB", "16-mixed", 112e12),
        ("Tesla T4", "bf16-mixed", None),
        ("NVIDIA GeForce RTX 4090", "bf16-mixed", 165.2e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16-mixed", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16-mixed", None),
    ],
)
def test_peaks_are_found_by_name(name: str, precision: str, peak: float | None) -> None:
    assert peak_flops(name, precision) == peak
