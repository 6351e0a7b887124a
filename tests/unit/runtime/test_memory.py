"""How much memory a process may still allocate, by the machine and its control groups."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from transformers_framework.runtime import memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB left."""
    for name, path in {"PROCESS": "self", "CGROUPS": "cgroup", "MACHINE": "meminfo"}.items():
        monkeypatch.setattr(memory, name, tmp_path / path)
    (tmp_path / "meminfo").write_text(f"MemTotal:  99 kB\nMemAvailable:   {8 * GIB // 1024} kB\n")
    (tmp_path / "self").mkdir()
    return tmp_path


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_the_machine_and_nothing_else(machine: Path) -> None:
    assert memory.available_memory() == 8 * GIB
    (machine / "meminfo").unlink()
    assert memory.available_memory() is None


def test_the_smallest_limit_of_a_process_and_its_groups(machine: Path) -> None:
    (machine / "self/cgroup").write_text("0::/job/step\n")
    group(machine / "cgroup/job/step", memory__max="max", memory__current=GIB)
    group(machine / "cgroup/job", memory__max=4 * GIB, memory__current=3 * GIB)
    assert memory.available_memory() == GIB
    group(machine / "cgroup/job", memory__stat=f"anon 5\ninactive_file {GIB}")
    assert memory.available_memory() == 2 * GIB, "pages of files are dropped"


def test_version_1_in_a_container(machine: Path) -> None:
    (machine / "self/cgroup").write_text("9:cpu:/x\n4:memory:/docker/1234\n0::/\n")
    group(machine / "cgroup/memory", memory__limit_in_bytes=2 * GIB, memory__usage_in_bytes=3 * GIB)
    assert memory.available_memory() == 0


@pytest.mark.usefixtures("measured_memory")
def test_the_peak_is_that_since_then() -> None:
    held = torch.ones(2**24)
    del held
    peak = memory.PeakMemory()
    before = peak.above
    held = torch.ones(2**24)
    del held
    assert peak.above - before > 2**25, "64 MiB were allocated and freed"
