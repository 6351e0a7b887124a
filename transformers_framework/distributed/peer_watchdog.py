"""Peer watchdog: when a rank dies or freezes, the other ranks report it and exit instead of hanging."""

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

from transformers_framework.distributed.heartbeat import Heartbeat, PeerHeartbeat
from transformers_framework.distributed.sockets import Listener, connect, duration, listen, send_json
from transformers_framework.exceptions import printable

GRACE = 5.0  # seconds for a process to fail with its own error after another one has died
CONNECT_TIMEOUT = 60.0  # seconds for all ranks to connect
TICK = 1.0  # seconds between two checks of heartbeats
WARN_AFTER = 30.0  # seconds without a heartbeat until a process is reported
FINISHED = "finished"
DIED, FROZEN, STOPPED, REFUSED = "died", "frozen", "stopped", "refused"
MESSAGES = {
    DIED: "{who} has died, so process {rank} exits too. Read its last messages; without any, it probably ran out of "
    "memory. Use --resume to continue from the last checkpoint.",
    FROZEN: "{who} has not answered for {time} (--hang_timeout), so process {rank} exits too. It is stopped, or its "
    "machine or network is frozen. Kill it (kill -9 {pid}), then use --resume to continue from the last checkpoint.",
    STOPPED: "This process, {rank}, was stopped for more than {time} (--hang_timeout), and the others have exited. "
    "Use --resume to continue from the last checkpoint.",
    REFUSED: "{who} So process {rank} exits too.",
}

logger = logging.getLogger(__name__)


class PeerWatchdog:
    """Watch the other ranks: each rank has an open connection to rank 0, and answers heartbeats.

    The operating system closes the connections of a process that dies, for any reason. A stopped process or a frozen
    machine does not answer the :class:`Heartbeat`; a process that is busy for an hour does. A rank that finishes sends
    a message before it closes its connection.

    Args:
        rank: Rank of this process.
        world_size: Number of ranks.
        broadcast: Broadcasts an object from rank 0.
        address: Name or IP address of rank 0's machine.
        children: Processes that this process launched.
        refusal: Returns the reason why a node refused after the start, an empty string if no node did.
        hang_timeout: Seconds without an answer after which a process is considered frozen.
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
        self._finished = threading.Event()
        self._silent: set[str] = set()  # ranks with a warning that they do not answer
        self._peers: dict[socket.socket, PeerHeartbeat] = {}
        self._heartbeat = Heartbeat(address)
        server, pid = listen(address) if rank == 0 else None, os.getpid()
        mine = [server.getsockname()[1], secrets.token_hex(16), self._heartbeat.port, pid] if server else None
        port, secret, heartbeat, first = broadcast(mine)
        try:
            if server is None:
                connection = connect(address, port, CONNECT_TIMEOUT)
                self._peers[connection] = PeerHeartbeat(f"process 0 (on {address})", first, address, heartbeat)
                who = f"process {rank} (pid {pid} on {socket.gethostname()})"
                send_json(connection, {"secret": secret, "who": who, "pid": pid, "heartbeat": self._heartbeat.port})
            else:
                with server:
                    _accept_peers(server, world_size - 1, secret, self._peers)
        except OSError as error:  # for instance with a firewall
            logger.warning("Some processes cannot be watched (%s): if one dies, other processes may hang.", error)
        threading.Thread(target=self._watch, name="peer watchdog", daemon=True).start()

    def _send(self, message: Any, *, but: socket.socket | None = None) -> None:
        for peer in list(self._peers):
            if peer is not but:
                send_json(peer, message)

    def _watch(self) -> None:
        listener, last = Listener(), time.monotonic()
        for peer in self._peers:
            listener.add(peer, identified=True)
        watched = dict(self._peers)
        while watched:
            for peer, message in listener.receive(TICK):
                if message == FINISHED:
                    watched.pop(peer).stop()
                    listener.remove(peer, close=False)
                elif self._finished.is_set():
                    return None
                elif isinstance(message, dict):  # another rank reports a lost rank
                    who, why = printable(str(message.get("who"))), str(message.get("why"))
                    return self._end(who, why, message.get("pid"), reported_by=peer)
                else:
                    return self._end(watched[peer].who, DIED, reported_by=peer)
            now = time.monotonic()
            passed, last = min(now - last, TICK), now  # without the time in which this process was stopped
            if self._finished.is_set():
                continue
            if text := self.refusal():
                return self._end(text, REFUSED)
            for other in watched.values():
                if self._is_frozen(other, other.wait(passed)):
                    return self._end(other.who, FROZEN, other.pid)
        return None

    def _is_frozen(self, other: PeerHeartbeat, silent: float) -> bool:
        """Return whether a rank has not answered for too long; log a warning earlier."""
        is_reported = other.who in self._silent
        if is_reported and silent < 2 * TICK:
            self._silent.discard(other.who)
            logger.error("%s answers again", other.who)
        elif not is_reported and silent >= min(WARN_AFTER, self.hang_timeout / 2):
            self._silent.add(other.who)
            logger.error(
                "%s has not answered for %s: it is stopped, or its machine or network is frozen. The run will "
                "stop in %s unless it answers (--hang_timeout).",
                *(other.who, duration(silent), duration(self.hang_timeout - silent)),
            )
        return silent >= self.hang_timeout

    def _end(self, who: str, why: str, pid: Any = None, reported_by: socket.socket | None = None) -> None:
        """Exit this process after a grace period for its own error; its main thread may hang."""
        is_mine = why == FROZEN and who.startswith(f"process {self.rank} (")
        self.lost, self.why, self.pid = who, STOPPED if is_mine else why, pid
        self._send({"who": who, "why": why, "pid": pid}, but=reported_by)
        time.sleep(GRACE)
        if not self._finished.is_set():
            sys.stderr.write(f"error: {self.message}\n")
            sys.stderr.flush()
            self.kill_frozen()
            os._exit(1)

    def kill_frozen(self) -> None:
        """Kill the frozen process if this process launched it: a stopped process reacts to no other signal."""
        for rank, child in enumerate(self.children, self.rank + 1):
            if self.why == FROZEN and self.lost.startswith(f"process {rank} ("):
                with contextlib.suppress(OSError):
                    os.kill(child.pid, signal.SIGKILL)

    @property
    def message(self) -> str:
        """The error message about the lost process."""
        text = MESSAGES.get(self.why, MESSAGES[DIED])
        return text.format(who=self.lost, rank=self.rank, pid=self.pid, time=duration(self.hang_timeout))

    def explains(self, error: BaseException) -> bool:
        """Return whether an error was caused by the loss of another rank, which may be reported a moment later."""
        text = f"{type(error).__name__} {error}".lower()
        if not self.lost and any(word in text for word in ("gloo", "nccl", "connection", "peer", "distbackend")):
            time.sleep(GRACE / 2)
        return bool(self.lost)

    def finish(self) -> None:
        """Report to the other ranks that this rank has finished."""
        self._finished.set()
        for other in self._peers.values():
            other.stop()
        self._send(FINISHED)


def _accept_peers(server: socket.socket, number: int, secret: str, peers: dict[socket.socket, PeerHeartbeat]) -> None:
    """Accept the connections of the other ranks; connections without the secret are closed.

    Raises:
        TimeoutError: When ranks have not connected in time.
    """
    listener, end = Listener(server), time.monotonic() + CONNECT_TIMEOUT
    while len(peers) < number and time.monotonic() < end:
        for connection, message in listener.receive(max(0.0, end - time.monotonic())):
            try:
                known = secrets.compare_digest(str(message["secret"]), secret)
                who, pid, heartbeat = printable(str(message["who"])), int(message["pid"]), int(message["heartbeat"])
            except (ValueError, TypeError, KeyError):
                known = False
            if not known:
                listener.remove(connection)
            elif connection not in peers:
                listener.identified.add(connection)
                address = connection.getpeername()[0].removeprefix("::ffff:")
                peers[connection] = PeerHeartbeat(who, pid, address, heartbeat)
    listener.close(but=peers)
    if len(peers) < number:
        raise TimeoutError(f"{number - len(peers)} of {number} did not connect within {duration(CONNECT_TIMEOUT)}")
