"""The loggers of a run: rows of a table, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.registry import LOGGERS, lookup, options_of, resolve

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

    from transformers_framework.storage.run_folders import RunFolders


def build_loggers(
    folders: RunFolders, options: Mapping[str, Any], *, loggers: tuple[str, ...] = ("tensorboard",)
) -> list[Logger]:
    """Create the loggers of ``--loggers``.

    Args:
        folders: Folders of the run.
        options: All flags of the run, with those of each logger.
        loggers: Names of the loggers for metrics, figures and the model card: tensorboard, csv, wandb (Weights &
            Biases), mlflow; plug-ins can add some. A resumed run removes what it logged after its checkpoint to
            TensorBoard and CSV, and continues its run in the others.

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
