"""TensorBoard's event files, and how a resumed run continues them."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from transformers_framework.compat.lightning import TensorBoardLogger
from transformers_framework.compat.tensorboard import event_file, rename_event_file
from transformers_framework.runtime.loggers import LogsFigures
from transformers_framework.storage.run_folders import RunFolders

EVENTS = "events.out.tfevents.*"
EVENT_SIZES = "event_sizes"  # key of checkpoints


class TensorBoard(TensorBoardLogger, LogsFigures):
    """Lightning's logger without its file of hyperparameters: ``config.yaml`` has them.

    To find a place for that file, Lightning imports every file system that is installed, s3fs among them, which takes
    longer than the first steps of a small run.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of events, into a file that is read after those that are there, wherever the clock was set."""
        if self.is_open:
            return super().experiment
        writer = super().experiment
        _come_last(writer)
        return writer

    def purge(self, step: int) -> None:
        """Let an open TensorBoard forget the values of a step and of those after it."""
        self.purge_from(step)

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged so far."""
        self.experiment.flush()

    @rank_zero_only
    def log_figure(self, name: str, image: bytes, step: int) -> None:
        """Log a PNG file as an image, and write it at once: it is the last that a run logs."""
        import numpy as np
        from PIL import Image

        pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
        self.experiment.add_image(name, pixels, step, dataformats="HWC")
        self.save()

    def sizes(self) -> dict[str, int]:
        """Return the files of events and how long they are when all that was logged so far is written."""
        self.save()
        return {path.name: path.stat().st_size for path in Path(self.log_dir).glob(EVENTS)}


def tensorboard(folders: RunFolders) -> TensorBoard:
    """Log to TensorBoard's event files."""
    return TensorBoard(folders.output_dir / "tensorboard", folders.name, version="")


def _come_last(writer: Any) -> None:
    """Rename the file of a writer so that it is sorted last: readers sort files by the time in their names."""
    path = event_file(writer)
    latest = max((other.name for other in path.parent.glob(EVENTS) if other != path), default="")
    if latest >= path.name:
        *start, _, rest = path.name.split(".", 4)
        name = path.with_name(".".join((*start, f"{int(latest.split('.')[3]) + 1:010d}", rest)))
        rename_event_file(writer, name)


def rewind(folders: RunFolders, checkpoint: Mapping[str, Any] | None) -> None:
    """Remove what was logged after the checkpoint from which a run resumes: it logs that again.

    Args:
        folders: Folders of the run.
        checkpoint: Contents of the checkpoint of this run; none where it starts from the beginning.
    """
    sizes: Mapping[str, int] = {}
    if checkpoint is not None:
        if EVENT_SIZES not in checkpoint:
            return
        sizes = checkpoint[EVENT_SIZES]
    for path in folders.tensorboard.glob(EVENTS):
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])
