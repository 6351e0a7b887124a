"""Lightning checkpoints that are whole or absent, and read without executing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.runtime.files import whole_file


class WholeCheckpointIO(TorchCheckpointIO):
    """Write aside and rename; Lightning's own goes through /tmp, from where a rename need not be atomic.

    It streams to disk as well, where Lightning's holds a second copy in memory.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint."""
        with whole_file(Path(path)) as aside:
            torch.save(checkpoint, aside)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: Any = None) -> dict[str, Any]:
        """Load a checkpoint; only tensors and plain values are accepted, whoever made the file.

        Raises:
            ConfigurationError: When there is no such file, or it is no checkpoint.
        """
        if not Path(path).is_file():
            raise ConfigurationError(f"--ckpt_path: there is no file {path}.")
        try:
            checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise ConfigurationError(f"--ckpt_path: {path} is not a checkpoint of this program ({reason})") from error
        if not isinstance(checkpoint, dict) or "pytorch-lightning_version" not in checkpoint:
            raise ConfigurationError(f"--ckpt_path: {path} holds no Lightning checkpoint.")
        return checkpoint
