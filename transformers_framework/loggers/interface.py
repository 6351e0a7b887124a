"""What loggers of a run can do besides logging metrics, and functions that log to all loggers of a trainer.

For reports::

    log_figure(trainer.loggers, "test/confusion_matrix", folder / "confusion_matrix.png", step=trainer.global_step)
    log_text(trainer.loggers, "test/errors", markdown, step=trainer.global_step)

Both may be called on every rank, at any time of a run: rank 0 logs. Loggers that take no texts or figures, such as CSV
and most of plug-ins, are left out; no failure ends the run.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.utilities import rank_zero_only

from transformers_framework.restricted import without_credentials
from transformers_framework.storage.run_folders import RunFolders

PAUSE = 600.0  # seconds without a logger that has failed

logger = logging.getLogger(__name__)


class TakesMedia(ABC):
    """A logger that takes texts and figures; a logger of a plug-in may inherit from it too."""

    @abstractmethod
    def log_text(self, name: str, text: str, step: int) -> None:
        """Log a text in Markdown.

        Args:
            name: Name, such as ``model_card``.
            text: The text.
            step: Optimizer steps that are done.
        """

    @abstractmethod
    def log_figure(self, name: str, png: Path, step: int) -> None:
        """Log a figure.

        Args:
            name: Name, such as ``test/confusion_matrix``.
            png: A PNG file, which may be removed afterwards.
            step: Optimizer steps that are done.
        """


class Continues(ABC):
    """A logger that a resumed run continues; a logger of a plug-in may inherit from it too."""

    state_key: ClassVar[str]
    """Key of its state in checkpoints."""

    @abstractmethod
    def state(self) -> Any:
        """Return what a checkpoint saves of it: numbers, strings, lists and dictionaries."""

    @abstractmethod
    def restore(self, state: Any, step: int) -> None:
        """Continue from a checkpoint, before anything is logged: what was logged after it is logged again.

        Args:
            state: What :meth:`state` returned; None if the run starts from the beginning.
            step: First step that is logged again, counted from 0.
        """


class WritesFile(Logger):
    """Base class of loggers that write a file of the run."""

    folders: RunFolders

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.folders.name

    @property
    def version(self) -> str:
        """A run has one version."""
        return ""


class NeverFails(Logger):
    """Base class of loggers whose failures end no run: a warning, and another try ten minutes later."""

    title: ClassVar[str]
    """What it is called in messages."""
    remedy: ClassVar[str]
    """What to do about a failure, in a sentence."""
    silent_until = 0.0

    def attempt(self, action: Callable[[], Any]) -> None:
        """Do something with the logger, unless it has failed a short while ago."""
        if time.monotonic() < self.silent_until:
            return
        try:
            action()
        except Exception as error:  # of any kind: a server may answer anything
            self.silent_until = time.monotonic() + PAUSE
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            logger.warning(
                "--loggers: %s failed (%s). The run continues; nothing is logged there for %d minutes. %s",
                *(self.title, reason, PAUSE / 60, self.remedy),
            )

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics."""
        self.attempt(partial(self.write_metrics, metrics, step or 0))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log hyper-parameters."""
        self.attempt(partial(self.write_hyperparams, params))

    def save(self) -> None:
        """Write what was logged so far."""

    def finalize(self, status: str) -> None:
        """End the run of the logger if the run has failed; a stage that is done is not the last one."""
        if status not in ("success", "finished"):
            self.attempt(partial(self.end, failed=True))

    @abstractmethod
    def write_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics; may fail."""

    @abstractmethod
    def write_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Log hyper-parameters; may fail."""

    @abstractmethod
    def end(self, *, failed: bool) -> None:
        """End the run of the logger, if it was started; may fail."""


class StartsRun(NeverFails, Continues):
    """Base class of loggers that start a run of their own when something is first logged; a resumed run continues it.

    Args:
        folders: Folders of the run.
    """

    def __init__(self, folders: RunFolders) -> None:
        super().__init__()
        self.folders = folders
        self.run_id: str | None = None

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.folders.name

    @property
    def version(self) -> str | None:
        """Id of the logger's run; None before it starts."""
        return self.run_id

    @abstractmethod
    def started(self) -> Any:
        """Return the object that logs to the run, which is started at the first call; may fail."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The object that logs to the run; one that ignores all calls where that cannot be started, on rank 0 only.

        Lightning reads it before training, and would end the run where it raised an error.
        """
        found: list[Any] = []
        self.attempt(lambda: found.append(self.started()))
        return found[0] if found else DummyLogger().experiment

    def state(self) -> dict[str, Any]:
        """Return the id of the run."""
        return {"id": self.run_id}

    def restore(self, state: Any, step: int) -> None:
        """Continue the run of a checkpoint."""
        self.run_id = None if state is None else state["id"]


@rank_zero_only
def log_text(loggers: Iterable[Logger], name: str, text: str, *, step: int) -> None:
    """Log a text in Markdown to all loggers that take texts; see the docstring of this module.

    Args:
        loggers: Loggers of the trainer.
        name: Name of the text, such as ``model_card``.
        text: The text.
        step: Optimizer steps that are done.
    """
    for found in loggers:
        if isinstance(found, TakesMedia):
            _attempt(found, partial(found.log_text, name, text, step))


@rank_zero_only
def log_figure(loggers: Iterable[Logger], name: str, png: Path, *, step: int) -> None:
    """Log a PNG file to all loggers that take figures; see the docstring of this module.

    Args:
        loggers: Loggers of the trainer.
        name: Name of the figure, such as ``test/confusion_matrix``.
        png: The file.
        step: Optimizer steps that are done.
    """
    for found in loggers:
        if isinstance(found, TakesMedia):
            _attempt(found, partial(found.log_figure, name, Path(png), step))


@rank_zero_only
def log_hyperparams(loggers: Iterable[Logger], values: Mapping[str, Any], metrics: Sequence[str] = ()) -> None:
    """Log hyper-parameters to all loggers, without user names and passwords in addresses.

    Args:
        loggers: Loggers of the trainer.
        values: Values by name.
        metrics: Names of the metrics that TensorBoard shows beside them.
    """
    from transformers_framework.loggers.tensorboard import TensorBoard

    public = {name: without_credentials(value) for name, value in values.items()}
    for found in loggers:
        named = {"metrics": metrics} if isinstance(found, TensorBoard) else {}
        _attempt(found, partial(found.log_hyperparams, dict(public), **named))


@rank_zero_only
def end_all(loggers: Iterable[Logger]) -> None:
    """End the runs of all loggers that have some, at the end of a run that did not fail."""
    for found in loggers:
        if isinstance(found, NeverFails):
            found.attempt(partial(found.end, failed=False))


def _attempt(found: Logger, action: Callable[[], Any]) -> None:
    if isinstance(found, NeverFails):
        found.attempt(action)
        return
    try:
        action()
    except Exception as error:  # a logger of any package
        logger.warning("--loggers: %s failed (%s: %s).", type(found).__name__, type(error).__name__, error)
