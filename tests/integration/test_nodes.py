"""Several machines, as process trees of their own that know each other by variables of the environment only."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.plugins.environments import SLURMEnvironment

from tests import runs
from tests.tolerances import BACKWARD, approx
from transformers_framework.distributed.processes import num_nodes
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.storage.run_folders import RunFolders

SIZES = (40, 23, 27, 9)  # steps have 8 rows
NODE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def on_nodes(tmp_path: Path, *nodes: dict[str, Any], devices: int = 1, status: int = 0) -> tuple[list[RunFolders], str]:
    """Run a command on each of some machines, with its own flags; return the folders of each and what all said."""
    port, processes, folders = free_port(), [], []
    for rank, flags in enumerate(nodes):
        words = runs.command(tmp_path, devices=devices, strategy="ddp", **flags)
        folders.append(runs.folders_of(words))
        env = {"NODE_RANK": str(rank), "WORLD_SIZE": str(devices * len(nodes))} | NODE | {"MASTER_PORT": str(port)}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "transformers_framework", *words],
                env={**os.environ, "PYTHONPATH": str(runs.ROOT), "OMP_NUM_THREADS": "1", **env},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [status] * len(nodes), "\n".join(said)
    return folders, "\n".join(said)


def flags_of(tmp_path: Path) -> dict[str, Any]:
    return {
        **runs.datasets(tmp_path / "data", "answer_selection", SIZES),
        "additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"],
        "monitor": "valid/answer_selection/mean_average_precision",
        "scheduler": "constant",
    }


def assert_alike(found: RunFolders, expected: RunFolders) -> None:
    runs.assert_weights_are_close(found.pre_trained_models / "final", expected.pre_trained_models / "final")
    assert runs.metrics(found, "test") == approx(runs.metrics(expected, "test"), BACKWARD)
    for stage, size in zip(("test", "predict"), SIZES[2:], strict=True):
        assert [row["id"] for row in runs.predictions(found, stage)] == list(range(size))


def files_of(folders: RunFolders) -> set[str]:
    kinds = (folders.checkpoints, folders.pre_trained_models, folders.predictions, folders.tensorboard)
    return {path.name for kind in kinds for path in kind.rglob("*")}


def test_nodes_with_folders_of_their_own(tmp_path: Path) -> None:
    """What is trained is what one process trains; the first node writes, and the other prepares data for itself."""
    flags = flags_of(tmp_path)
    one = runs.run(tmp_path, name="one", batch_size=8, **flags)
    places = [{"output_dir": tmp_path / f"out{node}", "cache_dir": tmp_path / f"cache{node}"} for node in (0, 1)]
    (first, second), said = on_nodes(tmp_path, *[{**flags, **place, "batch_size": 4} for place in places])
    assert_alike(first, one)
    assert files_of(second) <= {"best.ckpt"}, "only the checkpoint that is tested was sent there"
    assert said.count("Training starts") == 1
    assert list((tmp_path / "cache1").rglob("*.arrow"))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [{}, {"prepare_data_per_node": True}], ids=["one cache", "a cache a node"])
def test_two_nodes_of_two_processes_share_a_folder_and_go_on(flags: dict[str, Any], tmp_path: Path) -> None:
    given = flags_of(tmp_path) | flags
    one = runs.run(tmp_path, name="one", batch_size=8, max_epochs=2, **given)
    both = [{**given, "name": "four", "batch_size": 2}] * 2
    on_nodes(tmp_path, *both, devices=2)
    (run, _), _ = on_nodes(tmp_path, *[{**node, "resume": True, "max_epochs": 2} for node in both], devices=2)
    assert_alike(run, one)
    caches = {path.parts[len(tmp_path.parts) + 1] for path in (tmp_path / "cache").rglob("*.arrow")}
    assert caches >= {"node_0", "node_1"} if flags else "node_0" not in caches
    assert not list(run.output_dir.rglob(".*.part"))


@pytest.mark.slow
def test_a_run_goes_on_where_only_the_first_node_has_its_checkpoint(tmp_path: Path) -> None:
    given = flags_of(tmp_path)
    one = runs.run(tmp_path, name="one", batch_size=8, max_epochs=2, **given)
    nodes = [{**given, "output_dir": tmp_path / f"out{node}", "batch_size": 4} for node in (0, 1)]
    on_nodes(tmp_path, *nodes)
    (first, _), _ = on_nodes(tmp_path, *[{**node, "resume": True, "max_epochs": 2} for node in nodes])
    assert_alike(first, one)


@pytest.mark.slow
def test_nodes_that_were_told_otherwise_are_refused(tmp_path: Path) -> None:
    given = flags_of(tmp_path) | {"batch_size": 4}
    _, said = on_nodes(tmp_path, given, {**given, "learning_rate": 1e-4, "weight_decay": 0.1}, status=2)
    assert "Process 1 has --learning_rate 0.0001, --weight_decay 0.1, but process 0 has --learning_rate 0.001" in said


@pytest.mark.slow
def test_nodes_with_rows_in_another_order_are_refused(tmp_path: Path) -> None:
    given = flags_of(tmp_path) | {"batch_size": 4}
    rows = given["train_dataset"].read_text(encoding="utf-8").splitlines(keepends=True)
    (other := tmp_path / "other.jsonl").write_text("".join(rows[::-1]), encoding="utf-8")
    _, said = on_nodes(tmp_path, given, {**given, "train_dataset": other}, status=2)
    assert re.search(r"Process 1 has 40 rows \(\w+\) of --train_dataset, but process 0 has 40 rows \(\w+\) of ", said)
    assert "of --valid_dataset" not in said


@pytest.mark.parametrize(
    ("environment", "asked", "expected"),
    [
        ({}, 1, 1),
        ({"WORLD_SIZE": "16", "NODE_RANK": "1"} | NODE, 1, 2),
        ({"WORLD_SIZE": "16", "NODE_RANK": "1"} | NODE, 2, 2),
        ({"NODE_RANK": "1"} | NODE, 3, 3),
        ({"WORLD_SIZE": "8", "NODE_RANK": "0", "LOCAL_RANK": "3"}, 1, 1),
        ({"WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"}, 2, 2),  # torchrun's own
        ({"WORLD_SIZE": "4", "SLURM_NTASKS": "4"}, 2, 2),
    ],
)
def test_number_of_nodes(environment: dict[str, str], asked: int, expected: int) -> None:
    assert num_nodes(environment, asked, local_devices=8) == expected


@pytest.mark.parametrize(
    ("environment", "asked", "message"),
    [
        ({"WORLD_SIZE": "12"} | NODE, 1, "WORLD_SIZE is 12, which is not 8 devices on each of several nodes"),
        (
            {"WORLD_SIZE": "2"} | NODE,
            1,
            "WORLD_SIZE is 2, .* Set WORLD_SIZE to .*: 16 for 2 nodes with 8 devices",
        ),
        (
            {"WORLD_SIZE": "8", "NODE_RANK": "0"} | NODE,
            1,
            "NODE_RANK is 0, .* WORLD_SIZE is 8, which means one node",
        ),
        ({"WORLD_SIZE": "16", "NODE_RANK": "5"} | NODE, 1, "5, but there are 2 nodes.* WORLD_SIZE .* 128 for 16 nodes"),
        (
            {"NODE_RANK": "0"} | NODE,
            1,
            "WORLD_SIZE is not set, .* on all nodes: 16 for 2 nodes with 8 devices, and so on",
        ),
        (
            {"NODE_RANK": "3"} | NODE,
            1,
            "WORLD_SIZE is not set, .* on all nodes: 32 for 4 nodes with 8 devices, and so on",
        ),
        ({"WORLD_SIZE": "16"} | NODE, 3, "WORLD_SIZE is 16, which is not 8 devices on each of 3 nodes"),
        ({"WORLD_SIZE": "4"}, 1, "WORLD_SIZE is 4"),
        ({"WORLD_SIZE": "two"}, 1, "WORLD_SIZE is 'two' in the environment; expected a number"),
        ({"WORLD_SIZE": "16", "NODE_RANK": "2"} | NODE, 1, "NODE_RANK is 2, but there are 2 nodes"),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, 1, "NODE_RANK is 1, but there are 1 nodes"),
        ({"WORLD_SIZE": "16", "NODE_RANK": "1"}, 1, r"2 nodes \(WORLD_SIZE\) need MASTER_ADDR and MASTER_PORT"),
        ({"WORLD_SIZE": "16"} | NODE, 1, "need NODE_RANK"),
        (NODE, 2, r"2 nodes \(--num_nodes\) need NODE_RANK"),
        ({"MASTER_PORT": "http"}, 1, "MASTER_PORT is 'http'"),
    ],
)
def test_contradictions_are_refused(environment: dict[str, str], asked: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        num_nodes(environment, asked, local_devices=8)


def test_slurm_is_detected_and_starts_no_other_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would continue whatever run of the output folder SLURM was last asked to start again."""
    for name, value in {"NTASKS": 1, "JOB_NAME": "run", "JOB_ID": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    trainer = runs.build(runs.command(tmp_path)).trainer
    environment = trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue


def torchrun(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with torchrun, on two ranks."""
    launcher = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    return subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "--", "transformers_framework", *words],  # it would read flags behind
        env={**os.environ, "PYTHONPATH": str(runs.ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    flags = flags_of(tmp_path)
    one = runs.run(tmp_path, name="one", batch_size=8, **flags)
    words = runs.command(tmp_path, name="two", batch_size=4, devices=2, strategy="ddp", **flags)
    done = torchrun(words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_alike(runs.folders_of(words), one)
    assert (done.stdout + done.stderr).count("Training starts") == 1
    refused = torchrun(runs.command(tmp_path, name="three", batch_size=4, devices=2, **flags, label_column="absent"))
    assert refused.returncode != 0
    assert refused.stderr.count("error: --label_column: ") == 1, refused.stderr
