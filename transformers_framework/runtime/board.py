"""What TensorBoard shows."""

from __future__ import annotations

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only


class Board(TensorBoardLogger):
    """Lightning's logger, less the file of hyperparameters: ``config.yaml`` has them.

    To find a place for that file, Lightning imports every file system that is installed, s3fs among them, which takes
    longer than the first steps of a small run.
    """

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged so far."""
        self.experiment.flush()
