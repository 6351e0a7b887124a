"""The scripts beside these tests: each runs with ``TINY=1`` from its first line to an exported model.

They run the examples, so what they print is compared with what the pages of the pipelines show.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import runs
from tests.integration.interrupted import run_together
from tests.sharded_cpu import use_cpus
from tests.unit.test_docs import marked
from transformers_framework.cli.main import main
from transformers_framework.registry import PIPELINES

NEEDS_GPU = "masked_lm_deepspeed"
STARTS_FROM_ANOTHER = "answer_selection_adapt"  # see test_transfer.py
SCRIPTS = sorted(
    path for path in (runs.ROOT / "tests" / "scripts").glob("*.sh") if path.stem not in (NEEDS_GPU, STARTS_FROM_ANOTHER)
)
# stands in for `python` in a script: the data are made once, the run is not started but its words are kept
PYTHON = f"""#!/usr/bin/env bash
if [[ "$1 $2" == "-m transformers_framework" ]]; then
    printf '%s\\n' "${{@:3}}" >"$WORDS"
elif [[ "$1" != examples/demo_data.py || ! -e "$DATA/model" ]]; then
    exec "{sys.executable}" "$@"
fi
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    return folder


def words_of(script: Path, folder: Path, output: Path) -> list[str]:
    """Return the command line that a script runs, once everything before it was done."""
    words = output / "words.txt"
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    own = {"TINY": "1", "DATA": str(folder / "data"), "OUTPUT": str(output), "WORDS": str(words), "PATH": path}
    done = subprocess.run(
        ["bash", script, "--cache_dir", output / "cache"], env=os.environ | own, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return words.read_text(encoding="utf-8").splitlines()


def shape(text: str) -> list[str]:
    """Return the lines of what a run prints, without what depends on data and time: numbers, texts, folders."""
    text = re.sub(r"^\d[\d:. -]*\d(?: [A-Z]+)? ", "", text)
    text = re.sub(r"\S*/(?=pre_trained_models/|predictions/|checkpoints/|train\.jsonl|corpus\.jsonl)", "", text)
    text = re.sub(r" --(?:output|cache)_dir \S+", "", text)
    text = re.sub(r"(?:, f1_class_\w+ [\d.]+)+", ", f1_class_…", text)
    lines = [re.sub(r"\d[\d:,.]*", "0", line) for line in text.splitlines()]
    lines = [re.sub(r"^marks: .*", "marks: …", re.sub(r"tokens,.*$", "tokens", line)) for line in lines]
    lines = [
        re.sub(r"^  (→ [\w-]+|(?=\S)).*", r"  \1…", line) if lines[0].startswith("train") else line for line in lines
    ]
    return [line for before, line in zip(["", *lines], lines, strict=False) if line != before]


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_tiny(script: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of(script, prepared, tmp_path)
    has_page = script.stem in PIPELINES
    if has_page:
        assert main([*words, "--preview", "1"]) == 0
        assert shape(capsys.readouterr().out) == shape(marked(f"{script.stem} preview"))
    assert main(words) == 0
    folders = runs.folders_of(words)
    printed = re.findall(r"^\d.* Run '.* is done .*\n(?:  .*\n)*", folders.log.read_text("utf-8"), re.MULTILINE)
    assert not has_page or shape(printed[-1]) == shape(marked(f"{script.stem} summary"))
    assert (folders.pre_trained_models / "final").is_dir()
    scalars = runs.scalars(folders)
    assert scalars["train/loss"]
    assert any(name.startswith("valid/") for name in scalars)
    assert any(name.startswith("test/") for name in scalars)


@pytest.mark.needs("deepspeed")
def test_tiny_with_deepspeed(prepared: Path, tmp_path: Path) -> None:
    words = words_of(runs.ROOT / "tests" / "scripts" / f"{NEEDS_GPU}.sh", prepared, tmp_path)
    assert words[words.index("--strategy") + 1] == "deepspeed_stage_2"
    on_cpu = [*words, "--accelerator", "cpu", "--devices", "1"]
    log = tmp_path / "log"
    assert run_together(on_cpu, log, 1, use_cpus) == [0], log.read_text()
    assert (runs.folders_of(words).pre_trained_models / "final").is_dir()
