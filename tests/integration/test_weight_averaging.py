"""``--stochastic_weight_averaging``: what is averaged, and that this is validated, selected, exported and tested."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs
from tests.tolerances import approx, assert_close
from transformers_framework.pipelines.pipeline import Pipeline
from transformers_framework.storage.run_folders import RunFolders

# of six epochs the last two are the last fifth; the schedule is constant, so that a run without averages is the same
FLAGS: dict[str, Any] = {"max_epochs": 6, "scheduler": "constant", "checkpoint_interval": 3, "keep": "all"}
AVERAGES = {"stochastic_weight_averaging": True}


def train(folder: Path, name: str, **flags: Any) -> RunFolders:
    data = runs.datasets(folder / "data", "answer_selection")
    given = {f"{stage}_dataset": data[f"{stage}_dataset"] for stage in ("train", "valid", "test")}
    return runs.run(folder, **{"name": name, **FLAGS, **given, **flags})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("averages")


@pytest.fixture(scope="module")
def plain(folder: Path) -> RunFolders:
    """The run without averages: its exports are the states that are averaged."""
    return train(folder, "plain")


@pytest.fixture(scope="module")
def averaged(folder: Path) -> RunFolders:
    return train(folder, "averaged", **AVERAGES)


def mean_of(folders: RunFolders, *names: str) -> dict[str, torch.Tensor]:
    """Return the mean of exports."""
    parts = [runs.weights(folders.pre_trained_models / name) for name in names]
    return {name: torch.stack([part[name] for part in parts]).mean(dim=0) for name in parts[0]}


def test_the_ends_of_the_last_epochs_are_averaged(plain: RunFolders, averaged: RunFolders) -> None:
    final = runs.weights(averaged.pre_trained_models / "final")
    expected = mean_of(plain, "ckpt_epoch_4_step_25", "ckpt_epoch_5_step_30")
    for name, weight in final.items():
        assert_close(weight, expected[name])
    assert not runs.weights_are_equal(averaged.pre_trained_models / "final", plain.pre_trained_models / "final")


def test_the_average_is_validated_saved_and_tested(folder: Path, averaged: RunFolders) -> None:
    """What the last validation logged, and the test, are the metrics of the export."""
    final = averaged.pre_trained_models / "final"
    data = {f"{stage}_dataset": folder / "data" / f"{stage}.jsonl" for stage in ("valid", "test")}
    alone = runs.run(folder, name="alone", pre_trained_model=final, **data)
    assert [step + 1 for step, _ in runs.scalars(averaged)["valid/loss"]] == [5, 10, 15, 20, 25, 30]
    for stage in ("valid", "test"):
        assert runs.metrics(averaged, stage) == approx(runs.metrics(alone, stage))
    state = runs.weights(averaged.last)
    exported = runs.weights(final)
    heads = {name.split("heads.answer_selection.")[-1]: weight for name, weight in state.items()}
    score = {name: heads[name][1:] - heads[name][:1] for name in ("classifier.weight", "classifier.bias")}
    assert all(torch.equal((heads | score)[name], weight) for name, weight in exported.items())
    texts = [[row["question"], row["answer"]] for row in runs.rows_for("answer_selection", 27, 2)]
    logits = runs.logits_of(final, texts)
    assert_close(logits[:, 0], torch.tensor(runs.scores(averaged)))


@pytest.mark.parametrize("direction", ["min", pytest.param("max", marks=pytest.mark.slow)])
def test_the_average_competes_for_the_best(folder: Path, averaged: RunFolders, direction: str) -> None:
    flags = {"monitor": "valid/loss", "monitor_direction": direction, "no_val_checkpointing": True}
    done = train(folder, f"best-{direction}", **AVERAGES, **flags)
    losses = [loss for _, loss in runs.scalars(done)["valid/loss"]]
    is_best = losses[-1] == {"min": min, "max": max}[direction](losses)
    models = done.pre_trained_models
    assert runs.weights_are_equal(models / "best", models / "final") == is_best
    # of its own validation, not of that of the weights before it
    assert losses[-1] == approx(runs.metrics(averaged, "valid")["valid/loss"])


@pytest.mark.parametrize(
    "flags",
    [
        {"val_check_interval": 0.4},
        pytest.param({"check_val_every_n_epoch": 4}, marks=pytest.mark.slow),
        {"max_steps": 28},
    ],
)
def test_the_average_is_validated_whenever_validations_are(folder: Path, flags: dict[str, Any]) -> None:
    done = train(folder, "whenever-" + "-".join(map(str, *flags.items())), **AVERAGES, **flags)
    last = flags.get("max_steps", 30)
    assert runs.scalars(done)["valid/loss"][-1][0] + 1 == last
    final = done.pre_trained_models / "final"
    valid = {"valid_dataset": folder / "data" / "valid.jsonl"}
    alone = runs.run(folder, name=f"alone-{done.name}", pre_trained_model=final, **valid)
    assert runs.metrics(done, "valid") == approx(runs.metrics(alone, "valid"))


def test_one_epoch_is_what_was_trained(folder: Path, said: pytest.LogCaptureFixture) -> None:
    one, plain = (train(folder, name, max_epochs=1, **flags) for name, flags in (("one", AVERAGES), ("one-plain", {})))
    assert runs.weights_are_equal(one.pre_trained_models / "final", plain.pre_trained_models / "final")
    assert "the last fifth of 1 epochs is one, so there is nothing to average" in said.text


@pytest.mark.parametrize(
    ("flags", "epochs", "remedy"),
    [
        ({"max_steps": 13, "max_epochs": 20}, 3, "--max_steps 26"),
        ({"max_steps": 13, "max_epochs": 4}, 3, "--max_epochs 6 and --max_steps 26"),
        ({"max_epochs": 2}, 2, "--max_epochs 6"),
    ],
)
def test_too_few_epochs_are_warned_of(
    flags: dict[str, Any], epochs: int, remedy: str, folder: Path, said: pytest.LogCaptureFixture
) -> None:
    train(folder, "few-" + "-".join(map(str, flags.values())), **AVERAGES, **flags)
    assert f"the last fifth of {epochs} epochs is one, so there is nothing to average. Give {remedy} or " in said.text


def test_the_learning_rate_of_averaged_epochs_is_constant(folder: Path) -> None:
    flags = {"scheduler": "linear_decay", "num_warmup_steps": 2, "learning_rate": 1e-3}
    done = train(folder, "rate", **AVERAGES, **flags)
    found = [rate / 1e-3 for _, rate in runs.scalars(done)["train/learning_rate"]]
    decay = [0.0, 0.5, *((30 - t) / 28 for t in range(2, 20))]
    assert found == approx([*decay, *[1.0] * 10])


# --- interruptions ---------------------------------------------------------------------------------------------------


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Something that happens once, in a step of a stage."""
    plan: dict[str, Any] = {}
    for stage in ("training", "validation"):
        original = getattr(Pipeline, f"{stage}_step")

        def step(self: Pipeline, batch: Any, batch_idx: int, *, stage: str = stage, original: Any = original) -> Any:
            if plan.get(stage) == self.trainer.global_step and not self.trainer.sanity_checking:
                del plan[stage]
                plan["action"]()
            return original(self, batch, batch_idx)

        monkeypatch.setattr(Pipeline, f"{stage}_step", step)
    return plan


def fail() -> None:
    raise RuntimeError("the machine is gone")


def leave() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("stage", "step", "action"),
    [
        pytest.param("training", 22, fail, marks=pytest.mark.slow),  # before anything was averaged
        ("training", 28, fail),  # between the two ends
        pytest.param("training", 27, leave, marks=pytest.mark.slow),
        pytest.param("validation", 25, leave, marks=pytest.mark.slow),
        ("validation", 30, fail),  # the average is in the model, and in no checkpoint
        ("validation", 30, leave),
    ],
)
def test_a_run_that_continues_averages_the_same(
    folder: Path, averaged: RunFolders, stage: str, step: int, action: Any, trouble: dict[str, Any]
) -> None:
    name = f"{stage}-{step}-{action.__name__}"
    trouble |= {stage: step, "action": action}
    if action is fail:
        train(folder, name, **AVERAGES, status=1)
    else:
        with pytest.raises(SystemExit) as left:
            train(folder, name, **AVERAGES)
        assert left.value.code == 143
    done = train(folder, name, **AVERAGES, resume=True)
    assert runs.weights_are_equal(done.last, averaged.last)
    for export in ("final", "ckpt_epoch_5_step_30"):
        assert runs.weights_are_equal(done.pre_trained_models / export, averaged.pre_trained_models / export)
    assert runs.metrics(done, "valid") == runs.metrics(averaged, "valid")


def test_a_run_that_averaged_stays_averaged(folder: Path, averaged: RunFolders) -> None:
    """A run that continues with nothing left to do exports again what it finds."""
    final = averaged.pre_trained_models / "final"
    before = runs.weights(final)
    after = runs.weights(train(folder, "averaged", **AVERAGES, resume=True).pre_trained_models / "final")
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_run_that_goes_on_behind_its_end_averages_anew(folder: Path) -> None:
    """Five epochs and then a sixth, which is of the same fifth: the average that ended the run is none of its parts."""
    name = "longer"
    train(folder, name, **AVERAGES, max_epochs=5)
    done = train(folder, name, **AVERAGES, max_epochs=6, resume=True)
    state = torch.load(done.last, weights_only=True)["callbacks"]["WeightAveraging"]
    assert (state["count"], state["is_applied"], state["mean"]) == (1, True, {})
