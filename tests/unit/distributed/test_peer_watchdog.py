"""Processes learn of each other's death by the connection that breaks, of a freeze by the heartbeat that stops."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from transformers_framework.distributed import peer_watchdog
from transformers_framework.distributed.peer_watchdog import PeerWatchdog


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Statuses that processes would have ended with; nothing is waited for."""
    found: list[int] = []
    monkeypatch.setattr(os, "_exit", found.append)
    monkeypatch.setattr(peer_watchdog, "GRACE", 0.0)
    monkeypatch.setattr(peer_watchdog, "CONNECT_TIMEOUT", 5.0)
    return found


def three(before: Callable[[int], None] = lambda port: None) -> list[PeerWatchdog]:
    """Return the ends of three processes, as threads of this one."""
    told, there = threading.Event(), []
    made: dict[int, PeerWatchdog] = {}

    def broadcast(mine: Any) -> Any:
        if mine is not None:
            there.append(mine)
            before(mine[0])
            told.set()
        told.wait()
        return there[0]

    def make(rank: int) -> None:
        made[rank] = PeerWatchdog(rank, 3, broadcast, "127.0.0.1")

    threads = [threading.Thread(target=make, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    return [made[rank] for rank in range(3)]


def die(line: PeerWatchdog) -> None:
    """Break the connections of a process, as its death would."""
    line._finished.set()
    for peer in line._peers:
        with contextlib.suppress(OSError):  # the other side was faster
            peer.shutdown(socket.SHUT_RDWR)


def until(happened: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not happened() and time.monotonic() < end:
        time.sleep(0.01)
    assert happened()


def test_all_end_when_one_dies(ended: list[int], capsys: Any) -> None:
    first, second, third = three()
    die(second)
    until(lambda: len(ended) == 2)
    assert ended == [1, 1]
    said = capsys.readouterr().err
    assert said.count(f"process 1 (pid {os.getpid()} on {socket.gethostname()}) has died") == 2
    assert first.lost == third.lost
    assert first.explains(RuntimeError("Connection closed by peer"))


def test_all_end_when_the_first_dies(ended: list[int]) -> None:
    first, second, third = three()
    die(first)
    until(lambda: len(ended) == 2)
    assert second.lost == third.lost == "process 0 (on 127.0.0.1)"


def test_who_leaves_well_ends_no_one(ended: list[int]) -> None:
    lines = three()
    for line in (lines[1], lines[0], lines[2]):
        line.finish()
        die(line)
    time.sleep(0.3)
    assert ended == []
    assert not any(line.explains(ValueError("wrong")) for line in lines)


def test_strangers_are_sent_away(ended: list[int]) -> None:
    strangers = []

    def come(port: int) -> None:
        strangers.append(socket.create_connection(("127.0.0.1", port)))
        strangers[0].sendall(b'{"secret": "guessed", "who": "process 1"}\n')

    lines = three(come)
    assert strangers[0].recv(1) == b""
    assert len(lines[0]._peers) == 2
    assert ended == []
    for line in lines:
        line.finish()


def test_strangers_delay_nobody(ended: list[int]) -> None:
    """Whether they say nothing, send a byte now and then, or a line that does not end."""
    strangers: list[socket.socket] = []
    done = threading.Event()

    def come(port: int) -> None:
        for _ in range(30):
            strangers.append(socket.create_connection(("127.0.0.1", port)))
        for stranger in strangers[20:]:
            stranger.sendall(b"x" * 30_000)
        threading.Thread(target=drip).start()

    def drip() -> None:
        while not done.wait(0.1):
            for stranger in strangers[:10]:
                with contextlib.suppress(OSError):
                    stranger.sendall(b"x")

    before = time.monotonic()
    lines = three(come)
    done.set()
    assert time.monotonic() - before < peer_watchdog.CONNECT_TIMEOUT
    assert len(lines[0]._peers) == 2
    for stranger in strangers:
        stranger.close()
    assert ended == []
    for line in lines:
        line.finish()
