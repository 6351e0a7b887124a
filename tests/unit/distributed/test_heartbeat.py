"""A process that is stopped is named and ends the run; one that is busy, however busy, is not."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.interrupted import CONTEXT
from transformers_framework.distributed import peer_watchdog
from transformers_framework.distributed.peer_watchdog import PeerWatchdog

HOLDS = 4  # seconds


def second(pipe: Any, hang_timeout: float) -> None:
    """Be the second process of a run, which holds Python's lock for seconds when it is told to."""
    line = PeerWatchdog(1, 2, lambda _: pipe.recv(), "127.0.0.1", hang_timeout=hang_timeout)
    pipe.send("there")
    while pipe.recv() == "hold":
        ctypes.PyDLL(None).sleep(HOLDS)
        pipe.send("held")
    line.finish()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What was logged of other processes."""
    monkeypatch.setattr(logging.getLogger("transformers_framework"), "propagate", True)
    return lambda: "\n".join(record.message for record in caplog.records)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], tuple[PeerWatchdog, Any, Any]]]:
    """Makes the first process of a run, and the second in a process of its own."""
    monkeypatch.setattr(peer_watchdog, "GRACE", 0.0)
    monkeypatch.setattr(peer_watchdog, "TICK", 0.2)
    monkeypatch.setattr(peer_watchdog, "WARN_AFTER", 1.0)
    processes = []

    def start(hang_timeout: float) -> tuple[PeerWatchdog, Any, Any]:
        ours, theirs = CONTEXT.Pipe()
        processes.append(process := CONTEXT.Process(target=second, args=(theirs, hang_timeout)))
        process.start()

        def broadcast(mine: Any) -> Any:
            ours.send(mine)
            return mine

        line = PeerWatchdog(0, 2, broadcast, "127.0.0.1", hang_timeout=hang_timeout)
        assert ours.recv() == "there"
        return line, process, ours

    yield start
    for process in processes:
        process.kill()
        process.join()


def until(happened: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.05)
    assert happened()


def test_a_stopped_process_is_named_and_ends_the_run(
    pair: Callable[..., Any], said: Callable[[], str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    _, process, _ = pair(3.0)
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: "has not answered for 1 second: it is stopped, or its machine or network is frozen." in said())
    assert f"process 1 (pid {process.pid} on " in said()
    assert ended == []
    until(lambda: ended == [1])
    told = capsys.readouterr().err
    assert "has not answered for 3 seconds (--hang_timeout), so process 0 exits too. It is stopped, or its" in told
    assert f"Kill it (kill -9 {process.pid}), then use --resume to continue from the last checkpoint" in told
    os.kill(process.pid, signal.SIGCONT)
    process.join(timeout=20)
    assert process.exitcode == 1, "it has learned that the run has ended"


def test_a_process_that_goes_on_in_time_ends_no_run(pair: Callable[..., Any], said: Callable[[], str]) -> None:
    line, process, pipe = pair(60.0)
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: "has not answered for 1 second" in said())
    assert "The run will stop in 59 seconds unless it answers (--hang_timeout)" in said()
    os.kill(process.pid, signal.SIGCONT)
    until(lambda: "answers again" in said())
    assert line.lost == ""
    pipe.send("leave")
    line.finish()


def test_a_busy_process_is_not_taken_for_dead(pair: Callable[..., Any], said: Callable[[], str]) -> None:
    """Not even by a call that lets no thread of Python run for longer than the timeout."""
    line, process, pipe = pair(HOLDS / 2)
    pipe.send("hold")
    assert pipe.recv() == "held"
    assert line.lost == ""
    assert said() == ""
    assert process.is_alive()
    pipe.send("leave")
    process.join(timeout=20)
    assert process.exitcode == 0
    line.finish()


def test_a_started_process_that_is_stopped_is_killed(pair: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would stay for ever: no other signal reaches it."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    line, process, _ = pair(2.0)
    line.children = [process]
    os.kill(process.pid, signal.SIGSTOP)
    process.join(timeout=20)
    assert process.exitcode == -signal.SIGKILL
    assert ended == [1]
