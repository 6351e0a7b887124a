"""Runs that go on from a classifier: what its classes and its output layer become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset

from tests import runs, tiny
from tests.tolerances import STORED, assert_close, rounding

STILL = {"max_steps": 1, "learning_rate": 1e-12, "scheduler": "constant", "weight_decay": 0}
NAMES = ("no", "yes")


def config_of(folders: Any) -> dict[str, Any]:
    return json.loads((folders.pre_trained_models / "final" / "config.json").read_text("utf-8"))


def named(rows: list[dict[str, Any]], names: tuple[str, ...] = NAMES) -> list[dict[str, Any]]:
    return [{**row, "label": names[row["label"]]} for row in rows]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of 'no' and 'yes'."""
    folder = tmp_path_factory.mktemp("first")
    data = tiny.write_jsonl(folder / "rows.jsonl", named(tiny.classes(40, 0)))
    folders = runs.run(folder, pipeline="seq_class", train_dataset=data, max_steps=40, learning_rate=3e-3)
    return folders.pre_trained_models / "final"


def test_the_order_that_a_column_declares_changes_nothing(first: Path, tmp_path: Path) -> None:
    rows = tiny.classes(40, 0)
    accuracies = []
    for order in (NAMES, NAMES[::-1]):
        labels = [order.index(NAMES[row["label"]]) for row in rows]
        data = Dataset.from_dict({"text": [row["text"] for row in rows], "label": labels})
        path = tmp_path / f"{order[0]}.parquet"
        data.cast_column("label", ClassLabel(names=list(order))).to_parquet(path)
        flags = {"pre_trained_model": first, "train_dataset": path, "test_dataset": path, "name": order[0]}
        folders = runs.run(tmp_path, pipeline="seq_class", **flags, **STILL)
        assert tuple(config_of(folders)["id2label"].values()) == NAMES
        accuracies.append(runs.metrics(folders, "test")["test/seq_class/accuracy"])
    assert accuracies[0] == accuracies[1] > 0.6, "turned around, it would be 1 - accuracy"


def test_as_many_other_names_begin_with_another_output_layer(first: Path, tmp_path: Path) -> None:
    """What was learned of 'no' says nothing about 'cats'; the rest of the model stays."""
    data = tiny.write_jsonl(tmp_path / "rows.jsonl", named(tiny.classes(16, 0), ("cats", "dogs")))
    folders = runs.run(tmp_path, pipeline="seq_class", pre_trained_model=first, train_dataset=data, **STILL)
    assert list(config_of(folders)["id2label"].values()) == ["cats", "dogs"]
    before, after = runs.weights(first), runs.weights(folders.pre_trained_models / "final")
    moved = {name for name in before if not torch.allclose(before[name], after[name], atol=rounding(STORED))}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_texts_that_look_like_numbers_are_read_back(tmp_path: Path) -> None:
    data = tiny.write_jsonl(tmp_path / "rows.jsonl", named(tiny.classes(16, 0), ("0", "1")))
    folders = runs.run(tmp_path, pipeline="seq_class", train_dataset=data, test_dataset=data, **STILL)
    use = runs.run(
        tmp_path,
        pipeline="seq_class",
        name="use",
        pre_trained_model=folders.pre_trained_models / "final",
        test_dataset=data,
    )
    assert [row["prediction"] for row in runs.predictions(folders)] == [
        row["prediction"] for row in runs.predictions(use)
    ]
    assert {type(row["prediction"]) for row in runs.predictions(use)} == {str}


def test_a_cross_encoder_of_one_output_stays_one(tmp_path: Path) -> None:
    model = tiny.save_checkpoint(
        "bert", tmp_path / "model", "AutoModelForSequenceClassification", num_labels=1, **runs.LIVELY
    )
    flags = {"pipeline": "answer_selection", "pre_trained_model": model}
    data = tiny.write_jsonl(tmp_path / "rows.jsonl", tiny.pairs(24, 0))
    tested = runs.run(tmp_path, name="tested", test_dataset=data, **flags)
    texts = [(row["question"], row["answer"]) for row in tiny.pairs(24, 0)]
    wanted = runs.logits_of(model, texts)[:, 0]
    assert_close(torch.tensor(runs.scores(tested)), wanted)
    trained = runs.run(tmp_path, train_dataset=data, max_steps=3, **flags)
    before, after = (
        runs.weights(model)["classifier.weight"],
        runs.weights(trained.pre_trained_models / "final")["classifier.weight"],
    )
    assert before.shape == after.shape == (1, before.shape[1])
    assert 0 < (before - after).abs().max() < 0.01, "it is trained on, and not anew"
