"""Long work is shown as bars on a terminal and as log lines elsewhere; messages never break a bar."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from transformers_framework import display
from transformers_framework.cli.tool import run_tool
from transformers_framework.display import Screen, Work, counted, shown
from transformers_framework.exceptions import DataError
from transformers_framework.runtime.log import set_up_logging

LOGGER = logging.getLogger("transformers_framework")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """What was written, without the commands that colour, move and erase."""
        return [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self.getvalue())) if line]


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, width: int = 80) -> Iterator[Terminal]:
    """Let standard error be a terminal, with bars at once; within a test, as pytest replaces streams before it."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    # datasets replaces os.environ after a map with several processes; rich keeps the one that it was imported with
    monkeypatch.setattr("rich.console.Console._environ", os.environ)
    monkeypatch.setattr(display, "BAR_DELAY", 0)
    monkeypatch.setattr(display, "BAR_INTERVAL", 0)
    before, propagates, level = list(LOGGER.handlers), LOGGER.propagate, LOGGER.level
    LOGGER.handlers.clear()
    set_up_logging()
    try:
        yield screen
    finally:
        Screen.clear()
        LOGGER.handlers[:], LOGGER.propagate = before, propagates
        LOGGER.setLevel(level)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that shows the number in a list."""
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    return now


def test_lines_every_ten_seconds_where_there_is_no_terminal(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="transformers_framework"):
        for _ in counted(range(30), "Tokenizing a.jsonl", total=30_000, units=lambda _: 1000):
            clock[0] += 1
    assert caplog.messages == [
        "Tokenizing a.jsonl: 10,000 of 30,000 rows, 1,000 rows/s, 0:20 left",
        "Tokenizing a.jsonl: 20,000 of 30,000 rows, 1,000 rows/s, 0:10 left",
        "Tokenizing a.jsonl: 30,000 of 30,000 rows, 1,000 rows/s, 0:00 left",
        "Tokenizing a.jsonl: 30,000 rows in 0:30",
    ]


def test_short_work_and_other_ranks_show_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="transformers_framework"):
        assert list(counted("abc", "Reading")) == ["a", "b", "c"]
    with caplog.at_level("ERROR", logger="transformers_framework"):
        for _ in counted(range(30), "Tokenizing", total=30):
            clock[0] += 1
            assert Screen.works == []
    assert caplog.messages == []


def test_work_that_is_not_shown(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="transformers_framework"), shown(Work("Predicting", 10), shows=False) as work:
        clock[0] += 100
        work.advance(5)
        assert Screen.works == []
    assert caplog.messages == []


@pytest.mark.parametrize("width", [20, 80, 150])
def test_bars_fit_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch, width) as screen:
        with shown(Work("Reading file.jsonl", 5_000_000, "bytes")) as work:
            work.advance(2_500_000)
        lines = screen.lines
        assert all(len(line.rstrip()) <= width for line in lines)
        assert len(lines) >= 1
        assert width == 20 or any("2.5 MB of 5.0 MB" in line for line in lines)


def test_the_message_of_an_error_comes_after_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[tuple[bool, int]] = []

    def reworded(message: str) -> str:
        left.append((Screen.live is not None, len(Screen.works)))
        return message

    def fails(argv: Sequence[str]) -> int:
        rows = counted(range(2), "Reading", total=2)  # which the traceback keeps
        raise DataError(f"file.csv:{next(rows)}: broken")

    with terminal(monkeypatch):
        assert run_tool([], fails, reworded=reworded) == 2
    assert left == [(False, 0)]


def test_messages_are_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of our loggers and of whoever writes to standard error; they are not cut."""
    with terminal(monkeypatch) as screen:
        with shown(Work("Training", 10, "steps")) as work:
            work.advance()
            LOGGER.info("a message")
            LOGGER.info("x" * 200)
            LOGGER.info("progress", extra={display.IS_PROGRESS: True})
            print("written", file=sys.stderr)
            work.advance()
        lines = screen.lines
        assert any(re.fullmatch(r"\d\d:\d\d:\d\d a message *", line) for line in lines)
        assert any(line.rstrip().endswith("x" * 200) for line in lines)
        assert any(line.startswith("written") for line in lines)
        assert not any("progress" in line for line in lines), "the bar shows it"
        assert screen.getvalue().endswith("\x1b[2K"), "the bar is erased"
        assert sys.stderr is screen


def test_an_interrupted_bar_leaves_a_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen:

        def interrupted() -> None:
            with shown(Work("Training", 10, "steps")) as work:
                work.advance()
                assert Screen.live is not None
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert Screen.live is None
        assert sys.stderr is screen
        assert screen.getvalue().rindex("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l"), "the cursor is visible"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen, shown(Work("Training", 10, "steps")) as work:
        work.advance()
        read, write = os.pipe()
        if not (child := os.fork()):
            is_plain = Screen.live is None and sys.stderr is screen and Screen.works == []
            os.write(write, b"1" if is_plain else b"0")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 1) == b"1"
        assert Screen.live is not None


def test_updates_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop over a million steps draws a few times each second."""
    with terminal(monkeypatch):
        monkeypatch.setattr(display, "BAR_INTERVAL", 60)
        drawn = []
        monkeypatch.setattr(display, "_bars", lambda works, console: drawn.append(1) or "bar")
        monkeypatch.setattr(Screen, "_next", 0.0)
        start = time.monotonic()
        for _ in counted(range(1000), "Training", total=1000):
            pass
        assert len(drawn) == 1 or time.monotonic() - start > 60
