"""Steady speed and peak memory of a training run, measured inside its process."""

from __future__ import annotations

import json
import resource
import sys
import time


class Clock:
    """Count real tokens per second from the end of step ``skip`` to the end of step ``stop``.

    Args:
        skip: Steps before the clock starts: the first ones allocate memory and choose kernels.
        stop: Last step that counts.
    """

    def __init__(self, skip: int, stop: int) -> None:
        self.skip, self.stop = skip, stop
        self.step = self.tokens = self.places = 0
        self.started = (0.0, 0.0)

    def count(self, attention_mask) -> None:
        """Count the tokens of a batch that is about to be learned from, padding apart."""
        if self.step >= self.skip:
            self.tokens += int(attention_mask.sum())
            self.places += attention_mask.numel()

    def end_of_step(self) -> None:
        """Tell that a step is over; after the last one the result is written, as a line of JSON."""
        self.step += 1
        if self.step == self.skip:
            self.started = (time.perf_counter(), time.process_time())
        if self.step == self.stop:
            result = {
                "tokens": self.tokens,
                "padding": 1 - self.tokens / self.places,
                "seconds": time.perf_counter() - self.started[0],
                "cpu_seconds": time.process_time() - self.started[1],
                "peak_mib": peak_mib(),
            }
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()


def peak_mib() -> float:
    """Return the largest resident set that this process ever had."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20
