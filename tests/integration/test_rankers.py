"""Exports of rankers: one output, as servers of re-rankers need it, and what other runs make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset

from tests import runs, tiny
from tests.tolerances import assert_close, rounding
from transformers_framework.storage.run_folders import RunFolders

NAMES = ["poor", "good"]
TEST = tiny.pairs(27, 2)
TEXTS = [(row["question"], row["answer"]) for row in TEST]
STILL: dict[str, Any] = {"max_steps": 1, "learning_rate": 1e-12, "scheduler": "constant"}


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text("utf-8"))


def scores_of(folders: RunFolders) -> torch.Tensor:
    return torch.tensor(runs.scores(folders))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rankers")
    for name, rows in {"train": tiny.pairs(40, 0), "test": TEST}.items():
        data = Dataset.from_list(rows).cast_column("label", ClassLabel(names=NAMES))
        data.to_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def ranker(folder: Path) -> RunFolders:
    return runs.run(folder, train_dataset=folder / "train.parquet", test_dataset=folder / "test.parquet")


def test_an_export_has_what_servers_read(ranker: RunFolders) -> None:
    """Text Embeddings Inference takes a classifier with one entry of id2label as re-ranker, vLLM one of one label."""
    config = config_of(ranker.pre_trained_models / "final")
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert (config["id2label"], config["label2id"]) == ({"0": "LABEL_0"}, {"LABEL_0": 0})
    assert config.get("problem_type") is None
    state = runs.weights(ranker.last)
    assert state["model.heads.answer_selection.classifier.weight"].shape[0] == 2, "what is trained has two"
    assert_close(runs.logits_of(ranker.pre_trained_models / "final", TEXTS)[:, 0], scores_of(ranker))


@pytest.mark.needs("sentence_transformers")
def test_sentence_transformers_ranks_with_an_export(ranker: RunFolders) -> None:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(ranker.pre_trained_models / "final"), device="cpu")
    scores = scores_of(ranker)
    assert_close(model.predict(TEXTS, convert_to_tensor=True), scores.sigmoid())
    assert_close(model.predict(TEXTS, activation_fn=torch.nn.Identity(), convert_to_tensor=True), scores)
    first = [number for number, row in enumerate(TEST) if row["question"] == TEST[0]["question"]]
    ranked = model.rank(TEST[0]["question"], [TEST[number]["answer"] for number in first])
    assert [entry["corpus_id"] for entry in ranked] == [int(n) for n in scores[first].argsort(descending=True)]


def test_an_export_goes_on_as_what_it_was(folder: Path, ranker: RunFolders) -> None:
    final, data = ranker.pre_trained_models / "final", {"test_dataset": folder / "test.parquet"}
    tested = runs.run(folder, name="tested", pre_trained_model=final, **data)
    assert_close(scores_of(tested), scores_of(ranker))
    found, wanted = (runs.predictions(run) for run in (tested, ranker))
    assert [row["prediction"] for row in found] == [row["prediction"] for row in wanted]
    assert {row["prediction"] for row in wanted} <= set(NAMES)
    unlabelled = tiny.write_jsonl(folder / "new.jsonl", [{**row, "label": None} for row in TEST])
    alone = runs.run(folder, name="predicted", pre_trained_model=final, predict_dataset=unlabelled)
    assert [row["prediction"] for row in runs.predictions(alone, "predict")] == [row["prediction"] for row in wanted]
    on = runs.run(
        folder, name="on", pre_trained_model=final, train_dataset=folder / "train.parquet", **data, **STILL
    )  # fmt: skip
    assert_close(scores_of(on), scores_of(ranker))
    assert config_of(on.pre_trained_models / "final")["binary_labels"] == NAMES

    # and as a classifier of the same two classes
    flags = {"pipeline": "seq_class", "input_columns": ["question", "answer"], "index_column": None}
    for training in ({}, {"train_dataset": folder / "train.parquet"} | STILL):
        name = f"classes-{len(training)}"
        classes = runs.run(folder, name=name, pre_trained_model=final, **flags, **data, **training)
        scores = torch.tensor(runs.scores(classes))
        assert_close(scores[:, 1], scores_of(ranker).sigmoid())
        assert [row["prediction"] for row in runs.predictions(classes)] == [row["prediction"] for row in wanted]
    exported = config_of(classes.pre_trained_models / "final")
    assert list(exported["id2label"].values()) == NAMES
    assert not exported.get("binary_labels")


@pytest.mark.parametrize("start", ["two", "one"])
def test_two_outputs_are_kept(folder: Path, ranker: RunFolders, start: str) -> None:
    flags: dict[str, Any] = {"train_dataset": folder / "train.parquet", "test_dataset": folder / "test.parquet"}
    if start == "one":
        flags |= {"pre_trained_model": ranker.pre_trained_models / "final"}
    done = runs.run(folder, name=f"from-{start}", export_outputs="two", max_steps=2, **flags)
    final = done.pre_trained_models / "final"
    assert list(config_of(final)["id2label"].values()) == NAMES
    assert config_of(final)["problem_type"] == "single_label_classification"
    logits = runs.logits_of(final, TEXTS)
    assert_close(logits[:, 1] - logits[:, 0], scores_of(done))


def test_rankers_of_the_hub_rank_jointly_with_their_head(tmp_path: Path) -> None:
    settings = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}  # as of cross-encoder/ms-marco
    model = tiny.save_checkpoint(
        "roberta", tmp_path / "hub", "AutoModelForSequenceClassification", num_labels=1, sentence_transformers=settings
    )
    data = tiny.write_jsonl(tmp_path / "rows.jsonl", TEST)
    flags: dict[str, Any] = {"model": "roberta", "pre_trained_model": model, "train_dataset": data}
    done = runs.run(tmp_path, name="one", **flags, **STILL)
    assert config_of(done.pre_trained_models / "final")["sentence_transformers"] == settings
    joint = runs.run(tmp_path, name="joint", k=2, pad_to_k=True, max_sequence_length=100, **flags, **STILL)
    before, after = runs.weights(model), runs.weights(joint.pre_trained_models / "final")
    weight = before["classifier.out_proj.weight"]
    atol = rounding(2)
    torch.testing.assert_close(
        after["classifier.out_proj.weight"], torch.cat([-weight / 2, weight / 2]), atol=atol, rtol=0
    )
    torch.testing.assert_close(after["classifier.dense.weight"], before["classifier.dense.weight"], atol=atol, rtol=0)
