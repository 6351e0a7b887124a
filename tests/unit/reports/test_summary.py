"""The summary at the end of a run."""

from __future__ import annotations

from typing import Any

import pytest

from transformers_framework.reports.summary import fine_tuning, prediction, summary_lines

F1 = "valid/seq_class/f1"
FOUND: dict[str, Any] = {
    "name": "first",
    "best": {"monitor": F1, "value": 0.91234, "step": 1500, "epoch": 1},
    "valid": {"valid/loss": 0.5, F1: 0.9},
    "test": {"test/loss": 0.25, "test/seq_class/loss": 0.25, "test/seq_class/f1": 0.9},
    "durations": {"total": 125.0, "train": 61.0},
    "folders": {"best": "out/my models/best", "final": "out/my models/final", "predictions": "out/predictions/first"},
}


def lines(found: dict[str, Any] = FOUND, **more: Any) -> list[str]:
    given = {"results": "out/results.json", "trained": True, "command": prediction, "monitor": F1}
    return summary_lines(found, **given | more)


def test_a_run_with_a_best_state() -> None:
    assert lines() == [
        "Run 'first' is done in 2:05, of which training 1:01.",
        "  best         valid/seq_class/f1 0.9123 at step 1,500 (epoch 2)",
        "  test         loss 0.2500, f1 0.9000",
        "  model        out/my models/best",
        "  predictions  out/predictions/first",
        "  results      out/results.json",
        "  use it       python -m transformers_framework.predict --model 'out/my models/best' --input FILE",
    ]


@pytest.mark.parametrize(("monitor", "why"), [(None, "nothing was monitored"), (F1, f"{F1} was never a number")])
def test_a_run_without_a_best_state_says_why(monitor: str | None, why: str) -> None:
    folders = {"final": "final"}
    found = lines({**FOUND, "best": None, "test": {}, "folders": folders}, monitor=monitor, command=fine_tuning)
    assert found[1].split(maxsplit=1)[1].startswith("none")
    assert why in found[1]
    assert "  valid        loss 0.5000, f1 0.9000" in found
    assert found[-1] == "  use it       fine-tune it with --pre_trained_model final"


def test_a_run_that_only_tests() -> None:
    found = lines(trained=False)
    assert [line.split()[0] for line in found[1:]] == ["best", "valid", "test", "predictions", "results"]


def test_the_main_metric_is_never_among_those_left_out() -> None:
    ranks = {f"test/retrieval/corpus_{name}": 0.5 for name in "abcdefghij"} | {"test/retrieval/corpus_ndcg": 0.25}
    shown = lines({**FOUND, "test": ranks}, main=["retrieval/corpus_ndcg"])[2]
    assert shown.startswith("  test         corpus_ndcg 0.2500, corpus_a 0.5000, ")
    assert shown.endswith("and 3 more")


def test_steps_after_the_last_validation() -> None:
    assert "  unvalidated  the last 14 of 1,060 steps, after step 1,046" in lines(steps=1060, validated=1046)
    assert lines(steps=1060, validated=1060) == lines(steps=1060) == lines()
