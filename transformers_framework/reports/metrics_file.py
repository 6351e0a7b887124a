"""``metrics.jsonl``: all that a run logs, one JSON object per logged moment."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from transformers_framework.loggers.interface import WritesFile
from transformers_framework.processing.json_text import to_json
from transformers_framework.storage.appending import append, cut, flushed_size
from transformers_framework.storage.run_folders import RunFolders

logger = logging.getLogger(__name__)


class MetricsFile(WritesFile):
    """Logger that appends what other loggers receive to ``metrics.jsonl``, without computing anything for it.

    A line has the number of optimizer steps that are done, the epoch (from 0), the time, and the names as logged;
    numbers that are not finite are null.

    Args:
        folders: Folders of the run.
        trainer: The trainer that logs.
    """

    def __init__(self, folders: RunFolders, trainer: pl.Trainer) -> None:
        super().__init__()
        self.folders, self.trainer = folders, trainer
        self.has_warned = False

    @property
    def save_dir(self) -> str:
        """The folder of the file."""
        return str(self.folders.checkpoints)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folders.growing(self.folders.metrics)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a line; the step is the number of steps that are done, not Lightning's, which may be one less."""
        trainer, time = self.trainer, datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        line: dict[str, Any] = {"step": trainer.global_step, "epoch": trainer.current_epoch, "time": time, **metrics}
        try:
            append(self.path, to_json(line) + "\n")
        except OSError as error:
            if not self.has_warned:
                logger.warning(
                    "%s cannot be written (%s): it will lack what is logged until it can. Free some space.",
                    *(self.folders.metrics, error.strerror),
                )
            self.has_warned = True

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: ``config.yaml`` has the flags."""

    def size(self) -> int:
        """Return the size of the file in bytes, all of which is on the disk then."""
        return flushed_size(self.path)

    def cut(self, size: int) -> None:
        """Remove what was logged after a checkpoint.

        Args:
            size: Size of the file when the checkpoint was written.
        """
        cut(self.path, size)
