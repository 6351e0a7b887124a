"""Lightning checkpoints that are written atomically and read without executing code."""

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
    """CheckpointIO that writes a temporary file and renames it.

    Lightning writes to /tmp first, from where a rename may not be atomic, and keeps a second copy in memory.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint."""
        with atomic_file(Path(path)) as aside:
            torch.save(checkpoint, aside)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: Any = None) -> dict[str, Any]:
        """Load a checkpoint; only tensors and plain values are accepted, from any file.

        Raises:
            ConfigurationError: When there is no such file, or it is not a checkpoint.
        """
        return read_checkpoint(path, map_location or "cpu")


def read_checkpoint(
    path: Any, map_location: Any = "cpu", *, outline: bool = False, lazy: bool = False, flag: str = "--ckpt_path"
) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are accepted, from any file.

    Args:
        path: The file.
        map_location: Device of the tensors.
        outline: Read names and shapes only, which is fast for any size.
        lazy: Map the tensors into memory: those that are not used are not read.
        flag: Flag with the checkpoint, for messages.

    Raises:
        ConfigurationError: When there is no such file, or it is not a checkpoint.
    """
    if Path(path, "checkpoint").is_dir():
        raise ConfigurationError(
            f"{flag}: {path} is a folder of DeepSpeed shards. Give a --strategy deepspeed_stage_..., "
            "or start from an export with --pre_trained_model."
        )
    if not Path(path).is_file():
        raise ConfigurationError(f"{flag}: there is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise ConfigurationError(f"{flag}: {path} is not a torch.save file, or incomplete.")
    try:
        checkpoint = torch.load(path, "meta" if outline else map_location, weights_only=True, mmap=outline or lazy)
    except pickle.UnpicklingError as error:
        raise ConfigurationError(
            f"{flag}: {path} contains objects that could run code when they are read, and is refused. Checkpoints "
            "of this program contain tensors and plain values only."
        ) from error
    except Exception as error:  # a broken file raises many types of errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(f"{flag}: {path} is broken ({reason}).") from error
    if not isinstance(checkpoint, dict) or not {"pytorch-lightning_version", "state_dict"} <= checkpoint.keys():
        raise ConfigurationError(f"{flag}: {path} is not a Lightning checkpoint.")
    return checkpoint


def check_tensors(
    path: Any, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], *, flag: str = "--ckpt_path"
) -> None:
    """Raise if the tensors of a checkpoint do not match those of a model.

    Args:
        path: The file, for the message.
        found: Tensors of the checkpoint; only shapes are used.
        expected: Tensors of the model.
        flag: Flag with the checkpoint, for messages.

    Raises:
        ConfigurationError: When names or shapes differ.
    """
    there, here = ({name: tuple(tensor.shape) for name, tensor in state.items()} for state in (found, expected))
    wrong = [name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]
    if wrong:
        raise ConfigurationError(
            f"{flag}: {path} is a checkpoint of another model: {len(wrong)} tensors differ, for instance "
            f"{wrong[0]}, which is {there.get(wrong[0], 'absent')} there and {here.get(wrong[0], 'absent')} here. "
            "Give the --pre_trained_model that its run had."
        )


def check_shards(folder: Path, *, flag: str = "--ckpt_path") -> dict[str, Any]:
    """Check that a folder has a complete DeepSpeed checkpoint without code; return its names and shapes.

    Args:
        folder: The checkpoint.
        flag: Flag with the checkpoint, for messages.

    Raises:
        ConfigurationError: When it is incomplete, broken, or contains code.
    """
    found: dict[str, Any] = {}
    with safe_to_read():
        for file in sorted(folder.glob("checkpoint/*.pt")):
            try:
                found[file.name] = torch.load(file, "meta", weights_only=True, mmap=True)
            except pickle.UnpicklingError as error:
                raise ConfigurationError(
                    f"{flag}: {file} contains objects that could run code when they are read, and is refused "
                    f"({str(error).splitlines()[0]})."
                ) from error
            except RuntimeError as error:
                raise ConfigurationError(f"{flag}: {file} is broken ({str(error).splitlines()[0]}).") from error
    outline: dict[str, Any] | None = next(
        (state for name, state in found.items() if name.endswith("mp_rank_00_model_states.pt")), None
    )
    if outline is None:
        raise ConfigurationError(f"{flag}: {folder} is not a DeepSpeed checkpoint (a folder of shards).")
    there, written = sum(name.endswith("optim_states.pt") for name in found), outline.get("dp_world_size")
    if there != written:
        raise ConfigurationError(
            f"{flag}: {folder} has the shards of {there} of {written} processes: the others are on other "
            "machines, or lost. Use an --output_dir that all machines share, as DeepSpeed needs it."
        )
    return outline
