"""Packages outside the tree that add something to it: written by a test, imported once, and forgotten afterwards."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from transformers_framework import registration, registry
from transformers_framework.losses.retrieval.table import RETRIEVAL_LOSSES

TABLES = (
    registry.PIPELINES,
    registry.MODELS,
    registry.OPTIMIZERS,
    registry.SCHEDULERS,
    registry.LOGGERS,
    RETRIEVAL_LOSSES,
)


def write_package(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files of packages, by path; return the folder that Python must look in."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """Forget what is registered and imported in a block."""
    tables = [dict(table) for table in TABLES]
    modules, owners = set(sys.modules), dict(registration.OWNERS)
    try:
        yield
    finally:
        for table, before in zip(TABLES, tables, strict=True):
            table.clear()
            table.update(before)  # type: ignore[arg-type]
        registration.OWNERS.clear()
        registration.OWNERS.update(owners)
        for name in set(sys.modules) - modules:
            origin = getattr(sys.modules[name], "__file__", None) or ""
            if "site-packages" not in origin and "transformers_framework" not in name:
                del sys.modules[name]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that writes the files of packages, which can be imported in this test and in no other."""
    folder = tmp_path / "site"

    def write(files: Mapping[str, str]) -> Path:
        return write_package(folder, files)

    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    with forgotten():
        yield write
