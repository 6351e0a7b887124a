"""Find the largest batch that fits in memory by training steps on trial, before training (``--batch_size auto``)."""

from __future__ import annotations

import contextlib
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.constants import NUM_ITEMS, TRAIN
from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.exceptions import ConfigurationError, RunError

if TYPE_CHECKING:
    from torch import Tensor

    from transformers_framework.pipelines.pipeline import Pipeline
    from transformers_framework.run_parts import Run

MARGIN = 0.1  # share of the available memory that is left free: labels, fragments and other batches differ
MOMENTS, BUCKETS = 8, 4  # bytes of each trained parameter: two float32 moments of Adam, the buckets of DDP
GRAIN = 8  # larger batches are multiples of it
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED")
FEWER = "Use --gradient_checkpointing, --precision bf16, a shorter --max_sequence_length or a --strategy that shards."

logger = logging.getLogger(__name__)


def find_batch_size(run: Run) -> None:
    """Find the value of ``--batch_size auto``, and let the run use it; other runs are left as they are.

    All ranks must call this. The run is afterwards in the state that it has with the value as ``--batch_size``.

    Args:
        run: The run, before its training starts.

    Raises:
        RunError: When not even one row fits in memory.
        ConfigurationError: When the steps of the run do not fit the batch size.
    """
    from transformers_framework.distributed.collectives import all_gather_json
    from transformers_framework.preflight import schedule, steps, workers
    from transformers_framework.runtime.trainer import accumulate

    if not run.data.finds_batch_size:
        return
    sizes = batch_sizes(run.data.num_entries(TRAIN) or 1, run.trainer.world_size, run.options["effective_batch_size"])
    with steps_on_trial(run) as fits:
        mine = largest(fits, sizes)
        del fits  # it holds memory, which is freed at the end of the block
    found = min(all_gather_json(mine))
    if not found:
        raise RunError(f"--batch_size auto: a training step of one row does not fit in memory. {FEWER}")
    run.data.use_batch_size(found)
    accumulate(run.trainer, run.final_options)
    for check in (steps, schedule, workers):
        check(run)
    if is_rank_zero():
        limit = "the most that a step has" if found == sizes[-1] else "the most that fits in memory"
        logger.info("--batch_size auto: %d row%s, %s.", found, "s" * (found > 1), limit)


def batch_sizes(num_rows: int, world_size: int, effective: int | None) -> list[int]:
    """Return the batch sizes that are possible, ascending.

    Args:
        num_rows: Number of rows of an epoch.
        world_size: Number of ranks.
        effective: Number of rows of an optimizer step, over all ranks; None without a given number.

    Examples:
        >>> batch_sizes(1000, 2, 48)
        [1, 2, 3, 4, 6, 8, 12, 24]
        >>> batch_sizes(37, 2, None)
        [1, 2, 3, 4, 5, 6, 7, 8, 16]
    """
    if effective is not None:
        rows = effective // world_size
        return [size for size in range(1, rows + 1) if rows % size == 0]
    most = math.ceil(num_rows / world_size)
    return [*range(1, min(most, GRAIN) + 1), *range(2 * GRAIN, most + 1, GRAIN)]


def largest(fits: Callable[[int], bool], sizes: Sequence[int]) -> int:
    """Return the largest size that fits, 0 if none does: sizes are doubled while they fit, then halved.

    Args:
        fits: Returns whether a size fits; if it does, smaller ones do, too.
        sizes: The sizes, ascending.

    Examples:
        >>> largest(lambda size: size <= 21, [1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 32])
        16
    """
    low, high = -1, len(sizes)  # places: the first fits, the second does not
    place = 0
    while place < high and fits(sizes[place]):
        low = place
        twice = 2 * sizes[low]
        place = next((after for after in range(low + 1, high) if sizes[after] >= twice), max(low + 1, high - 1))
    high = place
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(sizes[middle]) else (low, middle)
    return sizes[low] if low >= 0 else 0


@contextlib.contextmanager
def steps_on_trial(run: Run) -> Iterator[Callable[[int], bool]]:
    """Yield a function that returns whether a batch of some rows fits in the memory of a training step.

    The rows have the length of the longest row of the data. Weights, buffers and random states are restored.

    Args:
        run: The run; its module is on the host.
    """
    import torch

    from transformers_framework.compat.torch import restored_modules
    from transformers_framework.data.longest_batch import longest_batch
    from transformers_framework.runtime.precision import length_multiple

    module, trainer = run.module, run.trainer
    device = trainer.strategy.root_device
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    reserve = trained * (MOMENTS + BUCKETS * (trainer.world_size > 1))
    generators = [device] if device.type == "cuda" else []
    parts = (module.model, module.objective_states)
    with torch.random.fork_rng(generators), restored_modules(*parts):
        for part in parts:
            part.to(device).train()
        trainer.precision_plugin.convert_module(module.model)

        def attempt(rows: int) -> None:
            run_step(module, trainer, longest_batch(run.data, rows, length_multiple(trainer)))

        if device.type == "cpu":
            yield HostMemory(attempt, reserve, trainer.num_devices).fits
        else:
            yield DeviceMemory(attempt, reserve, device).fits
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def run_step(module: Pipeline, trainer: Any, batch: dict[str, Any]) -> None:
    """Run the forward and the backward pass of a batch, without an optimizer step.

    Args:
        module: The module, on the device.
        trainer: Has the precision and the device.
        batch: The batch, on the host.
    """
    import torch
    from lightning_fabric.utilities import move_data_to_device

    from transformers_framework.objectives.capabilities import corrupt_on_device
    from transformers_framework.pipelines.steps import own_view

    objectives = module.active(TRAIN)
    batch = module.on_before_batch_transfer(batch, 0)
    batch = move_data_to_device(trainer.precision_plugin.convert_input(batch), trainer.strategy.root_device)
    with trainer.precision_plugin.forward_context():
        corrupt_on_device(objectives.values(), batch, TRAIN)
        outputs = module.forward_heads(batch, TRAIN)
        losses: list[Tensor] = [
            objective.evaluate(outputs[name], own_view(batch, name)).loss / (batch[NUM_ITEMS][name] or 1)
            for name, objective in objectives.items()
        ]
    torch.stack(losses).sum().backward()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error means that a device, or the host, had no memory left."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or OUT_OF_MEMORY.search(str(error)) is not None


class DeviceMemory:
    """Find out whether steps fit in the memory of a device, which raises an error if they do not.

    Args:
        attempt: Runs a step of some rows.
        reserve: Bytes that training needs beside its steps.
        device: The device.
    """

    def __init__(self, attempt: Callable[[int], None], reserve: int, device: Any) -> None:
        import torch

        total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else 0
        self.attempt = attempt
        self.held = [torch.empty(reserve + int(MARGIN * total), dtype=torch.uint8, device=device)]
        self.device, self.has_gradients = device, False

    def fits(self, rows: int) -> bool:
        """Return whether a step of some rows fits, beside the gradients of the steps before."""
        import torch

        try:
            if not self.has_gradients:
                self.attempt(1)
                self.has_gradients = True
            self.attempt(rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            return True
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return False


class HostMemory:
    """Find out whether steps fit in the memory of a machine, which kills a process that takes too much.

    The memory of a step is measured, and one of more rows is tried only if it would fit in proportion.

    Args:
        attempt: Runs a step of some rows.
        reserve: Bytes that training needs beside its steps.
        sharing: Number of processes that share the memory.

    Raises:
        ConfigurationError: Where memory cannot be measured.
    """

    def __init__(self, attempt: Callable[[int], None], reserve: int, sharing: int) -> None:
        from transformers_framework.runtime.memory import PeakMemory, available_memory

        available = available_memory()
        try:
            self.peak = PeakMemory()
        except OSError:
            available = None
        if available is None:
            raise ConfigurationError(
                "--batch_size auto: memory can be measured on GPUs and on Linux, and not here. Give a number of rows."
            )
        self.attempt = attempt
        self.budget = (1 - MARGIN) * available / sharing - reserve
        self.tried = 0

    def fits(self, rows: int) -> bool:
        """Return whether a step of some rows fits, beside the gradients of the steps before."""
        if self.tried and self.peak.above * max(1.0, rows / self.tried) > self.budget:
            return False
        try:
            self.attempt(rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
        self.tried = max(self.tried, rows)
        return self.peak.above <= self.budget
