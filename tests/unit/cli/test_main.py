"""The command as a whole: exit statuses, messages, and what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import ModuleType

import pytest

from transformers_framework.cli import main as command
from transformers_framework.cli import parser
from transformers_framework.cli.flags import flags_of
from transformers_framework.exceptions import ConfigurationError, DataError, RunError

LINE = ["--pipeline", "seq_class", "--model", "bert", "--name", "run"]
HEAVY = ("torch", "numpy", "transformers", "pytorch_lightning", "datasets", "yaml", "jsonargparse", "torchmetrics")


class Stub:
    """Takes the place of the experiment."""

    seen: dict
    failure: BaseException | None = None
    problems = False

    def __init__(self, options, as_yaml, purpose, named):
        Stub.seen = options

    def run(self):
        if self.failure is not None:
            raise self.failure

    def check(self):
        return not self.problems


def declaration(*, pipeline: str, model: str, name: str, patience: int = 5): ...


@pytest.fixture(autouse=True)
def stub(monkeypatch):
    module = ModuleType("transformers_framework.experiment")
    kind = type("Experiment", (Stub,), {})
    module.Experiment = kind
    monkeypatch.setitem(sys.modules, "transformers_framework.experiment", module)
    groups = {"run": {flag.name: flag for flag in (*flags_of(parser.Command), *flags_of(declaration))}}
    monkeypatch.setattr(parser, "groups_of", lambda chosen: groups)
    monkeypatch.setattr(parser, "_owners", lambda name: [])
    return kind


def test_a_run_that_is_done_has_status_0_and_got_flat_options():
    assert command.main(LINE) == 0
    assert Stub.seen == {"pipeline": "seq_class", "model": "bert", "name": "run", "patience": 5}


def test_the_words_of_the_process_are_read_when_none_are_given(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["transformers_framework", *LINE, "--patience", "7"])
    assert command.main() == 0
    assert Stub.seen["patience"] == 7


@pytest.mark.parametrize("error", [DataError("data.csv:3:label: found 'x'"), ConfigurationError("--name: found ''")])
def test_what_the_user_did_wrong_is_one_message_and_status_2(stub, capsys, error):
    stub.failure = error
    assert command.main(LINE) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_debug_shows_the_traceback_of_what_the_user_did_wrong(stub, capsys):
    stub.failure = DataError("data.csv:3:label: found 'x'")
    assert command.main([*LINE, "--debug"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.endswith("error: data.csv:3:label: found 'x'\n")


def test_a_message_from_a_worker_of_the_loader_comes_without_its_traceback(stub, capsys):
    from torch._utils import ExceptionWrapper

    try:
        raise DataError("data.csv:3:label: found 'x'")
    except DataError:
        wrapper = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(DataError) as caught:
        wrapper.reraise()
    stub.failure = caught.value
    assert command.main(LINE) == 2
    assert capsys.readouterr().err == "error: data.csv:3:label: found 'x'\n"


def test_a_right_run_that_could_not_go_on_is_one_message_and_status_1(stub, capsys):
    stub.failure = RunError("the loss of rows 3 and 4 is not finite")
    assert command.main(LINE) == 1
    assert capsys.readouterr().err == "error: the loss of rows 3 and 4 is not finite\n"


def test_a_run_that_fails_has_status_1_a_traceback_and_one_last_line(stub, capsys):
    stub.failure = RuntimeError("out of memory")
    assert command.main(LINE) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "error: the run failed with RuntimeError: out of memory"


def leave_as_lightning_does():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


def test_an_interrupted_run_has_status_130(stub, capsys):
    stub.failure = KeyboardInterrupt()
    assert command.main(LINE) == 130
    assert "--resume" in capsys.readouterr().err
    stub.run = lambda self: leave_as_lightning_does()
    assert command.main(LINE) == 130
    stub.run = lambda self: sys.exit(7)
    with pytest.raises(SystemExit, match="7"):
        command.main(LINE)


def test_check_reports_by_its_status(stub, monkeypatch):
    monkeypatch.setattr("transformers_framework.cli.check.check", lambda experiment: experiment.check())
    assert command.main([*LINE, "--check"]) == 0
    stub.problems = True
    assert command.main([*LINE, "--check"]) == 2


def test_print_config_runs_nothing(stub, capsys, monkeypatch):
    stub.failure = AssertionError("it ran")
    assert command.main([*LINE, "--print_config"]) == 0
    assert capsys.readouterr().out == "# run\npipeline: seq_class\nmodel: bert\nname: run\npatience: 5\n"


def test_no_words_at_all_are_answered_with_the_overview(capsys):
    assert command.main([]) == 2
    assert "answer_selection" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--model", "bert"], "error: Missing: --pipeline. Use --help to see the pipelines.\n"),
        (["train"], "error: Unexpected 'train': each value must follow its flag, as in --pipeline NAME.\n"),
        ([*LINE, "--patienc", "1"], "error: --patienc: unknown flag. Did you mean '--patience'?\n"),
        (
            [*LINE, "--config", "/absent.yaml"],
            "error: --config: cannot read '/absent.yaml': No such file or directory.\n",
        ),
    ],
)
def test_a_wrong_command_has_status_2_and_one_message(capsys, line, message):
    assert command.main(line) == 2
    assert capsys.readouterr().err == message


def test_the_help_of_one_run(capsys, tmp_path):
    assert command.main(["--help", "--pipeline", "seq_class"]) == 0
    assert "--patience INT" in capsys.readouterr().out
    (tmp_path / "run.yaml").write_text("pipeline: seq_class\n")
    assert command.main(["-h", "--config", str(tmp_path / "run.yaml")]) == 0
    assert "--patience INT" in capsys.readouterr().out


def python(*words):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


def test_importing_the_package_imports_nothing():
    code = "import sys; old = set(sys.modules); import transformers_framework; print(len(set(sys.modules) - old))"
    assert python("-c", code).stdout == "1\n"


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_is_quick_because_it_imports_nothing_heavy(flag):
    code = (
        "import json, sys; from transformers_framework.cli.main import main; status = main([sys.argv[1]]);"
        f"print(json.dumps([status, [name for name in {HEAVY} if name in sys.modules]]))"
    )
    start = time.perf_counter()
    result = python("-c", code, flag)
    seconds = time.perf_counter() - start
    assert json.loads(result.stdout.splitlines()[-1]) == [0, []], result.stderr
    assert seconds < 2  # 0.06 s on an idle machine; the promise is half a second


def test_the_module_is_the_command():
    result = python("-m", "transformers_framework", "--pipeline", "seq_clas")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: --pipeline: unknown pipeline 'seq_clas'. Did you mean 'seq_class'?")
    assert python("-c", "import transformers_framework.__main__").stderr == ""


def test_a_reader_that_leaves_is_no_error():
    code = f"{sys.executable} -m transformers_framework --help | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
