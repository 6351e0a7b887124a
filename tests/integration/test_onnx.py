"""Runs with ``--export_onnx``: every pipeline of encoders, and scores of onnxruntime as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests import runs
from transformers_framework.objectives.capabilities import Generates
from transformers_framework.registry import PIPELINES, resolve

pytestmark = [pytest.mark.needs("onnx", "onnxscript", "onnxruntime"), pytest.mark.slow]
ENCODERS = [
    name
    for name, spec in PIPELINES.items()
    if not any(issubclass(resolve(path), Generates) for path in spec.objectives)
]
OUTPUTS = {"question_answering": ["start_logits", "end_logits"], "retrieval": ["last_hidden_state"]}


@pytest.mark.parametrize("pipeline", ENCODERS)
def test_every_encoder_is_exported(tmp_path: Path, pipeline: str) -> None:
    """The export compares its outputs with those of the model; without equality there is no file."""
    import onnxruntime

    data = runs.datasets(tmp_path / "data", pipeline)
    flags: dict[str, Any] = {"train_dataset": data["train_dataset"], "max_steps": 1, "export_onnx": True}
    folders = runs.run(tmp_path, pipeline=pipeline, **flags)
    final = folders.pre_trained_models / "final"
    checkpoints = [path.parent for path in final.rglob("model.safetensors") if (path.parent / "config.json").exists()]
    checkpoints = [folder for folder in checkpoints if (folder / "tokenizer.json").exists()]
    assert checkpoints
    for folder in checkpoints:
        session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
        assert [each.name for each in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
        assert [each.name for each in session.get_outputs()] == OUTPUTS.get(pipeline, ["logits"])


def test_a_ranker_in_onnx_ranks_as_the_run(tmp_path: Path) -> None:
    import onnxruntime
    from transformers import AutoTokenizer

    monitor = "valid/answer_selection/mean_average_precision"
    folders = runs.run(tmp_path, monitor=monitor, max_epochs=2, export_onnx="int8")
    best = folders.pre_trained_models / "best"
    tokenizer = AutoTokenizer.from_pretrained(best)
    rows = runs.predictions(folders)
    texts = [[row[name] for row in rows] for name in ("question", "answer")]
    inputs = dict(tokenizer(*texts, padding=True, return_tensors="np"))
    scores = np.array(runs.scores(folders))
    for name, allowed in {"model.onnx": 1e-4, "model_int8.onnx": 0.1}.items():
        session = onnxruntime.InferenceSession(best / "onnx" / name, providers=["CPUExecutionProvider"])
        found = session.run(["logits"], {key: values.astype(np.int64) for key, values in inputs.items()})[0][:, 0]
        assert np.abs(found - scores).max() <= allowed * max(1, np.abs(scores).max())
        assert spearmanr(found, scores).statistic > 0.95
