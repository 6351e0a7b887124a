"""Processes that end together: when one dies or freezes, the others say so and end, instead of waiting for it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from transformers_framework.distributed.heartbeat import Heartbeat, Watched
from transformers_framework.distributed.sockets import Listener, connect, duration, listen, say
from transformers_framework.exceptions import printable

LAST_WORDS = 5.0  # seconds for a process to fail in its own words once another has died
ARRIVAL = 60.0  # seconds for all processes to connect
TICK = 1.0  # seconds between two looks at pulses
REPORT = 30.0  # seconds without a pulse until a process is named
BYE = "bye"
DIED, FROZEN, STOPPED, REFUSED = "died", "frozen", "stopped", "refused"
MESSAGES = {
    DIED: "{who} has died, so process {rank} ends too. What it said last may say why; killed without a word it was out "
    "of memory, most likely. --resume goes on from the last checkpoint.",
    FROZEN: "{who} has not answered for {time} (--hang_timeout), so process {rank} ends too. It is stopped, or its "
    "machine or network is frozen: end it (kill -9 {pid}), then --resume goes on from the last checkpoint.",
    STOPPED: "This process, {rank}, was stopped for more than {time} (--hang_timeout), and the others have ended. "
    "--resume goes on from the last checkpoint.",
    REFUSED: "{who} So process {rank} ends too.",
}

logger = logging.getLogger(__name__)


class PeerWatchdog:
    """A connection from each process to the first, over which nothing is said until the end.

    The operating system closes the connections of a process that dies, however it dies. One that is stopped, or whose
    machine is frozen, has no :class:`Heartbeat`; one that is busy for an hour has. Who leaves well says so first.

    Args:
        rank: Number of this process.
        world_size: Number of processes.
        broadcast: Gives an object of the first process to all.
        address: Name or address of the first process's machine.
        children: Processes that this one has started.
        refusal: Returns why another node has refused since; nothing when none has.
        hang_timeout: Seconds without an answer after which a process is taken for frozen.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        broadcast: Callable[[Any], Any],
        address: str,
        children: Sequence[Any] = (),
        refusal: Callable[[], str] = str,
        hang_timeout: float = 300.0,
    ) -> None:
        self.rank, self.lost, self.why, self.pid = rank, "", DIED, None
        self.children, self.refusal, self.hang_timeout = children, refusal, hang_timeout
        self._leaving = threading.Event()
        self._peers: dict[socket.socket, Watched] = {}
        self._pulse = Heartbeat(address)
        server, pid = listen(address) if rank == 0 else None, os.getpid()
        mine = [server.getsockname()[1], secrets.token_hex(16), self._pulse.port, pid] if server else None
        port, secret, pulse, first = broadcast(mine)
        try:
            if server is None:
                connection = connect(address, port, ARRIVAL)
                self._peers[connection] = Watched(f"process 0 (on {address})", first, address, pulse)
                who = f"process {rank} (pid {pid} on {socket.gethostname()})"
                say(connection, {"secret": secret, "who": who, "pid": pid, "pulse": self._pulse.port})
            else:
                with server:
                    _await(server, world_size - 1, secret, self._peers)
        except OSError as error:  # as where a firewall stands between
            logger.warning("Not every process can be watched (%s): if one dies, others may wait for it.", error)
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def _say(self, message: Any, *, but: socket.socket | None = None) -> None:
        for peer in list(self._peers):
            if peer is not but:
                say(peer, message)

    def _watch(self) -> None:
        listener, last = Listener(), time.monotonic()
        for peer in self._peers:
            listener.add(peer, known=True)
        watched = dict(self._peers)
        while watched:
            for peer, message in listener.heard(TICK):
                if message == BYE:
                    watched.pop(peer).forget()
                    listener.remove(peer, close=False)
                elif self._leaving.is_set():
                    return None
                elif isinstance(message, dict):  # of one that another process knows of
                    who, why = printable(str(message.get("who"))), str(message.get("why"))
                    return self._end(who, why, message.get("pid"), told_by=peer)
                else:
                    return self._end(watched[peer].who, DIED, told_by=peer)
            now = time.monotonic()
            passed, last = min(now - last, TICK), now  # a process that was stopped or busy itself has not waited
            if self._leaving.is_set():
                continue
            if text := self.refusal():
                return self._end(text, REFUSED)
            for other in watched.values():
                if self._is_frozen(other, other.wait(passed)):
                    return self._end(other.who, FROZEN, other.pid)
        return None

    def _is_frozen(self, other: Watched, silent: float) -> bool:
        """Tell whether a process has been silent for too long, and log that it is silent."""
        if other.is_named and silent < 2 * TICK:
            other.is_named = False
            logger.error("%s answers again", other.who)
        elif not other.is_named and silent >= min(REPORT, self.hang_timeout / 2):
            other.is_named = True
            logger.error(
                "%s has not answered for %s: it is stopped, or its machine or network is frozen. The run ends "
                "in %s unless it answers (--hang_timeout).",
                *(other.who, duration(silent), duration(self.hang_timeout - silent)),
            )
        return silent >= self.hang_timeout

    def _end(self, who: str, why: str, pid: Any = None, told_by: socket.socket | None = None) -> None:
        """End this process, whose main thread may wait for the lost one for ever; its own words come first."""
        is_mine = why == FROZEN and who.startswith(f"process {self.rank} (")
        self.lost, self.why, self.pid = who, STOPPED if is_mine else why, pid
        self._say({"who": who, "why": why, "pid": pid}, but=told_by)
        time.sleep(LAST_WORDS)
        if not self._leaving.is_set():
            sys.stderr.write(f"error: {self.message}\n")
            sys.stderr.flush()
            self.end_frozen()
            os._exit(1)

    def end_frozen(self) -> None:
        """End the process that is stopped, if this one has started it: it takes no other signal, and would stay."""
        for rank, child in enumerate(self.children, self.rank + 1):
            if self.why == FROZEN and self.lost.startswith(f"process {rank} ("):
                with contextlib.suppress(OSError):
                    os.kill(child.pid, signal.SIGKILL)

    @property
    def message(self) -> str:
        """What there is to say of a process that was lost."""
        text = MESSAGES.get(self.why, MESSAGES[DIED])
        return text.format(who=self.lost, rank=self.rank, pid=self.pid, time=duration(self.hang_timeout))

    def explains(self, error: BaseException) -> bool:
        """Tell whether an error came of the loss of another process; news of that may be a moment later."""
        text = f"{type(error).__name__} {error}".lower()
        if not self.lost and any(word in text for word in ("gloo", "nccl", "connection", "peer", "distbackend")):
            time.sleep(LAST_WORDS / 2)
        return bool(self.lost)

    def leave(self) -> None:
        """Say that this process leaves because it is done."""
        self._leaving.set()
        for other in self._peers.values():
            other.forget()
        self._say(BYE)


def _await(server: socket.socket, number: int, secret: str, peers: dict[socket.socket, Watched]) -> None:
    """Add the connection of each other process; strangers are sent away and delay nobody.

    Raises:
        TimeoutError: When some have not come in time.
    """
    listener, end = Listener(server), time.monotonic() + ARRIVAL
    while len(peers) < number and time.monotonic() < end:
        for connection, message in listener.heard(max(0.0, end - time.monotonic())):
            try:
                known = secrets.compare_digest(str(message["secret"]), secret)
                who, pid, pulse = printable(str(message["who"])), int(message["pid"]), int(message["pulse"])
            except (ValueError, TypeError, KeyError):
                known = False
            if not known:
                listener.remove(connection)
            elif connection not in peers:
                listener.known.add(connection)
                address = connection.getpeername()[0].removeprefix("::ffff:")
                peers[connection] = Watched(who, pid, address, pulse)
    listener.close(but=peers)
    if len(peers) < number:
        raise TimeoutError(f"{number - len(peers)} of {number} have not connected within {duration(ARRIVAL)}")
