"""Memory of this process on Linux: how much it may still allocate, and the most that it had."""

from __future__ import annotations

from pathlib import Path

from transformers_framework.runtime.allocator import return_freed_memory

PROCESS, CGROUPS, MACHINE = Path("/proc/self"), Path("/sys/fs/cgroup"), Path("/proc/meminfo")
KIB = 1024
RESET_PEAK = "5"  # written to clear_refs, see proc(5)


def available_memory() -> int | None:
    """Return how many bytes this process may still allocate; None where the operating system does not say.

    It is what the machine has available, and no more than the limits of the control groups of the process (version 1
    or 2, as containers and SLURM set them) leave. Pages of files that can be dropped count as available.
    """
    if (found := _kib(MACHINE, "MemAvailable")) is None:
        return None
    return max(0, min([found, *_left_by_cgroups()]))


def _left_by_cgroups() -> list[int]:
    left = []
    for line in _text(PROCESS / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, names = CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):  # a container sees its own group as the root
            limit, used = (_text(folder / name).strip() for name in names[:2])
            if limit.isdecimal() and used.isdecimal():
                words = _text(folder / "memory.stat").split()
                droppable = dict(zip(words[::2], words[1::2], strict=False)).get(names[2], "0")
                left.append(int(limit) - int(used) + int(droppable))
            if folder == root:
                break
    return left


class PeakMemory:
    """The memory of this process above that at its creation, without memory that was freed before.

    Raises:
        OSError: Where the operating system does not measure it.
    """

    def __init__(self) -> None:
        return_freed_memory()
        (PROCESS / "clear_refs").write_text(RESET_PEAK)
        self.before = _kib(PROCESS / "status", "VmRSS")
        if self.before is None:
            raise OSError("the memory of this process is unknown")

    @property
    def above(self) -> int:
        """Bytes of the peak since the creation, above the memory at the creation."""
        assert self.before is not None
        return max(0, (_kib(PROCESS / "status", "VmHWM") or 0) - self.before)


def _kib(path: Path, name: str) -> int | None:
    """Return the value of a line ``name: N kB`` in bytes; None without one."""
    for line in _text(path).splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * KIB
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
