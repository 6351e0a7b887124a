"""Groups: every trainable tensor once, decay on matrices only."""

import pytest
import torch
from torch import nn

from transformers_framework.optimizers.groups import dimensions, parameter_groups


def tied_model():
    model = nn.ModuleDict(
        {
            "embeddings": nn.Embedding(7, 4),
            "layer": nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(2)),
            "decoder": nn.Linear(4, 7),
        }
    )
    model["decoder"].weight = model["embeddings"].weight
    return model


def ids(groups):
    return sorted(id(parameter) for group in groups for parameter in group["params"])


@pytest.mark.parametrize("by_depth", [False, True])
@pytest.mark.parametrize("split_embeddings", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_every_trainable_tensor_is_in_exactly_one_group(by_depth, split_embeddings, weight_decay):
    model = tied_model()
    model["layer"][0][0].weight.requires_grad_(False)
    groups = parameter_groups(model, weight_decay=weight_decay, by_depth=by_depth, split_embeddings=split_embeddings)
    assert ids(groups) == sorted({id(p) for p in model.parameters() if p.requires_grad})
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (weight_decay if parameter.ndim >= 2 else 0.0)
    torch.optim.SGD(groups, lr=1.0)  # refuses a parameter that is in two groups


def test_few_groups_where_nothing_differs():
    model = tied_model()
    assert len(parameter_groups(model)) == 1
    assert [group["weight_decay"] for group in parameter_groups(model, weight_decay=0.1)] == [0.1, 0.0]


def test_embeddings_apart():
    model = tied_model()
    groups = parameter_groups(model, split_embeddings=True)
    apart = [parameter for group in groups if group["embeddings"] for parameter in group["params"]]
    assert len(apart) == 1
    assert apart[0] is model["decoder"].weight


def test_depth_of_groups():
    model = tied_model()
    groups = parameter_groups(model, weight_decay=0.1, by_depth=True)
    found = {(group["depth"], group["last_depth"], group["weight_decay"]): len(group["params"]) for group in groups}
    assert found == {(0, 2, 0.1): 1, (1, 2, 0.1): 1, (1, 2, 0.0): 3, (2, 2, 0.1): 1, (2, 2, 0.0): 4}


def test_sharded_matrices_still_decay():
    model = tied_model()
    before = dimensions(model)
    wrapped = nn.ModuleDict({"_fsdp_wrapped_module": model})
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().flatten()))
    assert all(group["weight_decay"] == 0.0 for group in parameter_groups(wrapped, weight_decay=0.1))
    decayed, plain = parameter_groups(wrapped, weight_decay=0.1, dimensions=before)
    assert (decayed["weight_decay"], len(decayed["params"])) == (0.1, 4)  # the tie is broken here: both of its ends
    assert (plain["weight_decay"], len(plain["params"])) == (0.0, 7)
