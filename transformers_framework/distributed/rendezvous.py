"""Rendezvous of the ranks of a run: they wait for each other, log which are missing, and exit if a node refuses."""

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

from transformers_framework.distributed.nodes import MasterAddress, Participant, RendezvousError, RendezvousTimeoutError
from transformers_framework.distributed.sockets import (
    LOOPBACK,
    Listener,
    connect,
    duration,
    listen,
    reason_of,
    send_json,
)
from transformers_framework.exceptions import printable

POLL, POLL_STARTED = 0.2, 1.0  # seconds between two polls, before and after the start
LOG_INTERVAL = 60.0  # seconds between two log lines about missing ranks
STATUS_INTERVAL = 10.0  # seconds between two status messages of the first node
STATUS_TIMEOUT = 30.0  # seconds without a status message until the first node is considered frozen
NOTIFY_TIMEOUT = 60.0  # seconds for which a node that refuses to start tries to notify the others

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)  # the first rank of each node logs


class Rendezvous:
    """Rendezvous of all ranks: they connect to rank 0 and start when all have joined.

    Args:
        timeout: Seconds to wait for all ranks.
    """

    def __init__(self, timeout: float = 1800.0) -> None:
        self.timeout = timeout
        self.server: RendezvousServer | None = None

    def __enter__(self) -> Rendezvous:
        """Listen on the first node before it loads data, so that another node can report that it refuses to start.

        Raises:
            RendezvousError: When the address of the first node is unknown, or its port is in use.
        """
        if (master := MasterAddress.of(os.environ)) is not None:
            master.check()
            if master.node == 0:
                self.server = RendezvousServer(master.listen())
        return self

    def __exit__(self, *error: object) -> None:
        """Close the server of the first node."""
        if self.server is not None:
            self.server.close()
            self.server = None

    def store(self, me: Participant, master: MasterAddress, check_alive: Callable[[], None] = lambda: None) -> Any:
        """Wait for all ranks; return the key-value store of rank 0 to initialize the process group.

        Args:
            me: This rank.
            master: Address of the rendezvous.
            check_alive: Raises when a process that this one launched has ended.

        Raises:
            RendezvousError: When a node refuses, or the ranks are not of the same run.
            RendezvousTimeoutError: When some have not joined in time.
        """
        from torch.distributed import TCPStore

        options: dict[str, Any] = {"timeout": timedelta(seconds=self.timeout), "wait_for_workers": False}
        if me.rank > 0:
            return TCPStore(master.address, self.wait_for_all(me, master, check_alive), is_master=False, **options)
        server = listen(master.address)
        port = int(server.getsockname()[1])
        store = TCPStore(LOOPBACK, port, is_master=True, master_listen_fd=server.detach(), **options)
        self.wait_for_all(me, master, check_alive, port)
        return store

    def wait_for_all(
        self, me: Participant, master: MasterAddress, check_alive: Callable[[], None] = lambda: None, port: int = 0
    ) -> int:
        """Wait until all ranks have joined; return the port that rank 0 announces.

        Args:
            me: This rank.
            master: Address of the rendezvous.
            check_alive: Raises when a process that this one launched has ended.
            port: Port that rank 0 announces.

        Raises:
            RendezvousError: When a node refuses, or the ranks are not of the same run.
            RendezvousTimeoutError: When some have not joined in time.
        """
        if me.rank == 0:
            self.server = self.server or RendezvousServer(master.listen())
        waiting = self.server.wait(me, port) if self.server is not None else register(me, master)
        start = report = time.monotonic()
        report += 0.0 if me.nodes > 1 else LOG_INTERVAL
        for state in waiting:
            if isinstance(state, int):
                return state
            check_alive()
            left = start + self.timeout - time.monotonic()
            if left <= 0:
                raise RendezvousTimeoutError(
                    f"Timeout after waiting {duration(self.timeout)} at {master} for {state} (--rendezvous_timeout). "
                    "Start the same command there, read its last messages, and check that no firewall closes the port."
                )
            if state and me.logs and time.monotonic() >= report:
                report = time.monotonic() + LOG_INTERVAL
                logger.info("Waiting at %s for %s; giving up in %s", master, state, duration(left))
        raise AssertionError("waiting ends with a port or an error")

    def late_refusal(self) -> str:
        """Return the reason why a node of this run has refused since the start, an empty string if no node has."""
        return self.server.refusal if self.server is not None else ""


class RendezvousServer:
    """Server on the first node, in a thread, to which the other ranks connect.

    Args:
        server: Listening socket.
        refusal: Reason why this node refuses to start, if it does.
    """

    def __init__(self, server: socket.socket, refusal: str = "") -> None:
        self.socket, self.listener = server, Listener(server)
        self.refusal = refusal
        self.notified: set[int] = set()  # nodes that have received the refusal
        self.expected: int | None = None  # number of nodes to notify
        self.participants: dict[socket.socket, Participant] = {}
        self.me: Participant | None = None
        self.all_joined = threading.Event()
        self.closed = threading.Event()
        self.store_port = 0
        self.thread = threading.Thread(target=self._serve, name="rendezvous", daemon=True)
        self.thread.start()

    def wait(self, me: Participant, store_port: int) -> Iterator[str | int]:
        """Yield who is missing until all have joined, then the port."""
        self.store_port, self.expected = store_port, me.nodes - 1
        self.me = me
        while not self.all_joined.wait(POLL):
            if self.refusal:
                self.notify_all()
                raise RendezvousError(self.refusal)
            yield me.missing(self.ranks())
        yield store_port

    def notify_all(self) -> None:
        """Wait until all other nodes know the refusal, or the timeout has passed."""
        end = time.monotonic() + NOTIFY_TIMEOUT
        while time.monotonic() < end and (self.expected is None or len(self.notified) < self.expected):
            time.sleep(POLL)

    def ranks(self) -> list[int]:
        """Return the ranks that have joined."""
        return [0, *(participant.rank for participant in list(self.participants.values()))]

    def close(self) -> None:
        """End the thread and close all connections."""
        self.closed.set()
        self.thread.join(timeout=2 * POLL_STARTED)

    def _serve(self) -> None:
        reported = time.monotonic()
        while not self.closed.is_set():
            for connection, message in self.listener.receive(POLL_STARTED if self.all_joined.is_set() else POLL):
                self._answer(connection, message)
            if self.me is not None and not self.refusal:
                for connection, participant in list(self.participants.items()):
                    if wrong := self._mismatch(connection, participant):
                        logger.warning("Refused a process with NODE_RANK %d: %s", participant.node, wrong)
                        send_json(connection, {"wrong": wrong})
                        self._lose(connection)
                if len(self.participants) == self.me.world_size - 1 and not self.all_joined.is_set():
                    self._send_all({"go": self.store_port})
                    self.all_joined.set()
            if time.monotonic() > reported + STATUS_INTERVAL:
                reported = time.monotonic()
                self._send_all({"missing": self.me.missing(self.ranks()) if self.me else "the first node"})
        self.listener.close()
        self.socket.close()

    def _answer(self, connection: socket.socket, message: Any) -> None:
        started = self.all_joined.is_set()
        if not isinstance(message, dict):  # closed, or not a process of this program
            self._lose(connection)
        elif isinstance(text := message.get("refuses"), str) and isinstance(message.get("node"), int):
            if not started or (self.me is not None and message.get("name") == self.me.name):
                self.refusal = self.refusal or f"Node {message['node']} of this run refuses to start: {printable(text)}"
                self.notified.add(message["node"])
                for other, participant in list(self.participants.items()):
                    self._send_refusal(other, participant)
        elif (new := Participant.of(message)) is None:
            self._lose(connection)
        elif started:
            send_json(connection, {"wrong": self._mismatch(connection, new)})
        else:
            self.participants[connection] = new
            self.listener.identified.add(connection)
            if self.refusal:
                self._send_refusal(connection, new)
            else:
                send_json(connection, {"missing": self.me.missing(self.ranks()) if self.me else "the first node"})

    def _mismatch(self, connection: socket.socket, participant: Participant) -> str:
        """Return the reason why a rank does not belong to this run, an empty string if it does."""
        assert self.me is not None
        for name, flag in (("name", "--name"), ("world_size", "WORLD_SIZE")):
            if (there := getattr(participant, name)) != getattr(self.me, name):
                return (
                    f"{flag} is {there!r} on this node and {getattr(self.me, name)!r} on the first node. Give "
                    "the same command on every node, and another MASTER_PORT to each run."
                )
        others = {other.rank for it, other in self.participants.items() if it is not connection}
        if self.all_joined.is_set() or participant.rank in {0, *others}:
            return (
                f"Another node has NODE_RANK {participant.node} already. Set it to 0 on the first node, 1 on the next, "
                "and so on."
            )
        return ""

    def _send_refusal(self, connection: socket.socket, participant: Participant) -> None:
        if send_json(connection, {"refused": self.refusal}):
            self.notified.add(participant.node)
            self.expected = participant.nodes - 1 if self.expected is None else self.expected

    def _send_all(self, message: Any) -> None:
        for connection in list(self.participants):
            if not send_json(connection, message):
                self._lose(connection)

    def _lose(self, connection: socket.socket) -> None:
        self.participants.pop(connection, None)
        self.listener.remove(connection)


def register(me: Participant, master: MasterAddress) -> Iterator[str | int]:
    """Register at rank 0 and yield the missing ranks, then the port that rank 0 announces.

    Raises:
        RendezvousError: When a node refuses, or this rank does not belong to the run.
    """
    state = "the first node"
    while True:
        try:
            connection = connect(master.address, master.port, timeout=5)
        except OSError as error:
            yield f"the first node ({reason_of(error)})"
            time.sleep(POLL)
        else:
            send_json(connection, me._asdict())
            state = yield from _listen(connection, state)


def _listen(connection: socket.socket, state: str) -> Generator[str | int, None, str]:
    """Yield the status messages of rank 0 until the connection ends; return why it ended."""
    listener, last = Listener(), time.monotonic()
    listener.add(connection)
    with contextlib.closing(listener):
        while time.monotonic() < last + STATUS_TIMEOUT:
            for _, message in listener.receive(POLL):
                if message is None:
                    time.sleep(POLL)
                    return "the first node (it has closed the connection)"
                last = time.monotonic()
                if not isinstance(message, dict):
                    continue
                if "go" in message:
                    yield int(message["go"])
                if "refused" in message:
                    raise RendezvousError(printable(str(message["refused"])))
                if "wrong" in message:
                    raise RendezvousError(printable(str(message["wrong"])))
                state = printable(str(message.get("missing", state)))
            yield state
    return "the first node (another program answers there, or the node is frozen)"


def refuse(master: MasterAddress | None, reason: str, name: str = "") -> None:
    """Notify the other nodes that this node refuses to start, if the user started the run on several nodes.

    Args:
        master: Address of the rendezvous.
        reason: Error message of this node.
        name: Name of the run, if known.
    """
    torch = sys.modules.get("torch")
    if master is None or (torch is not None and torch.distributed.is_initialized()):  # else they detect the end
        return
    with contextlib.suppress(RendezvousError, KeyboardInterrupt):
        master.check()
        sys.stderr.write(f"Notifying the other nodes for up to {duration(NOTIFY_TIMEOUT)}; press Ctrl-C to stop now\n")
        if master.node == 0:
            server = RendezvousServer(master.listen(), f"The first node of this run refuses to start: {reason[:2000]}")
            server.notify_all()
            server.close()
            return
        message = {"refuses": reason[:2000], "node": master.node, "name": name}
        end = time.monotonic() + NOTIFY_TIMEOUT
        while time.monotonic() < end and not _notify(master, message):
            time.sleep(POLL)


def _notify(master: MasterAddress, message: Any) -> bool:
    try:
        with connect(master.address, master.port, timeout=5) as connection:
            return send_json(connection, message)
    except OSError:
        return False
