"""Runs in processes of their own, forked where everything is imported: to be killed, told to leave, or to shard.

``run`` may give a run trouble at a chosen moment; ``run_together`` starts one as several processes.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["transformers_framework.experiment", "tests.integration.preload"])


Trouble = signal.Signals | Callable[[], None]


def fill_disk() -> None:
    """Let no file of this process grow beyond 64 KiB, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))


def replace(module: str, path: str, by: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a function or method of a module, ``Class.method``, by what is made of it."""
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, by(getattr(owner, name)))


def at_call(place: str, number: int, trouble: Trouble) -> None:
    """Send this process a signal, or do something else, just before the n-th call of ``module:Class.method``."""
    calls = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), trouble) if isinstance(trouble, signal.Signals) else trouble()
            return original(*args, **kwargs)

        return call

    module, _, path = place.partition(":")
    replace(f"transformers_framework.{module}", path, counted)


def _target(argv: Sequence[str], log: str, environment: Mapping[str, str], prepare: Callable[[], None] | None) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    multiprocessing.set_start_method("fork", force=True)  # else loaders would start workers as this one was
    os.environ.update(environment)
    from transformers_framework.cli.main import main

    if prepare:
        prepare()
    raise SystemExit(main(argv))


def _ends(processes: Sequence[Any], log: Any, seconds: float) -> list[int]:
    end = time.monotonic() + seconds
    for process in processes:
        process.join(timeout=max(0.0, end - time.monotonic()))
    if any(process.exitcode is None for process in processes):
        for process in processes:
            process.kill()
        raise TimeoutError(f"the run did not end; see {log}")
    return [process.exitcode for process in processes]


def run(
    argv: Sequence[str],
    log: Any,
    moment: tuple[str, int, Trouble] | None = None,
    prepare: Callable[[], None] | None = None,
) -> int:
    """Run a command in a process of its own; return its exit status, negative for the signal that killed it.

    Args:
        argv: The command.
        log: File for what it says.
        moment: Where it gets into trouble, see :func:`at_call`.
        prepare: What it calls first, in place of that.
    """
    prepare = partial(at_call, *moment) if moment else prepare
    process = CONTEXT.Process(target=_target, args=(list(argv), str(log), {}, prepare))
    process.start()
    return _ends([process], log, 120)[0]


def run_together(argv: Sequence[str], log: Any, size: int, prepare: Callable[[], None] | None = None) -> list[int]:
    """Run a command in several processes, as a launcher starts them; return their exit statuses.

    Args:
        argv: The command.
        log: File for what all of them say.
        size: How many there are.
        prepare: What each calls first.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    place |= {"NODE_RANK": "0", "WORLD_SIZE": str(size)}
    processes = [
        CONTEXT.Process(target=_target, args=(list(argv), str(log), {**place, "LOCAL_RANK": str(rank)}, prepare))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    return _ends(processes, log, 120)
