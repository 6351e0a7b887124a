"""Preparation of values for the types of jsonargparse, and descriptions of types for users.

jsonargparse parses and validates the values. It parses them as YAML 1.1, where ``010`` is 8, ``1:30`` is 90 and
``1_000`` is a number, and has no bare booleans, no ``none`` and no lists of one word: :func:`prepare` handles these.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from transformers_framework.cli.given import Quoted, count
from transformers_framework.restricted import Expanded, Pattern, Range

MANY_CHOICES = 6  # more than these are listed in the help text and not next to the flag

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "none"}
# types in the order in which they are tried: "1" is an integer rather than a number or a text
_ORDER = {Literal: 0, type(None): 1, int: 2, float: 3, bool: 4, str: 5}


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, also of nested ones; another type is its only member."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(member for part in get_args(hint) for member in members_of(part))
    return (hint,)


def _kind(hint: Any) -> Any:
    """Return the kind of a scalar type: ``int``, ``float``, ``bool``, ``str``, ``NoneType`` or ``Literal``."""
    source = get_origin(hint)
    return _kind(get_args(hint)[0]) if source is Annotated else Literal if source is Literal else hint


def is_sequence(hint: Any) -> bool:
    """Return whether a type takes several words."""
    return get_origin(hint) in (list, tuple)


def expressible(hint: Any) -> Any:
    """Return the members of a type that can be given on a command line; None if there are none."""
    members = [member for member in members_of(hint) if _is_expressible(member)]
    return Union[tuple(members)] if any(member is not type(None) for member in members) else None  # noqa: UP007


def _is_expressible(hint: Any) -> bool:
    if is_sequence(hint):
        return all(item is Ellipsis or all(map(_is_expressible, members_of(item))) for item in get_args(hint))
    return _kind(hint) in _ORDER


def library_type(hint: Any) -> Any:
    """Return the type of jsonargparse for a type.

    Examples:
        >>> library_type(Annotated[float, Range(ge=0, le=1)] | None).__name__
        'ClosedUnitInterval'
    """
    members = [member for member in members_of(hint) if member is not type(None)]
    ordered = sorted(members, key=lambda member: _ORDER.get(_kind(member), len(_ORDER)))
    return Union[tuple(map(_library_type, ordered))]  # noqa: UP007


def _library_type(hint: Any) -> Any:
    from jsonargparse import typing as library

    if is_sequence(hint):
        items = [item if item is Ellipsis else _optional(library_type(item), item) for item in get_args(hint)]
        return get_origin(hint)[tuple(items)]
    if get_origin(hint) is not Annotated:
        return hint
    named = {
        (int, Range(ge=0)): library.NonNegativeInt,
        (float, Range(ge=0)): library.NonNegativeFloat,
        (float, Range(above=0)): library.PositiveFloat,
        (float, Range(ge=0, le=1)): library.ClosedUnitInterval,
        (float, Range(above=0, below=1)): library.OpenUnitInterval,
    }
    base, rule = get_args(hint)
    if isinstance(rule, Range):
        return named.get((base, rule)) or library.restricted_number_type(None, base, rule.restrictions)
    return library.restricted_string_type(rule.example, rule.regex) if isinstance(rule, Pattern) else base


def _optional(library: Any, hint: Any) -> Any:
    return library | None if type(None) in members_of(hint) else library


def prepare(hint: Any, words: Sequence[str | None], *, listed: bool = False) -> Any:
    """Return the values of a flag in a form that jsonargparse parses.

    Args:
        hint: The type: scalars, ``list[T]``, ``tuple[T, T]`` and unions of them.
        words: The values of the flag, as text; a boolean without a value is ``True``.
        listed: Whether they are a list, so that a single value is a list with one item.

    Raises:
        ValueError: When they cannot be a value of the type.

    Examples:
        >>> prepare(bool, []), prepare(list[int], ["512"]), prepare(int | None, ["none"]), prepare(float, ["-1e-3"])
        (True, ['512'], None, '-0.001')
    """
    members = members_of(hint)
    sequence = next((member for member in members if is_sequence(member)), None)
    scalars = [member for member in members if not is_sequence(member)]
    if not words and not listed and bool in scalars:
        return True
    if not words or (sequence is None and (listed or len(words) > 1)):
        raise ValueError
    if len(words) == 1 and not listed and scalars:
        try:
            return _prepared(scalars, words[0])
        except ValueError:
            if sequence is None:
                raise
    items = get_args(sequence)
    if get_origin(sequence) is list or items[-1] is Ellipsis:
        items = items[:1] * len(words)
    if len(items) != len(words):
        raise ValueError(f" ({count(words)})")
    return [_prepared(members_of(item), word) for item, word in zip(items, words, strict=True)]


def _prepared(members: Sequence[Any], word: str | None) -> Any:
    """Return a value of a union of these scalar types in a form that jsonargparse parses."""
    kinds = {_kind(member) for member in members}
    choices = [str(choice) for member in members if get_origin(member) is Literal for choice in get_args(member)]
    if word in choices:
        return word
    if type(None) in kinds and (word is None or (word.lower() in ("none", "null") and type(word) is not Quoted)):
        return None
    if word is None:
        raise ValueError
    if kinds & {int, float} and _NUMBER.fullmatch(word) and math.isfinite(float(word)):
        return str(int(word)) if _INTEGER.fullmatch(word) else repr(float(word))
    if bool in kinds and word.lower() in _TRUTH:
        return _TRUTH[word.lower()]
    if str not in kinds:
        raise ValueError
    for change in (change for member in members for change in get_args(member)[1:] if isinstance(change, Expanded)):
        return change(word)
    return str(word)


def plain(value: Any) -> Any:
    """Return a value of jsonargparse's types as ``int``, ``float``, ``str``, and lists and tuples of them."""
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    for kind in (int, float, str):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind(value)
    return value


def describe(hint: Any) -> str:
    """Describe a type, for messages.

    Examples:
        >>> describe(Literal["max", "min"]), describe(int | None), describe(tuple[float, float])
        ('one of max, min', 'an integer or none', '2 values, each a number')
    """
    return " or ".join(dict.fromkeys(_describe(member) for member in _merge_choices(members_of(hint))))


def _describe(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        base, rule = get_args(hint)
        return str(rule) if isinstance(rule, Expanded) else f"{_describe(base)} {rule}"
    if get_origin(hint) is Literal:
        choices = choices_of(hint)
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if is_sequence(hint):
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
    members = [member for member in _merge_choices(members_of(hint)) if member is not type(None)]
    if members == [bool]:
        return "[true|false]"
    return "|".join(dict.fromkeys(_metavar(member) for member in members))


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Literal:
        if len(choices_of(hint)) > MANY_CHOICES:
            return "NAME"
        return "{" + ",".join(choices_of(hint)) + "}"
    if is_sequence(hint):
        items = get_args(hint)
        fixed = get_origin(hint) is tuple and items[-1] is not Ellipsis
        return " ".join(metavar(item) for item in items) if fixed else f"{metavar(items[0])} ..."
    kind = _kind(hint)
    return {int: "INT", float: "FLOAT", bool: "true|false", str: "TEXT"}[kind]


def _merge_choices(members: Iterable[Any]) -> list[Any]:
    """Merge the choices of all literals, which come first; sequences and ``None`` come last."""
    members = list(members)
    choices = tuple(choice for member in members if get_origin(member) is Literal for choice in get_args(member))
    rest = [member for member in members if get_origin(member) is not Literal]
    return sorted(
        [*([Literal[choices]] if choices else []), *rest],
        key=lambda member: (member is type(None), is_sequence(member)),
    )


def choices_of(hint: Any) -> list[str]:
    """Return the choices of a type."""
    literals = (member for member in members_of(hint) if get_origin(member) is Literal)
    return list(dict.fromkeys(str(choice) for literal in literals for choice in get_args(literal)))
