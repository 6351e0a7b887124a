"""From the command to the end of the first training step: our command beside the peer's script, neither changed.

Both train on the same rows with ready caches (a first run of each is not counted) and say the loss of the first step,
which is what is waited for; then they are killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks.material import Material, environment, our_command, peer_command
from benchmarks.rounds import Values, alternate, median, median_ratio, table

PEER = "script around `Trainer`"


def run(material: Material, rounds: int, threads: int, busy: bool) -> str:
    """Return a table of seconds; ``busy`` counts processor time instead of the wall clock's."""
    python, steps = (sys.executable, "-u", "-m"), ("--max_steps", "2")
    theirs = [*python, "benchmarks.peer", *peer_command(material, *steps, "--logging_steps", "1")]
    ours = [*python, "transformers_framework", *our_command(material, "startup", *steps, "--log_every_n_steps", "1")]
    contenders = {
        PEER: until("'loss':", theirs, threads, busy),
        "transformers_framework": until("step 1 of 2,", ours, threads, busy),
    }
    for measure in contenders.values():
        measure()
    values: Values = alternate(contenders, rounds)
    rows = [(name, f"{median(v):.1f}", f"{median_ratio(values, name, PEER):.2f}") for name, v in values.items()]
    return table(("start-up", "s to the first step's end", "to the peer"), rows)


def until(words: str, command: Sequence[str], threads: int, busy: bool) -> Callable[[], float]:
    """Return what runs a program until it says some words, kills it and returns how long that took."""

    def measure() -> float:
        start, said = time.perf_counter(), [""]
        process = subprocess.Popen(
            command, env=environment(threads), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            while words not in said[-1] and (line := process.stdout.readline()):
                said.append(line)
        seconds = time.perf_counter() - start
        process.kill()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        if words not in said[-1]:
            raise SystemExit("".join([*command, "\n", *said[-40:]]))
        return usage.ru_utime + usage.ru_stime if busy else seconds

    return measure
