"""Where the nodes of a run meet at its start, say for whom they wait, and learn when one refuses its flags."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta
from typing import Any

from transformers_framework.distributed.nodes import AbsentError, ApartError, Member, Place
from transformers_framework.distributed.sockets import (
    LOOPBACK,
    Listener,
    connect,
    duration,
    listen,
    reason_of,
    say,
)
from transformers_framework.exceptions import printable

LOOK, STARTED = 0.2, 1.0  # seconds between two looks at who is there, before and after the start
REPORT = 60.0  # seconds between two lines that say for whom is waited
PULSE = 10.0  # seconds between two lines of the first node to each that waits
SILENCE = 30.0  # seconds without one: what answers is no run, or is frozen
STAY = 60.0  # seconds in which the first node tells the others that it refuses

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)  # the first process of each node speaks


class Rendezvous:
    """The ranks of a run meet: they connect to the first one, which lets all go on when all are there.

    Args:
        timeout: Seconds that they wait for each other.
    """

    def __init__(self, timeout: float = 1800.0) -> None:
        self.timeout = timeout
        self.host: Host | None = None

    def __enter__(self) -> Rendezvous:
        """Let the first node listen, before it loads data: others may have to say that they refuse.

        Raises:
            ApartError: When the first node's address is unknown, or its port is taken.
        """
        if (place := Place.of(os.environ)) is not None:
            place.check()
            if place.node == 0:
                self.host = Host(place.listen())
        return self

    def __exit__(self, *error: object) -> None:
        """Listen no longer."""
        if self.host is not None:
            self.host.close()
            self.host = None

    def store(self, me: Member, place: Place, alive: Callable[[], None] = lambda: None) -> Any:
        """Return the key-value store of the first rank, from which PyTorch makes the process group.

        Args:
            me: This rank.
            place: Where to meet.
            alive: Raises when a process that this one has started is gone.

        Raises:
            ApartError: When a node refuses, or the ranks do not fit together.
            AbsentError: When some are not there in time.
        """
        from torch.distributed import TCPStore

        options: dict[str, Any] = {"timeout": timedelta(seconds=self.timeout), "wait_for_workers": False}
        if me.rank > 0:
            return TCPStore(place.address, self.meet(me, place, alive), is_master=False, **options)
        server = listen(place.address)
        port = int(server.getsockname()[1])
        store = TCPStore(LOOPBACK, port, is_master=True, master_listen_fd=server.detach(), **options)
        self.meet(me, place, alive, port)
        return store

    def meet(self, me: Member, place: Place, alive: Callable[[], None] = lambda: None, port: int = 0) -> int:
        """Wait until all ranks are there; return the port that the first one gives.

        Args:
            me: This rank.
            place: Where to meet.
            alive: Raises when a process that this one has started is gone.
            port: What the first rank gives.

        Raises:
            ApartError: When a node refuses, or the ranks do not fit together.
            AbsentError: When some are not there in time.
        """
        if me.rank == 0:
            self.host = self.host or Host(place.listen())
        waiting = self.host.wait(me, port) if self.host is not None else arrive(me, place)
        start = report = time.monotonic()
        report += 0.0 if me.nodes > 1 else REPORT
        for state in waiting:
            if isinstance(state, int):
                return state
            alive()
            left = start + self.timeout - time.monotonic()
            if left <= 0:
                raise AbsentError(
                    f"Waited {duration(self.timeout)} at {place} for {state}, in vain (--rendezvous_timeout). "
                    "Start the same command there, see what it said last, and whether a firewall closes the port."
                )
            if state and me.speaks and time.monotonic() >= report:
                report = time.monotonic() + REPORT
                logger.info("Waiting at %s for %s; giving up in %s", place, state, duration(left))
        raise AssertionError("who waits is told how it ends")

    def late_refusal(self) -> str:
        """Return why a node of this run has refused since the start; nothing when none has."""
        return self.host.refusal if self.host is not None else ""


class Host:
    """What listens on the first node and answers the other ranks, in a thread of its own.

    Args:
        server: Socket that others connect to.
        refusal: Why this node refuses, where it does.
    """

    def __init__(self, server: socket.socket, refusal: str = "") -> None:
        self.server, self.listener = server, Listener(server)
        self.refusal = refusal
        self.told: set[int] = set()  # nodes that know of it
        self.expected: int | None = None  # how many there are to tell
        self.members: dict[socket.socket, Member] = {}
        self.me: Member | None = None
        self.all_there = threading.Event()
        self.closed = threading.Event()
        self.store_port = 0
        self.thread = threading.Thread(target=self._serve, name="rendezvous", daemon=True)
        self.thread.start()

    def wait(self, me: Member, store_port: int) -> Iterator[str | int]:
        """Yield who is missing, again and again; in the end the port."""
        self.store_port, self.expected = store_port, me.nodes - 1
        self.me = me
        while not self.all_there.wait(LOOK):
            if self.refusal:
                self.tell_all()
                raise ApartError(self.refusal)
            yield me.missing(self.ranks())
        yield store_port

    def tell_all(self) -> None:
        """Wait until all other nodes know of the refusal, for as long as they may take to come."""
        end = time.monotonic() + STAY
        while time.monotonic() < end and (self.expected is None or len(self.told) < self.expected):
            time.sleep(LOOK)

    def ranks(self) -> list[int]:
        """Return the ranks that are there."""
        return [0, *(member.rank for member in list(self.members.values()))]

    def close(self) -> None:
        """End the thread and close all connections."""
        self.closed.set()
        self.thread.join(timeout=2 * STARTED)

    def _serve(self) -> None:
        pulse = time.monotonic()
        while not self.closed.is_set():
            for connection, message in self.listener.heard(STARTED if self.all_there.is_set() else LOOK):
                self._answer(connection, message)
            if self.me is not None and not self.refusal:
                for connection, member in list(self.members.items()):
                    if wrong := self._wrong(connection, member):
                        logger.warning("Refused a process with NODE_RANK %d: %s", member.node, wrong)
                        say(connection, {"wrong": wrong})
                        self._lose(connection)
                if len(self.members) == self.me.world_size - 1 and not self.all_there.is_set():
                    self._say_all({"go": self.store_port})
                    self.all_there.set()
            if time.monotonic() > pulse + PULSE:
                pulse = time.monotonic()
                self._say_all({"missing": self.me.missing(self.ranks()) if self.me else "the first node"})
        self.listener.close()
        self.server.close()

    def _answer(self, connection: socket.socket, message: Any) -> None:
        started = self.all_there.is_set()
        if not isinstance(message, dict):  # gone, or a stranger
            self._lose(connection)
        elif isinstance(text := message.get("refuses"), str) and isinstance(message.get("node"), int):
            if not started or (self.me is not None and message.get("name") == self.me.name):
                self.refusal = self.refusal or f"Node {message['node']} of this run refuses: {printable(text)}"
                self.told.add(message["node"])
                for other, member in list(self.members.items()):
                    self._say_refusal(other, member)
        elif (new := Member.of(message)) is None:
            self._lose(connection)
        elif started:
            say(connection, {"wrong": self._wrong(connection, new)})
        else:
            self.members[connection] = new
            self.listener.known.add(connection)
            if self.refusal:
                self._say_refusal(connection, new)
            else:
                say(connection, {"missing": self.me.missing(self.ranks()) if self.me else "the first node"})

    def _wrong(self, connection: socket.socket, member: Member) -> str:
        """Say why a rank does not belong to this run; nothing when it does."""
        assert self.me is not None
        for name, flag in (("name", "--name"), ("world_size", "WORLD_SIZE")):
            if (there := getattr(member, name)) != getattr(self.me, name):
                return (
                    f"{flag} is {there!r} on this node and {getattr(self.me, name)!r} on the first one: give "
                    "the same command on every node, and each run a MASTER_PORT of its own."
                )
        others = {other.rank for it, other in self.members.items() if it is not connection}
        if self.all_there.is_set() or member.rank in {0, *others}:
            return (
                f"another node has NODE_RANK {member.node} already: set it to 0 on the first node, 1 on the next, "
                "and so on."
            )
        return ""

    def _say_refusal(self, connection: socket.socket, member: Member) -> None:
        if say(connection, {"refused": self.refusal}):
            self.told.add(member.node)
            self.expected = member.nodes - 1 if self.expected is None else self.expected

    def _say_all(self, message: Any) -> None:
        for connection in list(self.members):
            if not say(connection, message):
                self._lose(connection)

    def _lose(self, connection: socket.socket) -> None:
        self.members.pop(connection, None)
        self.listener.remove(connection)


def arrive(me: Member, place: Place) -> Iterator[str | int]:
    """Yield for whom the first rank waits, again and again; in the end the port that it gives.

    Raises:
        ApartError: When a node refuses, or this rank does not belong to the run.
    """
    state = "the first node"
    while True:
        try:
            connection = connect(place.address, place.port, timeout=5)
        except OSError as error:
            yield f"the first node ({reason_of(error)})"
            time.sleep(LOOK)
        else:
            say(connection, me._asdict())
            state = yield from _listen(connection, state)


def _listen(connection: socket.socket, state: str) -> Generator[str | int, None, str]:
    """Yield what the first rank says until the connection ends; return why it did."""
    listener, last = Listener(), time.monotonic()
    listener.add(connection)
    with contextlib.closing(listener):
        while time.monotonic() < last + SILENCE:
            for _, message in listener.heard(LOOK):
                if message is None:
                    time.sleep(LOOK)
                    return "the first node (it has closed the connection)"
                last = time.monotonic()
                if not isinstance(message, dict):
                    continue
                if "go" in message:
                    yield int(message["go"])
                if "refused" in message:
                    raise ApartError(printable(str(message["refused"])))
                if "wrong" in message:
                    raise ApartError(printable(str(message["wrong"])))
                state = printable(str(message.get("missing", state)))
            yield state
    return "the first node (what answers there is no run of this program, or it is frozen)"


def refuse(place: Place | None, reason: str, name: str = "") -> None:
    """Tell the other nodes of a run that this one refuses, where the user has started it on several.

    Args:
        place: Where they meet.
        reason: What it says itself.
        name: Name of the run, where that is known.
    """
    torch = sys.modules.get("torch")
    if place is None or (torch is not None and torch.distributed.is_initialized()):  # else they see how it ends
        return
    with contextlib.suppress(ApartError, KeyboardInterrupt):
        place.check()
        sys.stderr.write(f"Telling the other nodes, for up to {duration(STAY)}; press Ctrl-C to stop now\n")
        if place.node == 0:
            host = Host(place.listen(), f"The first node of this run refuses: {reason[:2000]}")
            host.tell_all()
            host.close()
            return
        message = {"refuses": reason[:2000], "node": place.node, "name": name}
        end = time.monotonic() + STAY
        while time.monotonic() < end and not _told(place, message):
            time.sleep(LOOK)


def _told(place: Place, message: Any) -> bool:
    try:
        with connect(place.address, place.port, timeout=5) as connection:
            return say(connection, message)
    except OSError:
        return False
