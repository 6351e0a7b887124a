"""Compiled models have no graph breaks and are compiled a few times, in runs whose batches differ in shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from tests import runs
from transformers_framework.models.multi_head import MultiHeadModel

MOST = 8  # torch's own limit: beyond it, a model runs as it is

RUNS: dict[str, dict[str, Any]] = {
    "masked_lm": {"packing": "isolated"},
    "denoising": {"model": "t5"},
    "token_detection_and_masked_lm": {"model": "deberta_v2"},
    "retrieval": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", RUNS)
def test_one_graph_per_call(tmp_path: Path, pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    def compiled(self: MultiHeadModel) -> None:
        nn.Module.compile(self, backend=count)

    monkeypatch.setattr(MultiHeadModel, "compile", compiled)
    torch._dynamo.reset()
    counters.clear()
    train = runs.datasets(tmp_path / "data", pipeline, (160,))["train_dataset"]
    runs.run(tmp_path, pipeline=pipeline, train_dataset=train, compile=True, **RUNS[pipeline])
    assert counters["graph_break"] == {}
    assert 1 <= len(graphs) <= MOST
    assert counters["frames"]["total"] == counters["frames"]["ok"], "the limit of torch was reached"
