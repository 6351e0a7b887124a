"""Joint re-ranking, ``-k``: every head trains, evaluates, exports and reloads; what only a joint model can learn."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers import AutoModel

from tests import runs, tiny
from tests.cases import RANKING
from tests.tolerances import approx, assert_close
from transformers_framework.data.loader import RowReader
from transformers_framework.data.sampler import BatchSampler
from transformers_framework.data.samplers import row_lengths
from transformers_framework.metrics.ranking import ranking_metrics
from transformers_framework.models.joint import JointReRanker
from transformers_framework.storage.run_folders import RunFolders

SIZES = (42, 23, 27, 13)
JOINT: dict[str, Any] = {"k": 3, "pad_to_k": True, "max_sequence_length": 80}
SLOW = pytest.mark.slow
CASES = {  # head, family, further flags
    "IE_k": ("bert", {"grouping": "random"}),
    "IE_1": ("roberta", {"grouping": "random"}),
    "AE_1": ("electra", {"separated": True, "max_sequence_length": 20}),
    "AE_k": ("deberta_v2", {}),
    "RE_1": ("distilbert", {"grouping": "random"}),
    "RE_k": ("bert", {"extended_token_type_ids": [0, 1, 2, 3]}),
}


class Trained(NamedTuple):
    """A run with a head."""

    head: str
    family: str
    folder: Path
    folders: RunFolders
    flags: dict[str, Any]
    gradients: dict[str, float]
    log_names: list[str]

    def rows(self, stage: str) -> list[dict[str, Any]]:
        return tiny.pairs(SIZES[runs.STAGES.index(stage)], runs.STAGES.index(stage))

    def data(self, *stages: str) -> dict[str, Path]:
        return {f"{stage}_dataset": self.folder / "data" / f"{stage}.jsonl" for stage in stages}


@pytest.fixture(scope="module", params=[pytest.param(h, marks=() if h == "IE_k" else SLOW) for h in CASES])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    head, (family, more) = request.param, CASES[request.param]
    folder = tmp_path_factory.mktemp(head)
    flags = {"model": family, "classification_head_type": head, **JOINT, **more}
    with runs.watched() as seen:
        folders = runs.run(
            folder,
            **flags,
            **runs.datasets(folder / "data", "answer_selection", SIZES),
            max_epochs=2,
            batch_size=4,
            learning_rate=3e-3,
            permutation_check=2,
            length_bucketing=True,
            monitor="valid/answer_selection/mean_average_precision",
        )
    module = seen.experiment.module
    gradients = {n: seen.gradients.get(id(p), 0.0) for n, p in module.named_parameters() if p.requires_grad}
    return Trained(head, family, folder, folders, flags, gradients, seen.experiment.log_names)


def questions_of(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the questions of rows and the candidates of each."""
    found = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row["key"])]
    return [group[0]["question"] for group in found], [[row["answer"] for row in group] for group in found]


def test_everything_is_trained(trained: Trained) -> None:
    # a bias of keys has no gradient but rounding
    assert all(size > 0 for name, size in trained.gradients.items() if not name.endswith("key.bias"))
    assert f"valid/answer_selection/{RANKING[0]}" in trained.log_names
    assert runs.metrics(trained.folders, "train").keys() >= {"train/loss", "train/answer_selection/accuracy"}


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_each_candidate_is_predicted_once_in_order(trained: Trained, stage: str) -> None:
    rows, found = trained.rows(stage), runs.predictions(trained.folders, stage)
    assert [line["id"] for line in found] == list(range(len(rows)))
    for row, line in zip(rows, found, strict=True):
        assert {name: line[name] for name in ("question", "answer", "key")} == {
            name: row[name] for name in ("question", "answer", "key")
        }
        assert line["prediction"] == int(line["scores"] > 0)


def test_metrics_are_those_of_all_candidates(trained: Trained) -> None:
    rows, scores, logged = trained.rows("test"), runs.scores(trained.folders), runs.metrics(trained.folders, "test")
    labels, keys = np.array([row["label"] for row in rows]), np.array([row["key"] for row in rows])
    for name, value in ranking_metrics(scores, labels, keys, np.arange(len(rows))).items():
        assert logged[f"test/answer_selection/{name}"] == approx(value), name
    right = np.array(scores) > 0
    if trained.head == "RE_1":  # a label a group, right where any is
        starts = [start for key in np.unique(keys) for start in np.flatnonzero(keys == key)[:: JOINT["k"]]]
        ends = [min(start + 3, int(np.flatnonzero(keys == keys[start])[-1]) + 1) for start in starts]
        labels = np.array([labels[start:end].max() for start, end in zip(starts, ends, strict=True)])
        right = right[starts]
    assert logged["test/answer_selection/accuracy"] == approx((right == labels).mean())
    trec = [line.split() for line in (trained.folders.predictions / "test.run").read_text().splitlines()]
    assert sorted(float(line[4]) for line in trec) == approx(sorted(scores))
    assert len(trec) == len(rows)


def test_an_export_gives_the_scores_that_were_written(trained: Trained) -> None:
    best = trained.folders.pre_trained_models / "best"
    rows = trained.rows("predict")
    found = JointReRanker.from_pretrained(best).score(*questions_of(rows))
    written = runs.scores(trained.folders, "predict")
    if trained.head == "RE_1":  # of candidates of a group the score is one
        assert len(set(written)) < len(rows)
    assert_close(
        torch.tensor(list(itertools.chain.from_iterable(found))), torch.tensor(written, dtype=torch.float64).float(),
    )  # fmt: skip
    _, report = AutoModel.from_pretrained(best, output_loading_info=True)
    assert all("pooler" in key for key in report["missing_keys"])
    assert all(key.startswith("classifier.") for key in report["unexpected_keys"])


def test_an_export_is_tested_and_predicts_as_it_is(trained: Trained) -> None:
    best = trained.folders.pre_trained_models / "best"
    flags = {name: value for name, value in trained.flags.items() if name != "classification_head_type"}
    flags |= {"pre_trained_model": best, "eval_batch_size": 3}
    alone = runs.run(trained.folder, **flags, name="alone", **trained.data("test", "predict"))
    for stage in ("test", "predict"):
        assert runs.scores(alone, stage) == approx(runs.scores(trained.folders, stage))
    expected = runs.metrics(trained.folders, "test")
    found = runs.metrics(alone, "test")
    assert {name for name in expected if "permutation" in name}.isdisjoint(found)
    assert found == approx({name: expected[name] for name in found})


def test_what_would_be_predicted_by_chance_is_refused(trained: Trained, capsys: Any) -> None:
    """An export read as if it ranked one by one, or with another head, has nothing to predict with."""
    best = trained.folders.pre_trained_models / "best"
    other = "IE_k" if trained.head == "RE_k" else "RE_k"
    for flags in ({}, {"k": 3, "classification_head_type": other}):
        given = {"model": trained.family, "pre_trained_model": best, "name": "chance", **flags}
        for stage in ("test", "predict"):
            runs.run(trained.folder, status=2, **given, **trained.data(stage))
            said = capsys.readouterr().err
            assert "nothing is trained, and " in said
            assert f"It reads 3 candidates together: give -k 3 --classification_head_type {trained.head}." in said


def test_a_run_is_not_continued_as_another_one(trained: Trained, capsys: Any, caplog: Any) -> None:
    """With other candidates or another head it would be another model; what else differs is told."""
    again = trained.flags | trained.data("train", "valid") | {"resume": True, "permutation_check": 2}
    again.pop("extended_token_type_ids", None)
    other = "AE_1" if trained.head == "IE_1" else "IE_1"
    for flag, here in (("k", 2), ("classification_head_type", other)):
        runs.run(trained.folder, status=2, **(again | {flag: here}))
        said, dashes = capsys.readouterr().err, "-" * min(len(flag), 2)
        assert "--resume: run 'run' was begun with " in said
        assert f"{dashes}{flag} {again[flag]}" in said.partition(", and this command has ")[0]
        assert f"{dashes}{flag} {here}" in said.partition(", and this command has ")[2]
    if trained.head == "RE_k":  # has an output for each candidate
        return
    with caplog.at_level("WARNING"):
        weights = {"ckpt_path": trained.folders.best, "k": 2, "name": "fewer"}
        runs.run(trained.folder, **(trained.flags | trained.data("test") | weights))
    assert "was trained with -k 3, --permutation_check 2; this run has -k 2, --permutation_check 0" in caplog.text


def test_permutation_check(trained: Trained) -> None:
    logged = {name.rpartition("/")[2]: value for name, value in runs.metrics(trained.folders, "test").items()}
    assert 0 <= logged["permutation_change"] < logged["permutation_change_max"]
    assert 0 <= logged["permutation_flipped"] <= 1


# ---------------------------------------------------------------- what joint models are for


def the_other(n: int, seed: int) -> list[dict[str, Any]]:
    """Questions with two candidates, each a word: one is right where the *other* one says rain."""
    draw, rows = random.Random(seed), []
    for key in range(n):
        words = [draw.choice(["rain", "tiger"]) for _ in range(2)]
        for word, other in zip(words, words[::-1], strict=True):
            rows.append({"question": "which?", "answer": word, "label": int(other == "rain"), "key": key})
    return rows


def test_only_a_joint_model_learns_what_lies_in_another_candidate(tmp_path: Path) -> None:
    sizes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
    flags: dict[str, Any] = {
        "pre_trained_model": tiny.save_checkpoint("bert", tmp_path / "bert", **sizes),
        "train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", the_other(512, 0)),
        "test_dataset": tiny.write_jsonl(tmp_path / "test.jsonl", the_other(100, 1)),
        "learning_rate": 3e-3,
        "scheduler": "constant",
        "max_epochs": 3,
        "no_epoch_checkpointing": True,
        "log_every_n_steps": 50,
    }
    name = "test/answer_selection/accuracy"
    joint = runs.run(tmp_path, name="joint", k=2, batch_size=32, **flags)
    assert runs.metrics(joint, "test")[name] == 1.0
    alone = runs.run(tmp_path, name="alone", batch_size=64, **flags)
    assert abs(runs.metrics(alone, "test")[name] - 0.5) < 0.15


# ---------------------------------------------------------------- the same again


def test_resume_with_random_groups_is_bit_for_bit(tmp_path: Path) -> None:
    flags: dict[str, Any] = JOINT | {
        "train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", tiny.pairs(60)),
        "grouping": "random",
        "scheduler": "constant",
        "batch_size": 4,
        "length_bucketing": True,
        "no_epoch_checkpointing": True,
    }
    whole = runs.run(tmp_path, name="whole", max_steps=16, **flags)  # 30 groups: 8 steps an epoch
    runs.run(tmp_path, name="parts", max_steps=11, **flags)
    parts = runs.run(tmp_path, name="parts", max_steps=16, resume=True, **flags)
    assert runs.weights_are_equal(*(folders.pre_trained_models / "final" for folders in (parts, whole)))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The data of a run with random groups."""
    folder = tmp_path_factory.mktemp("parts")
    data = {f"{stage}_dataset": tiny.write_jsonl(folder / "rows.jsonl", tiny.pairs(61)) for stage in ("train", "test")}
    return runs.build(runs.command(folder, grouping="random", **JOINT, **data)).data


def groups_of(data: Any, epoch: int, world_size: int, batch_size: int, bucketing: bool) -> list[tuple[Any, ...]]:
    """Return what each group of an epoch is, in any order: rows, labels, tokens."""
    found = []
    for rank in range(world_size):
        sampler = BatchSampler(
            data.num_entries("train"), batch_size=batch_size, seed=data.seed, shuffle=True, rank=rank,
            world_size=world_size, lengths=row_lengths(data, "train") if bucketing else None,
            regroup=lambda epoch: data.inputs.groups("train", data.seed, epoch),
        )  # fmt: skip
        sampler.set_epoch(epoch)
        reader, collate = RowReader(data.datasets["train"], data.columns("train")), data.collator("train")
        for request in sampler:
            batch = collate(reader[request])
            own = batch["answer_selection"]
            for row in range(len(batch["row_ids"])):
                there = batch["attention_mask"][row] > 0
                if batch["row_ids"][row] >= 0:
                    kept = own["row_ids"][row] >= 0
                    parts = own["row_ids"][row][kept], own["labels"][row][kept], batch["input_ids"][row][there]
                    found.append(tuple(tuple(part.tolist()) for part in parts))
                else:
                    assert (own["labels"][row] == -100).all()
                    assert (own["row_ids"][row] < 0).all()
    return sorted(found)


def test_groups_depend_on_seed_and_epoch_alone(parts: Any) -> None:
    first = groups_of(parts, 0, 1, 8, bucketing=False)
    assert sorted(row for rows, _, _ in first for row in rows) == list(range(61))
    assert groups_of(parts, 0, 2, 3, bucketing=True) == first
    assert groups_of(parts, 1, 1, 8, bucketing=False) != first


def test_groups_of_similar_length_share_steps(parts: Any) -> None:
    def padding(bucketing: bool) -> float:
        lengths = row_lengths(parts, "train")
        sampler = BatchSampler(
            parts.num_entries("train"), batch_size=4, seed=1, shuffle=True, lengths=lengths if bucketing else None,
            regroup=lambda epoch: parts.inputs.groups("train", 1, epoch),
        )  # fmt: skip
        reader, collate = RowReader(parts.datasets["train"], parts.columns("train")), parts.collator("train")
        masks = [collate(reader[request])["attention_mask"] for request in sampler]
        return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)

    assert padding(True) < 0.7 * padding(False)


@SLOW
def test_two_processes_and_workers_score_as_one(tmp_path: Path) -> None:
    rows = [row | {"key": f"q{row['key']}"} for row in tiny.pairs(31, 2)]
    data = {"test_dataset": tiny.write_jsonl(tmp_path / "test.jsonl", rows)}
    flags = {**JOINT, **data, "permutation_check": 2}
    torch.manual_seed(0)
    one = runs.run(tmp_path, name="one", **flags)
    weights = {"pre_trained_model": tmp_path / "checkpoint-bert"}
    two, _ = runs.spawn(
        tmp_path, name="two", devices=2, strategy="ddp", num_workers=2, eval_batch_size=3, **weights, **flags
    )
    assert runs.scores(two) == approx(runs.scores(one))
    assert runs.metrics(two, "test") == approx(runs.metrics(one, "test"))


# ---------------------------------------------------------------- shapes of data


def in_lists(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with all candidates of a question each."""
    return [
        {
            "question": group[0]["question"],
            "answers": [row["answer"] for row in group],
            "labels": [row["label"] for row in group],
            "first_scores": [row["first_score"] for row in group],
            "keys": [row["key"] for row in group],
        }
        for group in (list(group) for _, group in itertools.groupby(rows, key=lambda row: row["key"]))
    ]


def test_lists_are_as_rows_with_a_candidate_each(tmp_path: Path) -> None:
    draw, found = random.Random(5), []
    rows = [row | {"first_score": draw.random()} for row in tiny.pairs(42)]
    columns = (
        {"input_columns": ["question", "answer"], "scores_column": "first_score"},
        {
            "input_columns": ["question", "*answers"],
            "label_column": "labels",
            "index_column": "keys",
            "scores_column": "first_scores",
        },
    )
    for name, data, flags in zip(("pairs", "lists"), (rows, in_lists(rows)), columns, strict=True):
        source = tiny.write_jsonl(tmp_path / f"{name}.jsonl", data)
        stages = {f"{stage}_dataset": source for stage in ("train", "test", "predict")}
        found.append(runs.run(tmp_path, name=name, selection="worst", **JOINT, **flags, **stages))
    pairs, lists = found
    assert runs.metrics(lists, "test") == approx(runs.metrics(pairs, "test"))
    for stage in ("test", "predict"):
        lines = runs.predictions(lists, stage)
        assert len(lines) == len(in_lists(rows))
        assert [score for line in lines for score in line["scores"]] == approx(runs.scores(pairs, stage))
        assert [n for line in lines for n in line["prediction"]] == [
            p["prediction"] for p in runs.predictions(pairs, stage)
        ]
    for kind in ("test.run", "test.qrels"):
        ours, theirs = (
            [line.split()[:3] for line in (run.predictions / kind).read_text().splitlines()] for run in (lists, pairs)
        )
        assert ours == theirs
    assert {line.split()[0] for line in (lists.predictions / "test.run").read_text().splitlines()} == {
        str(row["key"]) for row in rows
    }
    # what was prepared to be predicted has no labels: another stage makes its own
    source, export = tmp_path / "lists.jsonl", lists.pre_trained_models / "final"
    again = {"name": "again", "pre_trained_model": export, "cache_dir": tmp_path / "another", **JOINT, **columns[1]}
    again = {name: value for name, value in again.items() if name != "scores_column"} | {"index_column": None}
    predicted = runs.scores(runs.run(tmp_path, predict_dataset=source, **again), "predict")
    assert runs.scores(runs.run(tmp_path, test_dataset=source, **again)) == predicted


def test_selection_keeps_the_first_k_in_training_and_all_in_evaluation(tmp_path: Path) -> None:
    rows = [row | {"first_score": i * 7 % 10} for i, row in enumerate(tiny.pairs(40, candidates=5))]
    source = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    data = {"train_dataset": source, "test_dataset": source}
    flags = {"k": 2, "selection": "best", "scores_column": "first_score", "max_sequence_length": 80}
    found = runs.build(runs.command(tmp_path, **flags, **data)).data
    train, test = (found.inputs.groups(stage, 1, 0) for stage in ("train", "test"))
    for key in range(8):
        order = sorted(range(5 * key, 5 * key + 5), key=lambda row: -rows[row]["first_score"])
        assert train[key] == order[:2]
        assert [row for number in range(3 * key, 3 * key + 3) for row in test[number]] == order


# ---------------------------------------------------------------- beside other objectives


@pytest.mark.parametrize(
    ("pipeline", "model"),
    [
        ("masked_lm_and_answer_selection", "roberta"),
        pytest.param("token_detection_and_masked_lm+answer_selection", "electra", marks=SLOW),
        pytest.param("token_detection_and_masked_lm+answer_selection", "deberta_v2", marks=SLOW),
    ],
)
def test_on_a_shared_backbone(pipeline: str, model: str, tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", "answer_selection", SIZES)
    done = runs.run(tmp_path, pipeline=pipeline, model=model, grouping="random", **JOINT, **data)
    final = done.pre_trained_models / "final"
    assert {path.name for path in final.iterdir() if path.is_dir()} >= {"masked_lm", "answer_selection"}
    found = JointReRanker.from_pretrained(final / "answer_selection").score(*questions_of(tiny.pairs(27, 2)))
    written = torch.tensor(runs.scores(done))
    assert_close(torch.tensor(list(itertools.chain.from_iterable(found))), written)
    losses = runs.metrics(done, "train")
    assert {"train/masked_lm/loss", "train/answer_selection/loss"} <= losses.keys()
    alone = runs.run(
        tmp_path, name="alone", model=model, **JOINT, pre_trained_model=final / "answer_selection",
        test_dataset=data["test_dataset"],
    )  # fmt: skip
    assert runs.scores(alone) == approx(runs.scores(done))


# ---------------------------------------------------------------- before training


def test_check_and_preview_show_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers_framework.cli.main import main

    words = runs.command(tmp_path, permutation_check=2, **JOINT)
    assert main([*words, "--check"]) == 0
    said = capsys.readouterr().out
    assert said.count("[SEP]") >= 4 * 3
    assert "→ label" in said
    assert main([*words, "--preview", "2"]) == 0
    assert "2 of" in capsys.readouterr().out


def test_flags_appear_with_k(capsys: pytest.CaptureFixture[str]) -> None:
    from transformers_framework.cli.main import main

    for more, expected in (([], False), (["-k", "5"], True)):
        assert main(["--pipeline", "answer_selection", "--help", *more]) == 0
        said = capsys.readouterr().out
        assert "-k INT" in said
        for flag in ("--grouping", "--selection", "--separated", "--classification_head_type", "--permutation_check"):
            assert (flag in said) is expected


def test_config_repeats_a_joint_run(tmp_path: Path) -> None:
    data = {"test_dataset": tiny.write_jsonl(tmp_path / "test.jsonl", tiny.pairs(10)), "predict_dataset": None}
    words = runs.command(tmp_path, **JOINT, **data, length_bucketing=False)
    experiment = runs.build(words)
    (tmp_path / "c.yaml").write_text(experiment.config_yaml)
    again = runs.build(["--config", str(tmp_path / "c.yaml")])
    assert json.dumps(again.options, default=str) == json.dumps(experiment.options, default=str)
    assert again.spec == experiment.spec
