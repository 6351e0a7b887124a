"""Strategies that shard: what two processes learn, test, predict, export and continue is what one process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import runs, tiny
from tests.integration.interrupted import run_together
from tests.sharded_cpu import use_cpus, use_float16
from tests.tolerances import BACKWARD, approx, assert_weights_close
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.run_folders import RunFolders
from transformers_framework.strategies import build
from transformers_framework.strategies.zero_shards import ZeroShards

# models without dropout, which would differ between one process and two
BERT = {"model": "bert", "additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]}
T5 = {"model": "t5", "additional_config_kwargs": ["dropout_rate=0.0"]}
BART = {
    "model": "bart",
    "additional_config_kwargs": ["dropout=0.0", "attention_dropout=0.0", "activation_dropout=0.0"],
}
CASES: dict[str, dict[str, Any]] = {
    "seq_class": BERT,
    "answer_selection": BERT,
    "token_class": BERT,
    "question_answering": BERT,
    "masked_lm": BERT,
    "masked_lm_and_seq_class": BERT,
    "cluster_random_token_detection": BERT,
    "token_detection_and_masked_lm": BERT | {"model": "deberta_v2"},
    "denoising": T5 | {"generation_max_new_tokens": 6},
    "summarization": BART,
    "joint": BERT | {"pipeline": "answer_selection", "k": 3, "pad_to_k": True, "max_sequence_length": 80},
    "retrieval": BERT
    | {
        "loss_fn": "multiple_negatives_symmetric_ranking_loss",
        "sync_devices": True,
        "corpus_column": "text",
        "top_k": 10,
    },
}
STRATEGIES = ("fsdp", "deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_3")
KNOW_NORMS = ("fsdp", "deepspeed_stage_3", "fsdp_cpu_offload", "deepspeed_stage_3_offload")  # without clipping
OFFLOAD = ("fsdp_cpu_offload", "deepspeed_stage_2_offload", "deepspeed_stage_3_offload")
NEEDS_DEEPSPEED = pytest.mark.needs("deepspeed")
HAS_FLOAT16 = torch.ops.mkldnn._is_mkldnn_fp16_supported()
SHARDED = [
    pytest.param(case, strategy, marks=(NEEDS_DEEPSPEED,) if strategy.startswith("deepspeed") else ())
    for case in CASES
    for strategy in (*STRATEGIES, *(OFFLOAD if case in ("seq_class", "summarization") else ()))
]


def run(tmp_path: Path, *, devices: int = 1, **flags: Any) -> RunFolders:
    """Run a command in forks of a process that has imported everything; return its folders."""
    words, log = runs.command(tmp_path, devices=devices, **flags), tmp_path / f"{flags['name']}.log"
    assert run_together(words, log, devices, use_cpus) == [0] * devices, log.read_text()
    return runs.folders_of(words)


def exported(folder: Path) -> dict[str, torch.Tensor]:
    """Return every tensor of an export, of all its heads."""
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        found |= {f"{path.relative_to(folder).parent}/{name}": tensor for name, tensor in load_file(path).items()}
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One process's run of a case: its folder, flags and what it left; each is run once."""
    made: dict[str, tuple[Path, dict[str, Any], RunFolders]] = {}

    def make(case: str) -> tuple[Path, dict[str, Any], RunFolders]:
        if case not in made:
            folder = tmp_path_factory.mktemp(case)
            flags: dict[str, Any] = {"pipeline": case, "scheduler": "constant", "accumulate_grad_batches": 2}
            flags |= {"monitor": "valid/loss", "monitor_direction": "min"} | CASES[case]
            flags |= runs.datasets(folder / "data", flags["pipeline"])
            if "corpus_column" in flags:
                # of valid and test, and more: two processes encode 8 batches and 7
                sizes = ((1, 23), (2, 27), (9, 7))
                rows = [row for seed, size in sizes for row in runs.rows_for("retrieval", size, seed)]
                flags["corpus_dataset"] = tiny.write_jsonl(
                    folder / "corpus.jsonl", [{"text": row["answer"]} for row in rows]
                )
            made[case] = folder, flags, run(folder, name="one", batch_size=8, max_epochs=2, **flags)
        return made[case]

    return make


@pytest.mark.slow
@pytest.mark.parametrize(("case", "strategy"), SHARDED)
def test_shards_are_as_one_process(case: str, strategy: str, alone: Any) -> None:
    """Two epochs, the second one continued, of 5 batches in 3 steps: the last window of each is short."""
    folder, flags, one = alone(case)
    both = flags | {"name": strategy, "strategy": strategy, "devices": 2, "batch_size": 4}
    both |= {"accumulate_grad_batches": 1, "effective_batch_size": 16}
    run(folder, max_epochs=1, **both)
    two = run(folder, max_epochs=2, resume=True, **both)
    ours, theirs = exported(two.pre_trained_models / "final"), exported(one.pre_trained_models / "final")
    assert_weights_close(ours, theirs)
    assert runs.metrics(two, "test") == approx(runs.metrics(one, "test"), 4 * BACKWARD)
    assert [line["step"] for line in runs.logged_moments(two)] == [line["step"] for line in runs.logged_moments(one)]
    assert two.read_results()["tokens"]["trained"] == one.read_results()["tokens"]["trained"]
    norms = [runs.scalars(each)["train/grad_norm"] for each in (one, two) if each is one or strategy in KNOW_NORMS]
    assert all(dict(each) == approx(dict(norms[0]), 64 * BACKWARD) for each in norms)
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
        assert_weights_close(ours, theirs)


@pytest.mark.slow
@NEEDS_DEEPSPEED
@pytest.mark.parametrize(
    ("before", "after", "devices"),
    [("1", "1", 1), ("2", "2", 4), ("2_offload", "3", 4), ("3", "3", 1), ("3", "3_offload", 4), ("3", "2", 2)],
)
def test_shards_are_dealt_to_other_processes(before: str, after: str, devices: int, alone: Any) -> None:
    """DeepSpeed's checkpoints too: those of two processes are continued by one and by four, and in another stage."""
    folder, flags, one = alone("masked_lm_and_seq_class")
    flags = flags | {"name": f"{before} to {after} on {devices}"}
    run(folder, strategy=f"deepspeed_stage_{before}", devices=2, batch_size=4, max_epochs=1, **flags)
    found = run(
        folder,
        **flags | {"strategy": f"deepspeed_stage_{after}", "devices": devices, "resume": True},
        **{"batch_size": 8 // devices, "max_epochs": 2},
    )
    ours, theirs = (exported(each.pre_trained_models / "final") for each in (found, one))
    assert_weights_close(ours, theirs)
    assert runs.metrics(found, "test") == approx(runs.metrics(one, "test"), 4 * BACKWARD)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", ["fsdp", *(pytest.param(f"deepspeed_stage_{s}", marks=NEEDS_DEEPSPEED) for s in (2, 3))]
)
def test_weights_of_a_sharded_run_that_is_over_test_and_train(strategy: str, alone: Any) -> None:
    """The best checkpoint is one file of weights, for the same strategy and for one process without shards."""
    folder, flags, _ = alone("masked_lm_and_seq_class")
    sharded = {"strategy": strategy, "devices": 2, "batch_size": 4}
    done = run(folder, name=f"over {strategy}", max_epochs=1, **flags, **sharded)
    assert sorted(path.name for path in done.checkpoints.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]
    state = torch.load(done.best, weights_only=True)
    assert "optimizer_states" not in state
    best = exported(done.pre_trained_models / "best")
    shared = {name.rpartition("bert.")[2]: tensor for name, tensor in best.items() if "bert." in name}
    found = {name.rpartition("shared.")[2]: tensor for name, tensor in state["state_dict"].items() if "shared." in name}
    assert all(torch.equal(tensor, shared[name]) for name, tensor in found.items() if name in shared)
    assert found.keys() & shared.keys()
    test = {"train_dataset": None, "valid_dataset": None, "monitor": None, "ckpt_path": done.best}
    for name, how in (("sharded", sharded), ("alone", {"batch_size": 8})):
        again = run(folder, name=f"{name} tests {strategy}", **flags | test, **how)
        assert runs.metrics(again, "test") == approx(runs.metrics(done, "test"), 4 * BACKWARD)
    start = {"ckpt_path": done.best, "max_epochs": 1, "learning_rate": 1e-12, "test_dataset": None}
    new = run(folder, name=f"from {strategy}", **flags | start, **sharded)
    assert_weights_close(exported(new.pre_trained_models / "final"), best)


@pytest.mark.slow
@NEEDS_DEEPSPEED
def test_shards_that_do_not_go_on_are_refused_before_training(alone: Any) -> None:
    """Those of other steps, for another strategy, and those that are not all there."""
    folder, flags, _ = alone("seq_class")
    flags = flags | {"name": "refused", "strategy": "deepspeed_stage_2", "batch_size": 8, "keep_checkpoints": "all"}
    left = run(folder, max_epochs=1, **flags)
    log = folder / "refused.log"

    def refusal(**more: Any) -> str:
        log.unlink()
        words = runs.command(folder, **flags | {"max_epochs": 2, "resume": True} | more)
        assert run_together(words, log, 1, use_cpus) == [2]
        assert "Training starts" not in log.read_text()
        return log.read_text()

    assert "--batch_size: the run made steps of 16 rows, and this command's would have 8" in refusal(batch_size=4)
    assert "is a folder of DeepSpeed shards. Give a --strategy deepspeed_stage_" in refusal(strategy="auto")
    for checkpoint in (left.last, left.previous, left.best):
        for shard in checkpoint.glob("checkpoint/*optim_states.pt"):
            shard.unlink()
    assert "has the shards of 0 of 1 processes" in refusal()


def test_names_are_lightnings_and_ours() -> None:
    names = build.names()
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
        assert build.refusal(name)
        assert name not in names


def test_no_shards_on_a_cpu() -> None:
    with pytest.raises(ConfigurationError, match="--strategy fsdp: it needs GPUs"):
        build.build_strategy("fsdp", device="cpu")


def test_unused_parameters_are_looked_for_where_layers_are_dropped() -> None:
    assert build.build_strategy("ddp", tiny.config_for("bart")) == "ddp"
    drops = tiny.config_for("bart", encoder_layerdrop=0.1)
    assert build.build_strategy("ddp", drops) == "ddp_find_unused_parameters_true"


@pytest.mark.slow
@NEEDS_DEEPSPEED
@pytest.mark.skipif(not HAS_FLOAT16, reason="this processor does not compute in float16")
@pytest.mark.parametrize("stage", ["1", "2_offload", "3"])
def test_the_scale_of_the_loss_can_fall_below_one(stage: str, alone: Any) -> None:
    """Gradients overflow until the loss is some thousandths of itself: DeepSpeed gives up at 1, its preset learns."""
    folder, flags, _ = alone("masked_lm_and_seq_class")
    flags = {name: value for name, value in flags.items() if not name.startswith(("valid", "test", "predict", "moni"))}
    flags |= {"devices": 2, "batch_size": 4, "accumulate_grad_batches": 1, "masked_lm_weight": 1e6, "resume": True}

    def go(strategy: str, steps: int) -> tuple[list[int], str, RunFolders]:
        words = runs.command(folder, **flags, name=f"{strategy} in 16", strategy=strategy, max_steps=steps)
        log = folder / f"{strategy}.log"
        return run_together(words, log, 2, use_float16), log.read_text(), runs.folders_of(words)

    status, said, _ = go(f"deepspeed_stage_{stage}", 50)
    assert 1 in status
    assert "error: Gradients overflow in float16, however small the scale" in said
    for steps in (30, 60):  # the second one continues
        status, said, folders = go(f"deepspeed_stage_{stage}_lower_scale", steps)
        assert status == [0, 0], said
        assert 2.0**-24 < ZeroShards(folders.last).optimizers[0]["loss_scaler"].cur_scale < 1
        assert all(tensor.isfinite().all() for tensor in exported(folders.pre_trained_models / "final").values())
