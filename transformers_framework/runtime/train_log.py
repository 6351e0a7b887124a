"""``train.log``: all that a run logs, with the warnings of libraries and the tracebacks of failures."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.exceptions import UserError, printable
from transformers_framework.storage.appending import append
from transformers_framework.storage.run_folders import RunFolders

LOGGERS = ("transformers_framework", "pytorch_lightning", "lightning_fabric", "transformers", "datasets")
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")  # colours, movements, links, titles


class TrainLog(logging.Handler):
    """Append messages to ``train.log``; those before it is opened are kept for it.

    Args:
        folders: Folders of the run.
    """

    def __init__(self, folders: RunFolders) -> None:
        super().__init__(logging.INFO)
        self.folders = folders
        self.waiting: list[str] = []
        self.is_open = self.has_failed = False
        self.creates = is_rank_zero()
        self._format()

    def _format(self, rank: int = 0) -> None:
        form = f"%(asctime)s %(levelname)s {f'rank {rank}: ' if rank else ''}%(message)s"
        self.setFormatter(logging.Formatter(form, datefmt="%Y-%m-%d %H:%M:%S"))

    def open(self, rank: int = 0) -> None:
        """Write what was logged so far, and from now on each message at once.

        Only rank 0 creates the file; other ranks, which log errors only, append to it where it is.

        Args:
            rank: Rank of this process, which messages of others than 0 have.
        """
        with self.lock or contextlib.nullcontext():
            if not self.is_open:
                self.is_open = True
                self._format(rank)
                self._append("".join(self.waiting))
                self.waiting.clear()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, without the commands to a terminal that it may have."""
        try:
            text = printable(ESCAPES.sub("", self.format(record))) + "\n"
        except Exception:  # as handlers do: wrong arguments of a message are no reason to stop
            self.handleError(record)
            return
        if self.is_open:
            self._append(text)
        else:
            self.waiting.append(text)

    def _append(self, text: str) -> None:
        path = self.folders.growing(self.folders.log)
        try:
            if text and not self.has_failed and (self.creates or path.exists()):
                append(path, text)
        except OSError as error:
            self.has_failed = True  # first, as the warning comes here too
            logging.getLogger(__name__).warning(
                "%s cannot be written (%s): it ends here. Free some space.", self.folders.log, error.strerror
            )


@contextlib.contextmanager
def train_log(folders: RunFolders) -> Iterator[TrainLog]:
    """Keep what is logged, and write it to ``train.log`` once that is opened, with the error that ends the run.

    Args:
        folders: Folders of the run.
    """
    log = TrainLog(folders)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(log)
    try:
        with _warnings_logged(log):
            yield log
    except UserError as error:
        log.handle(_record("error: %s", error))
        raise
    except Exception as error:
        log.handle(_record("error: the run failed with %s: %s", type(error).__name__, error, traceback=True))
        raise
    except KeyboardInterrupt:
        log.handle(_record("interrupted"))
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(log)


def _record(message: str, *values: Any, level: int = logging.ERROR, traceback: bool = False) -> logging.LogRecord:
    return logging.LogRecord(__name__, level, __file__, 0, message, values, sys.exc_info() if traceback else None)


@contextlib.contextmanager
def _warnings_logged(log: TrainLog) -> Iterator[None]:
    """Log the warnings that Python shows, too."""
    shown = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        shown(message, category, filename, lineno, file, line)
        if file is None:
            values = category.__name__, message, filename, lineno
            log.handle(_record("%s: %s (%s:%s)", *values, level=logging.WARNING))

    warnings.showwarning = show
    try:
        yield
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = shown
