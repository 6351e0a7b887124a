"""Processes that end together: when one dies, the others say so and end, instead of waiting for it for half an hour."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

LAST_WORDS = 5.0  # seconds for a process to fail in its own words once another has died
ARRIVAL = 60.0  # seconds for all processes to connect
# a machine that lost its power closes no connection: ask after 15 s of silence, give up 20 s later
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
BYE = "bye"

logger = logging.getLogger(__name__)


class Lifeline:
    """A connection from each process to the first, over which nothing is said until the end.

    The operating system closes the connections of a process that dies, however it dies, so none is needed to answer:
    a process that is busy for an hour is not taken for dead. Who leaves well says so first.

    Args:
        rank: Number of this process.
        world_size: Number of processes.
        broadcast: Gives an object of the first process to all.
        address: Name or address of the first process's machine.
    """

    def __init__(self, rank: int, world_size: int, broadcast: Callable[[Any], Any], address: str) -> None:
        self.rank, self.lost = rank, ""
        self._leaving = threading.Event()
        server = _server(world_size) if rank == 0 else None
        port, secret = broadcast((server.getsockname()[1], secrets.token_hex(16)) if server else None)
        me = {"secret": secret, "who": f"process {rank} (pid {os.getpid()} on {socket.gethostname()})"}
        self._peers: dict[socket.socket, str] = {}
        try:
            if server is None:
                self._peers[_connected(address, port)] = f"process 0 (on {address})"
                self._say(json.dumps(me))
            else:
                with server:
                    _await(server, world_size - 1, secret, self._peers)
        except OSError as error:  # as where a firewall stands between
            logger.warning("Not every process can be watched (%s): if one dies, others may wait for it.", error)
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def _say(self, text: str, *, but: socket.socket | None = None) -> None:
        for peer in self._peers:
            if peer is not but:
                with contextlib.suppress(OSError):
                    peer.sendall(f"{text}\n".encode())

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                selector.register(peer, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    other: Any = key.fileobj
                    if (text := _heard(other)) == BYE:
                        selector.unregister(other)
                    elif self._leaving.is_set():
                        return
                    else:
                        return self._end(text or self._peers[other], other)

    def _end(self, who: str, told_by: socket.socket) -> None:
        """End this process, whose main thread may wait for the dead one for ever; its own words come first."""
        self.lost = who
        self._say(who, but=told_by)
        time.sleep(LAST_WORDS)
        if not self._leaving.is_set():
            sys.stderr.write(f"error: {self.message}\n")
            sys.stderr.flush()
            os._exit(1)

    @property
    def message(self) -> str:
        """What there is to say of a process that died."""
        return (
            f"{self.lost} has died, so process {self.rank} ends too. What it said last may say why; killed without a "
            "word it was out of memory, most likely. --resume goes on from the last checkpoint."
        )

    def explains(self, error: BaseException) -> bool:
        """Tell whether an error came of the death of another process; news of that may be a moment behind it."""
        text = f"{type(error).__name__} {error}".lower()
        if not self.lost and any(word in text for word in ("gloo", "nccl", "connection", "peer", "distbackend")):
            time.sleep(LAST_WORDS / 2)
        return bool(self.lost)

    def leave(self) -> None:
        """Say that this process leaves because it is done."""
        self._leaving.set()
        self._say(BYE)


def _server(backlog: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=backlog)


def _connected(address: str, port: int) -> socket.socket:
    connection = socket.create_connection((address, port), timeout=ARRIVAL)
    connection.settimeout(None)
    return _kept_alive(connection)


def _kept_alive(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not everywhere
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _await(server: socket.socket, number: int, secret: str, peers: dict[socket.socket, str]) -> None:
    """Add the connection of each other process, and how to call it; strangers are sent away."""
    server.settimeout(ARRIVAL)
    while len(peers) < number:
        peer, _ = server.accept()
        peer.settimeout(ARRIVAL)
        try:
            greeting = json.loads(_heard(peer))
            known = secrets.compare_digest(str(greeting["secret"]), secret)
        except (ValueError, TypeError, KeyError, OSError):
            known = False
        if known:
            peer.settimeout(None)
            peers[_kept_alive(peer)] = str(greeting["who"])
        else:
            peer.close()


def _heard(peer: socket.socket) -> str:
    """Return a line; nothing when the other side is gone."""
    line = b""
    with contextlib.suppress(OSError):
        while not line.endswith(b"\n"):
            if not (byte := peer.recv(1)):
                return ""
            line += byte
    return line.decode(errors="replace").strip()
