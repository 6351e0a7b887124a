"""The help in two levels: what there is, at once; and every flag of one run."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from transformers_framework.registry import MODELS, OPTIMIZERS, PIPELINES, SCHEDULERS

if TYPE_CHECKING:
    from transformers_framework.cli.flags import Flag

USAGE = "python -m transformers_framework --pipeline NAME --model NAME --name RUN [flags | --config FILE.yaml]"

_WIDEST, _NARROWEST = 120, 60  # columns


def overview() -> str:
    """Return the help without a pipeline; nothing heavy is imported for it."""
    width = _width()
    column = max(map(len, PIPELINES)) + 4
    rows = [("pipeline", "needs", "learns"), *((name, spec.needs, spec.learns) for name, spec in PIPELINES.items())]
    needs = min(max(len(row[1]) for row in rows) + 2, (width - column) // 2)
    table = "\n".join(_row((column - 2, needs - 2, width - column - needs), ("  " + row[0], *row[1:])) for row in rows)
    first = next(iter(PIPELINES))
    return "\n\n".join(
        [
            f"usage: {USAGE}",
            _fill("Train, test and apply transformers on text, with the tools of Hugging Face and Lightning.", width),
            table,
            *(
                f"{title}\n{_fill(', '.join(names), width, indent=2)}"
                for title, names in (("models", MODELS), ("optimizers", OPTIMIZERS), ("schedulers", SCHEDULERS))
            ),
            _fill(f"Every flag of one run: --pipeline {first} --model bert --help", width)
            + "\n"
            + _fill("Also: --config FILE.yaml, --print_config, --check, --preview N, --debug, --version", width),
        ]
    )


def full(groups: Mapping[str, Mapping[str, Flag]], usage: str = USAGE) -> str:
    """Return the help of one run: every flag by group, with type, meaning and default."""
    width = _width()
    note = "A list takes several values; true or false can be left out to mean true; none takes a value away."
    sections = [f"usage: {usage}", _fill(note, width)]
    for title, flags in groups.items():
        if flags:
            sections.append("\n".join([title, *(_entry(flag, width) for flag in flags.values())]))
    return "\n\n".join(sections)


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
    from transformers_framework.cli.flags import REQUIRED

    if flag.default is REQUIRED:
        return "(required)"
    return f"(default: {flag.shown_default or _written(flag.default)})"


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(_written, value)) or "none"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value) or "''"


def _row(widths: Iterable[int], cells: Iterable[str]) -> str:
    """Lay cells beside each other, each wrapped in its width."""
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
