"""Signatures to flags: a keyword-only parameter is a flag, its annotation the type, its docstring the help."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from transformers_framework.cli.given import dashed
from transformers_framework.cli.values import expressible
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.import_paths import keyword_types
from transformers_framework.registry import declaring

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Flag:
    """One flag of a run.

    Args:
        name: The flag, without dashes.
        hint: Its type.
        default: Its default value, or ``REQUIRED``.
        help: What it means, for users.
        owner: Class or function that declares it, for messages.
        shown_default: Default in the documentation, if the signature has None.
    """

    name: str
    hint: Any
    default: Any
    help: str
    owner: str
    shown_default: str | None = None

    @property
    def dashed(self) -> str:
        """The flag as it is typed."""
        return dashed(self.name)

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is REQUIRED


def flags_of(
    declaration: Callable[..., Any], *, exclude: Collection[str] = (), hints: Mapping[str, Any] | None = None
) -> list[Flag]:
    """Return the flags that a class or a function declares.

    Args:
        declaration: The class or function.
        exclude: Parameters that are not flags.
        hints: Types that replace the annotated ones.
    """
    flags: dict[str, Flag] = {}
    for owner, function in declaring(declaration):
        parameters = inspect.signature(function).parameters.values()
        annotations = keyword_types(function)
        helps = {**arguments(inspect.getdoc(owner)), **arguments(function.__doc__)}
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in (*flags, *exclude):
                hint = (hints or {}).get(parameter.name, annotations.get(parameter.name, str))
                name = parameter.name.removesuffix("_")  # a word of Python's own: import_ is --import
                flag = Flag(name, expressible(hint), parameter.default, "", owner.__qualname__)
                if flag.hint is None:
                    raise ConfigurationError(f"{flag.owner}: {flag.name} has a type that no flag can have: {hint}")
                flags[flag.name] = _explain(flag, helps.get(parameter.name, ""))
    return list(flags.values())


def merge(flags: Iterable[Flag]) -> dict[str, Flag]:
    """Return flags by name; declarations of the same flag must be equal, and the longest help is shown."""
    merged: dict[str, Flag] = {}
    for flag in flags:
        first = merged.setdefault(flag.name, flag)
        if (first.hint, first.default) != (flag.hint, flag.default):
            raise ConfigurationError(
                f"{first.owner} and {flag.owner} disagree on {flag.dashed}: "
                f"{first.hint} = {first.default!r} and {flag.hint} = {flag.default!r}"
            )
        merged[flag.name] = replace(first, help=max(first.help, flag.help, key=len))
    return merged


def arguments(docstring: str | None) -> dict[str, str]:
    r"""Return the entries of a Google docstring's ``Args:`` section, each on one line and without markup.

    Examples:
        >>> arguments("Title.\n\n    Args:\n        rate: How fast,\n            in ``1/s``.\n        k: How many.")
        {'rate': 'How fast, in 1/s.', 'k': 'How many.'}
    """
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(docstring or ""), re.MULTILINE | re.DOTALL)
    if section is None:
        return {}
    body = textwrap.dedent(section[1])
    entries = re.findall(r"^(\w+)(?: \([^)\n]*\))?:(.*(?:\n(?!\S).*)*)", body, re.MULTILINE)
    return {name: _plain(text) for name, text in entries}


def _plain(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return " ".join(re.sub(r"`+([^`]*)`+", r"\1", text).split())


def _explain(flag: Flag, text: str) -> Flag:
    """Set the help of a flag; a default in the help replaces ``None`` of the signature."""
    stated = re.search(r" ?Default: (.+?)(?:\.(?= |$)|$)", text)
    if stated is None:
        return replace(flag, help=text)
    value = re.sub(r"^(['\"])(.*)\1$", r"\2", stated[1])
    shown = value if flag.default is None and value != "None" else None
    return replace(flag, help=text.replace(stated[0], "").strip(), shown_default=shown)
