"""What a run leaves for readers: metrics.jsonl, results.json and train.log, and that they are true."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import runs, tiny
from tests.integration import interrupted
from tests.tolerances import approx
from tests.unit.processing.test_answers import official
from transformers_framework.api import RunResult
from transformers_framework.cli.main import main
from transformers_framework.constants import MEASURED
from transformers_framework.reports import metrics_file
from transformers_framework.reports.results import git_commit
from transformers_framework.runtime.train_log import train_log
from transformers_framework.several.comparison import compare
from transformers_framework.several.finished_runs import find_run
from transformers_framework.storage import appending
from transformers_framework.storage.run_folders import RunFolders

MAP = "valid/answer_selection/mean_average_precision"


def logged(folders: RunFolders) -> dict[str, list[float]]:
    """Return the values of each name in metrics.jsonl, in their order."""
    found: dict[str, list[float]] = {}
    for line in runs.logged_moments(folders):
        for name, value in line.items():
            if name not in ("step", "time"):
                found.setdefault(name, []).append(value)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolders]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, runs.run(folder, monitor=MAP, max_epochs=2, val_check_interval=0.5)


# --- metrics and results ---------------------------------------------------------------------------------------------


def test_metrics_are_those_of_tensorboard(trained: tuple[Path, RunFolders]) -> None:
    _, folders = trained
    shown = {name: [value for _, value in values] for name, values in runs.scalars(folders).items()}
    shown.pop("hp_metric", None)
    assert {name: values for name, values in logged(folders).items() if name not in MEASURED} == shown
    assert set(MEASURED[:2]) <= logged(folders).keys()
    assert all(list(line)[:3] == ["step", "epoch", "time"] for line in runs.logged_moments(folders))
    steps = [line["step"] for line in runs.logged_moments(folders)]
    assert steps == sorted(steps)
    assert steps[-1] == 10


def test_results_say_what_was_logged(trained: tuple[Path, RunFolders]) -> None:
    _, folders = trained
    results, lines = RunResult({}, folders, {}).results, runs.logged_moments(folders)
    best = results["best"]
    validated = [line for line in lines if MAP in line]
    chosen = max(validated, key=lambda line: line[MAP])
    assert (best["monitor"], best["direction"], best["value"]) == (MAP, "max", chosen[MAP])
    assert (best["step"], best["epoch"]) == (chosen["step"], chosen["epoch"])
    assert {name: best["metrics"][name] for name in chosen if "/" in name} == {
        n: v for n, v in chosen.items() if "/" in n
    }
    for stage, line in (("valid", validated[-1]), ("test", lines[-1])):
        assert results[stage] == {name: value for name, value in line.items() if "/" in name}
    assert results["train"]["train/loss"] == logged(folders)["train/loss"][-1]
    assert (results["name"], results["pipeline"], results["model"]) == ("run", "answer_selection", "bert")
    assert {stage: found["rows"] for stage, found in results["data"].items()} == dict(
        zip(runs.STAGES, (40, 23, 27, 13), strict=True)
    )
    durations = results["durations"]
    assert 0 < sum(durations[stage] for stage in runs.STAGES) < durations["total"]
    assert all(Path(path).is_dir() for path in results["folders"].values())
    assert results["versions"].keys() >= {"python", "torch", "transformers"}


def test_a_run_that_only_tests_keeps_the_rest_of_the_results(trained: tuple[Path, RunFolders], tmp_path: Path) -> None:
    folder, folders = trained
    before, lines = folders.read_results(), folders.metrics.read_text("utf-8")
    config = folders.config.read_bytes()
    messages = folders.log.read_text("utf-8")
    name = os.fsdecode(b"\xe9.jsonl") if sys.platform == "linux" else "é.jsonl"  # no Unicode
    other = tiny.write_jsonl(tmp_path / name, runs.rows_for("answer_selection", 19, 7))
    runs.run(folder, test_dataset=other, ckpt_path=folders.last, overwrite=True)
    after = folders.read_results()
    assert after["test"].keys() == before["test"].keys()
    assert after["test"] == {n: v for n, v in runs.logged_moments(folders)[-1].items() if "/" in n} != before["test"]
    tested = after["data"].pop("test")
    assert (tested["rows"], tested["source"]) == (19, str(other))
    assert before["data"].pop("test")["rows"] == 27
    for found in (before, after):
        del found["test"], found["durations"]["test"]
        for part in ("details", "warnings"):  # of the test
            found.pop(part)
    assert after == before
    assert folders.metrics.read_text("utf-8").startswith(lines)
    assert folders.log.read_text("utf-8").startswith(messages)
    assert folders.config.read_bytes() == config, "it repeats the training"


def test_a_run_that_only_tests_is_compared_with_intervals(trained: tuple[Path, RunFolders], tmp_path: Path) -> None:
    """Its config file has the flags, such as the columns, and repeats it."""
    folder, folders = trained
    name = os.fsdecode(b"\xe9.jsonl") if sys.platform == "linux" else "é.jsonl"  # no Unicode
    tested = tiny.write_jsonl(tmp_path / name, runs.rows_for("answer_selection", 19, 7))
    only = runs.run(folder, name="only", test_dataset=tested, ckpt_path=folders.last)
    main(["--config", str(only.config), "--name", "again"])
    compared = compare([find_run(name, folders.output_dir) for name in ("only", "again")], stage="test")
    assert {"test/answer_selection/mean_average_precision", "test/loss"} <= compared.units.keys()


def test_a_run_that_only_predicts_and_one_that_tries_a_few_batches(trained: tuple[Path, RunFolders]) -> None:
    folder, folders = trained
    data = runs.datasets(folder / "data", "answer_selection")
    predicts = {"predict_dataset": data["predict_dataset"], "ckpt_path": folders.last}
    predicted = runs.run(folder, name="predicted", **predicts)
    results = predicted.read_results()
    assert (results["best"], results["train"], results["valid"], results["test"]) == (None, {}, {}, {})
    assert results["data"].keys() == {"predict"}
    assert not predicted.metrics.exists()
    assert predicted.config.exists()
    runs.run(folder, name="predicted", seed=7, overwrite=True, **predicts)
    assert predicted.read_results()["seed"] == 7, "nothing was trained, so all is that of the last command"
    tried = runs.run(folder, name="tried", fast_dev_run=True)
    assert not tried.checkpoints.exists()


# --- results are those of the predictions ----------------------------------------------------------------------------


def of_classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    labels, found = ([row[name] for row in rows] for name in ("label", "prediction"))
    return {
        "accuracy": accuracy_score(labels, found),
        "f1": f1_score(labels, found, average="macro", labels=runs.CLASSES, zero_division=0),
    }


def of_ranking(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    import pytrec_eval

    judged: dict[str, dict[str, int]] = {}
    ranked: dict[str, dict[str, float]] = {}
    for row in rows:
        judged.setdefault(str(row["key"]), {})[str(row["id"])] = int(row["label"])
        ranked.setdefault(str(row["key"]), {})[str(row["id"])] = row["scores"]
    judged = {query: labels for query, labels in judged.items() if any(labels.values())}
    names = {"map": "mean_average_precision", "recip_rank": "mean_reciprocal_rank", "ndcg": "ndcg"}
    per_query = pytrec_eval.RelevanceEvaluator(judged, set(names)).evaluate(ranked)
    return {ours: sum(query[name] for query in per_query.values()) / len(per_query) for name, ours in names.items()}


def of_reading(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found = official([row["prediction"] for row in rows], [row["answers"]["text"] for row in rows], version=1)
    return {name: found[name] for name in ("exact_match", "f1")}


def of_tags(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    from seqeval import metrics as seqeval

    labels, found = ([row[name] for row in rows] for name in ("labels", "prediction"))
    return {
        f"entity_{name}": getattr(seqeval, f"{name}_score")(labels, found) for name in ("f1", "precision", "recall")
    }


MANY_ENTITIES: dict[str, Any] = {"label_weights": [9, 9, 1, 1, 0.1], "max_epochs": 2, "learning_rate": 1e-2}


@pytest.mark.parametrize(
    ("pipeline", "objective", "recomputed"),
    [
        ("seq_class", "seq_class", of_classes),
        ("answer_selection", "answer_selection", of_ranking),
        ("question_answering", "question_answering", of_reading),
        ("named_entity_recognition", "token_class", of_tags),
    ],
)
def test_results_are_recomputed_from_the_predictions(
    tmp_path: Path, pipeline: str, objective: str, recomputed: Callable[..., dict[str, float]]
) -> None:
    data = runs.datasets(tmp_path / "data", pipeline)
    stages = {name: data[name] for name in ("train_dataset", "test_dataset")}
    flags = MANY_ENTITIES if recomputed is of_tags else {"max_steps": 1}
    folders = runs.run(tmp_path, pipeline=pipeline, **stages, **flags)
    results, expected = folders.read_results(), recomputed(runs.predictions(folders))
    assert any(expected.values()), "it finds something"
    assert {name: results["test"][f"test/{objective}/{name}"] for name in expected} == approx(expected)


# --- a run that is continued, or replaces another --------------------------------------------------------------------


def test_durations_and_messages_go_on_when_a_run_is_resumed(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class")
    flags = {"pipeline": "seq_class", "train_dataset": data["train_dataset"], "log_every_n_steps": 1}
    first = runs.run(tmp_path, **flags, max_steps=5)
    before, messages = first.read_results(), first.log.read_text("utf-8")
    runs.run(tmp_path, **flags, max_steps=7, resume=True)
    after = first.read_results()
    assert after["durations"]["train"] > before["durations"]["train"]
    assert after["durations"]["total"] > before["durations"]["total"]
    assert [line["step"] for line in runs.logged_moments(first) if "train/loss" in line] == [1, 2, 3, 4, 5, 6, 7]
    assert first.log.read_text("utf-8").startswith(messages)
    assert "Training starts at step 5" in first.log.read_text("utf-8").removeprefix(messages)


def test_a_run_that_replaces_another_leaves_its_own_files(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class")
    flags = {"pipeline": "seq_class", "train_dataset": data["train_dataset"], "log_every_n_steps": 1}
    folders = runs.run(tmp_path, **flags, max_steps=4)
    kept = {path: path.read_bytes() for path in (folders.metrics, folders.results, folders.log)}
    broken = {**flags, "train_dataset": tiny.write_jsonl(tmp_path / "broken.jsonl", runs.rows_for("seq_class", 9))}
    words = [*runs.command(tmp_path, **broken, max_steps=4), "--overwrite"]
    place = ("callbacks.checkpoints:Checkpoints._write", 1, fail)
    assert interrupted.run(words, tmp_path / "log", place) == 1
    moved = folders.checkpoints / ".overwritten"
    assert {path: (moved / path.name).read_bytes() for path in kept} == kept
    assert "RuntimeError: no more" in folders.log.read_text("utf-8")
    runs.run(tmp_path, **flags, max_steps=2, overwrite=True)
    assert [line["step"] for line in runs.logged_moments(folders) if "train/loss" in line] == [1, 2]
    assert folders.log.read_text("utf-8").count("Training starts at step 0") == 1
    assert not list(folders.checkpoints.glob(".*.part"))


def fail() -> None:
    raise RuntimeError("no more")


# --- train.log -------------------------------------------------------------------------------------------------------


def test_the_log_has_warnings_and_failures_and_no_commands_to_a_terminal(tmp_path: Path) -> None:
    folders, package = RunFolders(tmp_path, "run"), logging.getLogger("transformers_framework")

    def run() -> None:
        with train_log(folders) as log:
            package.error("before there is a %s", "folder")
            folders.checkpoints.mkdir(parents=True)
            log.open()
            package.error("\x1b[31mred\x1b[0m \x1b]0;title\x07and \x1b7\r bare")
            warnings.warn("of a library", UserWarning, stacklevel=1)
            logging.getLogger("transformers").warning("of transformers")
            fail()

    handlers = package.handlers[:]
    with pytest.warns(UserWarning, match="of a library"), pytest.raises(RuntimeError, match="no more"):
        run()
    text = folders.log.read_text("utf-8")
    assert "\x1b" not in text
    assert "\r" not in text
    lines = [line.partition(" ")[2].partition(" ")[2] for line in text.splitlines()]
    assert lines[:2] == ["ERROR before there is a folder", r"ERROR red and \x1b7\r bare"]
    assert lines[2].startswith("WARNING UserWarning: of a library (")
    assert lines[3] == "WARNING of transformers"
    assert "ERROR error: the run failed with RuntimeError: no more" in lines
    assert "Traceback (most recent call last):" in text
    assert text.count("of a library") == 1
    assert package.handlers == handlers


def second_fails() -> None:
    """Fail in the test of the second of two processes."""
    if os.environ["LOCAL_RANK"] == "1":
        interrupted.at_call("pipelines.pipeline:Pipeline.test_step", 1, fail)


@pytest.mark.slow
def test_two_processes_write_one_of_each_and_tell_which_failed(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class")
    stages = {name: data[name] for name in ("train_dataset", "test_dataset")}
    flags = {"pipeline": "seq_class", "devices": 2, "strategy": "ddp", "batch_size": 4, "max_steps": 3}
    words = runs.command(tmp_path, **stages, **flags)
    folders = runs.folders_of(words)
    assert interrupted.run_together(words, tmp_path / "failed", 2, second_fails) != [0, 0]
    log = folders.log.read_text("utf-8")
    assert "ERROR rank 1: error: the run failed with RuntimeError: no more\nTraceback" in log
    assert "process 1 (pid " in log, "rank 0 says why it ends too"
    assert not folders.results.exists()
    assert interrupted.run_together([*words, "--resume"], tmp_path / "log", 2) == [0, 0], (tmp_path / "log").read_text()
    lines = runs.logged_moments(folders)
    assert [line["step"] for line in lines] == [1, 2, 3, 3, 3]
    assert folders.read_results()["test"] == {name: value for name, value in lines[-1].items() if "/" in name}


def test_a_command_that_is_refused_leaves_the_log_of_another_run_alone(trained: tuple[Path, RunFolders]) -> None:
    folder, folders = trained
    before = folders.log.read_text("utf-8")
    runs.run(folder, status=2)  # its name is taken
    assert folders.log.read_text("utf-8") == before


# --- disks -----------------------------------------------------------------------------------------------------------


def test_a_line_that_does_not_fit_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, write = tmp_path / "file", os.write
    appending.append(file, "first\n")

    def half(descriptor: int, data: bytes) -> int:
        if len(data) < 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:5])

    monkeypatch.setattr(appending.os, "write", half)
    with pytest.raises(OSError, match="No space"):
        appending.append(file, "second\n")
    monkeypatch.undo()
    appending.append(file, "third\n")
    assert file.read_text() == "first\nthird\n"


def test_a_run_goes_on_where_its_reports_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(metrics_file, "append", full)
    monkeypatch.setattr("transformers_framework.runtime.train_log.append", full)
    monkeypatch.setattr("transformers_framework.reports.results.atomic_file", full)
    data = runs.datasets(tmp_path / "data", "seq_class")
    logger = logging.getLogger("transformers_framework")
    logger.addHandler(caplog.handler)
    try:
        folders = runs.run(tmp_path, pipeline="seq_class", train_dataset=data["train_dataset"], max_steps=3)
    finally:
        logger.removeHandler(caplog.handler)
    assert folders.last.exists()
    said = [message for message in caplog.messages if "cannot be written" in message]
    assert len(said) == 3
    assert all("(No space left on device)" in message and "Free some space" in message for message in said)


# --- git -------------------------------------------------------------------------------------------------------------


def test_the_commit_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert git_commit() is None, "outside a repository"
    repository = tmp_path / "repository"
    repository.mkdir()
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(repository), *command], check=True)
    spy = repository / "spy"
    spy.write_text("#!/bin/sh\ntouch was-called\n")
    spy.chmod(0o755)
    subprocess.run(["git", "-C", str(repository), "config", "core.fsmonitor", str(spy)], check=True)
    monkeypatch.chdir(repository)
    head = (repository / ".git" / (repository / ".git/HEAD").read_text().split()[1]).read_text().strip()
    assert git_commit() == head
    assert not (repository / "was-called").exists()
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None, "without git"
