"""What a run survives, and what it says when it does not: signals, dead processes, full disks, damaged checkpoints."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs
from tests.integration import interrupted
from tests.processes import Started


@pytest.fixture
def endless(tmp_path: Path) -> dict[str, Any]:
    """Flags of a run that somebody else has to end."""
    data = runs.datasets(tmp_path / "data", "seq_class")
    flags = {"pipeline": "seq_class", "train_dataset": data["train_dataset"], "batch_size": 4}
    return flags | {"max_epochs": 100_000, "checkpoint_interval": 2, "no_epoch_checkpointing": True}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def begin(**flags: Any) -> Started:
        started.append(Started(tmp_path, **flags))
        return started[-1]

    yield begin
    for run in started:
        run.kill()


def step_of(checkpoint: Path) -> int:
    return torch.load(checkpoint, weights_only=True)["global_step"]


def test_two_processes_leave_together_and_die_together(start: Callable[..., Started], endless: dict[str, Any]) -> None:
    """SIGTERM saves and ends with 143; of what was killed the other process tells, and the checkpoint is whole."""
    run = start(devices=2, strategy="ddp", **endless)
    run.wait_until(run.folders.last.exists)
    os.killpg(run.process.pid, signal.SIGTERM)
    assert run.ends(60) == 143
    told = run.said.split("Stopped at step ")[1].split(";")[0]
    assert step_of(run.folders.last) == int(told)

    again = start(devices=2, strategy="ddp", resume=True, **endless)
    again.wait_until(lambda: f"at step {told}" in again.said)
    again.wait_until(lambda: step_of(run.folders.last) > int(told))
    first, second = (pid for pid in again.members() if "--resume" in Path(f"/proc/{pid}/cmdline").read_text())
    before = time.monotonic()
    os.kill(second, signal.SIGKILL)
    assert again.ends(60) == 1
    assert time.monotonic() - before < 60
    assert "process 1 (pid" in again.said
    assert "has died" in again.said
    assert step_of(run.folders.last) > int(told)
    assert first == again.process.pid


@pytest.mark.slow
def test_when_the_first_process_is_killed_the_others_end(
    start: Callable[..., Started], endless: dict[str, Any]
) -> None:
    run = start(devices=2, strategy="ddp", num_workers=1, **endless)
    run.wait_until(run.folders.last.exists)
    run.process.kill()
    assert run.ends(30) == -signal.SIGKILL
    end = time.monotonic() + 10
    while "process 0 (on 127.0.0.1) has died" not in run.said and time.monotonic() < end:
        time.sleep(0.1)
    assert "process 0 (on 127.0.0.1) has died" in run.said
    assert step_of(run.folders.last) > 0


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_the_keyboard_leaves_behind_a_whole_step(
    devices: int, start: Callable[..., Started], endless: dict[str, Any]
) -> None:
    run = start(devices=devices, strategy="ddp" if devices > 1 else "auto", num_workers=1, **endless)
    run.wait_until(run.folders.last.exists)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.ends(60) == 130
    assert "interrupted: run the same command with --resume" in run.said
    assert "Traceback" not in run.said
    assert step_of(run.folders.last) == int(run.said.split("Stopped at step ")[1].split(";")[0])


# --- one process ------------------------------------------------------------------------------------------------------

SMALL = {"pipeline": "seq_class", "checkpoint_interval": 2, "no_epoch_checkpointing": True, "keep_checkpoints": "all"}
STEPS = "pipelines.pipeline:Pipeline.training_step"


def test_a_killed_worker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from transformers_framework.pipelines.pipeline import Pipeline

    step = Pipeline.training_step

    def kill_worker(self: Pipeline, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 3:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Pipeline, "training_step", kill_worker)
    data = runs.datasets(tmp_path / "data", "seq_class")
    folders = runs.run(tmp_path, status=1, train_dataset=data["train_dataset"], batch_size=2, num_workers=1, **SMALL)
    said = capsys.readouterr().err
    assert "A process that prepares batches (pid " in said
    killed = "was killed. The machine is out of memory, most likely: use fewer --num_workers"
    assert killed in said or "has ended. If the machine is out of memory, use fewer --num_workers" in said
    assert "Traceback" not in said
    assert step_of(folders.last) in (2, 4), "the step before the worker died, or the one when it was noticed"


def test_a_test_that_was_told_to_leave_is_not_done(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class")
    words = runs.command(tmp_path, pipeline="seq_class", test_dataset=data["test_dataset"], batch_size=2)
    moment = ("pipelines.pipeline:Pipeline.test_step", 3, signal.SIGTERM)
    assert interrupted.run(words, tmp_path / "log", moment) == 128 + signal.SIGTERM
    assert not list(runs.folders_of(words).predictions.glob("*.jsonl"))


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class")
    words = runs.command(tmp_path, train_dataset=data["train_dataset"], **SMALL)
    folders, log = runs.folders_of(words), tmp_path / "log"
    assert interrupted.run(words, log, (STEPS, 4, interrupted.fill_disk)) == 1
    said = log.read_text()
    assert "cannot be written" in said, said
    assert "--resume continues from the last one" in said
    assert "Traceback" not in said
    assert step_of(folders.last) == 2
    assert not list(folders.checkpoints.glob(".*.part"))
    assert interrupted.run([*words, "--resume"], log) == 0, log.read_text()
    assert step_of(folders.last) == 5


def test_a_disk_that_is_full_is_said_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    folders = runs.run(tmp_path, status=2, **SMALL)
    assert "--output_dir: " in (said := capsys.readouterr().err)
    assert "has 97.7 KiB left, and one checkpoint and one export of the model need" in said
    assert not folders.checkpoints.exists()


def everything(folders: Any) -> dict[str, bytes]:
    """Return the files of a run, less those of TensorBoard."""
    kinds = (folder for folder in folders.all if folder != folders.tensorboard)
    files = (path for folder in kinds for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize("moment", ["before the first checkpoint", "while the first checkpoint is written"])
def test_an_overwritten_run_stays_until_the_new_one_has_a_checkpoint(tmp_path: Path, moment: str) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class")
    words = runs.command(tmp_path, train_dataset=data["train_dataset"], max_steps=2, **SMALL)
    folders, log = runs.folders_of(words), tmp_path / "log"
    assert interrupted.run(words, log) == 0, log.read_text()
    (folders.checkpoints / "link").symlink_to(tmp_path / "data")
    before = everything(folders)
    again = [*words, "--overwrite", "--learning_rate", "1e-4"]
    place = (STEPS, 2) if moment.startswith("before") else ("callbacks.checkpoints:Checkpoints._write", 1)
    assert interrupted.run(again, log, (*place, signal.SIGKILL)) == -signal.SIGKILL
    assert interrupted.run(words, log) == 2, "the earlier run is there"
    assert everything(folders) == before
    assert interrupted.run(again, log) == 0, log.read_text()
    after = everything(folders)
    assert str(folders.checkpoints / "link") not in after
    assert {path: after[path] == before[path] for path in (str(folders.last), str(folders.config))} == {
        str(folders.last): False,
        str(folders.config): False,
    }
    assert (tmp_path / "data").is_dir()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def change(path: Path) -> None:
    """Change one byte of a weight."""
    with path.open("rb+") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class")
    words = runs.command(tmp_path, train_dataset=data["train_dataset"], **SMALL)
    folders, log = runs.folders_of(words), tmp_path / "log"
    assert interrupted.run(words, log) == 0, log.read_text()
    final = runs.weights(folders.pre_trained_models / "final")
    for damage in (cut, change, Path.unlink):
        assert (step_of(folders.previous), step_of(folders.last)) == (4, 5)
        damage(folders.last)
        assert interrupted.run([*words, "--resume"], log) == 0, log.read_text()
        how = "missing" if damage is Path.unlink else "damaged"
        assert f"{folders.last} is {how}; resuming from {folders.previous}" in log.read_text()
        again = runs.weights(folders.pre_trained_models / "final")
        assert all(torch.equal(again[name], tensor) for name, tensor in final.items())
        log.unlink()
