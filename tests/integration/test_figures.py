"""Figures, errors.md and details of whole runs."""

from __future__ import annotations

import json

import pytest

from tests import runs
from tests.tolerances import STORED, approx


def images(folders) -> set[str]:
    return {path.stem for path in (folders.predictions / "figures").glob("*.png")}


def details(folders):
    return json.loads(folders.results.read_text("utf-8"))["details"]["test"]


def test_a_run_leaves_figures_errors_and_details_that_agree_with_its_metrics(tmp_path):
    flags = {"monitor": "valid/token_class/entity_f1", "figures": True, "errors": 3}
    folders = runs.run(tmp_path, pipeline="named_entity_recognition", **flags)
    assert images(folders) == {"learning_curves", "lengths", "test.confusion_matrix", "test.reliability"}
    found, test = details(folders)["token_class"], runs.metrics(folders, "test")
    for name in ("f1", "precision", "recall"):
        assert found["entities"]["micro avg"][name] == approx(test[f"test/token_class/entity_{name}"], STORED)
    for name, scores in found["classes"].items():
        if f"test/token_class/f1_class_{name}" in test:
            assert scores["f1"] == approx(test[f"test/token_class/f1_class_{name}"], STORED)
    lines = (folders.predictions / "errors.md").read_text("utf-8").splitlines()
    assert lines[0] == "# Errors of run in testing"
    assert sum(line.startswith("| ") for line in lines) == 1 + 3
    assert image_tags(folders) == {f"figures/{name}" for name in images(folders)}


def image_tags(folders) -> set[str]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    events = (event for path in folders.tensorboard.glob("events*") for event in EventFileLoader(str(path)).Load())
    values = [value for event in events for value in event.summary.value]
    return {value.tag for value in values if value.metadata.plugin_data.plugin_name == "images"}


def test_without_matplotlib_there_are_no_figures_and_all_else(tmp_path, monkeypatch):
    earlier = tmp_path / "out/predictions/run/errors.md"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    monkeypatch.setattr("transformers_framework.reports.figures.figures.is_installed", lambda name: False)
    folders = runs.run(tmp_path, figures=None, errors=0)
    assert not (folders.predictions / "figures").exists()
    assert not (folders.predictions / "errors.md").exists()
    first, test = details(folders)["answer_selection"]["first_positive"], runs.metrics(folders, "test")
    assert first["at"]["1"] / first["queries"] == approx(test["test/answer_selection/precision@1"], STORED)


def test_a_report_that_fails_is_a_warning(tmp_path, monkeypatch, said):
    def fail(*_, **__):
        raise ZeroDivisionError("by a test")

    monkeypatch.setattr("transformers_framework.objectives.details.classes.reliability", fail)
    monkeypatch.setattr("transformers_framework.reports.figures.learning_curves.draw_curves", fail)
    folders = runs.run(tmp_path, pipeline="seq_class", figures=True)
    assert images(folders) == {"lengths"}
    assert "no details of seq_class in results and figures" in said.text
    assert "The figure learning_curves is left out" in said.text


def test_the_best_state_is_marked_whatever_else_fails(tmp_path, monkeypatch, said):
    from transformers_framework.reports.figures import learning_curves

    drawn, draw_curves = [], learning_curves.draw_curves

    def fail(*_, **__):
        raise ZeroDivisionError("by a test")

    def draw(data, of):
        drawn.append(data)
        return draw_curves(data, of)

    monkeypatch.setattr("transformers_framework.reports.figures.lengths.sample_lengths", fail)
    monkeypatch.setattr("transformers_framework.reports.summary.summary_lines", fail)
    monkeypatch.setattr(learning_curves, "draw_curves", draw)
    flags = {"monitor": "train/loss", "max_epochs": 2, "figures": True, "errors": 0}
    folders = runs.run(tmp_path, pipeline="seq_class", **flags)
    assert "learning_curves" in images(folders)
    assert "The figures of lengths are left out" in said.text
    assert "Summary failed at the end of the run, which is complete: ZeroDivisionError('by a test')" in said.text
    best = folders.read_results()["best"]
    steps, values = drawn[0].curves["train/loss"]
    assert drawn[0].best == (best["step"], best["value"])
    assert best["step"] in (5, 10)
    assert values.max() > best["value"]
    assert values[list(steps).index(best["step"])] == approx(best["value"], STORED)


@pytest.mark.parametrize("pipeline", ["masked_lm+seq_class", "random_token_detection"])
def test_each_tested_objective_has_details(tmp_path, pipeline):
    folders = runs.run(tmp_path, pipeline=pipeline)
    assert details(folders).keys() == {"seq_class" if "seq_class" in pipeline else "token_detection"}


def test_a_search_shows_what_is_retrieved_above_the_relevant_passage(tmp_path):
    from tests import tiny

    rows = runs.rows_for("retrieval", 27, 2)
    passages = sorted({row["answer"] for row in rows})
    corpus = [{"name": f"p{n}", "answer": text} for n, text in enumerate(passages)]
    test = [{**row, "wanted": f"p{passages.index(row['answer'])}"} for row in rows if row["label"]]
    flags = {
        "test_dataset": tiny.write_jsonl(tmp_path / "test.jsonl", test),
        "corpus_dataset": tiny.write_jsonl(tmp_path / "corpus.jsonl", corpus),
        "corpus_id_column": "name",
        "relevant_column": "wanted",
    }
    folders = runs.run(tmp_path, pipeline="retrieval", **flags)
    first = details(folders)["corpus"]["first_positive"]
    assert first["queries"] == len({row["key"] for row in test})
    found = runs.metrics(folders, "test")
    share = first["at"]["1"] / first["queries"]
    assert share == approx(found["test/retrieval/corpus_precision@1"], STORED)
    text = (folders.predictions / "errors.md").read_text("utf-8")
    assert text.count("### The relevant passage is at rank") == first["queries"] - first["at"]["1"]
