"""Ranks exchange data: what could run code is neither sent nor read."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch.distributed import HashStore, distributed_c10d
from torch.distributed.fsdp._optim_utils import StateInfo, _OptimStateKey, _PosDimTensorInfo

from transformers_framework.distributed import collectives
from transformers_framework.distributed.collectives import (
    all_gather_json,
    broadcast,
    gather_json,
    pack,
    refuse_pickles,
    unpack,
)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


VALUES: list[Any] = [
    None,
    [1, 2.5, True, "naïve", float("inf")],
    {"a": {"b": [[]]}, "": {}},
    torch.arange(6.0).view(2, 3).T,
    {"state": torch.tensor([True, False]), "half": torch.ones(3, dtype=torch.bfloat16), "number": torch.tensor(3)},
    [torch.tensor(3).expand(1), torch.tensor(3).expand(4), torch.tensor([7]).as_strided((1,), (0,))],
    [np.arange(5), np.zeros((0, 3), dtype=np.float32), torch.empty(0)],
    ["x" * 100_000, torch.zeros(1, dtype=torch.uint8), torch.ones(2, dtype=torch.float64)],
]


def same(found: Any, value: Any) -> bool:
    if isinstance(value, torch.Tensor | np.ndarray):
        return type(found) is type(value) and found.dtype == value.dtype and bool((found == value).all())
    if isinstance(value, list):
        return len(found) == len(value) and all(map(same, found, value))
    if isinstance(value, dict):
        return found.keys() == value.keys() and all(same(found[key], value[key]) for key in value)
    return bool(found == value)


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_values_come_back(value: Any) -> None:
    assert same(unpack(pack(value)), value)


def test_tuples_and_paths_come_back_as_lists_and_strings() -> None:
    assert unpack(pack({"places": (Path("a/b"), 1)})) == {"places": ["a/b", 1]}


@pytest.mark.parametrize(
    "value", [object(), {"of": Payload(Path())}, {1, 2}, b"bytes"], ids=["object", "path", "set", "bytes"]
)
def test_what_is_no_data_is_not_sent(value: Any) -> None:
    with pytest.raises(TypeError, match="ranks exchange strings, numbers and tensors, not "):
        pack(value)


def test_a_message_names_dtypes_only() -> None:
    message = bytes(pack({"it": torch.zeros(2)}).numpy())
    wrong = np.frombuffer(message.replace(b'"float32"', b'"compile"'), dtype=np.uint8).copy()
    with pytest.raises(ValueError, match="compile is not a dtype"):
        unpack(torch.from_numpy(wrong))


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of one rank, over which messages go as over one of many."""
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_ranks_exchange_them() -> None:
    for value in VALUES:
        assert same(all_gather_json(value), [value])
        assert same(gather_json(value), [value])
        assert same(broadcast(value), value)


@pytest.mark.usefixtures("alone")
def test_collectives_of_pytorch_read_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What FSDP and DeepSpeed send themselves arrives; a pickle that a stranger sends is not executed."""
    for name in ("_pickler", "_unpickler"):
        monkeypatch.setattr(distributed_c10d, name, getattr(distributed_c10d, name))
    refuse_pickles()
    info = StateInfo(
        {"exp_avg": _PosDimTensorInfo(torch.Size([2]), torch.float32)}, {"step": torch.ones(())}, {"lr": 1}
    )
    for value in ([_OptimStateKey(("weight",), True)], {"weight": info}, ["path", None, 1]):
        everyone: list[Any] = [None]
        distributed.all_gather_object(everyone, value)
        assert everyone == [value]
    trap = tmp_path / "executed"
    monkeypatch.setattr(distributed_c10d, "_pickler", pickle.Pickler)  # the stranger's
    with pytest.raises(pickle.UnpicklingError):
        distributed.all_gather_object([None], Payload(trap))
    assert not trap.exists()


def test_no_module_unpickles_what_others_send() -> None:
    """Nothing but these functions carries objects between ranks."""
    package = Path(collectives.__file__).parent.parent
    words = ("_object_list", "gather_object", "scatter_object", "multiprocessing.connection", "pickle.load")
    found = {path.name for path in package.rglob("*.py") if any(word in path.read_text("utf-8") for word in words)}
    assert found <= {"communication.py"}
