"""Heartbeats of ranks: a busy process answers them, a stopped process or a frozen machine does not."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

from transformers_framework.distributed.sockets import LOOPBACK, connect, listen

INTERVAL = 2.0  # seconds between two requests
CONNECTING = 10.0  # seconds to connect

logger = logging.getLogger(__name__)


class Heartbeat:
    """Server that answers the heartbeat requests of other ranks: a key-value store of PyTorch.

    It does not need Python's global interpreter lock, so that it answers while a call holds the lock for minutes.

    Args:
        address: Name or IP address of this machine for other machines.
    """

    def __init__(self, address: str) -> None:
        from torch.distributed import TCPStore

        server = listen(address)
        self.port = int(server.getsockname()[1])
        waits = timedelta(seconds=CONNECTING)
        self._store = TCPStore(
            LOOPBACK, self.port, None, True, waits, wait_for_workers=False, master_listen_fd=server.detach()
        )


class PeerHeartbeat:
    """Thread that periodically requests the heartbeat of another rank.

    Args:
        who: Name of the rank in messages.
        pid: Process id of the rank.
        address: Name or IP address of its machine.
        port: Port of its heartbeat server.
    """

    def __init__(self, who: str, pid: int, address: str, port: int) -> None:
        self.who, self.pid = who, pid
        self.silent = 0.0  # seconds since the request, without the time in which this process was stopped
        self._is_waiting = True
        self._stopped = threading.Event()
        threading.Thread(target=self._request, args=(address, port), name=f"heartbeat of {who}", daemon=True).start()

    def _request(self, address: str, port: int) -> None:
        from torch.distributed import TCPStore

        try:
            connect(address, port, CONNECTING).close()  # raises a clear error, while the store would log a backtrace
            store: Any = TCPStore(address, port, None, False, timedelta(seconds=CONNECTING), wait_for_workers=False)
            while not self._stopped.is_set():
                self._is_waiting = True
                store.num_keys()
                self._is_waiting, self.silent = False, 0.0
                self._stopped.wait(INTERVAL)
        except OSError as error:  # for instance with a firewall
            logger.warning(
                "The heartbeat of %s cannot be reached (%s): if it freezes, other processes may hang.", self.who, error
            )
        except Exception:  # the rank has ended, which the peer watchdog detects
            logger.debug("No heartbeat of %s", self.who, exc_info=True)
        self.stop()

    def wait(self, seconds: float) -> float:
        """Add seconds; return for how many seconds the rank has not answered, 0 if requests have stopped."""
        if self._is_waiting:
            self.silent += seconds
        return 0.0 if self._stopped.is_set() else self.silent

    def stop(self) -> None:
        """Stop the requests."""
        self._stopped.set()
