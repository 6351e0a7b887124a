"""Keep freed memory in the process: large tensors are made and freed at every step."""

from __future__ import annotations

import ctypes
import os
import sys

# of malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
ALMOST_2_GIB = 2**31 - 4096
OPT_OUT = "TRANSFORMERS_FRAMEWORK_KEEP_ALLOCATOR"


def keep_freed_memory() -> bool:
    """Tell glibc not to map and unmap every large tensor; return whether it accepted.

    Mapping costs 14 to 28 % of a training step on a CPU. The peak of memory grows by 3 to 10 %. Only Linux with
    glibc has the setting; ``TRANSFORMERS_FRAMEWORK_KEEP_ALLOCATOR=1`` leaves the allocator alone.
    """
    if os.environ.get(OPT_OUT) or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, ALMOST_2_GIB)) and bool(mallopt(M_TRIM_THRESHOLD, ALMOST_2_GIB))
