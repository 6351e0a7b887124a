"""Every mistake of ``tests/mistakes.py`` is refused before anything is trained, and leaves every file as it was."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import runs, tiny
from tests.mistakes import (
    DATA,
    TABLE,
    TRAIN,
    VALID,
    VALID_PAIRS,
    changed,
    malicious,
    words_of,
    write,
    wrong,
)

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Good data and a good checkpoint, and many that are not."""
    from transformers import AutoTokenizer, CanineTokenizer

    folder = tmp_path_factory.mktemp("made")
    for family in ("bart", "bert", "distilbert", "roberta", "t5"):
        tiny.save_checkpoint(family, folder / family)
    tiny.save_checkpoint("bert", folder / "tuned", "AutoModelForTokenClassification")
    for family in ("convbert", "pegasus"):
        tiny.config_for(family).save_pretrained(folder / family)
    tiny.tokenizer_for("convbert").save_pretrained(folder / "convbert")
    for name, changes in {"vocabulary_399": {"vocab_size": 399}, "narrow": {"hidden_size": 16}}.items():
        tiny.config_for("bert", **changes).save_pretrained(folder / name)
    for name, rows in DATA.items():
        for stage, some in zip(("train", "valid"), rows, strict=True):
            tiny.write_jsonl(folder / name / f"{stage}.jsonl", some)

    def variant(name: str, *without: str, **files: Any) -> None:
        shutil.copytree(folder / "bert", folder / name, ignore=shutil.ignore_patterns(*without))
        for file, content in files.items():
            write(folder / name / file.replace("__", "."), content)

    variant("no_tokenizer", "tokenizer*")
    variant("no_weights", "*.safetensors")
    variant("broken_weights", model__safetensors=b"nonsense")
    variant("pickle", "*.safetensors", pytorch_model__bin=malicious)
    variant("broken_config", config__json="{")
    config = json.loads((folder / "bert" / "config.json").read_text())
    variant("strange_config", config__json=json.dumps({**config, "id2label": [1, 2]}))
    quantized = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    variant("quantized", config__json=json.dumps({**config, "quantization_config": quantized}))
    variant("own_code", config__json=json.dumps({**config, "model_type": "mine", "auto_map": {"AutoConfig": "a.B"}}))
    tokenizer = AutoTokenizer.from_pretrained(folder / "bert")
    tokenizer.add_tokens([f"new{i}" for i in range(50)])
    tokenizer.save_pretrained(folder / "larger_tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "bert")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder / "no_padding")
    tokenizer = AutoTokenizer.from_pretrained(folder / "bert")
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder / "no_mask")
    variant("other_tokens")
    vocabulary = json.loads((folder / "bert" / "tokenizer.json").read_text())
    tokens = vocabulary["model"]["vocab"]
    tokens["the"], tokens["rain"] = tokens["rain"], tokens["the"]
    write(folder / "other_tokens" / "tokenizer.json", json.dumps(vocabulary))
    CanineTokenizer().save_pretrained(folder / "slow_tokenizer")
    steps = [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"} for i, (kind, path) in enumerate((("Transformer", ""), ("Pooling", "1_Pooling"), ("WordWeights", "2")))]  # fmt: skip  # noqa: E501
    variant("max_pooling", modules__json=json.dumps(steps[:2]))
    write(folder / "max_pooling" / "1_Pooling" / "config.json", '{"pooling_mode": "max"}')
    variant("other_step", modules__json=json.dumps(steps))
    variant("broken_steps", modules__json="[")
    return folder


def snapshot(folder: Path) -> dict[str, Any]:
    """Everything in a folder, with content and time."""
    if folder.is_file():
        return {"": folder.read_bytes()}
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def alone(tmp_path, monkeypatch) -> None:
    """A place without AWS, the log's own handler, or anything that the working folder could give."""
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "FSSPEC_S3_ANON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    logging.getLogger("transformers_framework").handlers.clear()  # it writes where standard error was once


@pytest.fixture
def no_training(monkeypatch) -> None:
    """Fail where anything is trained or evaluated."""
    import pytorch_lightning as pl

    for name in ("fit", "validate", "test", "predict"):
        monkeypatch.setattr(pl.Trainer, name, lambda self, *args, **kwargs: pytest.fail("it started"))


def every_row() -> list[Any]:
    return [
        pytest.param(row, id=f"{room}: {row.name}", marks=[ON_LINUX] if "/proc" in str(row.flags) else [])
        for room, rows in TABLE.items()
        for row in rows
    ]


@pytest.mark.usefixtures("alone", "no_training")
@pytest.mark.parametrize("row", every_row())
def test_a_mistake_is_refused_before_anything_happens(row, tmp_path, made, capsys, monkeypatch):
    from transformers_framework.cli.main import main

    for package in row.absent:
        monkeypatch.setitem(sys.modules, package, None)
    words = words_of(row, tmp_path, made)
    before = snapshot(tmp_path / "out")
    status = main(words)
    said = capsys.readouterr()
    assert status == 2, said.err
    assert re.search(row.message, said.err), said.err
    assert said.err.count("error: ") == 1
    assert "Traceback" not in said.err
    assert said.out == ""
    assert snapshot(tmp_path / "out") == before
    assert not list(tmp_path.rglob("ran")), "code of a file was run"
    assert not list(made.rglob("ran")), "code of a checkpoint was run"


def test_the_table_is_long_and_its_rows_differ():
    names = [(room, row.name) for room, rows in TABLE.items() for row in rows]
    assert len(names) == len(set(names)) >= 50


@pytest.mark.usefixtures("alone")
def test_the_command_that_every_row_changes_is_right(tmp_path, made, capsys):
    from transformers_framework.cli.main import main

    for pipeline in ("seq_class", "answer_selection"):
        words = words_of(wrong("", pipeline=pipeline), tmp_path, made)
        assert main([*words, "--check"]) == 0, capsys.readouterr()
        assert "No problems found." in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("alone", "no_training")
def test_a_stream_of_unknown_length_needs_max_steps_for_a_schedule_that_ends(tmp_path, made, capsys, monkeypatch):
    from transformers_framework.cli.main import main
    from transformers_framework.data import datamodule

    monkeypatch.setattr(datamodule, "known_num_rows", lambda dataset: None)
    assert main(words_of(wrong("", iterable=True), tmp_path, made)) == 2
    assert "--scheduler linear_decay: it needs the total number of steps" in capsys.readouterr().err
    assert main(words_of(wrong("", iterable=True, max_steps=4, val_check_interval=0.5), tmp_path, made)) == 2
    assert "--val_check_interval: 0.5 of an epoch cannot be known of a stream" in capsys.readouterr().err


# --- several at once --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("alone", "no_training")
def test_check_reports_independent_mistakes_together(tmp_path, made, capsys):
    from transformers_framework.cli.main import main

    row = wrong(
        "",
        "",
        {
            "train.jsonl": changed(TRAIN, 3, text=None),
            "valid.jsonl": changed(VALID, 3, label=7),
            "out/checkpoints/run/last.ckpt": "x",
        },
        monitor="valid/seq_class/acc",
        num_warmup_steps=10000,
        optimizer="adam8bit",
        label_weights=[1, 2, 3],
    )
    words = words_of(row, tmp_path, made)
    before = snapshot(tmp_path / "out")
    assert main([*words, "--check"]) == 2
    said = capsys.readouterr()
    for message in (
        "--name: a run 'run' has files",
        r"train.jsonl:4: the text in 'text' is null",
        "--label_weights: 3 weights for 2 classes",
        r"valid.jsonl:4: 'label' has the label 7",
        "--monitor: this run does not log",
        "--num_warmup_steps: 10000 is more than the 3 steps",
        "--optimizer adam8bit needs the package",
    ):
        assert re.search(message, said.out), said.out
    assert re.search(r"^7 problems:$", said.out, re.MULTILINE)
    assert "Traceback" not in said.out + said.err
    assert snapshot(tmp_path / "out") == before


@pytest.mark.usefixtures("alone", "no_training")
@pytest.mark.parametrize(
    "flags", [{"packing": "isolated"}, {"packing": "full"}, {"packing": "isolated", "split_long_texts": True}]
)
@pytest.mark.parametrize(
    ("files", "column", "message"),
    [
        ({"train.jsonl": changed(TRAIN, 3, text=None)}, "text", "train.jsonl:4: the text in 'text' is null"),
        ({}, "txt", "no column 'txt'"),
    ],
)
def test_check_of_packed_texts_that_are_wrong(flags, files, column, message, tmp_path, made, capsys):
    from transformers_framework.cli.main import main

    words = words_of(wrong("", "", files, pipeline="masked_lm", input_columns=column, **flags), tmp_path, made)
    assert main([*words, "--check"]) == 2
    said = capsys.readouterr()
    assert message in said.out
    assert "Traceback" not in said.out + said.err


@pytest.mark.usefixtures("alone", "no_training")
def test_check_looks_at_the_trainer_when_the_inputs_are_wrong(tmp_path, made, capsys):
    from transformers_framework.cli.main import main

    words = words_of(wrong("", max_sequence_length=1000, devices=0, ckpt_path="{tmp}/no.ckpt"), tmp_path, made)
    assert main([*words, "--check"]) == 2
    said = capsys.readouterr().out
    assert said.startswith("3 problems:")
    assert all(flag in said for flag in ("--max_sequence_length", "--devices", "--ckpt_path"))


@pytest.mark.usefixtures("alone", "no_training")
@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"pre_trained_tokenizer": "{tmp}/none"}, "--pre_trained_tokenizer {tmp}/none: "),
        ({"pre_trained_model": "{tmp}/none"}, "--pre_trained_model {tmp}/none: "),
        ({"max_sequence_length": 1000}, "--max_sequence_length: 1000 is longer"),
        ({"labels": ["a", "a"], "max_sequence_length": 3}, "--labels: found a, a"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("pipeline", ["seq_class", "masked_lm+seq_class"])
def test_a_wrong_model_hides_no_wrong_data(pipeline, flags, problem, tmp_path, made, capsys):
    """All is listed at once: of the model, of the data, and of the trainer."""
    from tests.mistakes import TRAIN, changed
    from transformers_framework.cli.main import main

    rows = changed(changed(TRAIN, 2, text=""), 4, text=None)
    row = wrong("", "", {"train.jsonl": rows}, pipeline=pipeline, devices=0, **flags)
    assert main([*words_of(row, tmp_path, made), "--check"]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    for text in (
        problem.format(tmp=tmp_path),
        "train.jsonl: 2 rows are broken:",
        "train.jsonl:3: the text in",
        "--devices",
    ):
        assert text in said.out
    assert said.out.startswith("3 problems:")


# --- as users start it ------------------------------------------------------------------------------------------------


def python(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(runs.ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("room", "name"), [("columns", "null text"), ("optimization", "warm-up")])
def test_a_real_process_ends_with_status_2_and_one_message(room, name, tmp_path, made):
    row = next(row for row in TABLE[room] if row.name == name)
    done = python("-m", "transformers_framework", *words_of(row, tmp_path, made), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert re.search(row.message, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "out").exists()


HOLD = """
import sys
from transformers_framework.storage.run_folders import RunFolders
folders = RunFolders(sys.argv[1], "run")
folders.lock()
(folders.checkpoints / "last.ckpt").write_text("precious")
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.usefixtures("alone", "no_training")
@pytest.mark.parametrize("way", ["plain", "overwrite"])
def test_two_live_runs_of_one_name_cannot_meet(way, tmp_path, made, capsys):
    from transformers_framework.cli.main import main

    env = {**os.environ, "PYTHONPATH": str(runs.ROOT)}
    line = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    other = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        words = words_of(wrong("", **({"overwrite": True} if way == "overwrite" else {})), tmp_path, made)
        before = snapshot(tmp_path / "out")
        assert main(words) == 2
        expected = "another process is running as 'run'" if way == "overwrite" else "a run 'run' has files"
        assert expected in capsys.readouterr().err
        after = snapshot(tmp_path / "out")
        assert {name: content for name, (_, content) in after.items()} == {name: c for name, (_, c) in before.items()}
        assert (tmp_path / "out/checkpoints/run/last.ckpt").read_text() == "precious"
    finally:
        other.communicate("\n", timeout=60)


NEVER_IMPORTED = """
import json, sys
from transformers_framework.cli.main import main
status = main(sys.argv[1:])
optional = ("deepspeed", "bitsandbytes", "s3fs", "pytrec_eval", "ranx", "moto", "requests_mock")
print(json.dumps([status, [name for name in optional if name in sys.modules]]))
"""


@pytest.mark.usefixtures("alone")
def test_a_run_imports_no_optional_package(tmp_path, made):
    row = wrong("", "", {"test.jsonl": VALID_PAIRS}, pipeline="answer_selection", test_dataset="{tmp}/test.jsonl")
    done = python("-c", NEVER_IMPORTED, *words_of(row, tmp_path, made), cwd=tmp_path)
    status, imported = json.loads(done.stdout.splitlines()[-1])
    # where DeepSpeed and accelerate are installed, `save_pretrained` of transformers imports both
    assert (status, set(imported) - {"deepspeed"}) == (0, set()), done.stdout + done.stderr
