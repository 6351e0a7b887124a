"""Runs from Python: what the command does, its messages as exceptions, and a process that is left as it was found."""

from __future__ import annotations

import importlib
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification

import transformers_framework
from tests import runs
from tests.tolerances import BACKWARD, approx
from transformers_framework import ConfigurationError, DataError, run
from transformers_framework.api import RunResult
from transformers_framework.processing.json_text import to_json
from transformers_framework.storage.run_folders import RunFolders


def flags_of(tmp_path: Path, **changed: Any) -> dict[str, Any]:
    """Return the flags of a small run as values of Python."""
    words = runs.command(tmp_path, **{"pipeline": "seq_class", **changed})
    flags: dict[str, Any] = {}
    for word in words:
        if word.startswith("--"):
            flags[name := word.removeprefix("--")] = []
        else:
            flags[name].append(word)
    flags = {name: values[0] if len(values) == 1 else values or True for name, values in flags.items()}
    typed = {"batch_size": 8, "learning_rate": 1e-3, "max_epochs": 1, "devices": 1, "enable_model_summary": False}
    without = {name: None for name, value in flags.items() if value == "none"}
    return flags | {name: value for name, value in typed.items() if name in flags} | without


def test_predictions_of_texts_with_unusual_line_breaks(tmp_path):
    result = RunResult({}, RunFolders(tmp_path, "run"), {})
    result.folders.predictions.mkdir(parents=True)
    rows = [{"id": 0, "text": "one\u2028line\x85"}, {"id": 1, "text": "two"}]
    text = "".join(f"{to_json(row)}\n" for row in rows)
    (result.folders.predictions / "test.jsonl").write_text(text, encoding="utf-8")
    assert result.predictions == {"test": rows}


def test_a_run_gives_what_it_has_learned(tmp_path):
    asked = {"monitor": "valid/seq_class/accuracy", "max_epochs": 2}
    result = run(**flags_of(tmp_path, output_dir=tmp_path / "python", **asked) | asked)
    theirs = runs.run(tmp_path, pipeline="seq_class", **asked)
    for stage in ("valid", "test"):
        expected = runs.metrics(theirs, stage)
        assert {name: value for name, value in result.metrics.items() if name.startswith(stage)} == approx(expected)
    assert result.predictions["test"] == runs.predictions(theirs)
    assert result.predictions.keys() == {"test", "predict"}
    assert result.folders.checkpoints == tmp_path / "python" / "checkpoints" / "run"
    assert result.checkpoint == result.folders.pre_trained_models / "best"
    assert isinstance(result.model, BertForSequenceClassification)
    assert not result.model.training
    assert runs.weights_are_equal(result.checkpoint, theirs.pre_trained_models / "best")
    assert result.model.config.id2label == {0: "animals", 1: "kitchen", 2: "weather"}
    assert result.tokenizer("a kitten")["input_ids"][0] == result.tokenizer.cls_token_id


def has_ended(thread: threading.Thread) -> bool:
    """Return whether a thread has ended; transformers does not wait for the last ones that read weights."""
    if thread.name.startswith("ThreadPoolExecutor"):
        thread.join(timeout=10)
    return not thread.is_alive()


def state() -> dict[str, Any]:
    """Return the state of the process that a run may change."""
    loggers = {name: logging.getLogger(name) for name in ("", "transformers_framework", "pytorch_lightning")}
    generators = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    return {
        "environment": dict(os.environ),
        "threads": sorted(thread.name for thread in threading.enumerate() if not has_ended(thread)),
        "loggers": {name: (found.level, found.propagate, found.handlers[:]) for name, found in loggers.items()},
        "filters": warnings.filters[:],
        "generators": generators,
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)},
        "folder": Path.cwd(),
        "path": sys.path[:],
        "hook": sys.excepthook,
        "threads of torch": torch.get_num_threads(),
        "type": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
    }


def test_a_process_is_left_as_it_was_found(tmp_path, monkeypatch):
    importlib.import_module("transformers_framework.models.auto")  # libraries change the process when they are imported
    importlib.import_module("pytorch_lightning")
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    flags = flags_of(tmp_path, deterministic=True, float32_matmul_precision="medium")
    torch.manual_seed(random.randrange(2**31))
    before = state()
    for name in ("first", "second", "third"):
        run(**flags | {"name": name})
        after = state()
        assert {key: value for key, value in after.items() if value != before[key]} == {}, name


def test_two_runs_of_one_process_are_equal(tmp_path):
    flags = flags_of(tmp_path, **runs.datasets(tmp_path / "data", "seq_class"))
    first, second = (run(**flags | {"name": name, "num_workers": 1}) for name in ("first", "second"))
    assert first.metrics == second.metrics
    assert runs.weights_are_equal(first.checkpoint, second.checkpoint)
    with pytest.raises(ConfigurationError, match=r"first.*--resume|--name first"):
        run(**flags | {"name": "first"})


MISTAKES = [
    ({"learning_rate": "fast"}, "--learning_rate: found 'fast', expected a number greater than 0"),
    ({"learning_rat": 1.0}, "--learning_rat: unknown flag. Did you mean '--learning_rate'?"),
    ({"optimizer": "adamwx"}, "--optimizer: unknown optimizer 'adamwx'. Did you mean 'adamw'?"),
    ({"monitor": "valid/seq_class/acuracy"}, "Did you mean 'valid/seq_class/accuracy'?"),
    ({"pipeline": None}, "Missing: --pipeline"),
    ({"name": None}, "Missing: --name"),
    (
        {"seed": object()},
        r"--seed: found <object object at .*>, expected a text, a number, True, False, None, or a list",
    ),
    ({"check": True}, r"run\(check=…\): this is a flag of the command line only"),
    ({"import_": "nope_nope"}, "--import nope_nope: there is no module 'nope_nope'"),
    ({"max_epochs": 0}, "--max_epochs 0: nothing would be trained"),
    ({"config": "absent.yaml"}, "--config: cannot read 'absent.yaml'"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_are_the_exceptions_of_the_command(changes, message, tmp_path):
    before = state()
    with pytest.raises(ConfigurationError, match=message.replace("?", r"\?")):
        run(**flags_of(tmp_path) | changes)
    assert state() | {"path": None} == before | {"path": None}


def test_wrong_data_are_a_data_error(tmp_path):
    rows = runs.rows_for("seq_class", 9)
    rows[4]["label"] = None
    path = runs.tiny.write_jsonl(tmp_path / "train.jsonl", rows)
    with pytest.raises(DataError, match=re.escape(f"{path}:5")):
        run(**flags_of(tmp_path, train_dataset=path))


def test_a_config_file_gives_what_is_not_given(tmp_path):
    flags = flags_of(tmp_path, **runs.datasets(tmp_path / "data", "seq_class", (16, 8, 8, 8)))
    config = tmp_path / "c.yaml"
    config.write_text(f"name: of_file\nseed: 7\npipeline: {flags.pop('pipeline')}\nmodel: bert\n")
    del flags["model"], flags["name"]
    result = run(**flags, config=config, seed=8)
    assert result.folders.name == "of_file"
    assert "seed: 8" in result.folders.config.read_text()


def test_a_run_that_trains_nothing_has_no_model(tmp_path):
    data = runs.datasets(tmp_path / "data", "seq_class", (16, 8, 8, 8))
    trained = run(**flags_of(tmp_path, **data))
    tested = run(
        **flags_of(tmp_path, name="tested", test_dataset=data["test_dataset"], pre_trained_model=trained.checkpoint)
    )
    assert tested.metrics == approx({name: value for name, value in trained.metrics.items() if name.startswith("test")})
    with pytest.raises(ConfigurationError, match="Run 'tested' has no trained model"):
        tested.model  # noqa: B018


def test_several_heads_are_several_models(tmp_path):
    data = runs.datasets(tmp_path / "data", "masked_lm_and_seq_class", (16, 8, 8, 8))
    result = run(**flags_of(tmp_path, pipeline="masked_lm_and_seq_class", **data))
    assert {name: type(model).__name__ for name, model in result.models.items()} == {
        "masked_lm": "BertForMaskedLM",
        "seq_class": "BertForSequenceClassification",
    }
    with pytest.raises(ConfigurationError, match=r"several models: use models\['masked_lm'\]"):
        result.model  # noqa: B018


CELLS = '''
import numpy as np
from torchmetrics import MeanSquaredError
from transformers_framework import PipelineSpec, register_pipeline, run
from transformers_framework.objectives.seq_class import SequenceClassification

class Mine(SequenceClassification):
    """Classify.

    Args:
        setup: Tokenizer, config and classes of the model.
        mine: A flag of its own.
    """
    name = "mine"

    def __init__(self, setup, *, mine: int = 3, **flags):
        super().__init__(setup, **flags)

def spec():
    return PipelineSpec(
        needs="text", learns="a class", inputs="inputs.text:TextInputs", objectives=("__main__:Mine",)
    )

for name in ("first", "second"):  # a cell that is run twice
    register_pipeline("mine", spec())
    result = run(pipeline="mine", name=name, **FLAGS)
    print(sorted(name for name in result.metrics if name.startswith("test/mine/")))
'''


def test_a_class_of_a_notebook_is_found_in_it(tmp_path):
    """What a cell defines is in the module __main__."""
    data = runs.datasets(tmp_path / "data", "seq_class", (16, 8, 8, 8))
    flags = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in flags_of(tmp_path, **data).items()
        if name not in ("pipeline", "name")
    }
    done = run_script(tmp_path, f"FLAGS = {flags!r}\n{CELLS}")
    assert done.stdout.count("test/mine/accuracy") == 2


def run_script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    script = folder / "script.py"
    script.write_text(text)
    env = os.environ | {"PYTHONPATH": str(runs.ROOT)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


SCRIPT = """
from transformers_framework import run
result = run(**FLAGS)
print("\\nrank", result.folders.name, result.metrics["test/seq_class/loss"], flush=True)
"""


@pytest.mark.slow
def test_a_script_of_two_processes(tmp_path):
    """Lightning starts the script again; both processes get the metrics of all rows."""
    data = runs.datasets(tmp_path / "data", "seq_class")
    exact = {"additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]}
    given = flags_of(tmp_path, **data, **exact).items()
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in given}
    done = run_script(tmp_path, f"FLAGS = {flags | {'devices': 2, 'strategy': 'ddp'}!r}\n{SCRIPT}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("rank")]
    alone = runs.run(tmp_path, pipeline="seq_class", name="alone", **data, **exact, batch_size=16)
    assert len(lines) == 2
    assert len(set(lines)) == 1
    assert float(lines[0].split()[-1]) == approx(runs.metrics(alone, "test")["test/seq_class/loss"], units=BACKWARD)


def test_the_package_lists_what_it_offers():
    assert {"run", "register_pipeline", "ConfigurationError"} <= set(dir(transformers_framework))
