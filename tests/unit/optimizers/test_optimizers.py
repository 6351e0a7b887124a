"""Optimizers: all parameters move, states come back exactly, contradictions are refused."""

import copy
import io
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from tests.tolerances import assert_close
from transformers_framework.exceptions import ConfigurationError, MissingDependencyError
from transformers_framework.optimizers.adafactor import adafactor
from transformers_framework.optimizers.adamw import adamw
from transformers_framework.optimizers.bitsandbytes import adam8bit, adamw8bit
from transformers_framework.optimizers.build import build_optimizer, check_optimizer
from transformers_framework.optimizers.fuse_adam import fuse_adam
from transformers_framework.optimizers.tf_adamw import tf_adamw
from transformers_framework.registry import OPTIMIZERS, resolve

BITSANDBYTES = pytest.mark.needs("bitsandbytes")


def tiny_model():
    torch.manual_seed(0)
    model = nn.ModuleDict({"embeddings": nn.Embedding(50, 8), "norm": nn.LayerNorm(8), "decoder": nn.Linear(8, 50)})
    model["decoder"].weight = model["embeddings"].weight
    return model


def backward(model, seed=0):
    torch.manual_seed(seed)
    ids = torch.arange(50)
    states = model["norm"](model["embeddings"](ids))
    logits = model["decoder"](states + torch.randn(50, 8, dtype=states.dtype))
    nn.functional.cross_entropy(logits.float(), ids.roll(1)).backward()


def step(model, optimizer, seed=0):
    optimizer.zero_grad()
    backward(model, seed)
    optimizer.step()


CPU_OPTIMIZERS = {
    "adamw": (adamw, {}),
    "adamw, amsgrad": (adamw, {"adamw_amsgrad": True}),
    "adafactor": (adafactor, {}),
    "adafactor, beta1": (adafactor, {"adafactor_beta1": 0.9, "adafactor_scale_parameter": True}),
    "adafactor, relative": (adafactor, {"adafactor_relative_step": True, "adafactor_warmup_init": True}),
    "tf_adamw": (tf_adamw, {}),
    "adam8bit": (adam8bit, {}),
    "adamw8bit": (adamw8bit, {}),
}


EACH = [pytest.param(name, marks=BITSANDBYTES if "8bit" in name else ()) for name in CPU_OPTIMIZERS]


@pytest.mark.parametrize("name", EACH)
def test_every_parameter_moves_after_one_step(name):
    factory, options = CPU_OPTIMIZERS[name]
    model = tiny_model()
    optimizer = build_optimizer(factory, model, options, weight_decay=0.1)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    before = copy.deepcopy(dict(model.named_parameters()))
    step(model, optimizer)
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])] == []


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restored_state_goes_on_exactly(name, dtype):
    factory, options = CPU_OPTIMIZERS[name]
    model = tiny_model().to(dtype)
    optimizer = build_optimizer(factory, model, options, weight_decay=0.1)
    for seed in range(3):
        step(model, optimizer, seed)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    for seed in range(3, 6):
        step(model, optimizer, seed)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = tiny_model().to(dtype)
    resumed.load_state_dict(saved["model"])
    optimizer = build_optimizer(factory, resumed, options, weight_decay=0.1)
    optimizer.load_state_dict(saved["optimizer"])
    for seed in range(3, 6):
        step(resumed, optimizer, seed)
    for (key, ours), theirs in zip(resumed.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs), key


@pytest.mark.parametrize("name", ["adamw", "adafactor", "tf_adamw"])
def test_weight_decay_shrinks_matrices_and_nothing_else(name):
    factory, options = CPU_OPTIMIZERS[name]
    ends = []
    for weight_decay in (0.0, 0.5):
        model = tiny_model()
        step(model, build_optimizer(factory, model, {**options, "learning_rate": 0.1}, weight_decay=weight_decay))
        ends.append(model)
    start, plain, decayed = tiny_model(), *ends
    assert_close(plain["decoder"].weight - decayed["decoder"].weight, 0.1 * 0.5 * start["decoder"].weight)
    assert torch.equal(plain["decoder"].bias, decayed["decoder"].bias)
    assert torch.equal(plain["norm"].weight, decayed["norm"].weight)


def test_adamw_is_fused_where_it_can():
    parameter = nn.Parameter(torch.ones(2, 2))
    assert adamw([{"params": [parameter]}]).param_groups[0]["fused"] is True
    elsewhere = nn.Parameter(torch.ones(2, 2, device="meta"))
    assert adamw([{"params": [parameter, elsewhere]}]).param_groups[0]["fused"] is None
    group = adamw([{"params": [parameter]}], learning_rate=0.5, adamw_betas=(0.8, 0.9), adamw_epsilon=0.1).param_groups[
        0
    ]
    assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.8, 0.9), 0.1)


def test_tf_adamw_is_electras_update():
    """Written out from google-research/electra: no bias correction, decay of the weights as they were."""
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=(4, 3)), generator.normal(size=3)]
    parameters = [nn.Parameter(torch.tensor(weight)) for weight in weights]
    groups = [
        {"params": parameters[:1], "weight_decay": 0.3},
        {"params": parameters[1:], "weight_decay": 0.0},
    ]
    optimizer = tf_adamw(groups, learning_rate=0.05, tf_adamw_betas=(0.8, 0.95), tf_adamw_epsilon=1e-3)
    momentum = [np.zeros_like(weight) for weight in weights]
    variance = [np.zeros_like(weight) for weight in weights]
    for _ in range(5):
        for i, decay in enumerate((0.3, 0.0)):
            gradient = generator.normal(size=weights[i].shape)
            parameters[i].grad = torch.tensor(gradient)
            momentum[i] = 0.8 * momentum[i] + 0.2 * gradient
            variance[i] = 0.95 * variance[i] + 0.05 * gradient**2
            weights[i] = weights[i] - 0.05 * (momentum[i] / (np.sqrt(variance[i]) + 1e-3) + decay * weights[i])
        optimizer.step()
    for parameter, weight in zip(parameters, weights, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-12)


def test_tf_adamw_leaves_a_parameter_without_gradient_and_runs_the_closure():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = tf_adamw([{"params": [used, unused], "weight_decay": 0.1}])

    def closure():
        loss = used.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert not torch.equal(used, torch.ones(2, 2))
    assert torch.equal(unused, torch.ones(2, 2))


def test_adafactor_gets_its_flags():
    parameter = nn.Parameter(torch.ones(2, 2))
    group = adafactor(
        [{"params": [parameter]}],
        learning_rate=0.5,
        adafactor_epsilon=(1e-20, 1e-2),
        adafactor_beta1=0.7,
        adafactor_decay_rate=-0.6,
        adafactor_clip_threshold=2.0,
        adafactor_scale_parameter=True,
    ).param_groups[0]
    del group["params"]
    assert group == {
        "lr": 0.5,
        "eps": (1e-20, 1e-2),
        "beta1": 0.7,
        "decay_rate": -0.6,
        "clip_threshold": 2.0,
        "scale_parameter": True,
        "relative_step": False,
        "warmup_init": False,
        "weight_decay": 0.0,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adafactor_warmup_init": True}, "--adafactor_warmup_init: .*--adafactor_relative_step"),
        ({"adafactor_relative_step": True, "learning_rate": 0.01}, "--adafactor_relative_step: .*--learning_rate 0.01"),
    ],
)
def test_contradictory_flags_of_adafactor(options, message):
    with pytest.raises(ConfigurationError, match=message):
        adafactor([{"params": [nn.Parameter(torch.ones(1))]}], **options)


@pytest.mark.parametrize(
    ("optimizer", "options", "run", "message"),
    [
        ("fuse_adam", {}, {"strategy": "ddp"}, "--optimizer fuse_adam: .*--strategy ddp.*--strategy deepspeed_stage_2"),
        ("fuse_adam", {}, {"strategy": "auto"}, "--strategy auto"),
        ("fuse_adam", {}, {"strategy": "deepspeed_stage_2_offload"}, "keep the optimizer on the device"),
        ("adafactor", {"adafactor_relative_step": True}, {}, "--scheduler linear_decay .*--scheduler constant"),
        ("adafactor", {"adafactor_relative_step": True}, {"scheduler": "constant", "num_warmup_steps": 5}, "5 warm-up"),
    ],
)
def test_optimizer_that_does_not_fit_the_run(optimizer, options, run, message):
    with pytest.raises(ConfigurationError, match=message):
        check_optimizer(optimizer, options, **{"strategy": "auto", "scheduler": "linear_decay", **run})


def test_optimizers_that_fit_the_run():
    check_optimizer("fuse_adam", {}, strategy="deepspeed_stage_2", scheduler="linear_decay")
    check_optimizer("adamw", {"adamw_amsgrad": True}, strategy="ddp", scheduler="cosine", num_warmup_steps=5)
    check_optimizer("adafactor", {"adafactor_relative_step": True}, strategy="auto", scheduler="constant")


def test_nothing_to_train_is_refused():
    with pytest.raises(ConfigurationError, match="no parameter of ModuleDict can be trained"):
        build_optimizer(adamw, tiny_model().requires_grad_(False), {})


@pytest.mark.parametrize(
    ("factory", "package"),
    [(fuse_adam, "deepspeed"), (adam8bit, "bitsandbytes"), (adamw8bit, "bitsandbytes")],
)
def test_absent_package_names_its_extra(monkeypatch, factory, package):
    for module in (package, "deepspeed.ops", "deepspeed.ops.adam"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"--optimizer {factory.__name__} needs .*\[{package}\]"):
        build_optimizer(factory, tiny_model(), {})


class Recorder(torch.optim.SGD):
    """Stands for an optimizer of a package that is not installed; keeps what it was called with."""

    def __init__(self, groups, **settings):
        super().__init__(groups, lr=settings["lr"])
        self.settings = settings


@pytest.mark.parametrize(("factory", "name"), [(adam8bit, "Adam8bit"), (adamw8bit, "AdamW8bit")])
def test_embeddings_keep_32_bits(monkeypatch, factory, name):
    calls = []
    manager = types.SimpleNamespace(
        override_config=lambda parameter, key, value: calls.append((id(parameter), key, value)),
        register_parameters=lambda groups: calls.append(("register", [group["params"] for group in groups])),
    )
    module = types.ModuleType("bitsandbytes")
    module.optim = types.SimpleNamespace(GlobalOptimManager=types.SimpleNamespace(get_instance=lambda: manager))
    setattr(module.optim, name, Recorder)
    monkeypatch.setitem(sys.modules, "bitsandbytes", module)
    model = tiny_model()
    prefix = factory.__name__
    options = {"learning_rate": 0.5, f"{prefix}_betas": (0.8, 0.9), f"{prefix}_epsilon": 0.1}
    optimizer = build_optimizer(factory, model, options, weight_decay=0.1)
    assert optimizer.settings == {"lr": 0.5, "betas": (0.8, 0.9), "eps": 0.1}
    *overrides, (register, registered) = calls
    bits = {name: 32 if name == "embeddings.weight" else 8 for name, _ in model.named_parameters()}
    expected = [(id(parameter), "optim_bits", bits[name]) for name, parameter in model.named_parameters()]
    assert sorted(overrides) == sorted(expected)
    assert register == "register"
    assert registered == [group["params"] for group in optimizer.param_groups]  # the places in the groups must agree


@BITSANDBYTES
def test_bits_of_bitsandbytes():
    for order in (1, -1, 1):  # ids of freed tensors come again
        embedding, linear = nn.Embedding(100, 64), nn.Linear(64, 128)
        model = nn.ModuleList([embedding, linear][::order])
        optimizer = build_optimizer(adamw8bit, model, {}, weight_decay=0.1)
        linear(embedding(torch.arange(100))).sum().backward()
        optimizer.step()
        kinds = [optimizer.state[parameter]["state1"].dtype for parameter in (embedding.weight, linear.weight)]
        assert kinds == [torch.float32, torch.uint8]


def test_fuse_adam_is_deepspeeds_adamw(monkeypatch):
    module = types.ModuleType("deepspeed.ops.adam")
    module.FusedAdam = Recorder
    for name in ("deepspeed", "deepspeed.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "deepspeed.ops.adam", module)
    optimizer = build_optimizer(fuse_adam, tiny_model(), {"learning_rate": 0.5}, weight_decay=0.1)
    assert optimizer.settings == {
        "lr": 0.5,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "bias_correction": True,
        "adam_w_mode": True,
    }
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_flags_carry_the_name_of_their_optimizer():
    import inspect

    for name, place in OPTIMIZERS.items():
        flags = [p for p in inspect.signature(resolve(place)).parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert flags[0].name == "learning_rate"
        assert flags[0].default == 1e-4
        assert all(flag.name.startswith(f"{name}_") for flag in flags[1:]), name
