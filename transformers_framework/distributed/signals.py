"""Signals that stop a run: their handlers, and the signal that a process receives when its parent dies."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

# signals that stop a run after the current batch, where the platform has them
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))
PR_SET_PDEATHSIG = 1  # of prctl.h


def handle_stopping(handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Install a handler of the signals that stop a run; return the earlier handlers, none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    earlier = {signum: signal.getsignal(signum) for signum in STOPPING}
    for signum, previous in earlier.items():
        if signum in (signal.SIGINT, signal.SIGTERM) or previous != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(signum, handler)
    return earlier


def restore_handlers(handlers: Mapping[int, Any]) -> None:
    """Install the handlers that :func:`handle_stopping` returned; outside the main thread, do nothing."""
    if threading.current_thread() is threading.main_thread():
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def set_parent_death_signal(signum: int) -> None:
    """Let this process receive a signal when its parent dies, where the operating system supports it; 0 for none."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signum)
