"""``--seeds`` and ``--sweep`` as users start them: processes, signals, repetition, several devices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import runs, tiny

pytestmark = pytest.mark.slow

MONITOR = {"pipeline": "seq_class", "monitor": "valid/seq_class/accuracy"}


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text("utf-8"))


def start(words: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "transformers_framework", *words]
    env = {**os.environ, "PYTHONPATH": str(runs.ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_series_that_was_stopped_and_killed_goes_on(tmp_path):
    """The results are those of a series that was never interrupted."""
    flags = {**MONITOR, "seeds": [1, 2], "max_epochs": 1, "checkpoint_interval": 2}
    flags |= {"train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", runs.rows_for("seq_class", 1600))}
    flags |= {
        f"{s}_dataset": tiny.write_jsonl(tmp_path / f"{s}.jsonl", runs.rows_for("seq_class", 40, 1))
        for s in ("valid", "test")
    }
    whole, _ = runs.spawn(tmp_path, name="whole", **flags)
    words = runs.command(tmp_path, name="part", **flags)
    top = whole.output_dir / "checkpoints"

    process = start(words)
    wait_for(top / "part-seed1" / "last.ckpt", process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 143, said
    assert "The series ended in run 'part-seed1' with status 143; repeat the same command to continue" in said
    assert not (top / "part-seed2").exists()

    process = start(words)
    wait_for(top / "part-seed2" / "last.ckpt", process)
    process.kill()
    assert "Continuing run 'part-seed1' (1 of 2)" in process.communicate(timeout=120)[0], "its run ends with it"

    _, said = runs.spawn(tmp_path, name="part", **flags)
    assert "Run 'part-seed1' is finished, skipping it (1 of 2)" in said
    assert "Continuing run 'part-seed2' (2 of 2)" in said
    assert results(top / "part-seeds")["metrics"] == results(top / "whole-seeds")["metrics"]
    _, said = runs.spawn(tmp_path, name="part", status=2, weight_decay=0.5, **flags)
    assert "'part-seed1' in" in said
    assert "is finished with other flags: --weight_decay was 0.0 and is 0.5" in said


def test_a_sweep_goes_on_after_a_failure_and_its_settings_are_checked_first(tmp_path):
    """A learning rate at which the loss is not finite ends its run only."""
    (tmp_path / "grid.yaml").write_text("learning_rate: [1e-3, 1e30]\n")
    flags = {**MONITOR, "learning_rate": None, "sweep": tmp_path / "grid.yaml", "scheduler": "constant"}
    folders, said = runs.spawn(tmp_path, status=1, optimizer="tf_adamw", weight_decay=0.1, **flags)
    assert "Checking 2 settings before the first run" in said
    assert "Run 'run-lr1e30' failed; continuing with the others" in said
    assert "Failed: run-lr1e30" in said
    found = results(folders.output_dir / "checkpoints" / "run-sweep")
    assert [(entry["flags"]["learning_rate"], entry["failed"]) for entry in found["settings"]] == [
        ("1e-3", False),
        ("1e30", True),
    ]
    (tmp_path / "grid.yaml").write_text("max_sequence_length: [32, 4096]\n")
    _, said = runs.spawn(
        tmp_path, status=2, name="long", **{**flags, "learning_rate": 1e-3, "max_sequence_length": None}
    )
    assert "long-msl4096: --max_sequence_length: 4096 is longer than the model's" in said
    assert not (folders.output_dir / "checkpoints" / "long-msl32").exists()


def test_seeds_on_two_devices(tmp_path):
    flags = {**MONITOR, "devices": 2, "strategy": "ddp", "seeds": [1, 2], "batch_size": 4}
    folders, said = runs.spawn(tmp_path, **flags)
    assert "run: 2 seeds (1 2)" in said
    found = results(folders.output_dir / "checkpoints" / "run-seeds")
    assert [len(summary["values"]) for summary in found["metrics"].values()] == [2] * len(found["metrics"])
