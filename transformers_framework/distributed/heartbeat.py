"""A heartbeat that a busy process has too, and one that is stopped or on a frozen machine has not."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

from transformers_framework.distributed.sockets import LOOPBACK, connect, listen

INTERVAL = 2.0  # seconds between two questions
CONNECTING = 10.0  # seconds for a connection

logger = logging.getLogger(__name__)


class Heartbeat:
    """Answers other processes from a thread of PyTorch's key-value store.

    It needs no lock of Python: a call that holds it for minutes does not look like death.

    Args:
        address: How others call this machine.
    """

    def __init__(self, address: str) -> None:
        from torch.distributed import TCPStore

        server = listen(address)
        self.port = int(server.getsockname()[1])
        waits = timedelta(seconds=CONNECTING)
        self._store = TCPStore(
            LOOPBACK, self.port, None, True, waits, wait_for_workers=False, master_listen_fd=server.detach()
        )


class Watched:
    """Another process, whose pulse is asked for again and again in a thread.

    Args:
        who: How to call it.
        pid: Its number on its machine.
        address: Its machine.
        port: Port of its pulse.
    """

    def __init__(self, who: str, pid: int, address: str, port: int) -> None:
        self.who, self.pid = who, pid
        self.silent = 0.0  # seconds since it was asked, in which this process ran
        self._asked = True
        self.is_named = False  # as one that does not answer
        self._forgotten = threading.Event()
        threading.Thread(target=self._ask, args=(address, port), name=f"pulse of {who}", daemon=True).start()

    def _ask(self, address: str, port: int) -> None:
        from torch.distributed import TCPStore

        try:
            connect(address, port, CONNECTING).close()  # which says why it cannot, where the store writes a backtrace
            store: Any = TCPStore(address, port, None, False, timedelta(seconds=CONNECTING), wait_for_workers=False)
            while not self._forgotten.is_set():
                self._asked = True
                store.num_keys()
                self._asked, self.silent = False, 0.0
                self._forgotten.wait(INTERVAL)
        except OSError as error:  # as where a firewall stands between
            logger.warning("%s cannot be watched (%s): if it freezes, others may wait for it.", self.who, error)
        except Exception:  # it has ended, which its connection says
            logger.debug("No pulse of %s", self.who, exc_info=True)
        self.forget()

    def wait(self, seconds: float) -> float:
        """Count some more seconds; return for how many it is silent, 0 when it is not watched any more."""
        if self._asked:
            self.silent += seconds
        return 0.0 if self._forgotten.is_set() else self.silent

    def forget(self) -> None:
        """Ask no longer."""
        self._forgotten.set()
