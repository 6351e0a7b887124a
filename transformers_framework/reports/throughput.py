"""Speed, padding and memory of training, and the number of tokens that a run has trained on.

Other reports read the callback: ``throughput_of(trainer).totals.tokens``, ``.totals.padding``, ``.tokens_per_second``.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytorch_lightning as pl
import torch

from transformers_framework.constants import TOKEN_COUNTS
from transformers_framework.distributed.collectives import all_gather_json
from transformers_framework.pipelines.log_names import logging_interval
from transformers_framework.reports.flops import Flops, peak_of
from transformers_framework.runtime.loops import find_callback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers_framework.pipelines.pipeline import Pipeline
    from transformers_framework.run_parts import Run

STATE = "throughput"  # key of checkpoints


class Totals(NamedTuple):
    """Numbers that add up over batches and ranks.

    Args:
        tokens: Tokens of inputs and of targets of a decoder, without padding and without padding rows.
        padding: Padding of inputs and targets.
        flops: Floating-point operations, where the peak of the device is known.
    """

    tokens: int = 0
    padding: int = 0
    flops: float = 0.0

    def plus(self, other: Totals) -> Totals:
        """Return the sum."""
        return Totals(self.tokens + other.tokens, self.padding + other.padding, self.flops + other.flops)


def throughput(run: Run) -> Throughput | None:
    """Return the callback that measures training; None if the run does not train."""
    return Throughput(len(run.inputs.key_prefixes)) if run.data.has("train") else None


def throughput_of(trainer: pl.Trainer) -> Throughput | None:
    """Return the callback of a trainer; None if its run does not train."""
    return find_callback(trainer, Throughput)


class Throughput(pl.Callback):
    """Count tokens; log speed, padding, gradient norm and peak memory at logging steps.

    Batches come with their numbers of tokens as Python numbers, so that nothing waits for the device between logging
    steps. Numbers are those of all ranks, saved in checkpoints and continued by a resumed run. Time is that of
    training, without validations and saving.

    Logged are, all with the stage ``train``:

    - ``tokens_per_second``, padding not counted, since the last logging step;
    - ``padding``, the share of padding in inputs and in targets of a decoder, since the last logging step;
    - ``grad_norm``, the global norm of the gradients of the step, before clipping;
    - ``peak_memory_gb`` in 10⁹ bytes, of the rank with most: of tensors on a CUDA device, else of the process;
    - ``mfu``, model FLOPs utilization, where the peak of the device is known, see :mod:`.flops`.

    Args:
        num_prefixes: Number of texts of a row that are encoded separately.
    """

    def __init__(self, num_prefixes: int = 1) -> None:
        self.num_prefixes = num_prefixes
        self.totals = Totals()  # of all ranks, since the first step of the run; summed at logging steps and at the end
        self.tokens_per_second: float | None = None  # of all ranks, at the last logging step
        self._before, self._mine = Totals(), Totals()  # of all ranks before this process started, of this rank since
        self._logged, self._timed = Totals(), Totals()  # totals of the last logging step, and when the clock was reset
        self._seconds = 0.0
        self._since: float | None = None  # end of the last batch; None while the clock is stopped
        self._step = 0
        self._flops: Flops | None = None
        self._peak = math.nan  # operations per second of the device

    # ---------------------------------------------------------------- events

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Count the weights, before a strategy shards them."""
        peak = peak_of(trainer.strategy.root_device, str(trainer.precision)) if stage == "fit" else None
        if peak is not None:
            self._peak, self._flops = peak, Flops.of(pl_module.model.backbones, self.num_prefixes)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start from the step of the checkpoint, if there is one."""
        self._step = trainer.global_step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        if self._since is None:
            self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Mapping[str, Any], batch_idx: int
    ) -> None:
        """Count the batch; log at logging steps."""
        counts = batch[TOKEN_COUNTS]
        tokens = counts["tokens"] + counts["target_tokens"]
        flops = 0.0 if self._flops is None else self._flops(counts)
        self._mine = self._mine.plus(Totals(tokens, counts["positions"] - tokens, flops))
        logs = trainer.global_step != self._step and trainer.global_step % logging_interval(trainer) == 0
        self._step = trainer.global_step
        norm = gradient_norm(trainer, pl_module) if logs else None  # waits for the device, then time is right
        now = time.monotonic()
        self._seconds += 0.0 if self._since is None else now - self._since
        self._since = now
        if logs:
            self._log(trainer, pl_module, norm)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop the clock."""
        self._since = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop the clock."""
        self._since = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Sum the counts of all ranks."""
        self._sum(trainer)

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the counts; called by every rank."""
        self._since = None
        self._sum(trainer)
        checkpoint[STATE] = {"totals": list(self.totals[:2]), "logged": list(self._logged[:2])}

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: Mapping[str, Any]) -> None:
        """Continue the counts of a checkpoint."""
        if trainer.training and (state := checkpoint.get(STATE)):
            self.totals = self._before = self._timed = Totals(*state["totals"])
            self._logged = Totals(*state["logged"])

    # ---------------------------------------------------------------- numbers

    def _sum(self, trainer: pl.Trainer) -> float:
        """Sum the counts of all ranks; return the largest peak memory of a rank in bytes."""
        of_all = all_gather_json([*self._mine, peak_memory(trainer.strategy.root_device)])
        self.totals = self._before
        for *counts, _ in of_all:
            self.totals = self.totals.plus(Totals(*counts))
        return max(float(peak) for *_, peak in of_all)

    def _log(self, trainer: pl.Trainer, module: Pipeline, norm: float | None) -> None:
        memory = self._sum(trainer)
        tokens, padding = (now - then for now, then in zip(self.totals[:2], self._logged[:2], strict=True))
        found = {"padding": padding / max(1, tokens + padding), "grad_norm": norm}
        found["peak_memory_gb"] = memory / 1e9 if memory else None
        if self._seconds > 0:
            self.tokens_per_second = (self.totals.tokens - self._timed.tokens) / self._seconds
            rate = (self.totals.flops - self._timed.flops) / self._seconds / trainer.world_size
            found |= {"tokens_per_second": self.tokens_per_second, "mfu": rate / self._peak if self._flops else None}
        self._logged = self._timed = self.totals
        self._seconds = 0.0
        values = {f"train/{name}": value for name, value in found.items() if value is not None}
        module.log_dict(values, on_step=True, on_epoch=False)


def gradient_norm(trainer: pl.Trainer, module: Pipeline) -> float | None:
    """Return the global norm of the gradients of the last step; waits for the device.

    None where the strategy does not know it (DeepSpeed's ZeRO without clipping), and where it is not finite: the loss
    scaling of float16 skips such steps.
    """
    strategy: Any = trainer.strategy
    norm = strategy.gradient_norm if hasattr(strategy, "gradient_norm") else module.gradient_norm
    return float(norm) if norm is not None and math.isfinite(norm) else None


def peak_memory(device: torch.device) -> int:
    """Return the most memory that was used so far in bytes: of tensors on a CUDA device, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return 0
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
