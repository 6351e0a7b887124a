"""TensorBoard's event files, and how a resumed run continues them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from transformers_framework.compat.lightning import TensorBoardLogger
from transformers_framework.compat.tensorboard import event_file, open_file, rename_event_file
from transformers_framework.loggers.interface import Continues, TakesMedia
from transformers_framework.storage.run_folders import RunFolders

EVENTS = "events.out.tfevents.*"
EVENT_SIZES = "event_sizes"  # key of checkpoints


class TensorBoard(TensorBoardLogger, TakesMedia, Continues):
    """Lightning's logger without its file of hyperparameters: ``config.yaml`` has them.

    To find a place for that file, Lightning imports every file system that is installed, s3fs among them, which takes
    longer than the first steps of a small run.
    """

    state_key: ClassVar[str] = EVENT_SIZES

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of events, into a file that is read after those that are there, wherever the clock was set."""
        if self.is_open:
            return super().experiment
        writer = super().experiment
        _come_last(writer)
        return writer

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = (), step: int | None = None) -> None:
        """Log hyper-parameters for the tab HPARAMS.

        Args:
            params: Values by name.
            metrics: Log names of the metrics that are shown beside them; their values are those that are logged.
            step: Not used.
        """
        from torch.utils.tensorboard.summary import hparams

        is_number = {
            key: isinstance(value, int | float) and not isinstance(value, bool) for key, value in params.items()
        }
        # torch would log True as the number 1
        values = {key: value if is_number[key] else str(value) for key, value in params.items()}
        for summary in hparams(values, dict.fromkeys(metrics)):
            self.experiment.file_writer.add_summary(summary)

    def log_text(self, name: str, text: str, step: int) -> None:
        """Log a text."""
        self.experiment.add_text(name, text, step)
        self.save()

    def log_figure(self, name: str, png: Path, step: int) -> None:
        """Log a PNG file as it is."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        content = png.read_bytes()
        width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
        image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=content)
        open_file(self.experiment).add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
        self.save()  # it may be the last that a run logs

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged so far."""
        self.experiment.flush()

    def state(self) -> dict[str, int]:
        """Return the files of events and how long they are when all that was logged so far is written."""
        self.save()
        return {path.name: path.stat().st_size for path in Path(self.log_dir).glob(EVENTS)}

    def restore(self, state: Any, step: int) -> None:
        """Remove what was logged after a checkpoint; a TensorBoard that is open forgets it too."""
        sizes: Mapping[str, int] = state or {}
        for path in Path(self.log_dir).glob(EVENTS):
            if path.name not in sizes:
                path.unlink()
            elif path.stat().st_size > sizes[path.name]:
                os.truncate(path, sizes[path.name])
        self.purge_from(step)


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
