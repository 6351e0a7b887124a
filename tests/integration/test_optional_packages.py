"""Flags that need a package that is not installed are refused before training, with the extra to install."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from tests import runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize(
    ("package", "needed_by", "install", "flags"),
    [
        ("wandb", "--loggers wandb", "'transformers-framework[wandb]'", {"loggers": "wandb"}),
        ("mlflow", "--loggers mlflow", "'transformers-framework[mlflow]'", {"loggers": "mlflow"}),
        ("onnx", "--export_onnx", "'transformers-framework[onnx]'", {"export_onnx": True}),
        ("matplotlib", "--figures", "'transformers-framework[plots]'", {"figures": True}),
        ("psutil", "--devices_stats on a CPU", "psutil", {"devices_stats": True}),
    ],
)
def test_a_missing_package_is_named_before_training(
    package: str,
    needed_by: str,
    install: str,
    flags: dict[str, Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A folder of its name in the working directory, such as the one that wandb writes, does not stand for it."""
    found = importlib.util.find_spec
    a_folder = ModuleSpec(package, None, is_package=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: a_folder if name == package else found(name, *_))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    folders = runs.run(folder, status=2, pipeline="seq_class", **flags)
    message = f"{needed_by} needs the package '{package}', which is not installed: pip install {install}\n"
    assert capsys.readouterr().err.endswith(message)
    assert not folders.checkpoints.exists()
