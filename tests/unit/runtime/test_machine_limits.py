"""Limits of the machine are found before training: open files and shared memory."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.runtime import machine_limits
from transformers_framework.runtime.machine_limits import allow_open_files, check_workers

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm")


def test_no_workers_need_nothing(monkeypatch):
    monkeypatch.setattr(machine_limits, "open_files", lambda: 1)
    check_workers(0, 10**15)


def test_few_open_files_are_refused(monkeypatch):
    monkeypatch.setattr(machine_limits, "open_files", lambda: 128)
    check_workers(1, 1)
    with pytest.raises(
        ConfigurationError, match=r"--num_workers 4: .* 128 files open, and needs about 224.*ulimit -n 224"
    ):
        check_workers(4, 1)


def test_shared_memory_that_cannot_be_used_is_named(monkeypatch):
    def refuse(value):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(multiprocessing, "Semaphore", refuse)
    with pytest.raises(ConfigurationError, match=r"cannot share memory here \(/dev/shm: Read-only file system\)"):
        check_workers(2, 1)


@ON_LINUX
def test_small_shared_memory_is_refused_or_warned_of(monkeypatch, caplog):
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=33, f_frsize=2**16))
    with caplog.at_level(logging.WARNING):
        check_workers(1, 2**20)
        assert not caplog.text
        check_workers(2, 2**20)
    assert "/dev/shm has 2.1 MiB left" in caplog.text
    assert "take 4.1 MiB. Enlarge it (docker run --shm-size)" in caplog.text
    with pytest.raises(ConfigurationError, match=r"/dev/shm has 2\.1 MiB left"):
        check_workers(2, 3 * 2**20)


@pytest.mark.needs("resource")  # Windows has none
def test_a_process_allows_itself_what_it_may():
    import resource

    code = (
        "import resource\n"
        "from transformers_framework.runtime.machine_limits import allow_open_files\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "allow_open_files()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True"
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_open_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
