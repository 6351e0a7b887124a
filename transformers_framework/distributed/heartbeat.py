"""Heartbeats: a busy process answers, one that is stopped or on a frozen machine does not."""

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
    """Answer other ranks from a thread of PyTorch's key-value store.

    It needs no lock of Python: a call that holds it for minutes does not look like death.

    Args:
        address: Name or IP address by which others reach this machine.
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
    """The heartbeat of another rank, requested again and again in a thread.

    Args:
        who: Its name in messages.
        pid: Its process id.
        address: Its machine.
        port: Port of its heartbeat.
    """

    def __init__(self, who: str, pid: int, address: str, port: int) -> None:
        self.who, self.pid = who, pid
        self.silent = 0.0  # seconds since the request, in which this process ran
        self._asked = True
        self._stopped = threading.Event()
        threading.Thread(target=self._ask, args=(address, port), name=f"heartbeat of {who}", daemon=True).start()

    def _ask(self, address: str, port: int) -> None:
        from torch.distributed import TCPStore

        try:
            connect(address, port, CONNECTING).close()  # its error says why, where the store writes a backtrace
            store: Any = TCPStore(address, port, None, False, timedelta(seconds=CONNECTING), wait_for_workers=False)
            while not self._stopped.is_set():
                self._asked = True
                store.num_keys()
                self._asked, self.silent = False, 0.0
                self._stopped.wait(INTERVAL)
        except OSError as error:  # as where a firewall stands between
            logger.warning("%s cannot be watched (%s): if it freezes, others may wait for it.", self.who, error)
        except Exception:  # it has ended, which its connection shows
            logger.debug("No heartbeat of %s", self.who, exc_info=True)
        self.stop()

    def wait(self, seconds: float) -> float:
        """Add seconds; return for how many it has been silent, 0 when it is not watched any more."""
        if self._asked:
            self.silent += seconds
        return 0.0 if self._stopped.is_set() else self.silent

    def stop(self) -> None:
        """Stop the requests."""
        self._stopped.set()
