"""Flags that change how a run trains, ends or is saved: each does what its help promises."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs, tiny
from tests.tolerances import approx
from transformers_framework.callbacks.predictions import Predictions
from transformers_framework.preflight import checks_of
from transformers_framework.registry import OPTIMIZERS, SCHEDULERS
from transformers_framework.storage.run_folders import RunFolders

ABSENT = {"fuse_adam", "adam8bit", "adamw8bit"}  # need packages, or devices, that tests do not
FAST = {("adamw", name) for name in SCHEDULERS} | {(name, "constant") for name in OPTIMIZERS}
MAP = "valid/answer_selection/mean_average_precision"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("options")


def train(folder: Path, name: str, *stages: str, **flags: Any) -> RunFolders:
    """Train on 40 rows in steps of 8, with the data of further stages; keep all exports."""
    data = runs.datasets(folder / "data", "answer_selection")
    given = {f"{stage}_dataset": data[f"{stage}_dataset"] for stage in ("train", *stages)}
    return runs.run(folder, **{"name": name, "keep": "all", **given, **flags})


def exports(folders: RunFolders) -> list[str]:
    return sorted(path.name for path in folders.pre_trained_models.iterdir())


# --- optimization ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [
        pytest.param(optimizer, scheduler, marks=() if (optimizer, scheduler) in FAST else pytest.mark.slow)
        for optimizer in OPTIMIZERS
        for scheduler in SCHEDULERS
        if optimizer not in ABSENT
    ],
)
def test_optimizers_and_schedulers_train(folder: Path, optimizer: str, scheduler: str) -> None:
    flags = {"optimizer": optimizer, "scheduler": scheduler, "weight_decay": 0.01}
    flags |= {} if scheduler == "constant" else {"num_warmup_steps": 1}
    with runs.watched() as seen:
        train(folder, f"{optimizer}-{scheduler}", max_steps=3, no_epoch_checkpointing=True, **flags)
    module = seen.experiment.module
    fresh = runs.build(
        runs.command(folder, train_dataset=folder / "data" / "train.jsonl", name="fresh", max_steps=3)
    ).module
    start = dict(fresh.named_parameters())
    assert not [name for name, value in module.named_parameters() if torch.equal(value, start[name])]
    assert all(torch.isfinite(value).all() for value in module.parameters())


def rates(folder: Path, name: str, *, dies_at: int | None = None, **flags: Any) -> list[float]:
    """Train and return the learning rate of each optimizer step, as a share of the highest."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    found: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if len(found) == dies_at:
            raise RuntimeError("the machine is gone")
        found.append(optimizer.param_groups[0]["lr"])

    hook = register_optimizer_step_pre_hook(note)
    try:
        train(folder, name, learning_rate=1e-3, no_epoch_checkpointing=True, **flags)
    finally:
        hook.remove()
    return [round(rate / 1e-3, 6) for rate in found]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        # three epochs of five steps, in an epoch of 5 batches
        ({"scheduler_frequency": 2}, [(15 - t // 2 * 2) / 15 for t in range(15)]),
        # of 10 batches in accumulation groups of 4, 4 and 2: 9 steps
        (
            {"scheduler_frequency": 2, "accumulate_grad_batches": 4, "batch_size": 4},
            [(9 - t // 2 * 2) / 9 for t in range(9)],
        ),
        ({"scheduler_frequency": 4, "num_warmup_steps": 8}, [0.0] * 4 + [0.5] * 4 + [1.0] * 4 + [3 / 7] * 3),
        ({"scheduler_interval": "epoch"}, [1.0] * 5 + [2 / 3] * 5 + [1 / 3] * 5),
        ({"scheduler_interval": "epoch", "scheduler_frequency": 2}, [1.0] * 10 + [1 / 3] * 5),
        ({"scheduler_interval": "epoch", "accumulate_grad_batches": 4}, [1.0] * 2 + [2 / 3] * 2 + [1 / 3] * 2),
    ],
    ids=["epochs", "accumulation", "warm-up", "by epoch", "every second epoch", "by epoch, accumulation"],
)
def test_the_learning_rate_is_updated_once_in_so_many_intervals(
    folder: Path, flags: dict[str, Any], expected: list[float], request: pytest.FixtureRequest
) -> None:
    found = rates(folder, re.sub(r"\W", "-", request.node.callspec.id), max_epochs=3, **flags)
    assert found == [round(rate, 6) for rate in expected]


def test_a_learning_rate_that_is_held_goes_on_after_a_resume(folder: Path) -> None:
    flags = {"scheduler_frequency": 4, "max_epochs": 3, "checkpoint_interval": 6}
    assert rates(folder, "held", **flags, dies_at=8, status=1) == [1.0] * 4 + [0.733333] * 4
    assert rates(folder, "held", **flags, resume=True) == [0.733333] * 2 + [0.466667] * 4 + [0.2] * 3


def test_a_checkpoint_in_which_updates_of_the_learning_rate_are_counted_is_continued(folder: Path) -> None:
    """Lightning, which earlier versions let count, counts one in ``--scheduler_frequency`` steps."""
    flags = {"scheduler_frequency": 2, "max_epochs": 3, "checkpoint_interval": 6}
    before = rates(folder, "updates", **flags, dies_at=8, status=1)
    last = folder / "out/checkpoints/updates/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["lr_schedulers"][0]["last_epoch"] == checkpoint["global_step"] == 6
    checkpoint["lr_schedulers"][0]["last_epoch"] = 3
    torch.save(checkpoint, last)
    assert before[:6] + rates(folder, "updates", **flags, resume=True) == [
        round((15 - step // 2 * 2) / 15, 6) for step in range(15)
    ]


def test_accumulated_batches_are_one_larger_batch(folder: Path) -> None:
    still = {"additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]}
    large = train(folder, "large", batch_size=8, **still)
    small = train(folder, "small", batch_size=4, accumulate_grad_batches=2, **still)
    assert len(runs.scalars(small)["train/loss"]) == len(runs.scalars(large)["train/loss"]) == 5, "a point a step"
    runs.assert_weights_are_close(*(run.pre_trained_models / "final" for run in (small, large)))


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_in_bf16_with_a_fused_optimizer(folder: Path, algorithm: str) -> None:
    limit = 1e-3
    with runs.watched() as seen:
        train(folder, f"clip-{algorithm}", precision="bf16", gradient_clip_val=limit, gradient_clip_algorithm=algorithm)
    optimizer = seen.experiment.trainer.optimizers[0]
    assert all(group["fused"] for group in optimizer.param_groups)
    assert seen.experiment.trainer.precision == "bf16-mixed"
    assert 0 < max(seen.gradients.values()) <= limit * 1.001


def test_half_precision_on_a_cpu_is_bf16_and_says_so(folder: Path, said: pytest.LogCaptureFixture) -> None:
    with said.at_level(logging.WARNING), runs.watched() as seen:
        train(folder, "half", "test", precision="16", max_steps=1)
    assert seen.experiment.trainer.precision == "bf16-mixed"
    assert "bf16" in said.text


# --- how a run ends --------------------------------------------------------------------------------------------------


def test_early_stopping_stops(folder: Path) -> None:
    """Without learning nothing improves: one validation, and two without improvement."""
    flags = {"monitor": MAP, "early_stopping": True, "patience": 2, "max_epochs": 10, "learning_rate": 1e-12}
    done = train(folder, "early", "valid", **flags)
    assert len(runs.scalars(done)["valid/loss"]) == 3
    assert exports(done) == ["best", "ckpt_epoch_0_step_5", "ckpt_epoch_1_step_10", "ckpt_epoch_2_step_15", "final"]
    assert runs.weights_are_equal(done.pre_trained_models / "best", done.pre_trained_models / "ckpt_epoch_0_step_5")


def test_patience_that_runs_out_at_the_end_ends_nothing_early(folder: Path, said: pytest.LogCaptureFixture) -> None:
    flags = {"monitor": MAP, "early_stopping": True, "patience": 2, "learning_rate": 1e-12}
    train(folder, "in-time", "valid", max_epochs=3, **flags)
    train(folder, "in-time-too", "valid", max_steps=15, **flags)
    assert "Training ended early" not in said.text
    train(folder, "early-too", "valid", max_epochs=4, **flags)
    assert "Training ended early" in said.text


@pytest.mark.parametrize("direction", ["max", "min"])
def test_a_value_that_is_none_is_no_improvement(
    folder: Path, direction: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of questions without a right candidate there is no MAP: it is as if nothing improved, and training goes on."""
    rows = [row | {"label": 0} for row in runs.rows_for("answer_selection", 23, 1)]
    path = tiny.write_jsonl(folder / "unanswered.jsonl", rows)
    flags = {"monitor": MAP, "monitor_direction": direction, "early_stopping": True, "patience": 3, "max_epochs": 10}
    logging.getLogger("transformers_framework").handlers.clear()  # it writes where standard error was once
    done = train(folder, f"unanswered-{direction}", valid_dataset=path, **flags)
    assert len(runs.scalars(done)["valid/loss"]) == 3
    assert "best" not in exports(done)
    said = capfd.readouterr().err
    assert said.count(f"{MAP} is nan: this counts as no improvement.") == 3
    reason = f"{MAP} has not improved in 3 validations (--patience); it was never a number."
    assert f"Training ended early, after step 15: {reason}" in said


def test_an_end_by_time_is_reported(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("transformers_framework").handlers.clear()
    flags = {"max_epochs": 10_000, "no_epoch_checkpointing": True, "log_every_n_steps": 0}
    train(folder, "timed", **flags, max_time="00:00:00:01")
    assert re.search(r"Training ended early, after step \d+: --max_time is over\.", capfd.readouterr().err)


def test_a_run_that_stopped_early_stays_stopped(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also within an epoch; more patience lets it go on to where it would have come at once."""
    flags = {
        "monitor": MAP,
        "early_stopping": True,
        "max_epochs": 10,
        "learning_rate": 1e-12,
        "val_check_interval": 0.5,
    }

    logging.getLogger("transformers_framework").handlers.clear()

    def last_step(name: str, **more: Any) -> int:
        return int(torch.load(train(folder, name, "valid", **flags, **more).last, weights_only=True)["global_step"])

    assert last_step("stopped", patience=2) == 7
    assert capfd.readouterr().err.count("Training ended early, after step 7: ") == 1
    assert last_step("stopped", patience=2, resume=True) == 7
    assert capfd.readouterr().err.count("Training ended early, after step 7: ") == 1
    assert last_step("stopped", patience=4, resume=True) == last_step("patient", patience=4) == 12


def test_a_run_that_is_continued_with_fewer_epochs_is_done(folder: Path, said: pytest.LogCaptureFixture) -> None:
    before = runs.weights(train(folder, "fewer", max_epochs=2).last)
    with said.at_level(logging.WARNING):
        after = train(folder, "fewer", max_epochs=1, resume=True)
    assert "2 epochs are done" in said.text
    assert all(torch.equal(tensor, before[name]) for name, tensor in runs.weights(after.last).items())


@pytest.mark.parametrize("max_epochs", [1, 2])
def test_an_epoch_that_is_not_asked_for_is_not_ended(
    folder: Path, max_epochs: int, said: pytest.LogCaptureFixture
) -> None:
    """Stopped in the third epoch and resumed with fewer epochs; asked for more, it goes on as if nothing had been."""
    name = f"within-{max_epochs}"
    train(folder, name, max_steps=12)
    after = train(folder, name, max_epochs=max_epochs, resume=True)
    assert f"--max_epochs {max_epochs}: 2 epochs are done, and no more is trained." in said.text
    assert torch.load(after.last, weights_only=True)["global_step"] == 12
    done = train(folder, name, max_epochs=3, resume=True)
    assert torch.load(done.last, weights_only=True)["global_step"] == 15


def test_no_batches_of_a_stage(folder: Path) -> None:
    done = train(folder, "none", "test", "predict", limit_test_batches=0, limit_predict_batches=0)
    assert not done.predictions.exists()


def test_predictions_of_numbers_that_are_none_are_json(folder: Path) -> None:
    """Columns beside the predictions may hold nan and infinity, also within lists; JSON has neither."""
    import pyarrow.parquet

    rows = runs.rows_for("answer_selection", 13, 3)
    for i, row in enumerate(rows):
        row |= {"price": float("nan") if i % 2 else 1.5, "sizes": [float("inf"), 0.5], "more": {"depth": -float("inf")}}
    path = folder / "numbers.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    done = train(folder, "numbers", max_steps=1, predict_dataset=path)

    def refuse(name: str) -> None:
        raise ValueError(name)

    lines = (done.predictions / "predict.jsonl").read_text("utf-8").splitlines()
    found = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [line["price"] for line in found] == [None if i % 2 else 1.5 for i in range(13)]
    assert found[0]["sizes"] == [None, 0.5]
    assert found[0]["more"] == {"depth": None}


def test_predictions_hold_nothing_of_the_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that a worker made keeps a file descriptor open, and a process has a thousand or so of them."""
    owned = []

    def look(self: Predictions, *_: Any) -> None:
        owned.extend(kept.flags.owndata for batch in self.batches for own in batch.values() for kept in own.values())

    monkeypatch.setattr(Predictions, "on_test_end", look)
    train(folder, "workers", "test", num_workers=1)
    assert owned
    assert all(owned)


def test_steps_end_a_run_within_an_epoch(folder: Path) -> None:
    done = train(folder, "steps", max_steps=7)
    assert len(runs.scalars(done)["train/loss"]) == 7
    assert torch.load(done.last, weights_only=True)["global_step"] == 7


def test_without_a_limit_lightning_s_own_holds(folder: Path) -> None:
    """No epochs, no steps: time ends the run."""
    done = train(folder, "time", max_epochs=None, max_time="00:00:00:02", scheduler="constant", no_epoch_checkpointing=True)  # fmt: skip  # noqa: E501
    assert len(runs.scalars(done)["train/loss"]) > 5
    assert done.last.exists()


def test_fast_dev_run_leaves_no_files(folder: Path) -> None:
    done = train(folder, "fast", "valid", "test", "predict", fast_dev_run=True, monitor=MAP, num_warmup_steps=100)
    assert not done.last.exists()
    assert not done.pre_trained_models.exists()
    assert not done.tensorboard.exists()


# --- what is saved, and when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({}, ["ckpt_epoch_0_step_5", "ckpt_epoch_1_step_10"]),
        ({"no_epoch_checkpointing": True}, ["ckpt_epoch_0_step_5", "ckpt_epoch_1_step_10"]),
        ({"no_epoch_checkpointing": True, "no_val_checkpointing": True}, []),
        (
            {"no_epoch_checkpointing": True, "no_val_checkpointing": True, "checkpoint_interval": 4},
            ["ckpt_epoch_0_step_4", "ckpt_epoch_1_step_8"],
        ),
        (
            {"val_check_interval": 0.5, "no_epoch_checkpointing": True},
            ["ckpt_epoch_0_step_2", "ckpt_epoch_0_step_4", "ckpt_epoch_1_step_7", "ckpt_epoch_1_step_9"],
        ),
        ({"checkpoint_interval": 3, "accumulate_grad_batches": 2}, ["ckpt_epoch_0_step_3", "ckpt_epoch_1_step_6"]),
    ],
)
def test_checkpoints_are_written_when_they_are_asked_for(
    tmp_path: Path, flags: dict[str, Any], steps: list[str]
) -> None:
    done = train(tmp_path, "saved", "valid", "test", max_epochs=2, monitor=MAP, **flags)
    assert exports(done) == ["best", *steps, "final"]
    found = sorted(path.name for path in done.checkpoints.glob("[!.]*"))
    assert found == ["best.ckpt", "config.yaml", "last.ckpt", "metrics.jsonl", "results.json", "train.log"]
    tested = runs.scores(done)
    logits = runs.logits_of(done.pre_trained_models / "best", [[row["question"], row["answer"]] for row in runs.rows_for("answer_selection", 27, 2)])  # fmt: skip  # noqa: E501
    assert tested == approx(logits[:, 0].tolist()), "best is what was tested"


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ({}, ["best", "ckpt_epoch_0_step_2", "ckpt_epoch_0_step_3", "final"]),
        ({"no_epoch_checkpointing": True}, ["best", "ckpt_epoch_0_step_2", "final"]),
        ({"no_epoch_checkpointing": True, "no_val_checkpointing": True}, ["best", "final"]),
        (
            {"no_epoch_checkpointing": True, "no_val_checkpointing": True, "checkpoint_interval": 3},
            ["best", "ckpt_epoch_0_step_3", "final"],
        ),
    ],
)
def test_steps_that_end_a_run_leave_no_more_than_was_asked_for(
    tmp_path: Path, flags: dict[str, Any], left: list[str]
) -> None:
    done = train(tmp_path, "steps", "valid", max_steps=3, val_check_interval=2, monitor=MAP, **flags)
    assert exports(done) == left
    assert torch.load(done.last, weights_only=True)["global_step"] == 3


@pytest.mark.parametrize(
    ("flags", "steps", "first", "remedy"),
    [
        ({"max_steps": 3}, 3, 5, "a --val_check_interval below 3"),
        ({"max_steps": 3, "val_check_interval": 4}, 3, 4, "a --val_check_interval below 3"),
        ({"max_steps": 2, "accumulate_grad_batches": 2}, 2, 5, "a --val_check_interval below 4"),
        ({"max_epochs": 2, "check_val_every_n_epoch": 3}, 10, 15, "--check_val_every_n_epoch 1"),
        (
            {"max_epochs": 1, "check_val_every_n_epoch": 2},
            *(5, 10, "--check_val_every_n_epoch 1 and a --val_check_interval below 5"),
        ),
    ],
)
def test_a_run_that_ends_before_its_first_validation_validates_its_last_state(
    tmp_path: Path, flags: dict[str, Any], steps: int, first: int, remedy: str, said: pytest.LogCaptureFixture
) -> None:
    done = train(tmp_path, "short", "valid", monitor=MAP, **flags)
    batches = steps * flags.get("accumulate_grad_batches", 1)
    assert f"training ends after batch {batches} and would be validated after batch {first}." in said.text
    assert f"no other can be best. Give {remedy} for more." in said.text
    assert [step for step, _ in runs.scalars(done)[MAP]] == [steps - 1]
    assert runs.weights_are_equal(done.pre_trained_models / "best", done.pre_trained_models / "final")
    assert MAP in (done.pre_trained_models / "best/README.md").read_text()


def test_steps_after_the_last_validation_are_counted(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    done = train(tmp_path, "rest", "valid", monitor=MAP, max_steps=7)
    found = (
        "2 of 7 optimizer steps come after the last validation, at step 5, and are not validated. Give --max_steps 5,"
    )
    assert said.text.count(found) == 1
    assert "\n  unvalidated  the last 2 of 7 steps, after step 5\n" in said.text
    assert [step for step, _ in runs.scalars(done)[MAP]] == [4]


def test_the_step_of_the_best_state_is_not_that_of_the_last_validation(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    flags = {"monitor": MAP, "max_epochs": 2, "learning_rate": 1e-12}  # the second validation is equal to the first
    train(tmp_path, "same", "valid", "test", **flags)
    assert re.search(r"\n  best +\S+ \d\.\d+ at step 5 \(epoch 1\)\n  test ", said.text)
    assert "unvalidated" not in said.text


def test_a_run_that_never_validates_says_so(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    train(tmp_path, "short", "valid", max_steps=3)
    assert "training ends after batch 3 and would be validated after batch 5. So nothing is validated." in said.text
    assert "Nothing is monitored, so no checkpoint is selected as best: the last weights are exported." in said.text
    said.clear()
    train(tmp_path, "without", max_epochs=None, limit_train_batches=1)
    assert "Without validation data (--valid_dataset), nothing is validated" in said.text
    assert "Training starts at step 0: 3 optimizer steps in 3 epochs (the default:" in said.text
    assert re.search(r"Run 'without' is done in .*\n  best +none: nothing was monitored\n  model ", said.text)


@pytest.mark.parametrize("flags", [{"max_steps": 5}, {"max_steps": 3, "val_check_interval": 3}, {"max_epochs": 1}])
def test_a_run_that_is_validated_is_not_warned_of(
    folder: Path, flags: dict[str, Any], said: pytest.LogCaptureFixture
) -> None:
    data = runs.datasets(folder / "data", "answer_selection")
    words = runs.command(folder, name="long", monitor=MAP, **{stage: data[stage] for stage in ("train_dataset", "valid_dataset")}, **flags)  # fmt: skip  # noqa: E501
    for check in checks_of(runs.build(words)):
        check()
    assert "would be validated" not in said.text


def test_without_a_monitor_the_last_state_is_tested(folder: Path) -> None:
    done = train(folder, "unmonitored", "valid", "test", max_epochs=2)
    assert not done.best.exists()
    assert "best" not in exports(done)
    logits = runs.logits_of(done.pre_trained_models / "final", [[row["question"], row["answer"]] for row in runs.rows_for("answer_selection", 27, 2)])  # fmt: skip  # noqa: E501
    found = runs.scores(done)
    assert found == approx(logits[:, 0].tolist())


def test_the_best_by_a_metric_of_training(folder: Path) -> None:
    done = train(folder, "by-loss", monitor="train/loss", monitor_direction="min", max_epochs=2)
    assert "best" in exports(done)


def test_predictions_of_a_part(folder: Path) -> None:
    done = train(folder, "part", "test", "predict", max_steps=1, limit_test_batches=2, limit_predict_batches=1)
    ids = [row["id"] for row in runs.predictions(done)]
    assert len(ids) == 16
    assert ids == sorted(ids)
    rows = runs.rows_for("answer_selection", 27, 2)
    assert all(row["answer"] == rows[row["id"]]["answer"] for row in runs.predictions(done))
    assert len((done.predictions / "test.run").read_text().splitlines()) == 16
    assert len(runs.predictions(done, "predict")) == 8


def test_validation_alone(folder: Path) -> None:
    data = runs.datasets(folder / "data", "answer_selection")
    done = runs.run(folder, name="validation", valid_dataset=data["valid_dataset"])
    assert len(runs.metrics(done, "valid")) == 9
    assert not done.pre_trained_models.exists()


# --- how it is computed ----------------------------------------------------------------------------------------------


def test_checkpointed_activations_change_nothing(folder: Path) -> None:
    kept = train(folder, "kept")
    again = train(folder, "again", gradient_checkpointing=True)
    runs.assert_weights_are_close(*(run.pre_trained_models / "final" for run in (again, kept)))


def test_profiler_determinism_and_statistics(folder: Path, said: pytest.LogCaptureFixture) -> None:
    try:
        done = train(folder, "profiled", "valid", profiler="simple", deterministic=True, devices_stats=True)
    finally:
        torch.use_deterministic_algorithms(False)
    assert "run_training_epoch" in said.text
    assert any("cpu" in name for name in runs.scalars(done)), "statistics of the device are logged"


@pytest.mark.slow
def test_a_compiled_model_exports_plain_weights(folder: Path) -> None:
    done = train(folder, "compiled", "test", compile=True)
    texts = [[row["question"], row["answer"]] for row in runs.rows_for("answer_selection", 27, 2)]
    logits = runs.logits_of(done.pre_trained_models / "final", texts)
    found = runs.scores(done)
    assert found == approx(logits[:, 0].tolist())


@pytest.mark.parametrize("pipeline", ["answer_selection", "seq_class"])
def test_weights_of_classes_change_the_loss(folder: Path, pipeline: str) -> None:
    weights = [1.0, 3.0] if pipeline == "answer_selection" else [1.0, 2.0, 3.0]
    rows = runs.rows_for(pipeline, 27, 2)
    source = tiny.write_jsonl(folder / f"{pipeline}.jsonl", rows)
    checkpoint = runs.run(folder, pipeline=pipeline, name=f"{pipeline}-start", train_dataset=source, max_steps=1)
    final = checkpoint.pre_trained_models / "final"
    flags: dict[str, Any] = {"pipeline": pipeline, "pre_trained_model": final, "test_dataset": source}
    done = runs.run(folder, name=f"{pipeline}-weighted", label_weights=weights, **flags)
    texts = [[row["question"], row["answer"]] if "question" in row else [row["text"]] for row in rows]
    labels = [row["label"] if isinstance(row["label"], int) else runs.CLASSES.index(row["label"]) for row in rows]
    logits = runs.logits_of(final, texts)
    if pipeline == "answer_selection":  # one output: the logit of class 1, where that of class 0 is 0
        logits = torch.nn.functional.pad(logits, (1, 0))
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), torch.tensor(weights))
    assert runs.metrics(done, "test")["test/loss"] == approx(float(expected))
