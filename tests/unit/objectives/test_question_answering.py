"""Question answering: a threshold that is searched, and spans that are found once."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from tests import tiny
from transformers_framework.objectives.objective import Setup
from transformers_framework.objectives.question_answering import THRESHOLD, QuestionAnswering, Windows
from transformers_framework.processing.reading import Documents, Spans
from transformers_framework.sources.columns import DatasetSource

ROWS = tiny.questions(12, 3)


@pytest.fixture
def made() -> QuestionAnswering:
    setup = Setup(tokenizer=tiny.tokenizer_for("bert"), config=tiny.config_for("bert"))
    flags = {"context_column": "context", "answers_column": "answers", "null_score_threshold": "auto"}
    objective = QuestionAnswering(setup, **flags)
    objective.pre_process(Dataset.from_list(ROWS), DatasetSource("valid", "rows", "rows:{}".format))
    return objective


def documents(objective: QuestionAnswering) -> Documents:
    """The right answers, whose score is that of none and 2 more; without one that of none is 3 higher."""
    spans = np.maximum(objective.spans["valid"], 0)
    scores = np.where(objective.spans["valid"][:, 0] < 0, -3.0, 2.0).astype(np.float32)
    found = Spans(scores[:, None], spans[:, :1], spans[:, 1:])
    return Documents(np.arange(len(ROWS)), np.zeros(len(ROWS), np.float32), found)


def test_the_threshold_is_kept_when_the_stage_ends_and_not_by_the_metric(made: QuestionAnswering) -> None:
    found = documents(made)
    values = made.score_answers("valid", found)
    assert math.isnan(float(made.state.get_buffer(THRESHOLD))), "to compute a metric changes nothing"
    assert (values["exact_match"], -2 <= values[THRESHOLD] < 3) == (100, True)
    made.end_stage("valid", values)
    assert made.threshold == values[THRESHOLD]
    assert made.score_answers("valid", found) == values
    for nothing in ({}, {THRESHOLD: math.nan}):
        made.end_stage("valid", nothing)
        assert made.threshold == values[THRESHOLD]


def test_spans_are_found_once_for_metrics_and_predictions(made: QuestionAnswering, monkeypatch: Any) -> None:
    one = np.ones(2, dtype=np.int64)
    ends = np.array([[3, 8, 12], [2, 4, 9]])
    windows = Windows(one, one * 0, one * 3, one * 0, one * 0, ends - 1, ends, np.array([4, 7]))
    torch.manual_seed(0)
    output = SimpleNamespace(start_logits=torch.randn(2, 5), end_logits=torch.randn(2, 5))
    before = dict(vars(output))
    batch = {
        "labels": torch.ones(2, 2, dtype=torch.int64),
        "attention_mask": torch.ones(2, 5),
        "row_ids": torch.tensor([0, -1]),
        "windows": windows,
    }
    alone = made.predictions(output, batch)
    evaluation = made.evaluate(output, batch)
    assert vars(output) == before, "nothing is left on what the head has returned"
    monkeypatch.setattr(made, "_spans", None)
    found = made.predictions(output, {**batch, **evaluation.for_predictions})
    assert found.keys() == alone.keys()
    assert all(torch.equal(found[name], values) for name, values in alone.items())
    assert evaluation.metric_inputs["answers"]["rows"].tolist() == [4, -1], "padding rows do not count"
