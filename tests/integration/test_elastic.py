"""A run goes on with other processes, workers and accumulation, from the same row on, as if nothing had changed."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import runs
from tests.integration.interrupted import run, run_together
from transformers_framework.constants import ROW_IDS
from transformers_framework.pipelines.pipeline import Pipeline

STEPS = "pipelines.pipeline:Pipeline.training_step"
STILL = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The flags of a run of 2 epochs of 44 rows in steps of 16, and the same run without interruption."""
    folder = tmp_path_factory.mktemp("elastic")
    data = runs.datasets(folder / "data", "seq_class", (44, 12, 5, 5))
    flags = {"pipeline": "seq_class", "train_dataset": data["train_dataset"], "additional_config_kwargs": STILL}
    flags |= {
        "scheduler": "constant",
        "max_epochs": 2,
        "batch_size": 8,
        "accumulate_grad_batches": 2,
        "checkpoint_interval": 1,
        "keep_checkpoints": "all",
    }
    assert run(runs.command(folder, name="whole", **flags), folder / "log") == 0, (folder / "log").read_text()
    return folder, flags


def assert_as_whole(folder: Path, name: str) -> None:
    found, expected = (folder / f"out/pre_trained_models/{run}/final" for run in (name, "whole"))
    runs.assert_weights_are_close(found, expected)
    states = [torch.load(folder / f"out/checkpoints/{run}/last.ckpt", weights_only=True) for run in (name, "whole")]
    assert states[0]["global_step"] == states[1]["global_step"] == 6
    assert states[0]["DataModule"]["consumed"] == states[1]["DataModule"]["consumed"] == 44


@pytest.mark.parametrize(
    ("killed_at", "then"),
    [
        (6, {"batch_size": 16, "accumulate_grad_batches": 1}),  # behind the first step of the second epoch
        pytest.param(2, {"batch_size": 4, "accumulate_grad_batches": 4, "num_workers": 1}, marks=pytest.mark.slow),
        pytest.param(2, {"batch_size": 2, "accumulate_grad_batches": 8}, marks=pytest.mark.slow),
    ],
    ids=["larger batches", "smaller ones by a worker", "tiny ones"],
)
def test_other_accumulation(killed_at: int, then: dict[str, Any], begun: Any) -> None:
    folder, flags = begun
    name, log = f"killed{killed_at}-{then['batch_size']}", folder / "log"
    words = runs.command(folder, name=name, **flags)
    assert run(words, log, (STEPS, killed_at + 3, signal.SIGKILL)) == -signal.SIGKILL
    assert run(runs.command(folder, name=name, resume=True, **flags | then), log) == 0, log.read_text()
    assert_as_whole(folder, name)


@pytest.mark.parametrize(
    "then",
    [
        {"batch_size": 4, "accumulate_grad_batches": 1, "effective_batch_size": 16},
        {"batch_size": 16, "accumulate_grad_batches": 1},
    ],
)
def test_a_checkpoint_within_a_window(then: dict[str, Any], begun: Any) -> None:
    """Behind the third batch, within the second step: smaller batches go on behind it, larger ones begin it again."""
    folder, flags = begun
    name, log = f"window-{then['batch_size']}", folder / "log"
    assert run(runs.command(folder, name=name, **flags), log, (STEPS, 3, signal.SIGTERM)) == 143
    state = torch.load(folder / f"out/checkpoints/{name}/last.ckpt", weights_only=True)
    assert (state["global_step"], state["DataModule"]["consumed"]) == (1, 24)
    assert run(runs.command(folder, name=name, resume=True, **flags | then), log) == 0, log.read_text()
    assert_as_whole(folder, name)


CASES: dict[str, dict[str, Any]] = {
    "seq_class": {"pipeline": "seq_class"},
    "joint": {"k": 3, "pad_to_k": True, "max_sequence_length": 80, "grouping": "random"},
    "retrieval": {
        "pipeline": "retrieval",
        "loss_fn": "multiple_negatives_symmetric_ranking_loss",
        "sync_devices": True,
    },
}


def note_rows(folder: Path) -> None:
    """Let this process write down the rows of each training batch, and how many steps were made before it."""
    original = Pipeline.training_step

    def noted(self: Pipeline, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        (own,) = (batch[name] for name in self.active("train"))
        rows = own.get(ROW_IDS, batch[ROW_IDS]).flatten().tolist()
        with (folder / f"{os.getpid()}.rows").open("a") as file:
            file.write(f"{json.dumps([self.global_step, [row for row in rows if row >= 0]])}\n")
        return original(self, batch, batch_idx)

    Pipeline.training_step = noted  # type: ignore[method-assign]


def rows_of_steps(folder: Path) -> dict[int, Counter[int]]:
    """Return how often each step had each row, whatever process read it."""
    steps: dict[int, Counter[int]] = {}
    for path in folder.glob("*.rows"):
        for step, rows in map(json.loads, path.read_text().splitlines()):
            steps.setdefault(step, Counter()).update(rows)
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_other_numbers_of_processes(case: str, tmp_path: Path) -> None:
    """Begun by some and continued by others within the second epoch: each step has the rows that it always had.

    An epoch is 4 steps of 12 rows, or groups of candidates, and the last step has 8.
    """
    num_rows = 88 if case == "joint" else 44
    flags = {"scheduler": "constant", "adamw_epsilon": 1e-6, "additional_config_kwargs": STILL} | CASES[case]
    data = runs.datasets(tmp_path / "data", flags.get("pipeline", "answer_selection"), (num_rows, 1, 1, 1))
    flags |= {"train_dataset": data["train_dataset"]}

    def go(name: str, devices: int, **more: Any) -> None:
        notes, log = tmp_path / name, tmp_path / f"{name}.log"
        notes.mkdir(exist_ok=True)
        more |= {"name": name, "devices": devices, "strategy": "ddp" if devices > 1 else "auto", "resume": True}
        words = runs.command(tmp_path, **flags, **more)
        assert run_together(words, log, devices, partial(note_rows, notes)) == [0] * devices, log.read_text()

    go("whole", 1, batch_size=6, accumulate_grad_batches=2, max_epochs=2)
    expected = rows_of_steps(tmp_path / "whole")
    for epoch in (range(4), range(4, 8)):
        assert sum((expected[step] for step in epoch), Counter()) == Counter(range(num_rows))
    for before, after in ((2, 1), (2, 3), (1, 2)):
        name = f"{before} then {after}"
        go(name, before, batch_size=6 // before, accumulate_grad_batches=2, max_steps=5)
        go(name, after, batch_size=6 // after, accumulate_grad_batches=2, max_epochs=2)
        assert rows_of_steps(tmp_path / name) == expected
        found, whole = (tmp_path / f"out/pre_trained_models/{run}/final" for run in (name, "whole"))
        runs.assert_weights_are_close(found, whole)


def test_other_steps_are_refused_unless_asked_for(begun: Any, capsys: Any) -> None:
    folder, flags = begun
    whole = folder / "out/checkpoints/whole/previous.ckpt"
    given = {**flags, "name": "other", "ckpt_path": whole, "batch_size": 4, "max_epochs": 3}
    runs.run(folder, status=2, **given)
    message = "the run made steps of 16 rows, and this command's would have 8 (4 rows on 1 processes"
    assert message in (said := capsys.readouterr().err)
    assert "--allow_other_batch_size" in said
    runs.run(folder, allow_other_batch_size=True, **given)
