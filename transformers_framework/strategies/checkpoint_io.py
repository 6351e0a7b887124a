"""Lightning checkpoints that are whole or absent, and read without executing anything."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from transformers_framework.compat.sharding import safe_to_read
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.atomic import atomic_file


class WholeCheckpointIO(TorchCheckpointIO):
    """Write aside and rename; Lightning's own goes through /tmp, from where a rename need not be atomic.

    It streams to disk as well, where Lightning's holds a second copy in memory.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint."""
        with atomic_file(Path(path)) as aside:
            torch.save(checkpoint, aside)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: Any = None) -> dict[str, Any]:
        """Load a checkpoint; only tensors and plain values are accepted, whoever made the file.

        Raises:
            ConfigurationError: When there is no such file, or it is no checkpoint.
        """
        return read_checkpoint(path, map_location or "cpu")


def read_checkpoint(
    path: Any, map_location: Any = "cpu", *, outline: bool = False, flag: str = "--ckpt_path"
) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are accepted, whoever made the file.

    Args:
        path: The file.
        map_location: Where tensors go.
        outline: Read names and shapes only, which takes no time whatever the size.
        flag: Flag that gave the checkpoint, for messages.

    Raises:
        ConfigurationError: When there is no such file, or it is no checkpoint.
    """
    if Path(path, "checkpoint").is_dir():
        raise ConfigurationError(
            f"{flag}: {path} is a folder of shards, as DeepSpeed writes: give a --strategy deepspeed_stage_..., "
            "or start from an export: --pre_trained_model."
        )
    if not Path(path).is_file():
        raise ConfigurationError(f"{flag}: there is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise ConfigurationError(f"{flag}: {path} is no file of torch.save, or not a whole one.")
    try:
        checkpoint = torch.load(path, "meta" if outline else map_location, weights_only=True, mmap=outline)
    except pickle.UnpicklingError as error:
        raise ConfigurationError(
            f"{flag}: {path} holds objects that could run code when they are read, which is refused. Checkpoints "
            "of this program hold tensors and plain values only."
        ) from error
    except Exception as error:  # a broken file raises many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(f"{flag}: {path} is broken ({reason}).") from error
    if not isinstance(checkpoint, dict) or not {"pytorch-lightning_version", "state_dict"} <= checkpoint.keys():
        raise ConfigurationError(f"{flag}: {path} holds no Lightning checkpoint.")
    return checkpoint


def check_tensors(
    path: Any, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], *, flag: str = "--ckpt_path"
) -> None:
    """Check that a model can take the tensors of a checkpoint.

    Args:
        path: The file, for the message.
        found: Tensors of the checkpoint, or their shapes.
        expected: Those of the model.
        flag: Flag that gave the checkpoint, for messages.

    Raises:
        ConfigurationError: When they are those of another model.
    """
    there, here = ({name: tuple(tensor.shape) for name, tensor in state.items()} for state in (found, expected))
    wrong = [name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]
    if wrong:
        raise ConfigurationError(
            f"{flag}: {path} is of another model: {len(wrong)} tensors differ, as {wrong[0]}, which is "
            f"{there.get(wrong[0], 'absent')} there and {here.get(wrong[0], 'absent')} in this run."
        )


def check_shards(folder: Path, *, flag: str = "--ckpt_path") -> dict[str, Any]:
    """Check that a folder holds a whole checkpoint of DeepSpeed, and no code; return its outline.

    Args:
        folder: The checkpoint.
        flag: Flag that gave the checkpoint, for messages.

    Raises:
        ConfigurationError: When it does not.
    """
    found: dict[str, Any] = {}
    with safe_to_read():
        for file in sorted(folder.glob("checkpoint/*.pt")):
            try:
                found[file.name] = torch.load(file, "meta", weights_only=True, mmap=True)
            except pickle.UnpicklingError as error:
                raise ConfigurationError(
                    f"{flag}: {file} holds objects that could run code when they are read, which is refused "
                    f"({str(error).splitlines()[0]})."
                ) from error
            except RuntimeError as error:
                raise ConfigurationError(f"{flag}: {file} is broken ({str(error).splitlines()[0]}).") from error
    outline: dict[str, Any] | None = next(
        (state for name, state in found.items() if name.endswith("mp_rank_00_model_states.pt")), None
    )
    if outline is None:
        raise ConfigurationError(f"{flag}: {folder} is no checkpoint of DeepSpeed, which is a folder of shards.")
    there, written = sum(name.endswith("optim_states.pt") for name in found), outline.get("dp_world_size")
    if there != written:
        raise ConfigurationError(
            f"{flag}: {folder} has the shards of {there} processes and {written} wrote it: some are on other "
            "machines, or lost. DeepSpeed needs an --output_dir that all machines share."
        )
    return outline
