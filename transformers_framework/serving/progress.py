"""Progress of predictions: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from typing_extensions import Self

SECONDS = 10.0  # between two lines

logger = logging.getLogger(__name__)


class Progress:
    """Show how many rows are done, how many per second, and the time left.

    Args:
        total: Number of rows.
        unit: What they are called.
        shows: Whether anything is shown.
    """

    def __init__(self, total: int, unit: str, *, shows: bool = True) -> None:
        self.total, self.unit, self.shows, self.done = total, unit, shows, 0
        self.started = self.said = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Self:
        if self.shows and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, unit=f" {self.unit}", dynamic_ncols=True, leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, count: int) -> None:
        """Count rows that are done."""
        self.done += count
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(count)
        elif self.shows and now - self.said >= SECONDS:
            self.said, rate = now, self.done / (now - self.started)
            left = (self.total - self.done) / rate
            logger.info("%d of %d %s, %.1f/s, %.0f s left", self.done, self.total, self.unit, rate, left)
