"""Shards of DeepSpeed's optimizers are whole again; those that cannot be are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from transformers_framework.exceptions import ConfigurationError

pytestmark = pytest.mark.needs("deepspeed")

SHAPES = [{"a": torch.Size([2, 2]), "b": torch.Size([1])}, {"c": torch.Size([3])}]


def shards(folder: Path, optimizers: list[dict[str, Any]]) -> Any:
    from transformers_framework.strategies.zero_shards import ZeroShards

    (folder / "checkpoint").mkdir()
    torch.save({"module": {}, "param_shapes": SHAPES, "epoch": 3}, folder / "checkpoint/mp_rank_00_model_states.pt")
    for rank, optimizer in enumerate(optimizers):
        name = f"checkpoint/zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": optimizer}, folder / name)
    return ZeroShards(folder)


def state(*values: list[float]) -> dict[str, Any]:
    groups = [{"lr": 0.5, "params": [number]} for number in range(len(values))]
    kept = {number: {"step": 7, "exp_avg": torch.tensor(value)} for number, value in enumerate(values)}
    return {"state": kept, "param_groups": groups}


def test_parts_of_groups(tmp_path: Path) -> None:
    """Of stages 1 and 2: each group is cut in two, wherever that is."""
    halves = [state([0.0, 1, 2], [5.0, 6]), state([3.0, 4, 0], [7.0, 0])]
    found = shards(tmp_path, [{"base_optimizer_state": half} for half in halves])
    assert (found.kinds, found.groups, found.client_state["epoch"]) == (["exp_avg"], [{"lr": 0.5}] * 2, 3)
    assert found.fits(2, shards_weights=False)
    assert not found.fits(3, shards_weights=False)
    assert {name: tensor.tolist() for name, tensor in found.tensors("exp_avg")} == {
        "a": [[0, 1], [2, 3]],
        "b": [4],
        "c": [5, 6, 7],
    }


def test_parts_of_parameters(tmp_path: Path) -> None:
    """Of stage 3: each parameter is cut in two, and what is odd is filled up."""
    halves = [state([0.0, 1, 4, 5, 6]), state([2.0, 3, 0, 7, 0])]
    found = shards(tmp_path, [{"optimizer_state_dict": half, "fp32_flat_groups": []} for half in halves])
    assert found.fits(2, shards_weights=True)
    assert [tensor.tolist() for _, tensor in found.tensors("exp_avg")] == [[[0, 1], [2, 3]], [4], [5, 6, 7]]


def test_shards_are_in_the_order_of_their_processes(tmp_path: Path) -> None:
    found = shards(tmp_path, [{"base_optimizer_state": state([float(rank)])} for rank in range(12)])
    assert [float(found.states(rank)[0]["exp_avg"]) for rank in range(12)] == list(range(12))


def test_blocks_cannot_be_dealt(tmp_path: Path) -> None:
    """As 8-bit optimizers keep, with a scale for each block."""
    kept = {"state": {0: {"state1": torch.zeros(4, dtype=torch.uint8), "absmax1": torch.zeros(1)}}, "param_groups": []}
    with pytest.raises(ConfigurationError, match=r"keeps state1 in blocks.*Continue with as many"):
        shards(tmp_path, [{"base_optimizer_state": kept}]).kinds  # noqa: B018
