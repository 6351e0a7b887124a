"""Display of long work: a bar on a terminal, and log lines everywhere else.

All long work of a run is shown by this module: training, validation, downloads, conversion of files, tokenization. The
lines are ordinary log messages with the attribute ``is_progress``, which a handler for a terminal leaves out while bars
are shown. Ranks other than 0, whose loggers have another level, show nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

T = TypeVar("T")

IS_PROGRESS = "is_progress"  # attribute of log records
LINE_INTERVAL = 10.0  # seconds between two lines of the same work
BAR_DELAY = 0.5  # seconds before work gets a bar
BAR_INTERVAL = 0.25  # seconds between two updates of the bars
BAR_WIDTHS = 12, 40
SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))

logger = logging.getLogger(__name__)


@dataclass
class Work:
    """Long work and how much of it is done.

    Args:
        title: What is done, such as ``Tokenizing train.jsonl``.
        total: Number of units, None if it is unknown.
        unit: What is counted, in the plural; ``bytes`` are shown as kB, MB and so on.
        line_interval: Seconds between two log lines.
    """

    title: str
    total: float | None = None
    unit: str = "rows"
    line_interval: float = LINE_INTERVAL
    done: float = 0
    started: float = field(default_factory=lambda: time.monotonic())
    _next_line: float = field(init=False)

    def __post_init__(self) -> None:
        self._next_line = self.started + self.line_interval

    @property
    def share(self) -> float | None:
        """Share of the work that is done, in [0, 1]; None if the total is unknown."""
        return min(1.0, self.done / self.total) if self.total else None

    def facts(self) -> list[str]:
        """Return what is shown besides the title: how much is done, how fast, and the time left."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate, is_bytes = self.done / seconds, self.unit == "bytes"
        unit = "" if is_bytes else f" {self.unit}"
        number = size if is_bytes else count
        known = f"{number(self.done)} of {number(self.total)}" if self.total else number(self.done)
        facts = [f"{known}{unit}", f"{number(rate)}{unit}/s"] if self.done else [f"{known}{unit}"]
        return [*facts, f"{duration((self.total - self.done) / rate)} left"] if self.total and self.done else facts

    def line(self) -> str:
        """Return the log line of the moment."""
        return f"{self.title}: {', '.join(self.facts())}"

    def advance(self, number: float = 1) -> None:
        """Count units that are done; update the bar, or log a line, if it is time to.

        Args:
            number: Units that were done.
        """
        self.done += number
        now = time.monotonic()
        if now >= self._next_line:
            self.log_line()
        Screen.refresh(now)

    def log_line(self) -> None:
        """Log how much is done."""
        self._next_line = time.monotonic() + self.line_interval
        logger.info("%s", self.line(), extra={IS_PROGRESS: True})


@contextlib.contextmanager
def shown(work: Work, *, shows: bool = True) -> Iterator[Work]:
    """Show work until the context ends; log how long it took if it was long.

    Args:
        work: What is done in the context.
        shows: Whether anything is shown.
    """
    if not shows:
        yield replace(work, line_interval=math.inf)
        return
    Screen.add(work)
    try:
        yield work
    finally:
        Screen.remove(work)
    if (seconds := time.monotonic() - work.started) >= work.line_interval:
        done = size(work.done) if work.unit == "bytes" else f"{count(work.done)} {work.unit}"
        logger.info("%s: %s in %s", work.title, done, duration(seconds))


def counted(
    items: Iterable[T],
    title: str,
    *,
    total: float | None = None,
    unit: str = "rows",
    units: Callable[[T], float] = lambda item: 1,
) -> Iterator[T]:
    """Yield items, and show how many are done.

    Args:
        items: What is worked through.
        title: What is done with them.
        total: Number of units in all items, None if it is unknown.
        unit: What is counted.
        units: Returns the number of units in an item.

    Examples:
        >>> list(counted(["a", "b"], "Reading", total=2))
        ['a', 'b']
    """
    with shown(Work(title, total, unit)) as work:
        for item in items:
            yield item
            work.advance(units(item))


class Screen:
    """The bars on the terminal of this process, below the log lines; nothing where there is no terminal.

    No thread draws: bars are updated when work advances, so that a process can fork at any time.
    """

    works: ClassVar[list[Work]] = []
    live: ClassVar[Any] = None  # of rich, while bars are shown
    _next: ClassVar[float] = 0.0
    _forks_are_watched: ClassVar[bool] = False

    @classmethod
    def add(cls, work: Work) -> None:
        """Show a bar for work, below those that are shown."""
        if logger.isEnabledFor(logging.INFO):
            cls.works.append(work)

    @classmethod
    def remove(cls, work: Work) -> None:
        """Show work no more."""
        if work in cls.works:
            cls.works.remove(work)
        if not cls.works:
            cls.clear()
        elif cls.live is not None:
            cls._draw()

    @classmethod
    def clear(cls) -> None:
        """Remove all bars: the terminal is as it was before."""
        cls.works.clear()
        if cls.live is not None:
            live, cls.live = cls.live, None
            live.stop()

    @classmethod
    def is_due(cls, now: float) -> bool:
        """Return whether the bars are to be updated now.

        Args:
            now: Time on the monotonic clock.
        """
        return bool(cls.works) and now >= cls._next and (cls.live is not None or is_terminal())

    @classmethod
    def refresh(cls, now: float) -> None:
        """Update the bars, if that was not done just before.

        Args:
            now: Time on the monotonic clock.
        """
        if not cls.is_due(now):
            return
        cls._next = now + BAR_INTERVAL
        if cls.live is None and now >= cls.works[0].started + BAR_DELAY:
            cls.live = cls._started()
        if cls.live is not None:
            cls._draw()

    @classmethod
    def _draw(cls) -> None:
        cls.live.update(_bars(cls.works, cls.live.console), refresh=True)

    @classmethod
    def print(cls, text: str) -> bool:
        """Print text above the bars; return False if there are none, in which case nothing is printed.

        Args:
            text: Lines without control characters.
        """
        if cls.live is None:
            return False
        from rich.text import Text

        cls.live.console.print(Text(text), soft_wrap=True)
        return True

    @classmethod
    def _started(cls) -> Any:
        """Start to draw; what anything else writes to the terminal then appears above the bars."""
        from rich.console import Console
        from rich.live import Live

        if not cls._forks_are_watched and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=cls._forget)
            cls._forks_are_watched = True
        console = Console(stderr=True)
        live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty())
        live.start()
        console.show_cursor(True)  # a run that is killed must not leave a terminal without one
        return live

    @classmethod
    def _forget(cls) -> None:
        """Let a forked process, as a worker of the data loader, draw no bars."""
        if cls.live is not None:
            cls.works, cls.live = [], None
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                setattr(sys, name, getattr(stream, "rich_proxied_file", stream))


@contextlib.contextmanager
def bars_cleared() -> Iterator[None]:
    """Remove all bars when the context ends: an error leaves those of the work that it interrupts."""
    try:
        yield
    finally:
        Screen.clear()


def is_terminal() -> bool:
    """Return whether standard error is a terminal that can draw."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _bars(works: list[Work], console: Console) -> RenderableType:
    """Return the bars of all work: one line each if it fits, else the facts are on a second line."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    least, most = BAR_WIDTHS
    lines: list[RenderableType] = []
    for work in works:
        facts, share = " · ".join(work.facts()), work.share
        beside = console.width - len(work.title) - 1
        is_one_line = beside - len(facts) - 1 >= least
        row: list[RenderableType] = [Text(work.title, style="bold", no_wrap=True, overflow="ellipsis")]
        if share is not None:
            width = max(1, min(most, beside - len(facts) - 1) if is_one_line else beside)
            row.append(ProgressBar(total=1.0, completed=share, width=width))
        table, text = Table.grid(padding=(0, 1)), Text(facts, no_wrap=True, overflow="ellipsis")
        if share is None or is_one_line:
            row.append(text)
        table.add_row(*row)
        lines.append(table)
        if share is not None and not is_one_line:
            lines.append(text)
    return Group(*lines)


def count(number: float) -> str:
    """Return a number as it is shown, with separators.

    Examples:
        >>> count(12345.6), count(9.87), count(0)
        ('12,346', '9.9', '0')
    """
    return f"{number:,.1f}" if 0 < number < 10 and number != int(number) else f"{number:,.0f}"


def size(number: float) -> str:
    """Return a number of bytes as it is shown.

    Examples:
        >>> size(5_000_000), size(12)
        ('5.0 MB', '12 bytes')
    """
    unit, least = next(((unit, least) for unit, least in SIZES if number >= least), ("bytes", 1))
    return f"{number / least:.1f} {unit}" if least > 1 else f"{number:.0f} {unit}"


def duration(seconds: float) -> str:
    """Return a number of seconds as it is shown.

    Examples:
        >>> duration(62), duration(3 * 3600 + 60), duration(100_000)
        ('1:02', '3:01:00', '1 day 3:46:40')
    """
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02}:{rest:02}" if hours or days else f"{minutes}:{rest:02}"
    return f"{days} day{'s' * (days > 1)} {clock}" if days else clock
