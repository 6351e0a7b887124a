"""The help: an overview of pipelines and models, and the flags of one run."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.plugins import installed
from transformers_framework.registry import LOGGERS, MODELS, OPTIMIZERS, PIPELINES, SCHEDULERS

if TYPE_CHECKING:
    from transformers_framework.cli.flags import Flag

USAGE = "python -m transformers_framework --pipeline NAME --model NAME --name RUN [flags | --config FILE.yaml]"

ALSO = (
    "--config FILE.yaml",
    "--print_config",
    "--check",
    "--preview N",
    "--seeds N N …",
    "--sweep FILE.yaml",
    "--print_completion SHELL",
    "--debug",
    "--version",
)
EVERYTHING = "all"  # --help all: also explain the flags of the Trainer
REQUIRED_FIRST = "required"  # title of the group of required flags
# groups in the order of the help; of the last, mostly Lightning's, only names are listed
ORDER = ("pipeline", "model", "data", "optimization", "selection", "run", "trainer")
# listed after the pipelines
TABLES: dict[str, Iterable[str]] = {
    "models": MODELS,
    "optimizers": OPTIMIZERS,
    "schedulers": SCHEDULERS,
    "loggers": LOGGERS,
}

_WIDEST, _NARROWEST = 120, 60  # columns


def overview() -> str:
    """Return the help without a pipeline, without importing anything heavy."""
    width = _width()
    column = max(map(len, PIPELINES)) + 4
    rows = [("pipeline", "needs", "learns"), *((name, spec.needs, spec.learns) for name, spec in PIPELINES.items())]
    needs = min(max(len(row[1]) for row in rows) + 2, (width - column) // 2)
    table = "\n".join(_row((column - 2, needs - 2, width - column - needs), ("  " + row[0], *row[1:])) for row in rows)
    first = next(iter(PIPELINES))
    return "\n\n".join(
        [
            f"usage: {USAGE}",
            _fill(
                "Train, test and use transformers on text, with Hugging Face libraries and PyTorch Lightning.", width
            ),
            table,
            *(
                f"{title}\n{_fill(', '.join(names), width, indent=2)}"
                for title, names in {**TABLES, "plug-ins": installed()}.items()
                if names
            ),
            _fill(f"To list the flags of a run: --pipeline {first} --model bert --help", width)
            + "\n"
            + _fill(f"Other flags: {', '.join(ALSO)}", width),
        ]
    )


def full(groups: Mapping[str, Mapping[str, Flag]], usage: str = USAGE) -> str:
    """Return the help of one run: every flag by group, with type, meaning and default."""
    width = _width()
    note = "Lists take several values; a flag without a value is true; 'none' removes a value."
    sections = [f"usage: {usage}", _fill(note, width)]
    for title, flags in groups.items():
        if flags:
            sections.append("\n".join([title, *(_entry(flag, width) for flag in flags.values())]))
    return "\n\n".join(sections)


def help_of_run(groups: Mapping[str, Mapping[str, Flag]], word: str | None = None) -> str:
    """Return the help of one run: required flags first, then by group, those of the Trainer by their names only.

    Args:
        groups: Flags of the run by group.
        word: ``all`` also explains the flags of the Trainer; another word shows the flags that have it in their name or
            help.

    Raises:
        ConfigurationError: When no flag has the word.
    """
    ordered = sorted(groups, key=lambda title: ORDER.index(title.partition(" ")[0]))
    every = {name: flag for flags in groups.values() for name, flag in flags.items()}
    shown = {
        REQUIRED_FIRST: {name: flag for name, flag in every.items() if flag.is_required},
        **{t: {name: flag for name, flag in groups[t].items() if not flag.is_required} for t in ordered},
    }
    if word not in (None, EVERYTHING):
        found = {
            title: {name: flag for name, flag in flags.items() if word.lower() in f"{name} {flag.help}".lower()}
            for title, flags in shown.items()
        }
        if not any(found.values()):
            raise ConfigurationError(
                f"--help {word}: no flag of this run has this word in its name or help. "
                f"Use --help {EVERYTHING} to list all flags."
            )
        return full(found)
    if word == EVERYTHING:
        return full(shown)
    hidden = shown.pop(ORDER[-1], {}).values()
    names = _fill(", ".join(flag.dashed for flag in hidden), _width(), indent=2)
    trainer = [f"trainer (explained by --help {EVERYTHING})\n{names}"] if hidden else []
    hint = _fill(
        "--help WORD shows flags with this word in their name or help, --help all explains all flags.", _width()
    )
    return "\n\n".join([full(shown), *trainer, hint])


def _entry(flag: Flag, width: int) -> str:
    from transformers_framework.cli.values import MANY_CHOICES, choices_of, metavar

    column = 32
    head = f"  {flag.dashed} {metavar(flag.hint)}"
    choices = choices_of(flag.hint)
    listed = f" One of {', '.join(choices)}." if len(choices) > MANY_CHOICES else ""
    body = textwrap.wrap(f"{flag.help}{listed} {_default(flag)}".strip(), width - column, break_on_hyphens=False)
    if len(head) + 2 <= column and body:
        head = f"{head:<{column}}{body.pop(0)}"
    else:
        head = _fill(head.lstrip(), width, indent=2, hanging=6)
    return "\n".join([head, *(" " * column + line for line in body)])


def _default(flag: Flag) -> str:
    if flag.is_required:
        return "(required)"
    return f"(default: {flag.shown_default or _written(flag.default)})"


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(_written, value)) or "none"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value) or "''"


def _row(widths: Iterable[int], cells: Iterable[str]) -> str:
    """Return a table row of cells, each wrapped to its width."""
    from itertools import zip_longest

    wrapped = [textwrap.wrap(cell, width, drop_whitespace=True) for width, cell in zip(widths, cells, strict=True)]
    lines = zip_longest(*wrapped, fillvalue="")
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _fill(text: str, width: int, indent: int = 0, hanging: int | None = None) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _width() -> int:
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((100, 24)).columns - 1))
