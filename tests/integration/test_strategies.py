"""Strategies that shard: what two processes learn, test, predict, export and continue is what one process does."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import runs, tiny
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.runtime import strategies
from transformers_framework.runtime.run_folders import RunFolders

# one pipeline of each family, and a model of it without dropout
BERT = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]
FAMILIES = {
    "seq_class": ("bert", BERT),
    "masked_lm": ("bert", BERT),
    "masked_lm_and_seq_class": ("bert", BERT),
    "token_detection_and_masked_lm": ("deberta_v2", BERT),
    "denoising": ("t5", ["dropout_rate=0.0"]),
    "summarization": ("bart", ["dropout=0.0", "attention_dropout=0.0", "activation_dropout=0.0"]),
}
HAS_DEEPSPEED = importlib.util.find_spec("deepspeed") is not None
SHARDING = ["fsdp", *(f"deepspeed_stage_{stage}" for stage in ("1", "2", "2_offload", "3", "3_offload"))]


def run(tmp_path: Path, **flags: Any) -> RunFolders:
    """Run a command in processes of its own; to shard on a CPU takes a program of the tests."""
    words = runs.command(tmp_path, **flags)
    program = "tests.sharded_cpu" if "strategy" in flags else "transformers_framework"
    done = subprocess.run(
        [sys.executable, "-m", program, *words],
        env={**os.environ, "PYTHONPATH": str(runs.ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        cwd=runs.ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return runs.folders_of(words)


def exported(folder: Path) -> dict[str, torch.Tensor]:
    """Return every tensor of an export, of all its heads."""
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        found |= {f"{path.relative_to(folder).parent}/{name}": tensor for name, tensor in load_file(path).items()}
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One process's run of a pipeline: its folder, flags and what it left; each is run once."""
    made: dict[str, tuple[Path, dict[str, Any], RunFolders]] = {}

    def make(pipeline: str) -> tuple[Path, dict[str, Any], RunFolders]:
        if pipeline not in made:
            folder = tmp_path_factory.mktemp(pipeline)
            model, still = FAMILIES[pipeline]
            flags = {"pipeline": pipeline, "model": model, "additional_config_kwargs": still, "scheduler": "constant"}
            flags |= {"monitor": "valid/loss", "monitor_direction": "min", "accumulate_grad_batches": 2}
            flags |= runs.datasets(folder / "data", pipeline)
            made[pipeline] = folder, flags, run(folder, name="one", batch_size=8, max_epochs=2, **flags)
        return made[pipeline]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("strategy", SHARDING)
@pytest.mark.parametrize("pipeline", FAMILIES)
def test_shards_are_as_one_process(pipeline: str, strategy: str, alone: Any) -> None:
    """Two epochs, the second one continued, of 5 batches in 3 steps: the last window of each is short."""
    if strategy.startswith("deepspeed") and not HAS_DEEPSPEED:
        pytest.skip("DeepSpeed is not installed")
    folder, flags, one = alone(pipeline)
    both = flags | {"name": strategy, "strategy": strategy, "devices": 2, "batch_size": 4}
    run(folder, max_epochs=1, **both)
    two = run(folder, max_epochs=2, resume=True, **both)
    ours, theirs = exported(two.pre_trained_models / "final"), exported(one.pre_trained_models / "final")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        if not name.endswith("key.bias"):  # its gradient is nothing but rounding
            torch.testing.assert_close(ours[name], tensor, atol=1e-4, rtol=0, msg=lambda text: f"{name}: {text}")  # noqa: B023
    assert runs.metrics(two, "test") == pytest.approx(runs.metrics(one, "test"), abs=1e-3, rel=1e-4)
    for stage in ("test", "predict"):
        files = sorted(path.name for path in one.predictions.glob(f"{stage}*.jsonl"))
        assert files == sorted(path.name for path in two.predictions.glob(f"{stage}*.jsonl"))
        for name in files:
            lines = [(folders.predictions / name).read_text().count("\n") for folders in (two, one)]
            assert lines[0] == lines[1] > 0


@pytest.mark.slow
def test_a_run_goes_on_with_and_without_shards(alone: Any) -> None:
    """FSDP's checkpoints are those of one process: each continues the other's."""
    folder, flags, one = alone("seq_class")
    sharded = {"strategy": "fsdp", "devices": 2, "batch_size": 4}
    run(folder, name="begun whole", batch_size=8, max_epochs=1, **flags)
    whole = run(folder, name="begun whole", max_epochs=2, resume=True, **flags, **sharded)
    run(folder, name="begun sharded", max_epochs=1, **flags, **sharded)
    parts = run(folder, name="begun sharded", batch_size=8, max_epochs=2, resume=True, **flags)
    for found in (whole, parts):
        ours, theirs = (exported(each.pre_trained_models / "final") for each in (found, one))
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours if "key.bias" not in name)


def test_names_are_lightnings_and_ours() -> None:
    names = strategies.names()
    assert {
        "auto",
        "ddp",
        "fsdp",
        "fsdp_cpu_offload",
        "deepspeed_stage_3_offload",
        "deepspeed_stage_2_lower_scale",
    } <= {*names}
    for name in (
        "dp",
        "ddp_spawn",
        "ddp_notebook",
        "ddp_fork_find_unused_parameters_true",
        "xla_fsdp",
        "model_parallel",
    ):
        assert strategies.refusal(name)
        assert name not in names


def test_no_shards_on_a_cpu() -> None:
    with pytest.raises(ConfigurationError, match="--strategy fsdp: it needs GPUs"):
        strategies.build_strategy("fsdp", device="cpu")


def test_unused_parameters_are_looked_for_where_layers_are_dropped() -> None:
    assert strategies.build_strategy("ddp", tiny.config_for("bart")) == "ddp"
    drops = tiny.config_for("bart", encoder_layerdrop=0.1)
    assert strategies.build_strategy("ddp", drops) == "ddp_find_unused_parameters_true"


@pytest.mark.skipif(not HAS_DEEPSPEED, reason="DeepSpeed is not installed")
def test_the_scale_of_the_loss_can_fall_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    stops = strategies.build_strategy("deepspeed_stage_2")
    lowers = strategies.build_strategy("deepspeed_stage_2_lower_scale")
    assert (stops.min_loss_scale, lowers.min_loss_scale) == (1, 2.0**-24)
    assert lowers.config["zero_optimization"]["stage"] == 2
