"""The loggers of a run: rows of a table, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.registry import LOGGERS, lookup, options_of, resolve

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

    from transformers_framework.storage.run_folders import RunFolders


class LogsFigures(ABC):
    """A logger that shows images."""

    @abstractmethod
    def log_figure(self, name: str, image: bytes, step: int) -> None:
        """Log a figure.

        Args:
            name: Name of the figure, with ``/`` between group and name.
            image: A PNG file.
            step: Number of optimizer steps that are done.
        """


def build_loggers(
    folders: RunFolders, options: Mapping[str, Any], *, loggers: tuple[str, ...] = ("tensorboard",)
) -> list[Logger]:
    """Create the loggers of ``--loggers``.

    Args:
        folders: Folders of the run.
        options: All flags of the run, with those of each logger.
        loggers: Names of the loggers for metrics; plug-ins can add some. A resumed run removes values that it logged to
            TensorBoard after its checkpoint; other loggers keep them.

    Raises:
        ConfigurationError: When a name is unknown, or its function does not return a logger.
    """
    from pytorch_lightning.loggers import Logger

    found = []
    for name in dict.fromkeys(loggers):
        factory = resolve(lookup(LOGGERS, name, "loggers"), "--loggers")
        found.append(made := factory(folders, **options_of(factory, options)))
        if not isinstance(made, Logger):
            raise ConfigurationError(
                f"--loggers {name}: {factory.__name__} returned {made!r}, expected a pytorch_lightning Logger."
            )
    return found
