"""``--check`` of ranking and retrieval: queries without positives, queries that were trained on, the corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import runs, tiny
from transformers_framework.cli.main import main
from transformers_framework.data import queries


def candidates(labels: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Return a row for each label of a query; ids restart in each file, as those of many data sets do."""
    return [
        {"question": question, "answer": f"{question} {place}", "label": label, "key": key}
        for key, (question, of_query) in enumerate(labels.items())
        for place, label in enumerate(of_query)
    ]


TRAIN = candidates({"who?": [1, 0, 0], "where?": [1, 1], "when?": [0], "why?": [0, 1]})
VALID = candidates({"what?": [0, 0], "how?": [1, 0]})
TEST = candidates({"who?": [1, 0], "whose?": [0, 1], "why?": [0, 0], "which?": [1]})


def report(
    folder: Path, capsys: pytest.CaptureFixture[str], stages: Mapping[str, Sequence[Any]], **flags: Any
) -> list[str]:
    """Return the lines of ``--check`` without indentation."""
    data = {f"{stage}_dataset": tiny.write_jsonl(folder / f"{stage}.jsonl", rows) for stage, rows in stages.items()}
    assert main([*runs.command(folder, **data, **flags), "--check"]) == 0
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


COUNTS = (
    "key: 4 queries with 2.0 rows on average, 1 of them without a positive, 1 without a negative",
    "key: 2 queries with 2.0 rows on average, 1 of them without a positive, 0 without a negative "
    "(--metrics_empty_target_action says how those without a positive count)",
    "key: 4 queries with 1.8 rows on average, 1 of them without a positive, 1 without a negative "
    "(--metrics_empty_target_action says how those without a positive count)",
)


@pytest.mark.parametrize(
    ("pipeline", "flags"),
    [("answer_selection", {}), ("answer_selection", {"k": 2, "pad_to_k": True}), ("retrieval", {})],
    ids=["answer_selection", "jointly", "retrieval"],
)
def test_queries_of_each_stage(
    pipeline: str, flags: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = {"train": TRAIN, "valid": VALID, "test": TEST}
    lines = report(tmp_path, capsys, stages, pipeline=pipeline, **flags)
    assert tuple(line for line in lines if line.startswith("key: ")) == COUNTS
    shared = [line for line in lines if "training data" in line]
    assert shared[0] == "no query has the text of one of the training data"
    assert shared[1].startswith("WARNING: 2 of 4 queries (50.0 %) have the text of one of the training data,")
    assert len(shared) == 2


def test_labels_of_which_none_is_positive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = {"train": TRAIN, "valid": candidates({"what?": [0, 0]})}
    lines = report(tmp_path, capsys, stages, pipeline="answer_selection")
    assert any(line.startswith("WARNING: key: 1 query") and "no label is positive" in line for line in lines)


def test_of_many_rows_the_first_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MOST", 3)
    lines = report(tmp_path, capsys, {"train": TRAIN, "test": TEST}, pipeline="answer_selection")
    assert any(line.startswith("WARNING: 1 of 2 queries (50.0 %) of the first 3 rows have the text") for line in lines)


def test_other_pipelines_have_no_such_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = report(tmp_path, capsys, {"train": tiny.classes(8), "valid": tiny.classes(8)}, pipeline="seq_class")
    assert not any("training data" in line or "without a positive" in line for line in lines)


def test_the_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["a river", "a lake", "a hill", "a river"]
    corpus = tiny.write_jsonl(tmp_path / "corpus.jsonl", [{"pid": n, "answer": t} for n, t in enumerate(texts)])
    rows = [{"question": f"{word}?", "right": ids} for word, ids in {"wet": [0, 1], "high": [2], "none": []}.items()]
    flags = {"pipeline": "retrieval", "label_column": None, "index_column": None}
    flags |= {"corpus_dataset": corpus, "corpus_id_column": "pid", "relevant_column": "right"}
    lines = report(tmp_path, capsys, {"train": rows[:2], "test": rows}, **flags)
    place = lines.index(f"corpus: {corpus}, 4 rows, 1 of them with the text of an earlier row")
    assert lines[place + 1] == "test: 3 queries, 1 of them without a relevant passage; the others have 1.5 on average"
    assert any(line.startswith("WARNING: 2 of 3 queries (66.7 %) have the text") for line in lines)
