"""What each logger gets of a run, and of one that is resumed: its metrics, flags, model card and figures."""

from __future__ import annotations

import json
import logging
import signal
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import moments, runs
from tests.outside import package  # noqa: F401
from transformers_framework.compat.wandb import records
from transformers_framework.constants import MEASURED
from transformers_framework.loggers import interface
from transformers_framework.loggers.csv_file import CSV, read_rows
from transformers_framework.loggers.wandb import WeightsAndBiases
from transformers_framework.storage.run_folders import RunFolders

SMALL: dict[str, Any] = {"pipeline": "seq_class", "log_every_n_steps": 1, "checkpoint_interval": 2, "batch_size": 8}
# a callback that logs a figure, as reports do, and ends a run after a step that no checkpoint has
CALLBACKS = """
import os
from pathlib import Path
from pytorch_lightning import Callback
from transformers_framework.loggers.interface import log_figure

class Figure(Callback):
    def __init__(self, png: str) -> None:
        self.png = Path(png)
    def on_test_end(self, trainer, pl_module):
        log_figure(trainer.loggers, "test/dot", self.png, step=trainer.global_step)
    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == 3 and "CRASH" in os.environ:
            raise RuntimeError("crash")
"""


def png(path: Path) -> Path:
    """Write an image of 3 x 2 grey pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(b"\x00\x01\x02\x03" * 2)
    header = struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def flags_of(tmp_path: Path, package: Any, loggers: str) -> dict[str, Any]:  # noqa: F811
    package({"added/__init__.py": CALLBACKS})
    image = str(png(tmp_path / "dot.png"))
    callback = json.dumps({"class_path": "added:Figure", "init_args": {"png": image}})
    data = runs.datasets(tmp_path / "data", "seq_class", (40, 9, 7, 1))
    data.pop("predict_dataset")
    return SMALL | data | {"loggers": loggers.split(), "callbacks": callback}


def resumed(tmp_path: Path, flags: Mapping[str, Any]) -> RunFolders:
    """Run 3 steps of 10, of which the last checkpoint has 2; then the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRASH", "1")
        runs.run(tmp_path, status=1, max_epochs=2, **flags)
    return runs.run(tmp_path, max_epochs=2, resume=True, **flags)


def test_hyperparameters_have_no_passwords() -> None:
    class Seen(CSV):
        def write_hyperparams(self, params: Mapping[str, Any]) -> None:
            self.params = params

    seen = Seen(RunFolders("out", "run"))
    interface.log_hyperparams([seen], {"mlflow_tracking_uri": "https://jane:secret@host:5000/a", "seed": 1})
    assert seen.params == {"mlflow_tracking_uri": "https://host:5000/a", "seed": 1}


def test_csv_and_tensorboard(tmp_path: Path, package: Any) -> None:  # noqa: F811
    flags = flags_of(tmp_path, package, "csv tensorboard")
    whole = runs.run(tmp_path, name="whole", max_epochs=2, **flags)
    parts = resumed(tmp_path, flags)
    rows, again = (read_rows(each.output_dir / f"csv/{each.name}/metrics.csv") for each in (whole, parts))
    for row in (*rows, *again):
        for name in MEASURED:
            row.pop(name, None)
    assert rows == again
    given = [(name, row["step"], value) for row in rows for name, value in row.items() if value and name != "step"]
    points = {(name, int(step)): float(value) for name, step, value in given}
    shown = {(name, step): value for name, values in runs.scalars(whole).items() for step, value in values}
    assert points == shown
    events = EventAccumulator(str(parts.tensorboard), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    (image,) = events.Images("test/dot")[-1:]
    assert (image.width, image.height, image.encoded_image_string) == (3, 2, (tmp_path / "dot.png").read_bytes())
    card = events.Tensors("model_card/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert "## Results" in card
    assert not card.startswith("---")
    assert "_hparams_/session_start_info" in events.summary_metadata


@pytest.mark.needs("wandb")
def test_weights_and_biases(tmp_path: Path, package: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    flags = flags_of(tmp_path, package, "wandb")
    folders = resumed(tmp_path, flags)
    first, second = sorted((folders.output_dir / "wandb").glob("offline-run-*"), key=lambda path: path.name)
    (file, other) = (next(folder.glob("run-*.wandb")) for folder in (first, second))
    assert file.name == other.name, "the same run goes on"
    losses, config, media, numbers = [], {}, {}, []
    for path in (file, other):
        for data in records(path):
            record = Record()
            record.ParseFromString(data)
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            numbers += [record.history.step.num] if record.HasField("history") else []
            if "train/loss" in items:
                losses.append((int(items["trainer/global_step"]), float(json.loads(items["train/loss"]))))
            media |= {name: json.loads(text) for name, text in items.items() if name.endswith(("_type", "path"))}
            updated = [*record.run.config.update, *record.config.update]
            config |= {item.key or "/".join(item.nested_key): item.value_json for item in updated}
    logged = [(line["step"] - 1, line["train/loss"]) for line in lines(folders) if "train/loss" in line]
    assert losses == logged, "none is missing, none is there twice"
    assert numbers == list(range(len(numbers)))
    assert json.loads(config["learning_rate"]) == 1e-3
    assert (media["model_card/_type"], media["test/dot/_type"]) == ("html-file", "image-file")
    assert "## Results" in (second / "files" / media["model_card/path"]).read_text()
    assert (second / "files" / media["test/dot/path"]).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.needs("mlflow")
def test_mlflow(tmp_path: Path, package: Any) -> None:  # noqa: F811
    from mlflow import MlflowClient

    flags = flags_of(tmp_path, package, "mlflow") | {"pipeline": "seq_class", "mlflow_experiment": "tries"}
    folders = resumed(tmp_path, flags)
    client = MlflowClient(f"sqlite:///{folders.output_dir}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("tries")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["learning_rate"] == "0.001"
    for name in ("train/loss", "train/tokens_per_second", "test/loss"):
        history = client.get_metric_history(run.info.run_id, name)
        points = [(line["step"] - (name != "test/loss"), line[name]) for line in lines(folders) if name in line]
        assert sorted(each.step for each in history) == [step for step, _ in points], "no step is there twice"
        assert name in MEASURED or [(each.step, each.value) for each in sorted(history, key=lambda e: e.step)] == points
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"model_card.md", "test"}
    assert [item.path for item in client.list_artifacts(run.info.run_id, "test")] == ["test/dot.png"]


MOMENTS = [
    ("before on_validation_batch_end", 4, signal.SIGKILL),
    ("before Path.replace", 8, signal.SIGKILL),
    ("after on_train_epoch_end", 1, signal.SIGKILL),
    ("before on_test_batch_end", 2, signal.SIGKILL),
    ("before KeptCheckpoints.on_run_end", 1, signal.SIGKILL),  # after figures and texts
    ("before on_validation_end", -1, signal.SIGTERM),
]


@pytest.mark.needs("wandb", "mlflow", "matplotlib")
@pytest.mark.slow
def test_all_loggers_have_the_same_of_a_killed_run(tmp_path: Path) -> None:
    """Files, figures and errors too; steps of TensorBoard, rows of W&B and points of MLflow."""
    flags = {"figures": True, "errors": 5, "log_every_n_steps": 1, "wandb_mode": "offline"}
    sweep = moments.short_run(tmp_path, loggers=["tensorboard", "csv", "wandb", "mlflow"], **flags)
    assert (sweep.whole.predictions / "errors.md").exists()
    assert len(list(sweep.whole.predictions.glob("figures/*.png"))) == 6
    rows, points, images = (read(sweep.whole) for read in (rows_of_wandb, points_of_mlflow, images_of_tensorboard))
    for number, (moment, occurrence, signum) in enumerate(MOMENTS):
        assert sweep.problems(f"{number}", sweep.at(moment, occurrence, signum)) == []
        folders = RunFolders(tmp_path / f"{number}", "run")
        assert rows_of_wandb(folders) == rows, moment
        assert points_of_mlflow(folders) == points, moment
        assert images_of_tensorboard(folders) == images, moment


def rows_of_wandb(folders: RunFolders) -> list[dict[str, str]]:
    """Return the rows of the run in all its files, without times, measurements and names of media files."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[int, dict[str, str]] = {}
    files = (folders.output_dir / "wandb").glob("offline-run-*/run-*.wandb")
    by_run: dict[str, list[Path]] = {}
    for path in sorted(files, key=lambda path: path.parent.name):
        by_run.setdefault(path.name, []).append(path)
    for path in list(by_run.values())[-1]:  # one that was killed before its first checkpoint starts another
        for content in records(path):
            record = Record()
            record.ParseFromString(content)
            if not record.HasField("history"):
                continue
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            left_out = (*MEASURED, "_timestamp", "_runtime")
            row = {name: text for name, text in sorted(items.items()) if name not in left_out and "/path" not in name}
            assert record.history.step.num not in found, "a row is there twice"
            found[record.history.step.num] = row
    return [found[number] for number in range(len(found))]


def points_of_mlflow(folders: RunFolders) -> dict[str, list[tuple[int, float]]]:
    """Return steps and values of each metric of the last run; of measurements the steps.

    The epoch is logged with each row: at a step with several, it may be there once or several times.
    """
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folders.output_dir}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("transformers-framework")
    assert experiment is not None
    run = client.search_runs([experiment.experiment_id])[0]
    assert run.info.status == "FINISHED"
    found = {}
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        points = sorted((each.step, 0.0 if name in MEASURED else each.value) for each in history)
        found[name] = sorted({*points}) if name == "epoch" else points
    return found


def images_of_tensorboard(folders: RunFolders) -> dict[str, list[tuple[int, bytes]]]:
    """Return steps and contents of the images by their names."""
    events = EventAccumulator(str(folders.tensorboard), size_guidance={"images": 0})
    events.Reload()
    return {
        tag: [(image.step, image.encoded_image_string) for image in events.Images(tag)]
        for tag in events.Tags()["images"]
    }


def lines(folders: RunFolders) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in folders.metrics.read_text().splitlines()]


@pytest.mark.needs("mlflow")
def test_a_server_that_is_gone_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class", (16, 1, 1, 1))
    flags = SMALL | {"train_dataset": data["train_dataset"], "loggers": "mlflow", "max_epochs": 1}
    with caplog.at_level(logging.WARNING):
        folders = runs.run(tmp_path, mlflow_tracking_uri="http://127.0.0.1:9", **flags)
    said = [record.getMessage() for record in caplog.records if "MLflow failed" in record.getMessage()]
    assert len(said) == 1
    assert "Check the server of --mlflow_tracking_uri" in said[0]
    assert (folders.pre_trained_models / "final").exists()


@pytest.mark.needs("wandb")
@pytest.mark.slow
def test_a_run_that_the_server_does_not_take_is_logged_offline(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", "seq_class", (16, 1, 1, 1))
    flags = SMALL | {"train_dataset": data["train_dataset"], "loggers": "wandb", "max_epochs": 1}
    environment = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "online"}
    folders, said = runs.spawn(tmp_path, env=environment, **flags)
    assert said.count("Weights & Biases does not accept the run") == 1
    assert next((folders.output_dir / "wandb").glob("offline-run-*/run-*.wandb")).stat().st_size > 0


def test_without_a_key_wandb_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers_framework.loggers import wandb

    monkeypatch.setattr(wandb, "require_packages", lambda *_, **__: None)
    for name in (*wandb.CREDENTIALS, "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb.wandb(RunFolders(tmp_path, "a")).options["mode"] == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key")
    found = wandb.wandb(RunFolders(tmp_path, "a"), wandb_entity="team")
    assert isinstance(found, WeightsAndBiases)
    assert (found.options["mode"], found.options["entity"]) == (None, "team")


def test_a_failing_logger_is_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is full, then has space: rows are kept."""
    (tmp_path / "csv").write_text("no folder")
    logger = CSV(RunFolders(tmp_path, "a"))
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
    assert caplog.text.count("CSV failed") == 1
    (tmp_path / "csv").unlink()
    monkeypatch.setattr(interface, "PAUSE", 0.0)
    logger.silent_until = 0.0
    logger.log_metrics({"loss": 1.0, "f1": 2.0}, 3)
    logger.save()
    assert [row["step"] for row in read_rows(logger.path)] == ["0", "1", "2", "3"]
