"""Runs that have not ended yet, in processes of their own: to be watched, told to leave and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import runs


class Started:
    """A run in processes of its own that has not ended yet."""

    def __init__(self, tmp_path: Path, *, env: dict[str, str] | None = None, **flags: Any) -> None:
        words = runs.command(tmp_path, **flags)
        self.folders, self.log = runs.folders_of(words), tmp_path / f"{len(list(tmp_path.glob('*.log')))}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "transformers_framework", *words],
                env={**os.environ, "PYTHONPATH": str(runs.ROOT), "OMP_NUM_THREADS": "1", **(env or {})},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_until(self, happened: Callable[[], Any], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.05)

    def ends(self, seconds: float) -> int:
        """Return the exit status; nothing that it started may be left a little later."""
        try:
            status = self.process.wait(timeout=seconds)
            end = time.monotonic() + 10
            while self.members() and time.monotonic() < end:
                time.sleep(0.05)
            assert not self.members(), self.said
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running: {self.said}") from None
        return status

    def members(self) -> list[int]:
        """Return the processes of the run: those of its session that are no zombies."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                found.append(int(path.parent.name))
        return sorted(found)

    @staticmethod
    def lives_on(pid: int, seconds: float = 10) -> bool:
        """Tell whether a process is there a little later still."""
        end = time.monotonic() + seconds
        while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
            time.sleep(0.1)
        return Path(f"/proc/{pid}").exists()

    def kill(self) -> None:
        """End all processes of the run."""
        for pid in self.members():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
