"""Words to values: what a flag's type makes of the words that were given to it, and how the type is told to users.

The conversion is written here, and not left to argparse or jsonargparse, because they refuse what the command promises:
bare booleans beside ``--flag 1``, ``-1e-3`` as a value, space-separated lists, one message with all that is wrong.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from transformers_framework.cli.given import count

MANY_CHOICES = 6  # more than these stand in the help's text and not beside the flag

_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "none"}
# what a word is tried as, in this order: "1" is an integer before it is a number, and a text only at last
_ORDER = {Literal: 0, type(None): 1, int: 2, float: 3, bool: 4, str: 5}


def _members(hint: Any) -> tuple[Any, ...]:
    """Return what a union is made of, flat; another type is its only member."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(member for part in get_args(hint) for member in _members(part))
    return (hint,)


def _kind(hint: Any) -> Any:
    """Return the kind of a scalar type: ``int``, ``float``, ``bool``, ``str``, ``NoneType`` or ``Literal``."""
    source = get_origin(hint)
    return _kind(get_args(hint)[0]) if source is Annotated else Literal if source is Literal else hint


def _is_sequence(hint: Any) -> bool:
    return get_origin(hint) in (list, tuple)


def expressible(hint: Any) -> Any:
    """Return the part of a type that words can express, ``None`` when they can express nothing of it."""
    members = [member for member in _members(hint) if _is_expressible(member)]
    return Union[tuple(members)] if any(member is not type(None) for member in members) else None  # noqa: UP007


def _is_expressible(hint: Any) -> bool:
    if _is_sequence(hint):
        return all(item is Ellipsis or all(map(_is_expressible, _members(item))) for item in get_args(hint))
    return _kind(hint) in _ORDER


def convert(hint: Any, words: Sequence[str | None], *, listed: bool = False) -> Any:
    """Return the value of a type that words mean.

    Args:
        hint: The type: scalars, ``list[T]``, ``tuple[T, T]`` and unions of them.
        words: The words of one flag; none at all means ``True`` to a boolean.
        listed: Whether they stand in a list, so that one word is a list of one.

    Raises:
        ValueError: When the words mean no value of the type.

    Examples:
        >>> convert(bool, []), convert(list[int], ["512", "128"]), convert(int | float, ["1"]), convert(float, ["1"])
        (True, [512, 128], 1, 1.0)
    """
    members = _members(hint)
    sequences = [member for member in members if _is_sequence(member)]
    scalars = [member for member in members if not _is_sequence(member)]
    if not words and not listed and bool in scalars:
        return True
    if not words:
        raise ValueError
    if len(words) == 1 and not listed and scalars:
        try:
            return _scalar(scalars, words[0])
        except ValueError:
            if not sequences:
                raise
    for member in sequences:
        return _sequence(member, words)
    raise ValueError


def _sequence(hint: Any, words: Sequence[str | None]) -> Any:
    items = get_args(hint)
    if get_origin(hint) is list:
        return [_scalar(_members(items[0]), word) for word in words]
    if items[-1] is Ellipsis:
        return tuple(_scalar(_members(items[0]), word) for word in words)
    if len(items) != len(words):
        raise ValueError(f" ({count(words)})")
    return tuple(_scalar(_members(item), word) for item, word in zip(items, words, strict=True))


def _scalar(members: Sequence[Any], word: str | None) -> Any:
    reason = ""
    for member in sorted(members, key=lambda member: _ORDER[_kind(member)]):
        try:
            return _read(member, word)
        except ValueError as error:
            reason = str(error)
    raise ValueError(reason)


def _read(hint: Any, word: str | None) -> Any:
    """Return the value of one scalar type that a word means; ``ValueError`` when it means none."""
    if get_origin(hint) is Annotated:
        value = _read(get_args(hint)[0], word)
        for change in filter(callable, hint.__metadata__):
            value = change(value)
        if all(value in check for check in hint.__metadata__ if hasattr(check, "__contains__")):
            return value
    elif get_origin(hint) is Literal:
        for choice in get_args(hint):
            if str(choice) == word:
                return choice
    elif hint is type(None):
        if word is None or (word.lower() in ("none", "null") and type(word) is str):
            return None
    elif word is None:
        raise ValueError
    elif hint is str:
        return str(word)
    elif hint is bool and word.lower() in _TRUTH:
        return _TRUTH[word.lower()]
    elif hint is int and _INTEGER.fullmatch(word):
        return int(word)
    elif hint is float and _NUMBER.fullmatch(word) and math.isfinite(float(word)):
        return float(word)
    raise ValueError


def describe(hint: Any) -> str:
    """Say what a flag of a type expects.

    Examples:
        >>> describe(Literal["max", "min"]), describe(int | None), describe(tuple[float, float])
        ('one of max, min', 'an integer or none', '2 values, each a number')
    """
    return " or ".join(dict.fromkeys(_describe(member) for member in _merge_choices(_members(hint))))


def _describe(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        for change in filter(callable, hint.__metadata__):
            return str(change)
        checks = " and ".join(str(check) for check in hint.__metadata__ if hasattr(check, "__contains__"))
        return f"{_describe(get_args(hint)[0])} {checks}".rstrip()
    if get_origin(hint) is Literal:
        choices = choices_of(hint)
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if _is_sequence(hint):
        items = get_args(hint)
        many = "one or more values" if get_origin(hint) is list or items[-1] is Ellipsis else f"{len(items)} values"
        return f"{many}, each {describe(items[0])}"
    return _NAMES[hint]


def metavar(hint: Any) -> str:
    """Return the short form of a type for the help.

    Examples:
        >>> metavar(bool), metavar(list[str]), metavar(tuple[float, float]), metavar(Literal["max", "min"] | None)
        ('[true|false]', 'TEXT ...', 'FLOAT FLOAT', '{max,min}')
    """
    members = [member for member in _merge_choices(_members(hint)) if member is not type(None)]
    if members == [bool]:
        return "[true|false]"
    return "|".join(dict.fromkeys(_metavar(member) for member in members))


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Literal:
        if len(choices_of(hint)) > MANY_CHOICES:
            return "NAME"
        return "{" + ",".join(choices_of(hint)) + "}"
    if _is_sequence(hint):
        items = get_args(hint)
        fixed = get_origin(hint) is tuple and items[-1] is not Ellipsis
        return " ".join(metavar(item) for item in items) if fixed else f"{metavar(items[0])} ..."
    kind = _kind(hint)
    return {int: "INT", float: "FLOAT", bool: "true|false", str: "TEXT"}[kind]


def _merge_choices(members: Iterable[Any]) -> list[Any]:
    """Put the choices of a type's literals into one, first; sequences and ``None`` last."""
    members = list(members)
    choices = tuple(choice for member in members if get_origin(member) is Literal for choice in get_args(member))
    rest = [member for member in members if get_origin(member) is not Literal]
    return sorted(
        [*([Literal[choices]] if choices else []), *rest],
        key=lambda member: (member is type(None), _is_sequence(member)),
    )


def choices_of(hint: Any) -> list[str]:
    """Return the names that a type lists."""
    literals = (member for member in _members(hint) if get_origin(member) is Literal)
    return list(dict.fromkeys(str(choice) for literal in literals for choice in get_args(literal)))
