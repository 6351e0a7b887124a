"""A shell completes pipelines, models, flags and their values: asked in a real bash."""

from __future__ import annotations

import subprocess
import sys

import pytest

from transformers_framework.cli import main as command

ASK = """
source "$1"; shift
COMP_WORDS=(transformers_framework "$@"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
read -r _ _ _ _ function _ <<< "$(complete -p transformers_framework)"
"$function"
printf "%s\\n" "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "completion.bash"
    done = subprocess.run(
        [sys.executable, "-m", "transformers_framework", "--print_completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
    )
    path.write_text(done.stdout)
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--pipeline", "tok"],
            ["token_class", "token_detection_and_masked_lm", "token_detection_and_masked_lm_and_seq_class"],
        ),
        (["--model", "deb"], ["deberta", "deberta_v2"]),
        (["--pipeline", "seq_class", "--monit"], ["--monitor", "--monitor_direction"]),
        (["--early_stopping", "--monitor_"], ["--monitor_direction"]),
        (["--input_columns", "a", "b", "--index_"], ["--index_column"]),
        (["--scheduler", "c"], ["constant", "cosine"]),
        (["--optimizer", "ada"], ["adam8bit", "adamw", "adamw8bit", "adafactor"]),
        (["--early_stopping", "t"], ["true"]),
        (["--adafactor_b"], ["--adafactor_beta1"]),
    ],
)
def test_bash_completes_flags_and_their_values(script, words, expected):
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", str(script), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(done.stdout.split()) == sorted(expected)


def test_bash_completes_files(script, tmp_path):
    (tmp_path / "train.jsonl").touch()
    for flag in ("--train_dataset", "--config", "--output_dir"):
        done = subprocess.run(
            ["bash", "--norc", "-c", ASK, "bash", str(script), flag, f"{tmp_path}/tr"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [f"{tmp_path}/train.jsonl"]


def test_the_script_of_one_pipeline_has_its_flags_only(capsys):
    assert command.main(["--pipeline", "seq_class", "--print_completion", "zsh"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("#compdef transformers_framework")
    assert "--label_column" in text
    assert "--doc_stride" not in text


def test_another_shell_is_refused(capsys):
    assert command.main(["--pipeline", "seq_class", "--print_completion", "fish"]) == 2
    assert (
        capsys.readouterr().err == "error: --print_completion: found 'fish', expected one of bash, zsh, tcsh or none.\n"
    )
