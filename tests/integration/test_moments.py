"""Wherever a run is interrupted, the run that resumes it leaves what one that never was interrupted leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import moments, runs
from tests.integration import interrupted
from tests.moments import Sweep
from transformers_framework.storage.run_folders import RunFolders

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
VALIDATION, HOOK = "before on_validation_batch_end", "after on_batch_done"
# (moment, its occurrence, signal); in the run of moments.FLAGS the first validation of a moment is the sanity check
QUICK = [
    (VALIDATION, 3, signal.SIGTERM),  # in the first validation, after a checkpoint of the same batch
    (VALIDATION, -1, signal.SIGKILL),  # in the last validation
    (HOOK, -1, signal.SIGINT),  # after the last batch, before its validation
    ("before on_epoch_done", 1, signal.SIGKILL),
    ("before save", -1, signal.SIGKILL),  # when the run is over, before best.ckpt is reduced to its weights
]
SLOW = [
    *[(VALIDATION, occurrence, signum) for occurrence in (4, 6, 9, -2) for signum in SIGNALS],
    *[(HOOK, occurrence, signum) for occurrence in (1, 3, 9, 10) for signum in SIGNALS],
    *[(f"{when} on_validation_end", 2, signum) for when in ("before", "after") for signum in SIGNALS],
    *[("after on_train_epoch_end", occurrence, signal.SIGKILL) for occurrence in (1, -1)],
    *[("before Path.replace", occurrence, signal.SIGKILL) for occurrence in (2, 5, 8, 12, -1)],
    *[("after Path.rename", occurrence, signal.SIGKILL) for occurrence in (2, 5, -1)],
    *[("before Path.rename", occurrence, signal.SIGKILL) for occurrence in (2, 5, -1)],
    ("after KeptCheckpoints.on_run_end", 1, signal.SIGKILL),
    *[("before on_test_batch_end", 2, signum) for signum in SIGNALS],
    *[(f"{when} teardown", 1, signum) for when in ("before", "after") for signum in SIGNALS],
]


def rows(entries: list[tuple[str, int, signal.Signals]], *marks: pytest.MarkDecorator) -> list[object]:
    return [pytest.param(*entry, id=f"{entry[0]} {entry[1]} {entry[2].name}", marks=marks) for entry in entries]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return moments.short_run(tmp_path_factory.mktemp("moments"))


@pytest.mark.parametrize(("moment", "occurrence", "signum"), [*rows(QUICK), *rows(SLOW, pytest.mark.slow)])
def test_an_interrupted_run_leaves_what_a_whole_one_leaves(
    sweep: Sweep, moment: str, occurrence: int, signum: signal.Signals
) -> None:
    name = f"{moment}-{occurrence}-{signum.name}".replace(" ", "-")
    assert sweep.problems(name, sweep.at(moment, occurrence, signum)) == []


def test_interrupted_again_in_the_validation_with_which_it_resumes(sweep: Sweep) -> None:
    again = moments.Interruption(VALIDATION, 2, signal.SIGTERM)
    assert sweep.problems("twice", sweep.at(VALIDATION, -1, signal.SIGTERM), again, again) == []


@pytest.mark.parametrize("limit", ["max_steps", "early_stopping"])
def test_a_validation_that_ends_training_is_not_lost(tmp_path: Path, limit: str) -> None:
    """Interrupted in the last validation of a run that steps end within an epoch, or that stops early."""
    flags: dict[str, Any] = {"early_stopping": True, "patience": 1, "learning_rate": 1e-12}
    if limit == "max_steps":
        flags = {"max_steps": 3, "val_check_interval": 6}
    sweep = moments.short_run(tmp_path, **flags)
    for signum in (signal.SIGKILL, signal.SIGTERM):
        assert sweep.problems(signum.name, sweep.at(VALIDATION, -1, signum)) == []
    assert (sweep.whole.pre_trained_models / "best").is_dir()


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGHUP])
def test_other_signals_stop_a_run_as_sigterm_does(sweep: Sweep, signum: signal.Signals) -> None:
    assert sweep.problems(signum.name, sweep.at("before on_after_backward", 3, signum)) == []
    assert "Stopped at step 1;" in (sweep.folder / f"{signum.name}.log").read_text()


def test_a_second_interrupt_from_the_keyboard_writes_nothing(sweep: Sweep) -> None:
    """It may come in the middle of a step: the checkpoint before it is the one to go on from."""
    both = [sweep.at(f"{when} on_before_optimizer_step", 2, signal.SIGINT) for when in ("before", "after")]
    folders, status = sweep.run("at-once", *both)
    assert status == 130
    assert not folders.last.exists()
    folders, status = sweep.run("at-once", resume=True)
    assert status == 0
    assert moments.differences(folders, sweep.whole) == []


def second_is_told(names: Path) -> None:
    """Send SIGTERM to the second of two processes in the first validation."""
    rank = os.environ["LOCAL_RANK"]
    signals = [moments.Interruption("after on_validation_batch_start", 3, signal.SIGTERM)] if rank == "1" else []
    moments.watch(names.with_name(f"{names.name}.{rank}"), signals)


@pytest.mark.slow
def test_two_processes_stop_in_a_validation_of_which_one_is_told(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", moments.FLAGS["pipeline"], (40, 12, 0, 0))
    flags = {name: data[name] for name in ("train_dataset", "valid_dataset")} | {"devices": 2, "strategy": "ddp"}

    def go(name: str, prepare: Callable[[], None] | None = None, **more: Any) -> tuple[RunFolders, list[int]]:
        given = moments.FLAGS | flags | {"batch_size": 2, "max_epochs": 1}
        words = runs.command(tmp_path, output_dir=tmp_path / name, **given | more)
        return runs.folders_of(words), interrupted.run_together(words, tmp_path / f"{name}.log", 2, prepare)

    whole, _ = go("whole")
    assert go("told", partial(second_is_told, tmp_path / "moments"))[1] == [143, 143]
    told, statuses = go("told", resume=True)
    assert statuses == [0, 0]
    assert moments.differences(told, whole) == []
