"""The rank of this process before any process group exists."""

from __future__ import annotations

import os


def is_rank_zero() -> bool:
    """Return whether this process is rank zero, which writes files and logs.

    It reads the environment variables of torchrun, SLURM and Lightning's launcher.
    """
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ and (name == "RANK" or "SLURM_NTASKS" in os.environ):
            return os.environ[name] == "0"
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return os.environ.get("LOCAL_RANK", "0") == "0" and node == "0"
