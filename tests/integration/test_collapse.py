"""Warnings about results: one class, one score or one number for everything; no better than token frequencies."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests import runs, tiny
from transformers_framework.metrics.confusion import count_pairs
from transformers_framework.metrics.ranking import sort_candidates
from transformers_framework.objectives.details.collapse import FEWEST, collapsed_ranking, one_class
from transformers_framework.retrieval.search_details import search_details


@pytest.mark.parametrize(
    ("labels", "preds", "warns"),
    [
        ([0] * FEWEST + [1], [0] * (FEWEST + 1), True),
        ([0] * FEWEST + [1], [0] * FEWEST + [1], False),
        ([0] * FEWEST, [0] * FEWEST, False),
        ([0] * (FEWEST - 2) + [1], [0] * (FEWEST - 1), False),
    ],
    ids=["one class", "both", "one label", "few rows"],
)
def test_only_one_class_for_labels_of_several_is_a_warning(labels: list[int], preds: list[int], warns: bool) -> None:
    found = one_class(count_pairs(["no", "yes"], labels, preds))
    assert [text.startswith(f"Test: each of the {FEWEST + 1} rows is predicted as no") for text in found] == [
        True
    ] * warns


SCORES = np.linspace(-3, -1, FEWEST)  # the positive of each query, its last candidate, has the highest score


@pytest.mark.parametrize(
    ("scores", "has_classes", "expected"),
    [
        (SCORES, True, f"Test: each of the {FEWEST} candidates is predicted as no, though labels are of 2 classes"),
        (SCORES, False, None),
        (SCORES + 2, True, None),
        (np.full(FEWEST, 0.25), True, f"Test: all {FEWEST} candidates have the same score (0.25)"),
        (np.full(FEWEST, 0.25) + SCORES / 1e6, False, f"Test: all {FEWEST} candidates have the same score (0.25)"),
        (np.full(FEWEST, 0.25) + SCORES / 1e3, False, None),
    ],
    ids=["one class", "no classes", "both", "one score", "but for rounding", "scores"],
)
def test_candidates_of_one_class_or_score_are_a_warning(scores: Any, has_classes: bool, expected: str | None) -> None:
    labels, queries = np.arange(FEWEST) % 5 == 4, np.arange(FEWEST) // 5
    ranked = sort_candidates(scores, labels.astype(int), queries, np.arange(FEWEST))
    confusion = count_pairs(["no", "yes"], labels, scores > 0, "candidates") if has_classes else None
    found = collapsed_ranking(scores, ranked, confusion)
    assert [expected is not None and text.startswith(expected) for text in found] == [True] * (expected is not None)
    assert not any("predicted as" in text and "100.0 % of all pairs" not in text for text in found)


@pytest.mark.parametrize(
    ("scores", "warns"), [([0.5, 0.5], True), ([0.5, 0.4], False), ([1.0], False)], ids=["one", "several", "top 1"]
)
def test_passages_of_one_score_are_a_warning(scores: list[float], warns: bool) -> None:
    rows: list[dict[str, Any]] = [{"scores": scores, "relevant": []}] * FEWEST
    predicted: Any = SimpleNamespace(chunks=lambda: [rows])
    found = search_details(cast("Any", SimpleNamespace(top_k=2)), cast("Any", None), predicted, 0).warnings
    assert [text.startswith("Test: all 40 retrieved passages have the same score") for text in found] == [True] * warns


@pytest.mark.parametrize(
    ("pipeline", "changes", "expected"),
    [
        ("seq_class", {"label_weights": [1, 0]}, "Test: each of the 24 rows is predicted as 0, though"),
        ("answer_selection", {"label_weights": [1, 0]}, "Test: each of the 24 candidates is predicted as 0, though"),
        (
            "answer_selection",
            {"label_weights": [1, 0], "k": 4},
            "Test: each of the 24 candidates is predicted as 0, though",
        ),
    ],
    ids=["classes", "candidates", "jointly"],
)
def test_a_run_warns_at_its_end(
    pipeline: str, changes: dict[str, Any], expected: str, tmp_path: Path, said: Any
) -> None:
    rows = tiny.classes(24) if pipeline == "seq_class" else tiny.pairs(24)
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    flags = {"learning_rate": 1e-2, "max_epochs": 2, **changes}
    folders = runs.run(tmp_path, pipeline=pipeline, train_dataset=file, test_dataset=file, **flags)
    (text,) = json.loads(folders.results.read_text("utf-8"))["warnings"]["test"]
    assert text.startswith(expected)
    assert said.text.count(text) == 1


def test_a_language_model_that_has_learned_nothing_is_compared_with_token_frequencies(
    tmp_path: Path, said: Any
) -> None:
    rows = tiny.write_jsonl(tmp_path / "rows.jsonl", tiny.classes(40))
    stages = {f"{stage}_dataset": rows for stage in ("train", "valid", "test")}
    folders = runs.run(tmp_path, pipeline="masked_lm", learning_rate=1e-9, monitor="valid/loss", **stages)
    results = json.loads(folders.results.read_text("utf-8"))
    for stage, metrics in (("valid", results["best"]["metrics"]), ("test", results["test"])):
        own, baseline = (metrics[f"{stage}/masked_lm/{name}"] for name in ("perplexity", "unigram_perplexity"))
        assert 1 < baseline < own
        shown = f"{own:,.1f} is not below that of token frequencies alone, {baseline:,.1f}:"
        assert [shown in text for text in results["warnings"][stage]] == [True]
    metrics = results["best"]["metrics"]
    line = "perplexity {perplexity:,.1f} (by token frequencies alone: {unigram_perplexity:,.1f})".format(
        **{name.rpartition("/")[2]: value for name, value in metrics.items()}
    )
    assert f", the best so far; {line}" in said.text
    assert f"\n  valid        {line}" in said.text
