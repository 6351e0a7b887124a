"""Failures of machines and disks, explained in one line with the remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from transformers_framework.exceptions import RunError, UserError

LAST_GOOD = "A checkpoint that was saved is complete; --resume continues from the last one, if there is one."
NO_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
NO_RIGHT = frozenset((errno.EACCES, errno.EPERM))
# a message of torch, and what it means; groups of the first fill the second
KNOWN = {
    r"Too many open files": (
        "The process may not open more files: raise the limit (ulimit -n), or use fewer --num_workers."
    ),
    r"shared memory|Bus error": (
        "The memory that processes share is full (/dev/shm): enlarge it (docker run --shm-size), or use fewer "
        "--num_workers, or --num_workers 0."
    ),
    r"DataLoader worker \(pid (\d+)\) is killed by signal: Killed": (
        "A process that prepares batches (pid {0}) was killed. The machine is out of memory, most likely: use fewer "
        "--num_workers, or a smaller --batch_size."
    ),
    r"DataLoader worker \(pid (\d+)\) is killed by signal: ([^.]+)\.": (
        "A process that prepares batches (pid {0}) was ended by a signal ({1})."
    ),
    r"(?:CUDA|MPS|HIP) ?(?:backend )?(?:error: )?out of memory": (
        "The device is out of memory: use --batch_size auto, or a smaller one with --accumulate_grad_batches, "
        "--gradient_checkpointing, a shorter --max_sequence_length, or a --strategy that shards."
    ),
    r"loss scale already at minimum": (
        "Gradients overflow in float16, however small the scale of the loss: use --precision bf16, or a strategy whose "
        "scale falls further, deepspeed_..._lower_scale."
    ),
    r"PytorchStreamWriter failed|inline_container\.cc|unexpected pos|file write failed|os error (?:5|27|28|30|122)\b": (
        "A file cannot be written: the disk of --output_dir is full, or refuses to. Free some space."
    ),
}

# the same, unless a cause of the error explains it
UNSPECIFIC = {
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) exited unexpectedly": (
        "A process that prepares batches (pid {0}) has ended. If the machine is out of memory, use fewer "
        "--num_workers, or a smaller --batch_size."
    ),
}


@contextlib.contextmanager
def explaining_failures(output_dir: Path) -> Iterator[None]:
    """Turn failures of the machine into one message with the remedy.

    Args:
        output_dir: Where the run writes.

    Raises:
        RunError: With the cause and the remedy.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:
        if message := explanation(error, output_dir):
            raise RunError(f"{message} {LAST_GOOD}") from error
        raise


def explanation(error: BaseException, output_dir: Path) -> str | None:
    """Return what an error, or one of its causes, means for a run; None when that is unknown.

    Args:
        error: The error.
        output_dir: Where the run writes.
    """
    cause: BaseException | None = error
    unspecific: str | None = None
    while cause is not None:
        if isinstance(cause, MemoryError):
            return "The machine is out of memory: use fewer --num_workers, or a smaller --batch_size."
        if isinstance(cause, OSError):
            named = isinstance(cause.filename, (str, bytes, os.PathLike))  # and not the number of an open file
            place = Path(os.fsdecode(cause.filename)) if named else output_dir
            ours = output_dir.absolute() in (place.absolute(), *place.absolute().parents)
            if cause.errno in NO_SPACE or (ours and cause.errno in NO_RIGHT):
                return f"{place} cannot be written ({cause.strerror}): free some space there, or see who may write."
        for pattern, meaning in KNOWN.items():
            if found := re.search(pattern, str(cause)):
                return meaning.format(*found.groups())
        for pattern, meaning in UNSPECIFIC.items():
            if found := re.search(pattern, str(cause)):
                unspecific = unspecific or meaning.format(*found.groups())
        cause = cause.__cause__ or cause.__context__
    return unspecific
