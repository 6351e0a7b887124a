"""Collectives that exchange JSON and tensors between ranks; unpacking executes no code."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, distributed

from transformers_framework.compat.torch import classes_of_fsdp, use_pickler

TENSOR, ARRAY = "__tensor__", "__array__"  # keys that represent a tensor or an array in the JSON
ALIGNMENT = 16  # bytes; each tensor begins at a multiple of its dtype's size


def all_gather_json(obj: Any) -> list[Any]:
    """All-gather an object: return the objects of all ranks, in the order of ranks; all ranks must call this.

    Args:
        obj: Strings, numbers, tensors and numpy arrays, in lists and dictionaries with strings as keys. Tuples are
            returned as lists, paths as strings, tensors on the CPU.
    """
    if not _is_distributed():
        return [obj]
    message, sizes = _sized(obj)
    parts = [torch.empty_like(message) for _ in sizes]
    distributed.all_gather(parts, message)
    return [unpack(part[:size].cpu()) for part, size in zip(parts, sizes, strict=True)]


def gather_json(obj: Any) -> list[Any] | None:
    """Gather an object on rank 0, like :func:`all_gather_json`; other ranks return None; all ranks must call this."""
    if not _is_distributed():
        return [obj]
    message, sizes = _sized(obj)
    parts = [torch.empty_like(message) for _ in sizes] if distributed.get_rank() == 0 else None
    distributed.gather(message, parts)
    if parts is None:
        return None
    return [unpack(part[:size].cpu()) for part, size in zip(parts, sizes, strict=True)]


def broadcast(obj: Any, src: int = 0) -> Any:
    """Broadcast the object of one rank, of the types of :func:`all_gather_json`; all ranks must call this."""
    if not _is_distributed():
        return obj
    is_source, device = distributed.get_rank() == src, _device()
    message = pack(obj).to(device) if is_source else torch.empty(0, dtype=torch.uint8, device=device)
    size = torch.tensor([message.numel()], device=device)
    distributed.broadcast(size, src)
    message = message if is_source else torch.empty(int(size), dtype=torch.uint8, device=device)
    distributed.broadcast(message, src)
    return obj if is_source else unpack(message.cpu())


def pack(value: Any) -> Tensor:
    """Return an object as a message ``(N,) uint8``: the length of the JSON, the JSON, and the tensors it refers to.

    Raises:
        TypeError: When the object contains anything except strings, numbers, tensors and numpy arrays.
    """
    parts: list[Tensor] = []

    def refer(item: Any) -> Any:
        if isinstance(item, PurePath):
            return str(item)
        if not isinstance(item, Tensor | np.ndarray):
            raise TypeError(f"ranks exchange strings, numbers and tensors, not {type(item).__name__}")
        tensor = torch.as_tensor(item).detach().cpu()
        start = sum(part.numel() for part in parts)
        flat = tensor.flatten().clone(memory_format=torch.contiguous_format)  # an expanded scalar has no stride
        parts.append(_aligned(flat.view(torch.uint8)))
        key = TENSOR if isinstance(item, Tensor) else ARRAY
        return {key: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), start]}

    text = np.frombuffer(json.dumps(value, default=refer).encode(), dtype=np.uint8).copy()
    length = torch.tensor([len(text)]).view(torch.uint8)
    return torch.cat([_aligned(length), _aligned(torch.from_numpy(text)), *parts])


def unpack(message: Tensor) -> Any:
    """Return the object in a message of :func:`pack`.

    Raises:
        ValueError: When the message is invalid.
    """
    length, body = int(message[:ALIGNMENT].view(torch.int64)[0]), message[ALIGNMENT:]
    tensors = body[-(-length // ALIGNMENT) * ALIGNMENT :]

    def resolve(found: dict[str, Any]) -> Any:
        key = next(iter(found)) if len(found) == 1 else ""
        if key not in (TENSOR, ARRAY):
            return found
        name, shape, start = found[key]
        dtype = getattr(torch, name)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{name} is not a dtype")
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        tensor = tensors[start : start + size].clone().view(dtype).view(shape)
        return tensor if key == TENSOR else tensor.numpy()

    return json.loads(bytes(body[:length].numpy()), object_hook=resolve)


class Pickler:
    """Pickler for the collectives of PyTorch, FSDP and DeepSpeed: writes objects with ``torch.save``.

    Args:
        file: File to write to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def dump(self, obj: Any) -> None:
        """Write an object."""
        torch.save(obj, self.file)


class Unpickler:
    """Unpickler for :class:`Pickler`: reads tensors, plain values and the few classes that FSDP exchanges, no code.

    Args:
        file: File to read from.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def load(self) -> Any:
        """Read an object.

        Raises:
            pickle.UnpicklingError: When it contains anything that could run code.
        """
        with torch.serialization.safe_globals(classes_of_fsdp()):
            return torch.load(self.file, weights_only=True)


def refuse_pickles() -> None:
    """Replace the pickler of PyTorch's collectives, so that received objects never execute code."""
    use_pickler(Pickler, Unpickler)


def _sized(obj: Any) -> tuple[Tensor, list[int]]:
    """Return the message of this rank, padded to the longest message, and the message lengths of all ranks."""
    message = pack(obj).to(_device())
    lengths = torch.zeros(distributed.get_world_size(), dtype=torch.int64, device=message.device)
    distributed.all_gather(list(lengths.split(1)), torch.tensor([message.numel()], device=message.device))
    sizes: list[int] = lengths.tolist()
    return torch.nn.functional.pad(message, (0, max(sizes) - message.numel())), sizes


def _aligned(part: Tensor) -> Tensor:
    return torch.nn.functional.pad(part, (0, -part.numel() % ALIGNMENT))


def _device() -> torch.device:
    """Return the device for exchanged tensors: NCCL supports CUDA tensors only."""
    if "nccl" in distributed.get_backend():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
