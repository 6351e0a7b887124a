"""A run that is killed at any moment and continued ends as one that never was interrupted, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from tests.integration.interrupted import run
from tests.runs import scalars
from transformers_framework.storage.run_folders import RunFolders

STEPS = "pipelines.pipeline:Pipeline.training_step"
MOMENTS = {
    "before any checkpoint": (STEPS, 2),
    "inside a window of accumulated batches": (STEPS, 12),
    "in the first validation": ("pipelines.pipeline:Pipeline.validation_step", 6),
    "in the last validation of an epoch": ("pipelines.pipeline:Pipeline.validation_step", 15),
    "while a checkpoint is written": ("storage.atomic:_apply_umask", 9),
    "while a model is exported": ("models.multi_head:MultiHeadModel.export", 3),
    "at the end of an epoch": ("callbacks.checkpoints:Checkpoints.on_epoch_done", 1),
    "in the second epoch": (STEPS, 33),
    "after training, in the final export": ("callbacks.checkpoints:Checkpoints.on_train_end", 1),
}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The flags of a run with dropout, accumulation, bucketing and workers; 25 batches, 13 steps an epoch.

    Validations come after batches 9 and 18: the first is inside a window of accumulated batches.
    """
    folder = tmp_path_factory.mktemp("interruptions")
    checkpoint = tiny.save_checkpoint("bert", folder / "bert")
    train = tiny.write_jsonl(folder / "train.jsonl", tiny.pairs(98, 0))
    valid = tiny.write_jsonl(folder / "valid.jsonl", tiny.pairs(20, 1))

    def flags(name: str, *more: str) -> list[str]:
        words = f"""--pipeline answer_selection --model bert --name {name} --output_dir {folder}/runs
            --cache_dir {folder}/cache --pre_trained_model {checkpoint} --train_dataset {train} --valid_dataset {valid}
            --input_columns question answer --label_column label --index_column key --max_sequence_length 48
            --batch_size 4 --accumulate_grad_batches 2 --learning_rate 1e-3 --max_epochs 2 --num_warmup_steps 3
            --val_check_interval 9 --checkpoint_interval 4 --log_every_n_steps 2 --num_sanity_val_steps 1
            --monitor valid/answer_selection/mean_average_precision --length_bucketing --num_workers 2
            --accelerator cpu --enable_model_summary false"""
        return [*words.split(), *more]

    return folder, flags


@pytest.fixture(scope="module")
def whole(command):
    folder, flags = command
    assert run(flags("whole"), folder / "whole.log") == 0, (folder / "whole.log").read_text()
    return folder / "runs"


def same_files(runs: Path, name: str) -> None:
    for kind in ("final", "best"):
        ours, theirs = (
            load_file(runs / f"pre_trained_models/{run}/{kind}/model.safetensors") for run in (name, "whole")
        )
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), f"{kind}: {key}"
    ours, theirs = (torch.load(runs / f"checkpoints/{run}/last.ckpt", weights_only=True) for run in (name, "whole"))
    assert ours["global_step"] == theirs["global_step"] == 26
    for mine, its in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        for key, state in mine["state"].items():
            assert all(torch.equal(value, its["state"][key][name]) for name, value in state.items())
    for state in (ours, theirs):  # of training metrics there is only what the last process saw
        del state["callbacks"]["Checkpoints"]["metrics"]
    assert ours["callbacks"]["Checkpoints"] == theirs["callbacks"]["Checkpoints"]
    shown = [scalars(RunFolders(runs, run)) for run in (name, "whole")]
    for kind in shown[0].keys() | shown[1].keys():
        if not kind.startswith("train/") or kind == "train/learning_rate":
            assert shown[0].get(kind) == shown[1].get(kind), kind
    exports = [sorted(path.name for path in (runs / "pre_trained_models" / run).iterdir()) for run in (name, "whole")]
    assert exports[0] == exports[1]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_continues_bit_for_bit(command, whole, moment):
    folder, flags = command
    name, log = moment.replace(" ", "-").replace(",", ""), folder / f"{moment}.log"
    assert run(flags(name), log, (*MOMENTS[moment], signal.SIGKILL)) == -signal.SIGKILL, log.read_text()
    assert run(flags(name, "--resume"), log) == 0, log.read_text()
    same_files(whole, name)


def test_a_run_that_is_killed_again_and_again_arrives(command, whole):
    folder, flags = command
    log = folder / "again.log"
    for number in (7, 8, 9, 10):
        run(flags("again", "--resume"), log, (STEPS, number, signal.SIGKILL))
    assert run(flags("again", "--resume"), log) == 0, log.read_text()
    same_files(whole, "again")


@pytest.mark.parametrize(("place", "step"), [((STEPS, 11), 5), (("pipelines.pipeline:Pipeline.validation_step", 8), 9)])
def test_sigterm_saves_before_leaving(command, whole, place, step):
    folder, flags = command
    name = f"sigterm-{place[1]}"
    log = folder / f"{name}.log"
    assert run(flags(name, "--checkpoint_interval", "1000"), log, (*place, signal.SIGTERM)) == 143, log.read_text()
    checkpoint = torch.load(folder / f"runs/checkpoints/{name}/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == step
    assert "--resume" in log.read_text()
    assert run(flags(name, "--resume"), log) == 0, log.read_text()
    for kind in ("final",):
        ours, theirs = (
            load_file(whole / f"pre_trained_models/{run}/{kind}/model.safetensors") for run in (name, "whole")
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


PRE_TRAINING = {
    "masked_lm": "--model bert --whole_word_masking --packing isolated",
    "denoising": "--model t5 --packing isolated",
    "token_detection_and_masked_lm": "--model deberta_v2 --embedding_sharing gradient_disentangled --packing isolated",
}


@pytest.mark.parametrize("pipeline", PRE_TRAINING)
def test_killed_pre_training_of_packed_texts_continues_bit_for_bit(pipeline, tmp_path):
    """Killed behind the validation after batch 5, whose checkpoint is inside a window of accumulated batches."""
    model = PRE_TRAINING[pipeline].split()[1]
    checkpoint = tiny.save_checkpoint(model, tmp_path / model)
    train, valid = (
        tiny.write_jsonl(tmp_path / f"{seed}.jsonl", tiny.classes(size, seed)) for seed, size in enumerate((80, 10))
    )

    def flags(name: str, *more: str) -> list[str]:
        words = f"""--pipeline {pipeline} {PRE_TRAINING[pipeline]} --name {name} --output_dir {tmp_path}
            --cache_dir {tmp_path}/cache --pre_trained_model {checkpoint}
            --train_dataset {train} --valid_dataset {valid} --input_columns text
            --max_sequence_length 48 --batch_size 2 --accumulate_grad_batches 2 --learning_rate 1e-3
            --max_epochs 2 --val_check_interval 5 --num_workers 1 --num_sanity_val_steps 0
            --accelerator cpu --enable_model_summary false"""
        return [*words.split(), *more]

    log = tmp_path / "log"
    assert run(flags("whole"), log) == 0, log.read_text()
    assert run(flags("killed"), log, (STEPS, 6, signal.SIGKILL)) == -signal.SIGKILL, log.read_text()
    assert torch.load(tmp_path / "checkpoints/killed/last.ckpt", weights_only=True)["global_step"] == 2
    assert run(flags("killed", "--resume"), log) == 0, log.read_text()
    ours, theirs = (
        torch.load(tmp_path / f"checkpoints/{name}/last.ckpt", weights_only=True) for name in ("killed", "whole")
    )
    assert ours["global_step"] == theirs["global_step"] >= 8
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    assert all(torch.equal(value, theirs["state_dict"][key]) for key, value in ours["state_dict"].items())
