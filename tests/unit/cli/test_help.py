"""The help in two levels."""

from __future__ import annotations

from typing import Literal

import pytest

from transformers_framework.cli.flags import flags_of
from transformers_framework.cli.help import full, help_of_run, overview
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.registry import MODELS, OPTIMIZERS, PIPELINES, SCHEDULERS

LETTERS = Literal["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]


def declared(
    *,
    name: str,
    rate: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    stop: bool = False,
    columns: list[str] | None = None,
    letter: LETTERS = "beta",
    order: Literal["up", "down"] = "up",
    steps: int | None = None,
    prefix: str = "",
    undocumented: int = 1,
    a_flag_whose_name_alone_fills_the_column: int = 2,
):
    """Declare them.

    Args:
        name: Name of the run.
        rate: How fast, in steps a second, which is a unit that needs a rather long explanation to wrap over the line.
        betas: Two of them.
        stop: Stop.
        columns: Columns.
        letter: A letter.
        order: An order.
        steps: Steps. Default: ``50``.
        prefix: Put before.
        a_flag_whose_name_alone_fills_the_column: Long.
    """


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    """A wide terminal, wherever the tests run: no line of these helps wraps."""
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.parametrize("columns", [80, 200])
def test_the_overview_names_every_row_of_every_table(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = overview()
    for table in (PIPELINES, MODELS, OPTIMIZERS, SCHEDULERS):
        assert all(name in text for name in table)
    unbroken = "".join(text.split())  # lines break behind hyphens too
    for spec in PIPELINES.values():
        assert all(word in unbroken for word in f"{spec.needs} {spec.learns}".split())
    assert max(map(len, text.split("\n")[1:])) < min(columns, 121)


def test_every_flag_has_type_meaning_and_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    groups = {"run": {flag.name: flag for flag in flags_of(declared)}, "nothing": {}}
    text = full(groups)
    assert text.split("\n\n")[1:] == [
        "Lists take several values; a flag without a value is true; 'none' removes a\nvalue.",
        """\
run
  --name TEXT                   Name of the run. (required)
  --rate FLOAT                  How fast, in steps a second, which is a unit
                                that needs a rather long explanation to wrap
                                over the line. (default: 0.0001)
  --betas FLOAT FLOAT           Two of them. (default: 0.9 0.999)
  --stop [true|false]           Stop. (default: false)
  --columns TEXT ...            Columns. (default: none)
  --letter NAME                 A letter. One of alpha, beta, gamma, delta,
                                epsilon, zeta, eta. (default: beta)
  --order {up,down}             An order. (default: up)
  --steps INT                   Steps. (default: 50)
  --prefix TEXT                 Put before. (default: '')
  --undocumented INT            (default: 1)
  --a_flag_whose_name_alone_fills_the_column INT
                                Long. (default: 2)""",
    ]


def run(*, columns: list[str], early_stopping: bool = False):
    """Declare two.

    Args:
        columns: Columns of texts.
        early_stopping: Stop when nothing improves.
    """


def trainer(*, max_epochs: int | None = None, devices: int = 1):
    """Declare two.

    Args:
        max_epochs: Stop training after so many epochs.
        devices: How many.
    """


GROUPS = {
    title: {flag.name: flag for flag in flags_of(function)}
    for title, function in (("run", declared), ("pipeline x", run), ("trainer", trainer))
}


def titles(text):
    return [line for line in text.split("\n") if line and line[0].islower() and not line.startswith("usage")]


def test_required_flags_come_first_and_those_of_the_trainer_only_by_name():
    text = help_of_run(GROUPS)
    assert titles(text) == ["required", "pipeline x", "run", "trainer (explained by --help all)"]
    assert text.index("--name TEXT") < text.index("--columns TEXT ...") < text.index("pipeline x")
    assert "  --max_epochs, --devices\n" in text
    assert "Stop training after" not in text


def test_everything_is_explained_when_asked():
    text = help_of_run(GROUPS, "all")
    assert titles(text) == ["required", "pipeline x", "run", "trainer"]
    assert "--max_epochs INT              Stop training after so many epochs." in text


def test_a_word_finds_the_flags_that_have_it_in_name_or_text():
    text = help_of_run(GROUPS, "STOP")
    assert [line.split()[0] for line in text.split("\n") if line.startswith("  --")] == [
        "--early_stopping",
        "--stop",
        "--max_epochs",
    ]
    with pytest.raises(
        ConfigurationError,
        match=r"--help zebra: no flag of this run has this word in its name or help\. Use --help all to list",
    ):
        help_of_run(GROUPS, "zebra")
