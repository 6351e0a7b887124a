"""One process and two: equal metrics, equal predictions, equal learning (real processes over gloo)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import runs, tiny
from tests.tolerances import BACKWARD, approx, assert_gradients_close
from transformers_framework.storage.run_folders import RunFolders

TWO = {"devices": 2, "strategy": "ddp"}
# steps have 8 rows: training divides, the others leave 7, 3 and 1 rows, the last for two processes
SIZES = (40, 23, 27, 9)
NO_DROPOUT = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]


class Twins(NamedTuple):
    """The same run by one process and by two, and what the two said."""

    folder: Path
    one: RunFolders
    two: RunFolders
    said: str


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    folder = tmp_path_factory.mktemp("twins")
    flags: dict[str, Any] = {
        **runs.datasets(folder / "data", "answer_selection", SIZES),
        "additional_config_kwargs": NO_DROPOUT,
        "eval_batch_size": 4,
        "monitor": "valid/answer_selection/mean_average_precision",
    }
    one = runs.run(folder, name="one", batch_size=8, **(flags | {"eval_batch_size": 8}))
    two, said = runs.spawn(folder, name="two", batch_size=4, num_workers=1, **TWO, **flags)
    return Twins(folder, one, two, said)


def assert_same_predictions(found: RunFolders, expected: RunFolders, stage: str) -> None:
    """Check that two files of predictions have the same rows in the same order, with scores that are nearly equal."""
    ours, theirs = runs.predictions(found, stage), runs.predictions(expected, stage)
    assert [row.pop("scores") for row in ours] == approx([row.pop("scores") for row in theirs])
    assert ours == theirs


def test_two_processes_learn_what_one_learns(twins: Twins) -> None:
    one, two = runs.scalars(twins.one), runs.scalars(twins.two)
    # of the second process's rows the log knows nothing, but the rate and the steps are the same
    assert one["train/learning_rate"] == two["train/learning_rate"]
    assert dict(two["train/grad_norm"]) == approx(dict(one["train/grad_norm"]), 4 * BACKWARD)
    runs.assert_weights_are_close(*(run.pre_trained_models / "final" for run in (twins.one, twins.two)))
    # weights cannot tell a gradient from twice the gradient, for Adam divides by its size; Adam's moments can
    ours, theirs = (
        torch.load(run.last, weights_only=True)["optimizer_states"][0]["state"] for run in (twins.one, twins.two)
    )
    means = [{index: state["exp_avg"] for index, state in states.items()} for states in (ours, theirs)]
    assert_gradients_close(*means, units=4 * BACKWARD)  # of weights that have moved apart


def test_metrics_and_predictions_of_two_processes_are_those_of_one(twins: Twins) -> None:
    """The same weights in one process: all metrics, the same rows in the same order."""
    data = {f"{stage}_dataset": twins.folder / "data" / f"{stage}.jsonl" for stage in ("valid", "test", "predict")}
    alone = runs.run(twins.folder, name="alone", ckpt_path=twins.two.best, batch_size=5, **data)
    for stage in ("valid", "test"):
        expected = runs.metrics(alone, stage)
        assert len(expected) == 9
        assert runs.metrics(twins.two, stage) == approx(expected), stage
    for stage, size in zip(("test", "predict"), SIZES[2:], strict=True):
        assert [row["id"] for row in runs.predictions(twins.two, stage)] == list(range(size))
        assert_same_predictions(twins.two, alone, stage)
    assert (twins.two.predictions / "test.qrels").read_text() == (alone.predictions / "test.qrels").read_text()
    ours, theirs = (run.read_results()["warnings"].get("test", []) for run in (twins.two, alone))
    assert [text.partition(":")[0] for text in ours] == [text.partition(":")[0] for text in theirs]
    assert [twins.said.count(text) for text in ours] == [1] * len(ours), "by rank 0 only"


@pytest.mark.slow
def test_three_processes_are_as_one(twins: Twins) -> None:
    """Steps of 6 rows leave 5, 3 and 3, of two and one for each process."""
    data = {f"{stage}_dataset": twins.folder / "data" / f"{stage}.jsonl" for stage in ("valid", "test", "predict")}
    three, _ = runs.spawn(
        twins.folder, name="three", ckpt_path=twins.two.best, batch_size=2, **{**TWO, "devices": 3}, **data
    )
    for stage in ("valid", "test"):
        assert runs.metrics(three, stage) == approx(runs.metrics(twins.two, stage)), stage
    for stage in ("test", "predict"):
        assert_same_predictions(three, twins.two, stage)


def test_training_metrics_count_every_row_once(twins: Twins) -> None:
    """Accuracy of the training epoch is that of all processes' rows."""
    name = "train/answer_selection/accuracy"
    assert runs.metrics(twins.two, "train")[name] == approx(runs.metrics(twins.one, "train")[name])


def test_tokens_are_those_of_both_processes(twins: Twins) -> None:
    one, two = (torch.load(run.last, weights_only=True)["throughput"] for run in (twins.one, twins.two))
    assert one["totals"][0] == two["totals"][0] > 0
    padding = [sum(value for _, value in runs.scalars(run)["train/padding"]) for run in (twins.one, twins.two)]
    assert 0 < padding[1] < padding[0], "smaller batches have less"


def folders_of(run: RunFolders) -> tuple[Path, ...]:
    return run.checkpoints, run.pre_trained_models, run.predictions


def test_only_the_first_process_writes(twins: Twins) -> None:
    ours, theirs = (
        {path.relative_to(folder).as_posix() for folder in folders_of(run) for path in folder.rglob("*")}
        for run in (twins.one, twins.two)
    )
    assert ours == theirs, "no file of a second process, none left aside"
    ours, theirs = (len(list(run.tensorboard.glob("events.out.*"))) for run in (twins.one, twins.two))
    assert ours == theirs
    logged = runs.scalars(twins.two)
    points = Counter((name, step) for name, values in logged.items() if name != "epoch" for step, _ in values)
    assert max(points.values()) == 1
    assert twins.said.count("Training starts") == 1
    assert twins.said.count("Evaluating ") == 1


def test_ties_and_divided_queries(tmp_path: Path) -> None:
    """All scores tie, queries lie on both processes: the order is by row, not by who scored it."""
    checkpoint = tiny.save_checkpoint("bert", tmp_path / "flat", "AutoModelForSequenceClassification")
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["classifier.weight"].zero_()
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    rows = [row | {"key": f"q {row['key']}"} for row in tiny.pairs(39, 5, candidates=13)]
    for row in rows:
        row["label"] = int(row["answer"] == rows[13 * int(row["key"].split()[1])]["answer"])  # the first one is right
    data = {"test_dataset": tiny.write_jsonl(tmp_path / "test.jsonl", rows), "pre_trained_model": checkpoint}
    two, _ = runs.spawn(tmp_path, name="two", batch_size=4, **TWO, **data)
    one = runs.run(tmp_path, name="one", batch_size=8, **data)
    odd = runs.run(tmp_path, name="odd", batch_size=39, **data)
    metrics = runs.metrics(two, "test")
    assert metrics == approx(runs.metrics(one, "test"))
    assert metrics == approx(runs.metrics(odd, "test"))
    assert metrics["test/answer_selection/mean_reciprocal_rank"] < 0.9, "the right candidate is first in the file"
    assert len({row["scores"] for row in runs.predictions(two)}) == 1, "no tie, nothing is tested"
    for kind in ("test.jsonl", "test.run", "test.qrels"):
        found = [(run.predictions / kind).read_text().replace(f" {run.name}\n", "\n") for run in (one, two, odd)]
        assert found[0] == found[1] == found[2]
    assert json.loads((two.predictions / "test.jsonl").read_text().splitlines()[0])["key"] == "q 0"
