"""A training step never waits for the device: no pipeline reads values of tensors between logging steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs
from tests.synchronizations import waits, waits_of_steps
from transformers_framework.constants import TRAIN

RUNS: dict[str, dict[str, Any]] = {
    "seq_class": {"gradient_clip_val": 1.0, "accumulate_grad_batches": 2},
    "answer_selection": {"k": 2, "precision": "bf16-mixed"},
    "retrieval": {"pooling": "cls"},
    "token_detection_and_masked_lm": {"model": "deberta_v2"},
    "denoising": {"model": "t5"},
    "masked_lm": {"model": "modernbert", "packing": "isolated", "batch_size": 3},
}
OTHERS = [name for name in runs.PIPELINE_FLAGS if name not in RUNS]
FLAGS = {"log_every_n_steps": 1000}


def trained(tmp_path: Path, pipeline: str, **flags: Any) -> None:
    train = runs.datasets(tmp_path / "data", pipeline)[f"{TRAIN}_dataset"]
    runs.run(tmp_path, pipeline=pipeline, train_dataset=train, **FLAGS | flags)


@pytest.mark.parametrize("pipeline", [*RUNS, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_no_step_reads_values(tmp_path: Path, pipeline: str) -> None:
    flags = {"model": "bart"} if pipeline == "summarization" else RUNS.get(pipeline, {})
    with waits_of_steps() as places:
        trained(tmp_path, pipeline, **flags)
    assert places == []


def test_reads_are_found() -> None:
    values = torch.arange(3.0)
    with waits() as places:
        values.sum().item(), bool(values.any()), values.tolist(), values.cpu(), values[values > 1]
        values[values > 1] = 0
        torch.tensor(1.0, device=values.device), torch.nonzero(values), float(values[0])
        values.index_select(0, torch.arange(2)), values[:2] + 1, values.masked_fill(values > 1, 0)
    assert [place.partition(":")[0] for place in places] == ["tests/integration/test_synchronizations.py"] * 9


@pytest.mark.gpu
@pytest.mark.parametrize("pipeline", RUNS)
def test_no_step_waits_for_a_gpu(tmp_path: Path, pipeline: str) -> None:
    from unittest import mock

    from transformers_framework.runtime.loops import EpochLoop

    advance = EpochLoop.advance

    def strict(self: EpochLoop, data_fetcher: Any) -> None:
        torch.cuda.set_sync_debug_mode("error" if self.batch_idx > 0 else "default")
        try:
            advance(self, data_fetcher)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    with mock.patch.object(EpochLoop, "advance", strict):
        trained(tmp_path, pipeline, **RUNS[pipeline], accelerator="gpu", num_workers=1)
