"""Workers of the data loader: one that hangs when it is started is replaced, none is waited for in vain."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from tests.runs import ROOT
from transformers_framework import workers
from transformers_framework.exceptions import RunError
from transformers_framework.runtime.failures import explanation
from transformers_framework.workers import WorkerStartUp


class Hanging(WorkerStartUp):
    """Lets processes hang as often as there are files, each of which one of them takes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __call__(self, number: int) -> None:
        for file in sorted(self.folder.iterdir()):
            file.unlink(missing_ok=True)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        super().__call__(number)


def loader_with(start_up: WorkerStartUp, persistent: bool = False) -> Any:
    return DataLoader(range(20), batch_size=4, num_workers=2, worker_init_fn=start_up, persistent_workers=persistent)  # type: ignore[arg-type]


@pytest.mark.parametrize("persistent", [True, False])
def test_what_hangs_is_started_again(
    persistent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "START_TIMEOUT", 0.5)
    for number in range(2):  # of the first and the second start
        (tmp_path / str(number)).touch()
    loader = loader_with(start_up := Hanging(tmp_path), persistent)
    for _ in range(2):  # epochs
        rows = [row for batch in start_up.iterator(loader) for row in batch.tolist()]
        assert sorted(rows) == list(range(20))
    assert 1 <= caplog.text.count("did not start; starting them again") <= 2


def test_what_never_begins_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "START_TIMEOUT", 0.2)
    for number in range(10):
        (tmp_path / str(number)).touch()
    start_up = Hanging(tmp_path)
    with pytest.raises(RunError, match="did not start in 4 attempts"):
        start_up.iterator(loader_with(start_up))


def test_what_dies_is_for_the_loader_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying(WorkerStartUp):
        def __call__(self, number: int) -> None:
            raise SystemExit(3)

    start_up = Dying()
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(start_up.iterator(loader_with(start_up)))
    assert time.monotonic() - start < workers.START_TIMEOUT / 2


RUN = """
import os, signal, sys
import torch
from torch.utils.data import DataLoader
from transformers_framework.workers import WorkerStartUp

start_up = WorkerStartUp()
loader = DataLoader(torch.arange(8), num_workers=1, worker_init_fn=start_up, persistent_workers=True)
for _ in start_up.iterator(loader):
    pass
assert any(name.startswith("pymp-") for name in os.listdir(os.environ["TMPDIR"]))
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("end", ["done", "killed"])
def test_no_folder_of_sockets_is_left_behind(end: str, tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, end], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == (0 if end == "done" else -signal.SIGKILL), done.stderr
    last = time.monotonic() + 30  # a worker asks every 5 s whether its run is still there
    while left := list(tmp_path.glob("pymp-*")):
        assert time.monotonic() < last, left
        time.sleep(0.1)


def test_a_killed_process_leaves_the_folder_of_the_one_it_was_forked_from() -> None:
    folder = Path(WorkerStartUp().socket_folder)
    assert Path(WorkerStartUp().socket_folder) == folder
    if not (child := os.fork()):
        start_up = WorkerStartUp()
        loader = loader_with(start_up, persistent=True)
        for _ in start_up.iterator(loader):
            pass
        os.kill(os.getpid(), signal.SIGKILL if Path(start_up.socket_folder) != folder else signal.SIGTERM)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    time.sleep(6)  # its workers ask every 5 s whether it is still there
    assert folder.exists()


class Unsendable:
    """Cannot be sent to another process."""

    def __reduce__(self) -> Any:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


def test_a_batch_that_cannot_be_sent_ends_the_run() -> None:
    start_up = WorkerStartUp()
    loader: Any = DataLoader(
        [[0], [1]],  # type: ignore[arg-type]
        batch_size=None,
        num_workers=1,
        worker_init_fn=start_up,
        collate_fn=lambda row: Unsendable() if row == [1] else row,
    )
    batches = start_up.iterator(loader)
    assert next(batches) == [0]
    with pytest.raises(RuntimeError, match="No space left on device") as caught:
        next(batches)
    assert "/dev/shm" in str(explanation(caught.value, Path("out")))


def test_processes_that_cannot_be_started_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    start_up = WorkerStartUp()
    loader = loader_with(start_up)

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter", refuse)
    with pytest.raises(RunError, match=r"cannot be started \(Resource temporarily unavailable\). Use fewer --num_work"):
        start_up.iterator(loader)
