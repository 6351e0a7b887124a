"""What TensorBoard shows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from transformers_framework.runtime.checkpoint_io import outline_of
from transformers_framework.runtime.run_folders import RunFolders

EVENTS = "events.out.tfevents.*"
EVENT_SIZES = "event_sizes"  # key of checkpoints


class Board(TensorBoardLogger):
    """Lightning's logger, less the file of hyperparameters: ``config.yaml`` has them.

    To find a place for that file, Lightning imports every file system that is installed, s3fs among them, which takes
    longer than the first steps of a small run.
    """

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged so far."""
        self.experiment.flush()

    def sizes(self) -> dict[str, int]:
        """Return the files of events and how long they are when all that was logged so far is written."""
        self.save()
        return {path.name: path.stat().st_size for path in Path(self.log_dir).glob(EVENTS)}


def rewind(folders: RunFolders, start: str | None) -> None:
    """Remove what was logged after the checkpoint from which a run resumes: it logs that again.

    Args:
        folders: Folders of the run.
        start: The checkpoint; one of another run, or none, means that this run starts from the beginning.
    """
    sizes: Mapping[str, int] = {}
    if start is not None and Path(start).parent == folders.checkpoints:
        state = outline_of(Path(start))
        if EVENT_SIZES not in state:
            return
        sizes = state[EVENT_SIZES]
    for path in folders.tensorboard.glob(EVENTS):
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])
