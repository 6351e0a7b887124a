"""What a checkpoint is continued with: its own bits, its own data, and the flags of optimization that are given now."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tests import runs, tiny
from tests.integration.interrupted import run_together
from tests.sharded_cpu import use_cpus
from tests.tolerances import rounding
from transformers_framework import continuation
from transformers_framework.pipelines.pipeline import Pipeline
from transformers_framework.storage import run_folders
from transformers_framework.storage.run_folders import RunFolders
from transformers_framework.strategies import checkpoint_io

SMALL: dict[str, Any] = {"pipeline": "seq_class", "batch_size": 4, "checkpoint_interval": 3}


class Begun:
    """A run of which there are checkpoints, to be continued in as many ways as there are tests."""

    def __init__(self, folder: Path, **flags: Any) -> None:
        self.folder, self.count = folder, 0
        self.flags = SMALL | flags
        self.data = runs.datasets(folder / "data", self.flags["pipeline"], (40, 12, 8, 8))
        self.flags["train_dataset"] = self.data["train_dataset"]
        runs.run(folder, name="begun", **self.flags, max_steps=6)

    def copy(self) -> str:
        """Return the name of a run that is a copy of it."""
        self.count += 1
        name = f"copy-{self.count}"
        for kind in ("checkpoints", "pre_trained_models", "tensorboard"):
            shutil.copytree(self.folder / "out" / kind / "begun", self.folder / "out" / kind / name)
        return name

    def resume(self, *, status: int = 0, name: str | None = None, **flags: Any) -> RunFolders:
        """Continue a copy of it."""
        given = {**self.flags, "max_steps": 12, **flags, "resume": True}
        return runs.run(self.folder, name=name or self.copy(), status=status, **given)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    return Begun(tmp_path_factory.mktemp("begun"))


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file, where weights are."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 16]))


@pytest.mark.parametrize("stage", ["train", "test"])
def test_a_damaged_checkpoint_is_not_used(stage: str, begun: Begun, tmp_path: Path, capsys: Any) -> None:
    damaged = tmp_path / "damaged.ckpt"
    shutil.copyfile(begun.folder / "out/checkpoints/begun/last.ckpt", damaged)
    flip_a_bit(damaged)
    flags = begun.flags | {"train_dataset": None} | {f"{stage}_dataset": begun.data[f"{stage}_dataset"]}
    runs.run(begun.folder, status=2, name=f"damaged-{stage}", ckpt_path=damaged, **flags)
    assert f"--ckpt_path: {damaged} is damaged" in capsys.readouterr().err


def test_a_resumed_checkpoint_is_read_once(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checksums and its outline; the weights are read by Lightning."""
    read: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        original = getattr(module, name)

        def count(*given: Any, **more: Any) -> Any:
            read[name] += name == "is_damaged" or bool(more.get("outline"))
            return original(*given, **more)

        monkeypatch.setattr(module, name, count)

    counted(run_folders, "is_damaged")
    monkeypatch.setattr(continuation, "is_damaged", run_folders.is_damaged)
    counted(checkpoint_io, "read_checkpoint")
    begun.resume(max_steps=7)
    assert read == {"is_damaged": 1, "read_checkpoint": 1}


def test_messages_name_the_flag_that_gave_the_checkpoint(begun: Begun, capsys: Any) -> None:
    run = begun.copy()
    for path in RunFolders(begun.folder / "out", run).checkpoints.glob("*.ckpt"):
        flip_a_bit(path)
    begun.resume(name=run, status=2)
    assert re.search("--resume: .*/last.ckpt is damaged", capsys.readouterr().err)
    other = {"pre_trained_model": tiny.save_checkpoint("bert", begun.folder / "wide", hidden_size=64)}
    begun.resume(status=2, **other)
    assert re.search("--resume: .*/last.ckpt is a checkpoint of another model", capsys.readouterr().err)


# --- metrics of training ---------------------------------------------------------------------------------------------


def of_training(folders: RunFolders, ends: Sequence[int] = ()) -> dict[str, dict[int, float]]:
    """Return what was logged of training, without what was logged only because a run ended."""
    found = {name: dict(values) for name, values in runs.scalars(folders).items() if name.startswith("train/")}
    return {name: {step: values[step] for step in values.keys() - {*ends}} for name, values in found.items()}


@pytest.mark.parametrize(
    "flags",
    [
        {"monitor": "train/seq_class/accuracy", "log_every_n_steps": 4},
        {"monitor": "train/loss", "monitor_direction": "min", "log_every_n_steps": 100},
        {"pipeline": "named_entity_recognition", "monitor": "train/token_class/f1", "accumulate_grad_batches": 2},
    ],
    ids=["classes", "losses", "lists"],
)
def test_metrics_of_training_are_those_of_the_whole_epoch(flags: dict[str, Any], tmp_path: Path) -> None:
    """Interrupted in the first epoch and in the second one, between two logging steps."""
    flags = SMALL | flags
    data = runs.datasets(tmp_path / "data", flags["pipeline"], (40, 1, 1, 1))
    flags |= {"train_dataset": data["train_dataset"], "scheduler": "constant"}
    per_epoch = 10 // flags.get("accumulate_grad_batches", 1)
    whole = runs.run(tmp_path, name="whole", max_epochs=2, **flags)
    ends = (per_epoch // 2, per_epoch + 3)
    for steps in ends:
        parts = runs.run(tmp_path, name="parts", max_steps=steps, resume=True, **flags)
    parts = runs.run(tmp_path, name="parts", max_epochs=2, resume=True, **flags)
    steps_of_ends = [step - 1 for step in ends]
    assert of_training(parts, steps_of_ends) == of_training(whole, steps_of_ends)
    assert runs.weights_are_equal(parts.pre_trained_models / "best", whole.pre_trained_models / "best")
    cards = [(folders.pre_trained_models / "final/README.md").read_text() for folders in (parts, whole)]
    assert len({card.partition("## Results")[2].partition("## Data")[0] for card in cards}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_metrics_of_training_of_several_processes(strategy: str, tmp_path: Path) -> None:
    """Begun by two, continued by two and by one: the epoch's metrics are those of all rows."""
    still = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]
    flags = SMALL | {"scheduler": "constant", "additional_config_kwargs": still, "learning_rate": 1e-9}
    data = runs.datasets(tmp_path / "data", "named_entity_recognition", (40, 1, 1, 1))
    flags |= {"pipeline": "named_entity_recognition", "train_dataset": data["train_dataset"]}
    two = {"devices": 2, "strategy": strategy, "batch_size": 2}

    def go(name: str, **more: Any) -> RunFolders:
        words, log = runs.command(tmp_path, name=name, resume=True, **flags | more), tmp_path / f"{name}.log"
        size = more.get("devices", 1)
        assert run_together(words, log, size, use_cpus) == [0] * size, log.read_text()
        return runs.folders_of(words)

    whole = of_training(go("whole", max_epochs=1))
    for name, then in (("two", two), ("one", {})):
        go(name, max_steps=6, **two)
        parts = of_training(go(name, max_epochs=1, **then))
        metrics = {key for key in whole.keys() - runs.BESIDE_METRICS if "loss" not in key}
        assert len(metrics) > 3
        assert {key: parts[key][9] for key in metrics} == pytest.approx({key: whole[key][9] for key in metrics})


# --- what must stay --------------------------------------------------------------------------------------------------


def rewritten(begun: Begun, tmp_path: Path, change: Callable[[list[str]], list[str]]) -> Path:
    """Return the training data in another file, with other lines."""
    path = tmp_path / "train.jsonl"
    lines = begun.data["train_dataset"].read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line}\n" for line in change(lines)), encoding="utf-8")
    return path


OTHER_DATA: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "shuffled": (
        lambda lines: [*lines[20:], *lines[:20]],
        "different rows, or another order of rows: the values of 'label' differ",
    ),
    "fewer": (lambda lines: lines[:30], "30 rows instead of 40"),
    "two swapped": (
        lambda lines: [lines[3], *lines[1:3], lines[0], *lines[4:]],
        "different rows, or another order of rows",
    ),
    "one changed": (
        lambda lines: [*lines[:-1], lines[-1].replace('"text": "', '"text": "not ')],
        "the values of 'text' differ",
    ),
}


@pytest.mark.parametrize("name", OTHER_DATA)
def test_other_rows_are_refused(name: str, begun: Begun, tmp_path: Path, capsys: Any) -> None:
    change, message = OTHER_DATA[name]
    run = begun.copy()
    config = RunFolders(begun.folder / "out", run).config
    before = config.read_text()
    begun.resume(name=run, status=2, train_dataset=rewritten(begun, tmp_path, change))
    said = capsys.readouterr().err
    assert "--train_dataset: " in said
    assert message in said
    assert config.read_text() == before


def test_the_same_rows_elsewhere_are_the_same(begun: Begun, tmp_path: Path) -> None:
    """Another file, another order of columns and one more of them."""
    shuffled = rewritten(begun, tmp_path, lambda lines: [f'{{"more": 1, {line[1:]}' for line in lines])
    begun.resume(train_dataset=shuffled)


OTHER_FLAGS: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 7}, "--seed: run '.*' was begun with --seed 1337, and this command has --seed 7: it decides"),
    "bucketing": ({"length_bucketing": False}, "--length_bucketing: .* with --length_bucketing, .* has no"),
    "shard": ({"train_shard_dataset": 2}, "--train_dataset: .* 20 rows instead of 40"),
    "optimizer": ({"optimizer": "adafactor"}, "--optimizer: .* with --optimizer adamw, and .* --optimizer adafactor"),
    "overfitting": (
        {"overfit_batches": 2},
        "--overfit_batches: .* which rows share a batch, and a part of the epoch has",
    ),
    "interval": ({"scheduler_interval": "epoch", "max_epochs": 3}, "--scheduler_interval: .* has counted otherwise"),
}


@pytest.mark.parametrize("name", OTHER_FLAGS)
@pytest.mark.parametrize("how", ["resume", "ckpt_path"])
def test_other_flags_are_refused_within_an_epoch(name: str, how: str, begun: Begun, capsys: Any) -> None:
    flags, message = OTHER_FLAGS[name]
    if how == "resume":
        begun.resume(status=2, **flags)
    else:
        start = begun.folder / "out/checkpoints/begun/last.ckpt"
        given = begun.flags | {"max_steps": 12} | flags
        runs.run(begun.folder, name="other", ckpt_path=start, status=2, **given)
        message = message.replace("run '.*' was begun", ".*last.ckpt was trained")
        assert not (begun.folder / "out/checkpoints/other").exists()
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("flags", "other"),
    [
        ({"pipeline": "masked_lm", "packing": "isolated"}, {"max_sequence_length": 40}),
        ({"pipeline": "seq_class", "length_bucketing": True}, {"max_sequence_length": 12}),
    ],
    ids=["packing", "bucketing"],
)
def test_other_lengths_are_refused_where_rows_share_a_batch_by_length(
    flags: dict[str, Any], other: dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    data = runs.datasets(tmp_path / "data", flags["pipeline"], (40, 1, 1, 1))
    flags = {"batch_size": 2, "train_dataset": data["train_dataset"], **flags}
    runs.run(tmp_path, max_steps=2, **flags)
    runs.run(tmp_path, resume=True, max_steps=4, status=2, **flags | other)
    length = other["max_sequence_length"]
    message = f"this command has --max_sequence_length {length}: it decides on the lengths by which rows share a batch"
    assert message in capsys.readouterr().err


def test_behind_a_whole_epoch_a_new_run_may_go_on_with_other_data(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class", (40, 32, 1, 1))
    flags = SMALL | {"scheduler": "constant"}
    begun = runs.run(tmp_path, name="begun", train_dataset=data["train_dataset"], max_epochs=1, **flags)
    flags |= {"train_dataset": data["valid_dataset"], "max_epochs": 2, "seed": 7}
    runs.run(tmp_path, name="begun", resume=True, status=2, **flags)
    done = runs.run(tmp_path, name="after", ckpt_path=begun.last, **flags)
    assert torch.load(done.last, weights_only=True)["global_step"] == 10 + 8


def test_the_first_rows_of_a_stream_are_compared(begun: Begun, tmp_path: Path, capsys: Any) -> None:
    flags = begun.flags | {"iterable": True, "name": "stream"}
    runs.run(begun.folder, max_steps=3, **flags)
    flags["train_dataset"] = rewritten(begun, tmp_path, lambda lines: lines[::-1])
    runs.run(begun.folder, resume=True, max_steps=6, status=2, **flags)
    assert "different rows, or another order of rows" in capsys.readouterr().err


def test_a_stream_may_be_checked_in_other_numbers_of_rows(begun: Begun) -> None:
    flags = begun.flags | {"iterable": True, "name": "checked"}
    runs.run(begun.folder, max_steps=3, prepare_data_batch_size=16, **flags)
    runs.run(begun.folder, resume=True, max_steps=4, prepare_data_batch_size=20, **flags)


def test_the_best_state_is_not_compared_on_other_rows(tmp_path: Path, capsys: Any) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class", (8, 8, 16, 1))
    flags = SMALL | {"train_dataset": data["train_dataset"], "valid_dataset": data["valid_dataset"]}
    runs.run(tmp_path, max_epochs=1, monitor="valid/loss", monitor_direction="min", **flags)
    flags |= {"valid_dataset": data["test_dataset"], "max_epochs": 2, "resume": True}
    runs.run(tmp_path, monitor="valid/loss", monitor_direction="min", status=2, **flags)
    assert "--valid_dataset: " in (said := capsys.readouterr().err)
    assert "16 rows instead of 8 when run 'run' was begun; which state is best" in said
    runs.run(tmp_path, monitor="train/loss", monitor_direction="min", **flags)


def test_another_run_counts_its_own_patience(tmp_path: Path) -> None:
    """What had stopped early stays so when it is resumed; a new run from its checkpoint learns."""
    data = runs.datasets(tmp_path / "data", "seq_class", (8, 8, 1, 1))
    flags = SMALL | {"train_dataset": data["train_dataset"], "valid_dataset": data["valid_dataset"], "patience": 2}
    flags |= {
        "monitor": "valid/loss",
        "monitor_direction": "max",
        "early_stopping": True,
        "max_epochs": 9,
        "max_time": "00:00:10:00",
    }
    begun = runs.run(tmp_path, **flags)
    steps = [torch.load(begun.last, weights_only=True)["global_step"]]
    for name, how in (("run", {"resume": True}), ("new", {"ckpt_path": begun.last})):
        run = runs.run(tmp_path, **flags | {"name": name} | how)
        steps.append(torch.load(run.last, weights_only=True)["global_step"])
    assert steps[0] == steps[1] < steps[2]


# --- flags of optimization -------------------------------------------------------------------------------------------


SETTINGS = {"learning_rate": "lr", "betas": "betas", "epsilon": "eps", "amsgrad": "amsgrad", "beta1": "beta1"}


@contextlib.contextmanager
def changed_by_hand(step: int, flags: dict[str, Any]) -> Iterator[None]:
    """Change the optimizer of runs after a step, one group of each parameter, and clip by PyTorch's own function."""
    bare = {re.sub("^(tf_adamw|adamw|adafactor)_", "", name): value for name, value in flags.items()}
    values = {setting: bare[name] for name, setting in SETTINGS.items() if name in bare}
    original, steps, before = Pipeline.configure_gradient_clipping, Counter[int](), []

    def change(optimizer: Any, *_: Any) -> None:
        steps[id(optimizer)] += 1
        if steps[id(optimizer)] <= step:
            return
        before[:] = optimizer.param_groups
        groups = [(group, parameter) for group in before for parameter in group["params"]]
        decay = flags.get("weight_decay", max(group["weight_decay"] for group in optimizer.param_groups))
        optimizer.param_groups = [
            {**group, **values, "params": [parameter], "weight_decay": decay if parameter.ndim > 1 else 0.0}
            for group, parameter in groups
        ]
        for parameter, state in optimizer.state.items():
            if values.get("amsgrad"):
                state.setdefault("max_exp_avg_sq", torch.zeros_like(parameter))
            if values.get("beta1"):
                state.setdefault("exp_avg", torch.zeros_like(parameter))

    def clip(self: Pipeline, *options: Any, **more: Any) -> None:
        if self.global_step >= step and "gradient_clip_val" in flags:
            torch.nn.utils.clip_grad_norm_(self.parameters(), flags["gradient_clip_val"])

    def change_back(optimizer: Any, *_: Any) -> None:
        if before:
            optimizer.param_groups = [*before]

    hooks = register_optimizer_step_pre_hook(change), register_optimizer_step_post_hook(change_back)
    Pipeline.configure_gradient_clipping = clip  # type: ignore[method-assign]
    try:
        yield
    finally:
        Pipeline.configure_gradient_clipping = original  # type: ignore[method-assign]
        for hook in hooks:
            hook.remove()


NEW_FLAGS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "learning rate": ({}, {"learning_rate": 1e-5}, "learning_rate 1e-3 → 1e-5"),
    "decay": ({}, {"weight_decay": 0.1}, "weight_decay 0 → 0.1"),
    "no decay": ({"weight_decay": 0.1}, {"weight_decay": 0.0}, "weight_decay 0.1 → 0"),
    "moments": (
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "adamw_betas": [0.8, 0.99], "adamw_epsilon": 1e-4, "adamw_amsgrad": True},
        "adamw_amsgrad false → true, adamw_betas 0.9 0.999 → 0.8 0.99, adamw_epsilon 1e-3 → 1e-4",
    ),
    "clipping": ({}, {"gradient_clip_val": 1e-3}, "gradient_clip_val none → 1e-3"),
    "schedule": (
        {"weight_decay": 0.1},
        {"scheduler": "polynomial_decay_layerwise", "weight_decay": 0.0},
        "scheduler constant → polynomial_decay_layerwise, weight_decay 0.1 → 0",
    ),
    "adafactor": (
        {"optimizer": "adafactor"},
        {"optimizer": "adafactor", "adafactor_beta1": 0.9, "weight_decay": 0.01},
        "adafactor_beta1 none → 0.9, weight_decay 0 → 0.01",
    ),
    "tf_adamw": (
        {"optimizer": "tf_adamw", "weight_decay": 0.01},
        {"optimizer": "tf_adamw", "tf_adamw_betas": [0.8, 0.9], "learning_rate": 3e-4, "weight_decay": 0.0},
        "learning_rate 1e-3 → 3e-4, tf_adamw_betas 0.9 0.999 → 0.8 0.9, weight_decay 0.01 → 0",
    ),
}


@pytest.mark.parametrize("case", NEW_FLAGS)
def test_flags_of_optimization_take_effect(case: str, tmp_path: Path, said: Any) -> None:
    """The resumed run equals one whose optimizer was changed by hand after the step of the checkpoint."""
    then, now, line = NEW_FLAGS[case]
    data = runs.datasets(tmp_path / "data", "seq_class", (40, 1, 1, 1))
    flags = SMALL | {"scheduler": "constant", "train_dataset": data["train_dataset"], "checkpoint_interval": 5}
    flags |= {"additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]}
    with changed_by_hand(5, now):
        whole = runs.run(tmp_path, name="whole", max_steps=9, **flags | then)
    runs.run(tmp_path, name="parts", max_steps=5, **flags | then)
    said.clear()
    parts = runs.run(tmp_path, name="parts", max_steps=9, resume=True, **flags | now)
    assert [text for text in said.messages if "→" in text] == [f"{line} from step 5 on"]
    if "scheduler" not in now:
        ours, theirs = (run.pre_trained_models / "final" for run in (parts, whole))
        runs.assert_weights_are_close(ours, theirs, atol=rounding(1))
    assert f"{line} from step 5 on" in parts.config.read_text(encoding="utf-8")
    assert f"{line} from step 5 on" in (parts.pre_trained_models / "final/README.md").read_text(encoding="utf-8")
    rate = now.get("learning_rate", 1e-3)
    if "scheduler" not in now:
        assert runs.scalars(parts)["train/learning_rate"][-1][1] == pytest.approx(rate)
    unchanged = runs.run(tmp_path, name="parts", max_steps=12, resume=True, **flags | now)
    assert [text for text in said.messages if "→" in text] == [f"{line} from step 5 on"]
    assert unchanged.config.read_text(encoding="utf-8").count("→") == line.count("→")


@pytest.mark.parametrize("how", ["resume", "ckpt_path"])
def test_nothing_left_to_train_is_said(how: str, begun: Begun, capsys: Any) -> None:
    """New flags would be stated and never used; another run would be the old one under a new name."""
    if how == "resume":
        begun.resume(max_steps=6)
        begun.resume(status=2, max_steps=6, learning_rate=1e-5)
        message = "is at its end, step 6, so nothing would be trained with learning_rate 1e-3 → 1e-5"
    else:
        start = begun.folder / "out/checkpoints/begun/last.ckpt"
        runs.run(begun.folder, name="again", ckpt_path=start, status=2, **begun.flags, max_steps=6)
        message = "is at step 6, at or past the end of the training that was asked for: nothing would be trained"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("how", ["resume", "ckpt_path"])
def test_batches_of_another_size_are_counted_in_rows(how: str, tmp_path: Path) -> None:
    """After 8 of 10 batches of 4 rows, a step of 8 rows is left, though an epoch has 5 batches of that size."""
    data = runs.datasets(tmp_path / "data", "seq_class", (40, 1, 1, 1))
    flags = SMALL | {"scheduler": "constant", "train_dataset": data["train_dataset"]}
    begun = runs.run(tmp_path, name="begun", **flags, accumulate_grad_batches=2, max_steps=4)
    start = {"resume": True, "name": "begun"} if how == "resume" else {"ckpt_path": begun.last, "name": "other"}
    flags |= {"batch_size": 8, "max_epochs": 1, "learning_rate": 1e-4}
    done = runs.run(tmp_path, **flags, **start)
    assert torch.load(done.last, weights_only=True)["global_step"] == 5
    runs.run(
        tmp_path, **flags | {"batch_size": 4, "accumulate_grad_batches": 2}, ckpt_path=done.last, name="z", status=2
    )


def test_patience_is_that_of_the_monitored_metric(tmp_path: Path) -> None:
    """Stopped early by one metric, a run goes on when it monitors another, also with a new learning rate."""
    data = runs.datasets(tmp_path / "data", "seq_class", (8, 8, 1, 1))
    flags = SMALL | {"train_dataset": data["train_dataset"], "valid_dataset": data["valid_dataset"], "max_epochs": 4}
    flags |= {"early_stopping": True, "patience": 1, "learning_rate": 1e-12, "scheduler": "constant"}
    begun = runs.run(tmp_path, monitor="valid/seq_class/accuracy", **flags)
    assert torch.load(begun.last, weights_only=True)["global_step"] == 4
    flags |= {"monitor": "valid/loss", "monitor_direction": "min", "learning_rate": 1e-3, "resume": True}
    assert torch.load(runs.run(tmp_path, **flags).last, weights_only=True)["global_step"] > 4


def test_the_best_state_by_another_metric_is_not_that_of_the_run(tmp_path: Path) -> None:
    """Resumed with another monitored metric, and nothing left to train: the last state is tested and described."""
    data = runs.datasets(tmp_path / "data", "seq_class", (8, 8, 8, 1))
    flags = SMALL | data | {"predict_dataset": None, "max_epochs": 1}
    begun = runs.run(tmp_path, monitor="valid/loss", monitor_direction="min", **flags)
    best, final = (begun.pre_trained_models / name / "README.md" for name in ("best", "final"))
    card = best.read_text("utf-8")
    assert ("| test/loss |" in card, "| test/loss |" in final.read_text("utf-8")) == (True, False)
    runs.run(tmp_path, monitor="valid/seq_class/accuracy", resume=True, **flags)
    results = begun.read_results()
    assert (results["best"], "best" in results["folders"], best.read_text("utf-8")) == (None, False, card)
    assert "| test/loss |" in final.read_text("utf-8")
    log = begun.log.read_text("utf-8")
    assert "Evaluating the last weights on the test data" in log
    assert "is the best state by the --monitor with which this run began" in log
    assert f"predict --model {final.parent}" in log


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    ["ddp", "fsdp", *(pytest.param(f"deepspeed_stage_{n}", marks=pytest.mark.needs("deepspeed")) for n in (1, 2, 3))],
)
def test_flags_of_optimization_take_effect_on_shards(strategy: str, tmp_path: Path) -> None:
    """As on one process: a learning rate, and weight decay where there was none, which makes other groups."""
    data = runs.datasets(tmp_path / "data", "seq_class", (40, 1, 1, 1))
    flags = SMALL | {"scheduler": "constant", "train_dataset": data["train_dataset"], "adamw_epsilon": 1e-6}
    flags |= {"additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]}
    now = {"learning_rate": 3e-4, "weight_decay": 0.5, "adamw_betas": [0.8, 0.99]}

    def go(name: str, **more: Any) -> RunFolders:
        words, log = runs.command(tmp_path, name=name, resume=True, **flags | more), tmp_path / f"{name}.log"
        size = more.get("devices", 1)
        assert run_together(words, log, size, use_cpus) == [0] * size, log.read_text()
        return runs.folders_of(words)

    for name, size in (("one", {}), ("two", {"devices": 2, "strategy": strategy, "batch_size": 2})):
        go(name, max_steps=5, **size)
        done = go(name, max_steps=9, **size, **now)
        line = "adamw_betas 0.9 0.999 → 0.8 0.99, learning_rate 1e-3 → 3e-4, weight_decay 0 → 0.5 from step 5 on"
        assert line in (tmp_path / f"{name}.log").read_text()
        assert runs.scalars(done)["train/learning_rate"][-1][1] == pytest.approx(3e-4)
    finals = [tmp_path / f"out/pre_trained_models/{name}/final" for name in ("one", "two")]
    runs.assert_weights_are_close(*finals)


# --- TensorBoard -----------------------------------------------------------------------------------------------------


def shown(folders: RunFolders) -> dict[str, list[int]]:
    """Return the steps of what TensorBoard shows of training, in its own order."""
    accumulator = EventAccumulator(str(folders.tensorboard))
    accumulator.Reload()
    tags = [tag for tag in accumulator.Tags()["scalars"] if tag.startswith("train/")]
    return {tag: [event.step for event in accumulator.Scalars(tag)] for tag in tags}


@pytest.mark.parametrize("clock", [10**6, -(10**6)], ids=["set back", "goes on"])
def test_no_step_is_shown_twice(clock: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after steps that its last checkpoint does not have, on a clock that may have been wrong."""
    data = runs.datasets(tmp_path / "data", "seq_class", (40, 1, 1, 1))
    flags = SMALL | {
        "train_dataset": data["train_dataset"],
        "max_epochs": 1,
        "checkpoint_interval": 4,
        "keep_checkpoints": "all",
    }
    with monkeypatch.context() as then:
        then.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: time.time() + clock))
        begun = runs.run(tmp_path, **flags)
    whole = shown(begun)
    begun.previous.replace(begun.last)  # as after a crash before the last one was written
    assert torch.load(begun.last, weights_only=True)["global_step"] == 8
    assert shown(runs.run(tmp_path, resume=True, **flags)) == whole
    assert whole["train/loss"] == list(range(10))
