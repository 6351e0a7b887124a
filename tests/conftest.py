"""Every test runs offline and without touching the user's cache."""

import importlib.util
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of runs side by side would wait for each other

# settings that choose other kernels than a processor would get
KERNELS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "OMP_NUM_THREADS")


def machine() -> str:
    """Return the processor and the instructions that numbers of these tests are computed with."""
    import torch

    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    amx = "AMX" if getattr(torch.cpu, "_is_amx_tile_supported", bool)() else "no AMX"
    return (
        f"processor: {next(iter(names), platform.processor() or platform.machine())}, {os.cpu_count()} cores; torch "
        f"{torch.__version__}: {torch.backends.cpu.get_cpu_capability()}, {amx}, threads: {torch.get_num_threads()}; "
        f"{' '.join(f'{name}={os.environ[name]}' for name in KERNELS if name in os.environ)}"
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Report the machine, once."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(session.config, "workerinput"):
        reporter.write_line(machine())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose package is not there; with EVERY_PACKAGE, as `make test-full` has it, that is a failure."""
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            if importlib.util.find_spec(name) is None:
                absent = pytest.fail if os.environ.get("EVERY_PACKAGE") else pytest.skip
                absent(f"{name} is not installed")


@pytest.fixture
def measured_memory() -> None:
    """Skip a test of the memory of a process where the operating system does not measure it."""
    from transformers_framework.runtime.memory import PeakMemory

    try:
        PeakMemory()
    except OSError as error:
        pytest.skip(f"the memory of a process is not measured here: {error}")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    """What the package said, which does not reach the root logger."""
    logger = logging.getLogger("transformers_framework")
    monkeypatch.setattr(logger, "propagate", False)  # as a run has it, be it the first of these tests or not
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
