"""An error of all ranks of a machine is reported once, and none is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from transformers_framework.distributed import reports
from transformers_framework.distributed.reports import report_once

Report = Callable[[int | None, str], list[str]]


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Return a function that reports a message as a rank does, and returns what it writes."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(reports, "WAIT", 0.0)
    monkeypatch.delenv("SLURM_NTASKS", raising=False)

    def reported(rank: int | None, message: str) -> list[str]:
        for name, value in (("TORCHELASTIC_RUN_ID", "none"), ("LOCAL_RANK", str(rank))):
            if rank is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        written: list[str] = []
        report_once(message, lambda: written.append(message))
        return written

    return reported


def test_the_first_rank_reports_for_all(report: Report, tmp_path: Path) -> None:
    assert report(0, "a") == ["a"]
    assert report(1, "a") == []
    assert report(1, "b") == ["b"], "another error"
    assert report(0, "b") == ["b"], "the first rank always reports"
    assert report(None, "a") == ["a"], "without a launcher"
    assert len(list(tmp_path.iterdir())) == 2


def test_marks_of_earlier_runs_do_not_count_and_are_removed(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(0, "a")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert report(1, "a") == ["a"], "the launcher has started all ranks again"
    monkeypatch.setattr(reports, "FRESH", -1.0)
    assert report(1, "a") == ["a"]
    report(0, "b")
    (left,) = tmp_path.iterdir()
    assert "-1-" in left.name


def test_marks_of_another_user_stay_and_are_no_hindrance(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / f"{reports.PREFIX}of-another-user"
    other.touch()
    os.utime(other, (0, 0))

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "unlink", refused)
    assert report(0, "a") == ["a"]
    assert report(1, "a") == []


def test_a_rank_that_the_launcher_stops_reports_first(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 has failed for another reason, so that torchrun stops the others while they wait."""
    before = signal.getsignal(signal.SIGTERM)
    clock = SimpleNamespace(
        sleep=lambda _: signal.raise_signal(signal.SIGTERM), monotonic=time.monotonic, time=time.time
    )
    monkeypatch.setattr(reports, "time", clock)
    monkeypatch.setattr(reports, "WAIT", 600.0)
    assert report(1, "a") == ["a"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_folder_that_cannot_be_written_loses_nothing(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/absent")
    assert report(0, "a") == report(1, "a") == ["a"]
