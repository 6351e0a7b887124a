"""Every private part of a library that is used exists: an upgrade that renames one fails here."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from packaging.requirements import Requirement
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from torchmetrics import MeanMetric

from tests import tiny
from transformers_framework.compat import datasets, lightning, sharding, tensorboard, torchmetrics, transformers
from transformers_framework.compat import torch as compat_torch

FILES = (datasets, lightning, sharding, tensorboard, compat_torch, torchmetrics, transformers)
PARTS = sorted({part for file in FILES for part in file.PARTS})


def resolved(part: str) -> Any:
    """Return what stands at ``module:name.attribute``; attributes of instances are looked for in the class."""
    module, _, names = part.partition(":")
    return reduce(getattr, names.split("."), importlib.import_module(module))


@pytest.mark.parametrize("part", PARTS)
def test_private_parts_exist(part: str) -> None:
    assert resolved(part) is not None or part.endswith("_results")


@pytest.mark.needs("deepspeed")
@pytest.mark.parametrize("part", sorted(sharding.DEEPSPEED_PARTS))
def test_private_parts_of_deepspeed_exist(part: str) -> None:
    assert callable(resolved(part))


@pytest.mark.needs("deepspeed")
def test_classes_in_files_of_deepspeed_exist() -> None:
    with sharding.safe_to_read():
        pass


def loader_iterator() -> Any:
    return iter(DataLoader(range(2), num_workers=1))  # type: ignore[arg-type]


def scheduler() -> Any:
    return torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([torch.zeros(1, requires_grad=True)]), lambda _: 1.0)


# attributes that only instances have
INSTANCES: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    "metric": (lambda _: MeanMetric(), ("_defaults", "_reductions", "_update_count")),
    "logger": (TensorBoardLogger, ("_experiment", "_kwargs")),
    "writer": (lambda f: SummaryWriter(f).file_writer.event_writer, ("_file_name", "_general_file_writer")),
    "strategy": (lambda _: DDPStrategy(), ("_forward_redirection", "_timeout")),
    "loader": (lambda _: DataLoader([1]), ("_iterator",)),  # type: ignore[arg-type]
    "batches": (lambda _: loader_iterator(), ("_workers", "_worker_pids_set")),
    "schedule": (lambda _: scheduler(), ("_last_lr",)),
    "process": (lambda _: multiprocessing.process.current_process(), ("_config",)),
    "data set": (lambda _: Dataset.from_dict({"a": [1]}), ("_fingerprint", "_indices")),
    "config": (lambda _: tiny.config_for("bert"), ("_attn_implementation",)),
}


@pytest.mark.parametrize("name", INSTANCES)
def test_private_attributes_exist(name: str, tmp_path: Any) -> None:
    make, attributes = INSTANCES[name]
    found = make(str(tmp_path))
    assert [attribute for attribute in attributes if not hasattr(found, attribute)] == []


def test_saved_data_sets_have_their_keys(tmp_path: Any) -> None:
    data = Dataset.from_dict({"a": [1, 2, 3]})
    data.save_to_disk(tmp_path / "d")
    (file,) = datasets.saved_files(json.loads((tmp_path / "d" / "state.json").read_text("utf-8")))
    assert (tmp_path / "d" / file["filename"]).is_file()
    chosen = data.select([2, 0])
    assert chosen._indices is not None
    again = datasets.with_fingerprint(chosen, "name")
    assert (datasets.fingerprint_of(again), again["a"][:]) == ("name", [3, 1])


def test_signals_of_lightning_are_off() -> None:
    import pytorch_lightning as pl

    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    before = trainer._signal_connector.register_signal_handlers
    lightning.disable_signal_handling(trainer)
    assert trainer._signal_connector.register_signal_handlers is not before


def test_versions_end_where_tests_end() -> None:
    """What was tested is allowed, and of libraries whose private parts are used nothing much newer."""
    root = Path(__file__).parents[3]
    required = {
        requirement.name: requirement
        for text in re.findall(r'"([a-z-]+[<>=!][^"]*)"', (root / "setup.py").read_text("utf-8"))
        if (requirement := Requirement(text)).specifier
    }
    tested = dict(re.findall(r"^([a-z-]+)==([\d.]+)$", (root / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    assert {name for name in required.keys() & tested.keys() if tested[name] not in required[name].specifier} == set()
    private = {"datasets", "pytorch-lightning", "tensorboard", "torch", "torchmetrics", "transformers", "deepspeed"}
    assert {name for name in private if "<" not in str(required[name].specifier)} == set()
