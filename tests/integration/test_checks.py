"""What is asked before a run whose weights are there, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import runs, tiny
from transformers_framework import preflight

# of a pipeline with several heads evaluation needs only some; no pooler is needed to embed
THERE: list[tuple[str, str, str]] = [
    ("masked_lm_and_answer_selection", "bert", "AutoModelForSequenceClassification"),
    ("token_detection_and_masked_lm_and_seq_class", "electra", "AutoModelForSequenceClassification"),
    ("retrieval", "bert", "AutoModelForMaskedLM"),
    ("retrieval", "roberta", "AutoModelForSequenceClassification"),
    ("masked_lm", "bert", "AutoModelForPreTraining"),
    ("summarization", "bart", "AutoModel"),
    ("random_token_detection", "electra", "AutoModelForPreTraining"),
]


@pytest.mark.parametrize("stage", ["test", "predict"])
@pytest.mark.parametrize(("pipeline", "family", "head"), THERE)
def test_weights_that_are_there_are_used(pipeline: str, family: str, head: str, stage: str, tmp_path: Path) -> None:
    classes: dict[str, Any] = {"num_labels": 3} if pipeline.endswith("seq_class") else {}
    if classes:
        classes["id2label"] = dict(enumerate(runs.CLASSES))
    checkpoint = tiny.save_checkpoint(family, tmp_path / "checkpoint", head, **classes)
    data = runs.datasets(tmp_path / "data", pipeline, (8, 8, 8, 8))[f"{stage}_dataset"]
    flags = {"pipeline": pipeline, "model": family, "pre_trained_model": checkpoint, f"{stage}_dataset": data}
    preflight.heads(runs.build(runs.command(tmp_path, **flags)))
