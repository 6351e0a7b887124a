"""Rankers that are trained on lists of candidates, and from the scores of a teacher."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs, tiny
from tests.tolerances import approx, assert_close
from transformers_framework.metrics.ranking import ranking_metrics

ROWS = [row | {"first": (7 * n) % 11 / 10} for n, row in enumerate(tiny.pairs(40, 0, candidates=5))]
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **runs.LIVELY}
LISTS: dict[str, Any] = {"train_group_size": 3, "batch_size": 4, "max_epochs": 2, "length_bucketing": "false"}


@pytest.mark.parametrize("loss_fn", ["ranknet", "softmax", "binary"])
def test_lists_train_one_output_whatever_the_batches_are(tmp_path: Path, loss_fn: str) -> None:
    train = tiny.write_jsonl(tmp_path / "train.jsonl", ROWS)
    valid = tiny.write_jsonl(tmp_path / "valid.jsonl", tiny.pairs(12, 1))
    model = tiny.save_checkpoint("bert", tmp_path / "model", **WITHOUT_DROPOUT)
    flags = LISTS | {"loss_fn": loss_fn, "train_dataset": train, "valid_dataset": valid, "scores_column": "first"}
    flags["pre_trained_model"] = model
    whole = runs.run(tmp_path, name="whole", **flags)
    parts = runs.run(
        tmp_path, name="parts", **flags | {"batch_size": 2, "accumulate_grad_batches": 2, "num_workers": 1}
    )
    runs.assert_weights_are_close(whole.last, parts.last)
    final = whole.pre_trained_models / "final"
    assert json.loads((final / "config.json").read_text("utf-8"))["id2label"] == {"0": "LABEL_0"}
    data = {"test_dataset": valid, "train_dataset": None, "valid_dataset": None}
    again = runs.run(tmp_path, name="again", **flags | data | {"pre_trained_model": final, "eval_batch_size": 3})
    found, expected = runs.metrics(again, "test"), runs.metrics(whole, "valid")
    assert {"mean_average_precision", "loss"} <= {name.rpartition("/")[2] for name in found}
    for name, value in expected.items():
        assert found[name.replace("valid", "test")] == approx(value)


def test_a_model_that_is_its_own_teacher_has_nothing_to_learn(tmp_path: Path) -> None:
    data = tiny.write_jsonl(tmp_path / "rows.jsonl", ROWS)
    model = tiny.save_checkpoint(
        "bert", tmp_path / "model", "AutoModelForSequenceClassification", num_labels=1, **WITHOUT_DROPOUT
    )  # fmt: skip
    teacher = runs.run(tmp_path, name="teacher", pre_trained_model=model, predict_dataset=data)
    scores = runs.scores(teacher, "predict")
    taught = [row | {"taught": score} for row, score in zip(ROWS, scores, strict=True)]
    flags: dict[str, Any] = {
        "pre_trained_model": model, "train_dataset": tiny.write_jsonl(tmp_path / "taught.jsonl", taught),
        "max_steps": 1, "teacher_column": "taught", "teacher_weight": 1.0,
    }  # fmt: skip
    for name, more in {
        "alone": {},
        "squares": {"teacher_loss": "squared_error"},
        "lists": LISTS | {"loss_fn": "listnet", "teacher_temperature": 2.0, "max_epochs": None},
    }.items():
        done = runs.run(tmp_path, name=name, **flags | more)
        assert runs.scalars(done)["train/loss"][0][1] == approx(0)
    half = runs.run(tmp_path, name="half", **flags | {"teacher_weight": 0.5})
    labels = runs.run(tmp_path, name="labels", **flags | {"teacher_weight": None, "teacher_column": None})
    assert runs.scalars(labels)["train/loss"][0][1] == approx(2 * runs.scalars(half)["train/loss"][0][1])


@pytest.mark.parametrize("kind", ["list", "names"])
def test_soft_labels_of_classes(tmp_path: Path, kind: str) -> None:
    rows = tiny.classes(8, 0, names=("cat", "dog"))
    soft = [n / 10 for n in range(1, 9)]
    given = [[1 - p, p] if kind == "list" else {"dog": p, "cat": 1 - p} for p in soft]
    taught = [row | {"soft": values} for row, values in zip(rows, given, strict=True)]
    data = tiny.write_jsonl(tmp_path / "taught.jsonl", taught)
    model = tiny.save_checkpoint("bert", tmp_path / "model", **WITHOUT_DROPOUT)
    done = runs.run(
        tmp_path, pipeline="seq_class", pre_trained_model=model, train_dataset=data, test_dataset=data, max_steps=1,
        teacher_column="soft", teacher_weight=1.0, learning_rate=1e-12, batch_size=8,
    )  # fmt: skip
    found = torch.tensor(runs.scores(done))
    target = torch.stack([1 - torch.tensor(soft), torch.tensor(soft)], dim=1)
    expected = (target * (target.log() - found.log())).sum(dim=1).mean()
    assert_close(torch.tensor(runs.scalars(done)["train/loss"][0][1]), expected)


@pytest.mark.parametrize("k", [None, 2])
def test_the_best_of_a_first_ranker_are_re_ranked_and_metrics_are_over_all(tmp_path: Path, k: int | None) -> None:
    train = tiny.write_jsonl(tmp_path / "train.jsonl", ROWS)
    test = tiny.write_jsonl(tmp_path / "test.jsonl", ROWS[::-1])
    model = tiny.save_checkpoint("bert", tmp_path / "model", **runs.LIVELY)
    flags: dict[str, Any] = {"pre_trained_model": model, "train_dataset": train, "max_steps": 2, "eval_batch_size": 3}
    flags |= {"k": k, "pad_to_k": k and True, "max_sequence_length": 100, "metrics_at": [2]}
    done = runs.run(tmp_path, test_dataset=test, top_k_from=["first", 2], **flags)
    rows = runs.predictions(done)
    assert [row["id"] for row in rows] == list(range(40))
    for key in {row["key"] for row in rows}:
        own = sorted((row for row in rows if row["key"] == key), key=lambda row: -row["first"])
        assert [row["prediction"] is None for row in own] == [False, False, True, True, True]
        ranked = sorted(own, key=lambda row: -row["scores"])
        assert ranked[2:] == sorted(own[2:], key=lambda row: (-row["first"], row["scores"]))
    columns = ([row[name] for row in rows] for name in ("scores", "label", "key", "id"))
    expected = ranking_metrics(*columns, precision_at=(1, 2), hitrate_at=(2, 5), ndcg_at=(2,))
    found = runs.metrics(done, "test")
    for name, value in expected.items():
        assert found[f"test/answer_selection/{name}"] == approx(value)
    lines = list(csv.DictReader((done.predictions / "test.queries.csv").open(encoding="utf-8")))
    assert len(lines) == 8
    assert sum(float(line["ndcg@2"]) for line in lines) / 8 == approx(expected["ndcg@2"], 2**12)
    bounds = json.loads(done.results.read_text("utf-8"))["details"]["test"]["answer_selection"]["intervals"]
    assert bounds["queries"] == 8
    low, high = bounds["mean_average_precision"]
    assert low <= expected["mean_average_precision"] <= high
