"""Lightning checkpoints that are whole or absent, and read without executing anything."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
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
        return read_checkpoint(path, map_location or "cpu")


def read_checkpoint(path: Any, map_location: Any = "cpu", *, outline: bool = False) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are accepted, whoever made the file.

    Args:
        path: The file.
        map_location: Where tensors go.
        outline: Read names and shapes only, which takes no time whatever the size.

    Raises:
        ConfigurationError: When there is no such file, or it is no checkpoint.
    """
    if not Path(path).is_file():
        raise ConfigurationError(f"--ckpt_path: there is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise ConfigurationError(f"--ckpt_path: {path} is no file of torch.save, or not a whole one.")
    try:
        checkpoint = torch.load(path, "meta" if outline else map_location, weights_only=True, mmap=outline)
    except pickle.UnpicklingError as error:
        raise ConfigurationError(
            f"--ckpt_path: {path} holds objects that could run code when they are read, which is refused. Checkpoints "
            "of this program hold tensors and plain values only."
        ) from error
    except Exception as error:  # a broken file raises many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(f"--ckpt_path: {path} is broken ({reason}).") from error
    if not isinstance(checkpoint, dict) or not {"pytorch-lightning_version", "state_dict"} <= checkpoint.keys():
        raise ConfigurationError(f"--ckpt_path: {path} holds no Lightning checkpoint.")
    return checkpoint


def check_checkpoint(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Check that a checkpoint can be loaded, before anything is written.

    Args:
        path: The file.
        state: Tensors of the model that will take it.

    Raises:
        ConfigurationError: When it is no checkpoint, or one of another model.
    """
    there = {name: tuple(tensor.shape) for name, tensor in read_checkpoint(path, outline=True)["state_dict"].items()}
    here = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = [name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]
    if wrong:
        raise ConfigurationError(
            f"--ckpt_path: {path} is of another model: {len(wrong)} tensors differ, as {wrong[0]}, which is "
            f"{there.get(wrong[0], 'absent')} there and {here.get(wrong[0], 'absent')} in this run."
        )
