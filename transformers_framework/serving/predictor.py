"""Predictions of a run without a trainer: the steps of the prediction stage, on one device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from transformers_framework.callbacks.predictions import CollectedPredictions, lines_of, on_host
from transformers_framework.constants import ROW_IDS
from transformers_framework.data.loader import Loader, RowReader
from transformers_framework.data.row_groups import regroup
from transformers_framework.data.sampler import BatchSampler
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.preflight import heads

if TYPE_CHECKING:
    from transformers_framework.pipelines.steps import StepOutput
    from transformers_framework.run_parts import Run

DType = Literal["float32", "bfloat16", "float16"]


class Predictor:
    """The model of a run on a device, in evaluation mode.

    Args:
        run: The run.
        device: The device: cpu, cuda, cuda:1, mps; by default a GPU if there is one.
        dtype: Type of the weights and of most computations.

    Raises:
        ConfigurationError: When weights are newly initialized, or this machine has no such device.
    """

    def __init__(self, run: Run, device: str | None = None, dtype: DType = "float32") -> None:
        heads(run)
        self.run, self.device, self.weights_dtype = run, device_of(device), getattr(torch, dtype)
        self.module = run.module.to(device=self.device, dtype=self.weights_dtype).eval().requires_grad_(False)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Context manager of calls of the model: no gradients, and the type of the weights."""
        is_half = self.weights_dtype != torch.float32
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=self.weights_dtype if is_half else None, enabled=is_half),
        ):
            yield

    @property
    def multiple(self) -> int:
        """The lengths of batches are rounded up to a multiple of this number."""
        return 8 if self.weights_dtype != torch.float32 and self.device.type != "cpu" else 1

    def batches(self, batch_size: int, num_workers: int = 0) -> Iterable[dict[str, Any]]:
        """Return the batches of the rows to predict, longest first; without workers in this thread."""
        data, inputs = self.run.data, self.run.inputs
        dataset, num_entries = data.datasets["predict"], data.num_entries("predict")
        assert num_entries is not None
        sampler = BatchSampler(
            num_entries,
            batch_size=batch_size,
            seed=data.seed,
            shuffle=False,
            lengths=inputs.lengths(dataset),
            regroup=regroup(data, "predict"),
        )
        rows = RowReader(dataset, data.columns("predict"), inputs.token_columns)
        collate = data.collator("predict", self.multiple)
        if not num_workers:
            return (collate(rows[request]) for request in sampler)
        pins = self.device.type == "cuda"
        return Loader(rows, sampler, collate, num_rows=num_entries, num_workers=num_workers, pin_memory=pins)

    def outputs(self, batches: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], StepOutput]]:
        """Yield each batch, on the device, and its outputs."""
        for number, batch in enumerate(batches):
            own = self.module.transfer_batch_to_device(batch, self.device, 0)
            with self.computing():
                found = self.module.predict_step(own, number)
            yield own, found

    def predictions(self, batches: Iterable[dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
        """Predict all batches; return the predictions of each row by its number, by objective."""
        with self.collected() as collected:
            for _, outputs in self.outputs(batches):
                collected.add(on_host(outputs["predictions"]))
            found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in collected.objectives}
            for name, objective in collected.objectives.items():
                for part in collected.parts(name):
                    lines = (line for _, line in lines_of(objective, part))
                    found[name].update(zip(part.columns[ROW_IDS].tolist(), lines, strict=True))
        return found

    def collected(self, folder: Path | None = None) -> CollectedPredictions:
        """Return a collection of the predictions of :meth:`outputs`, to which they are added.

        Args:
            folder: Folder of its temporary files; the system's by default.
        """
        return CollectedPredictions(self.module.active("predict"), "predict", self.run.data, folder)


def device_of(name: str | None) -> torch.device:
    """Return a device of this machine.

    Raises:
        ConfigurationError: When there is none of this name.
    """
    from transformers_framework.runtime.accelerators import accelerator_kind

    try:
        device = torch.device(name or accelerator_kind("auto"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"--device {name}: {reason}. Give a device of this machine, as cpu, cuda, cuda:1 or mps."
        ) from None
    return device
