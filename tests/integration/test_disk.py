"""What a run leaves on the disk when it is over, and what can be done with that."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs
from transformers_framework.storage.run_folders import RunFolders

MAP = "valid/answer_selection/mean_average_precision"
FLAGS: dict[str, Any] = {"monitor": MAP, "max_epochs": 3, "val_check_interval": 0.5}


class Finished:
    """A run of three epochs that is over, and its data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, runs.datasets(folder / "data", "answer_selection")
        self.folders = self.run("run")

    def run(self, name: str, *stages: str, status: int = 0, **flags: Any) -> RunFolders:
        given = {f"{stage}_dataset": self.data[f"{stage}_dataset"] for stage in stages or ("train", "valid", "test")}
        return runs.run(self.folder, name=name, status=status, **{**given, **FLAGS, **flags})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("disk"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*"))


def checkpoints(folders: RunFolders) -> list[str]:
    return sorted(path.name for path in folders.checkpoints.glob("*.ckpt"))


def test_a_run_that_is_over_leaves_little(finished: Finished) -> None:
    done = finished.folders
    assert checkpoints(done) == ["best.ckpt", "last.ckpt"]
    assert names(done.pre_trained_models) == ["best", "ckpt_epoch_2_step_15", "final"]
    state = torch.load(done.best, weights_only=True)
    assert sorted(state) == ["callbacks", "epoch", "global_step", "pytorch-lightning_version", "state_dict"]
    assert sorted(state["callbacks"]) == ["Checkpoints", "Provenance"]
    assert done.best.stat().st_size < done.last.stat().st_size / 2


def test_the_best_weights_are_tested_and_start_a_training(finished: Finished, caplog: pytest.LogCaptureFixture) -> None:
    best = finished.folders.best
    tested = finished.run("tested", "test", ckpt_path=best)
    assert runs.scores(tested) == runs.scores(finished.folders)
    with caplog.at_level(logging.WARNING):
        started = finished.run("started", "train", ckpt_path=best, learning_rate=1e-12, max_epochs=1, monitor=None)
    assert f"{best} has weights only: a new training starts with them, at step 0" in caplog.text
    assert torch.load(started.last, weights_only=True)["global_step"] == 5
    runs.assert_weights_are_close(started.last, best)


def test_it_goes_on_with_more_epochs(finished: Finished) -> None:
    flags = {"scheduler": "constant", "keep": 2}
    finished.run("longer", **flags)
    longer = finished.run("longer", resume=True, max_epochs=4, **flags)
    whole = finished.run("whole", max_epochs=4, **flags)
    for kind in ("checkpoints", "pre_trained_models"):
        assert names(getattr(longer, kind)) == names(getattr(whole, kind))
    assert names(whole.pre_trained_models)[1:3] == ["ckpt_epoch_3_step_19", "ckpt_epoch_3_step_20"]
    for name in ("last", "best"):
        assert runs.weights_are_equal(getattr(longer, name), getattr(whole, name))
    longer.last.unlink()
    finished.run("longer", resume=True, max_epochs=5, status=2, **flags)


def test_without_its_last_checkpoint_it_does_not_go_on(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    done = finished.run("lost", "train", "valid", max_epochs=1)
    done.last.unlink()
    finished.run("lost", "train", "valid", max_epochs=2, resume=True, status=2)
    said = capsys.readouterr().err
    assert f"--resume: {done.last} is missing, and {done.best} has only weights of a run that was over" in said
    assert f"another --name, with --ckpt_path {done.best}" in said


def test_no_checkpoints_or_all_of_them(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    done = finished.run("none", keep_checkpoints="none", keep=0, max_epochs=1)
    assert checkpoints(done) == []
    assert names(done.pre_trained_models) == ["best", "final"]
    finished.run("none", keep_checkpoints="none", resume=True, max_epochs=1, status=2)
    assert "run 'none' is over, and its checkpoints were removed (--keep_checkpoints none)" in capsys.readouterr().err
    done = finished.run("all", keep_checkpoints="all", keep=-1, max_epochs=1, max_time="00:01:00:00")
    assert checkpoints(done) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    steps = [f"ckpt_epoch_0_step_{step}" for step in (2, 4, 5)]
    assert names(done.pre_trained_models) == ["best", *steps, "final"]
    assert "optimizer_states" in torch.load(done.best, weights_only=True)


def test_a_run_whose_time_is_over_is_not_over(finished: Finished) -> None:
    flags: dict[str, Any] = {"max_epochs": 1000, "keep_checkpoints": "none", "monitor": "valid/loss"}
    done = finished.run("time", "train", "valid", "test", max_time="00:00:00:01", **flags)
    assert done.last.exists()
    # the best state is an early one, to whose time a test sets the timer back
    finished.run("time", "train", "valid", "test", max_time="00:00:00:02", resume=True, **flags)
    assert done.last.exists()
