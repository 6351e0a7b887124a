"""``--limit_{val,test,predict}_batches`` and ``--overfit_batches``: which rows they are, and that these are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import runs, tiny
from tests.tolerances import approx
from transformers_framework.constants import ROW_IDS

Rows = list[dict[str, Any]]


def longer_and_longer(rows: Rows, column: str) -> Rows:
    """Make each row longer than the one before: batches come longest first, so that a limit of those takes the end."""
    more = ["the", "old", "and", "new"]
    for i, row in enumerate(rows):
        row[column] = (
            [*row[column], *more * i] if isinstance(row[column], list) else f"{row[column]} {' '.join(more * i)}"
        )
    return rows


def pairs() -> Rows:
    """Questions of 4 candidates each, the last of 3."""
    return longer_and_longer(tiny.pairs(23, 2), "answer")


def scattered() -> Rows:
    """The same, but the candidates of a question stand far from each other."""
    return [row | {"question": f"what about {row['key']}?"} for row in sorted(pairs(), key=lambda row: row["answer"])]


def in_lists() -> Rows:
    """A question a row, with all of its candidates."""
    rows: Rows = []
    for row in tiny.pairs(24, 2):
        if not rows or rows[-1]["key"] != row["key"]:
            rows.append({"key": row["key"], "question": row["question"], "answer": [], "label": []})
        rows[-1]["answer"].append(row["answer"])
        rows[-1]["label"].append(row["label"])
    return rows


def first_questions(rows: Rows, number: int) -> list[int]:
    """Return the rows of the questions that come first."""
    keys = list(dict.fromkeys(row["key"] for row in rows))[:number]
    return [i for i, row in enumerate(rows) if row["key"] in keys]


def long_sentences() -> Rows:
    """Words of which the first row has enough for one window of 16 tokens, the last for several."""
    rows = tiny.tagged(12, 2)
    for i, row in enumerate(rows):
        row["words"] += ["the"] * 3 * i
        row["labels"] += ["O"] * 3 * i
    return rows


class Case(NamedTuple):
    """A limit, and the rows of the file that it leaves; None where tokens decide how many of the first ones."""

    pipeline: str
    make: Callable[[], Rows]
    flags: dict[str, Any]
    kept: Callable[[Rows], list[int]] | None


JOINT = {"k": 3, "max_sequence_length": 120, "classification_head_type": "RE_k"}
CASES = {
    # 2 batches of 5 rows: up to the end of the third question
    "questions": Case(
        "answer_selection", pairs, {"batch_size": 5, "limit_test_batches": 2}, lambda rows: list(range(12))
    ),
    "scattered": Case(
        "answer_selection", scattered, {"batch_size": 5, "limit_test_batches": 2}, lambda rows: first_questions(rows, 3)
    ),
    "share": Case("answer_selection", pairs, {"limit_test_batches": 0.5}, lambda rows: list(range(12))),
    "one row": Case("answer_selection", pairs, {"limit_test_batches": 0.001}, lambda rows: list(range(4))),
    "all": Case("answer_selection", pairs, {"batch_size": 5, "limit_test_batches": 5}, lambda rows: list(range(23))),
    # questions of 4 candidates make groups of 3 and 1
    "groups": Case(
        "answer_selection",
        pairs,
        {"batch_size": 3, "limit_test_batches": 1, "max_sequence_length": 128, **JOINT},
        lambda rows: list(range(8)),
    ),
    "lists": Case(
        "answer_selection",
        in_lists,
        {"batch_size": 3, "limit_test_batches": 1, "input_columns": ["question", "*answer"], **JOINT},
        lambda rows: [0, 1],
    ),
    "lists without ids": Case(
        "answer_selection",
        in_lists,
        {"batch_size": 3, "limit_test_batches": 1, "input_columns": ["question", "*answer"], "index_column": None}
        | JOINT,
        lambda rows: [0, 1],
    ),
    "passages": Case("retrieval", pairs, {"batch_size": 3, "limit_test_batches": 3}, lambda rows: list(range(12))),
    "texts": Case(
        "seq_class",
        lambda: longer_and_longer(runs.rows_for("seq_class", 20, 2), "text"),
        {"batch_size": 3, "limit_test_batches": 2},
        lambda rows: list(range(6)),
    ),
    "windows of words": Case(
        "token_class",
        long_sentences,
        {"batch_size": 3, "limit_test_batches": 2, "max_sequence_length": 16},
        None,
    ),
    "windows of contexts": Case(
        "question_answering",
        lambda: [row for row in tiny.questions(20, 2, longest=60) if row["answers"]["text"]],
        {"batch_size": 3, "limit_test_batches": 3},
        None,
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limits")


def evaluated(folder: Path, case: Case, name: str, rows: Rows, **flags: Any) -> tuple[dict[str, float], Rows]:
    """Test an untrained model on rows; return its metrics and predictions."""
    data = tiny.write_jsonl(folder / f"{name}.jsonl", rows)
    given = {**case.flags, "name": name, "pipeline": case.pipeline, "test_dataset": data, **flags}
    done = runs.run(folder, **given)
    return runs.metrics(done, "test"), runs.predictions(done)


@pytest.mark.parametrize("name", CASES)
def test_a_limit_evaluates_the_first_whole_questions_and_rows(folder: Path, name: str) -> None:
    case = CASES[name]
    rows = case.make()
    slug = name.replace(" ", "-")
    found, predictions = evaluated(folder, case, f"{slug}-limited", rows)
    ids = [row.pop("id") for row in predictions]
    expected = list(range(len(ids))) if case.kept is None else case.kept(rows)
    assert ids == expected
    assert len(ids) < len(rows) or name == "all"
    metrics, alone = evaluated(folder, case, f"{slug}-alone", [rows[i] for i in expected], limit_test_batches=None)
    assert found == approx(metrics, nan_ok=True)
    for row, other in zip(predictions, alone, strict=True):
        del other["id"]
        assert row.keys() == other.keys()
        assert row.get("prediction") == other.get("prediction")


def test_validation_and_prediction_are_limited_alike(folder: Path) -> None:
    rows = pairs()
    flags: dict[str, Any] = {
        "train_dataset": tiny.write_jsonl(folder / "train.jsonl", tiny.pairs(8)),
        "batch_size": 5,
        "max_steps": 1,
        "learning_rate": 1e-12,
    }
    whole = tiny.write_jsonl(folder / "whole.jsonl", rows)
    unknown = [{key: value for key, value in row.items() if key != "label"} for row in rows]
    predict = tiny.write_jsonl(folder / "unknown.jsonl", unknown)
    limits = {"limit_val_batches": 2, "limit_predict_batches": 1}
    limited = runs.run(folder, name="limited", valid_dataset=whole, predict_dataset=predict, **limits, **flags)
    first = tiny.write_jsonl(folder / "first.jsonl", rows[:12])
    alone = runs.run(folder, name="alone", valid_dataset=first, **flags)
    assert runs.metrics(limited, "valid") == approx(runs.metrics(alone, "valid"))
    assert [row["id"] for row in runs.predictions(limited, "predict")] == list(range(8))


@pytest.mark.slow
def test_a_limit_of_two_processes(folder: Path) -> None:
    """A batch of each makes 10 rows, which are three questions."""
    data = tiny.write_jsonl(folder / "pairs.jsonl", pairs())
    flags: dict[str, Any] = {"test_dataset": data, "batch_size": 5}
    two, _ = runs.spawn(folder, name="two", limit_test_batches=1, devices=2, strategy="ddp", **flags)
    one = runs.run(folder, name="one", limit_test_batches=2, **flags)
    assert [row["id"] for row in runs.predictions(two)] == list(range(12))
    assert runs.metrics(two, "test") == approx(runs.metrics(one, "test"))


# --- the same few batches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        ({}, range(16)),
        ({"length_bucketing": True}, range(16)),
        ({"iterable": True}, range(16)),
        ({"overfit_batches": 0.4}, range(16)),
        ({"accumulate_grad_batches": 2}, range(16)),
        # two batches of 2 groups: two questions, each in groups of 3 and 1
        (
            {"pipeline": "answer_selection", "batch_size": 2, "pad_to_k": True, "grouping": "random"} | JOINT,
            range(8),
        ),
    ],
    ids=["rows", "bucketing", "stream", "share", "accumulation", "groups"],
)
def test_overfitting_trains_on_the_same_rows_in_each_epoch(folder: Path, flags: dict[str, Any], seen: range) -> None:
    given: dict[str, Any] = {"pipeline": "seq_class", "overfit_batches": 2, "max_epochs": 3, **flags}
    name = "overfit-" + "-".join(flags or ["plain"])[:40]
    data = runs.datasets(folder / f"data-{given['pipeline']}", given["pipeline"])
    epochs: dict[int, list[list[int]]] = {}

    def note(module: Any, batch: dict[str, Any], batch_idx: int) -> None:
        rows = own.get(ROW_IDS, batch[ROW_IDS]) if (own := batch.get("answer_selection")) else batch[ROW_IDS]
        epochs.setdefault(module.current_epoch, []).append([row for row in rows.flatten().tolist() if row >= 0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers_framework.pipelines.pipeline.Pipeline.on_train_batch_start", note, raising=False)
        runs.run(folder, name=name, train_dataset=data["train_dataset"], no_epoch_checkpointing=True, **given)
    assert list(epochs) == [0, 1, 2]
    assert epochs[1] == epochs[0]
    assert epochs[2] == epochs[0]
    assert sorted(row for batch in epochs[0] for row in batch) == list(seen)


def test_overfitting_validates_on_as_many_of_the_first_rows(folder: Path) -> None:
    flags: dict[str, Any] = {"train_dataset": tiny.write_jsonl(folder / "some.jsonl", tiny.pairs(20)), "batch_size": 5}
    flags |= {"learning_rate": 1e-12, "overfit_batches": 2}
    whole = tiny.write_jsonl(folder / "validation.jsonl", pairs())
    first = tiny.write_jsonl(folder / "beginning.jsonl", pairs()[:12])
    found, expected = (
        runs.metrics(runs.run(folder, name=f"on-{data.stem}", valid_dataset=data, **flags), "valid")
        for data in (whole, first)
    )
    assert found == approx(expected)
