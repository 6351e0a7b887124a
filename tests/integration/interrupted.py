"""Runs in processes of their own that die, are told to leave, or get into trouble at a chosen moment."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Sequence
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["transformers_framework.experiment", "tests.integration.preload"])


Trouble = signal.Signals | Callable[[], None]


def fill_disk() -> None:
    """Let no file of this process grow beyond 64 KiB, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))


def at_call(place: str, number: int, trouble: Trouble) -> None:
    """Send this process a signal, or do something else, just before the n-th call of ``module:Class.method``."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(f"transformers_framework.{module}")
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), trouble) if isinstance(trouble, signal.Signals) else trouble()
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def _target(argv: Sequence[str], log: str, moment: tuple[str, int, Trouble] | None) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    multiprocessing.set_start_method("fork", force=True)  # else loaders would start workers as this one was
    from transformers_framework.cli.main import main

    if moment:
        at_call(*moment)
    raise SystemExit(main(argv))


def run(argv: Sequence[str], log: Any, moment: tuple[str, int, Trouble] | None = None) -> int:
    """Run a command in a process of its own; return its exit status, negative for the signal that killed it."""
    process = CONTEXT.Process(target=_target, args=(list(argv), str(log), moment))
    process.start()
    process.join(timeout=120)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"the run did not end; see {log}")
    return process.exitcode
