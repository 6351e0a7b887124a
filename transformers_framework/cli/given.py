"""Flags as text: of the command line, which overrides config files, which override environment variables.

The values of all three are parsed by the same code (:mod:`transformers_framework.cli.values`), and thus have the same
meaning: the types of YAML 1.1 (``1e-4`` a string, ``on`` a boolean, ``01:30:00`` a number in base 60) are not used.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from transformers_framework.exceptions import ConfigurationError

# other names of a flag -> its name
ALIASES = {"input_column": "input_columns", "h": "help"}

# flags that cannot be given in a file
COMMAND_LINE_ONLY = ("debug", "help", "print_completion", "print_config", "version")

# prefix of environment variables with flags (--default_env), and variables with this prefix that are not flags
PREFIX = "TRANSFORMERS_FRAMEWORK_"
SETTINGS = (f"{PREFIX}KEEP_ALLOCATOR", f"{PREFIX}PARENT")

# flags whose values are import paths, or mappings of an import path and arguments
OBJECTS = ("callbacks", "metrics")

# a number is a value, not a flag, even when it begins with a minus
_FLAG = re.compile(r"--.*|-[A-Za-z]\Z", re.DOTALL)


class Quoted(str):
    """A text in quotes in a file: ``"null"`` is a text, and not a missing value."""


@dataclass(frozen=True)
class Given:
    """The values of one flag, as text.

    Args:
        place: Their place, for messages: ``--name`` or ``file.yaml:3: name``.
        words: The values, None for null in YAML.
        listed: Whether they were a list in YAML; only there a list can have a single value.
    """

    place: str
    words: tuple[str | None, ...]
    listed: bool = False


def gather(argv: Sequence[str]) -> dict[str, Given]:
    """Read the command line and its config files: later files override earlier ones.

    The command line overrides all files, at any position of ``--config``, and files override environment variables,
    which are read with ``--default_env``.

    Raises:
        ConfigurationError: When the command line starts with a value, or a config file cannot be read.
    """
    from transformers_framework.cli.config_files import read_config

    found = occurrences(argv)
    given: dict[str, Given] = {}
    for words in (flag.words for name, flag in found if name == "config"):
        if len(words) != 1 or not words[0]:
            more = ": give each file its own --config" if len(words) > 1 else ""
            raise ConfigurationError(f"--config: found {count(words)}, expected one YAML file{more}.")
        given |= read_config(words[0])
    given |= dict(found)
    asked = given.get("default_env", Given("", ("false",))).words
    return {**read_environment(os.environ), **given} if not asked or asked[0] in ("true", "yes", "on", "1") else given


def from_values(values: Mapping[str, object]) -> dict[str, Given]:
    """Return the flags for values of Python; ``config`` names files, which the other values override.

    Raises:
        ConfigurationError: When a value has a type that no flag has, or a config file cannot be read.

    Examples:
        >>> from_values({"learning_rate": 1e-3, "input_columns": ["a", "b"], "import_": ["my_package"]})["import"].words
        ('my_package',)
    """
    from transformers_framework.cli.config_files import read_config

    files = values.get("config") or []
    given: dict[str, Given] = {}
    for path in files if isinstance(files, list | tuple) else [files]:
        given |= read_config(str(path))
    for name, value in values.items():
        flag = canonical(name.removesuffix("_"))
        place = dashed(flag)
        if isinstance(value, Mapping) and flag not in OBJECTS:  # KEY=VALUE of --additional_config_kwargs
            value = [f"{key}={_json_of(place, item)}" for key, item in value.items()]
        listed = isinstance(value, list | tuple)
        items = value if isinstance(value, list | tuple) else [value]
        if flag != "config":
            given[flag] = Given(place, tuple(_word_of(place, item) for item in items), listed)
    return given


def _word_of(place: str, value: object) -> str | None:
    """Return a value as it is typed on a command line."""
    if getattr(value, "shape", None) == ():  # a number of numpy or torch
        value = value.item()  # type: ignore[attr-defined]
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | os.PathLike):
        return Quoted(os.fspath(value))
    if isinstance(value, Mapping):
        return _json_of(place, value)
    raise ConfigurationError(
        f"{place}: found {value!r}, expected a text, a number, True, False, None, or a list of these."
    )


def _json_of(place: str, value: object) -> str:
    def plain(item: object) -> object:
        if getattr(item, "shape", None) == ():
            return item.item()  # type: ignore[attr-defined]
        if isinstance(item, os.PathLike):
            return os.fspath(item)
        raise ConfigurationError(f"{place}: found {item!r} in it, expected texts, numbers, lists and mappings.")

    return json.dumps(value, default=plain)


def count(words: Sequence[object]) -> str:
    """Return the number of values, for messages.

    Examples:
        >>> count([]), count(["a"]), count(["a", "b"])
        ('no value', '1 value', '2 values')
    """
    return f"{len(words) or 'no'} value{'s' * (len(words) > 1)}"


def read_command_line(argv: Iterable[str]) -> dict[str, Given]:
    """Group the words of a command line by flag; the last occurrence of a flag is used.

    Raises:
        ConfigurationError: When the command line starts with a value.

    Examples:
        >>> read_command_line(["--devices", "8", "--early_stopping", "--learning_rate", "-1e-3"])["learning_rate"].words
        ('-1e-3',)
    """
    return dict(occurrences(argv))


def occurrences(argv: Iterable[str]) -> list[tuple[str, Given]]:
    """Return all occurrences of flags on a command line in order, each with its values.

    Raises:
        ConfigurationError: When the command line starts with a value.
    """
    found: list[tuple[str, Given]] = []
    for word in argv:
        if _FLAG.match(word):
            dashed, equals, value = word.partition("=")
            found.append((canonical(dashed.lstrip("-")), Given(dashed, (value,) if equals else ())))
        elif found:
            name, given = found[-1]
            found[-1] = (name, Given(given.place, (*given.words, word)))
        else:
            raise ConfigurationError(f"Unexpected '{word}': each value must follow its flag, as in --pipeline NAME.")
    return found


def read_environment(variables: Mapping[str, str]) -> dict[str, Given]:
    """Read flags from environment variables; lists are written as in YAML.

    Examples:
        >>> found = read_environment({"TRANSFORMERS_FRAMEWORK_INPUT_COLUMNS": "[question, answer]", "HOME": "/"})
        >>> found["input_columns"].words
        ('question', 'answer')
    """
    from transformers_framework.cli.config_files import given_by_text

    given: dict[str, Given] = {}
    for variable, text in variables.items():
        if variable.startswith(PREFIX) and variable not in SETTINGS:
            name = canonical(variable.removeprefix(PREFIX).lower())
            if name in COMMAND_LINE_ONLY or name == "config":
                raise ConfigurationError(f"{variable}: this flag can only be given on the command line.")
            given[name] = given_by_text(name, variable, text)
    return given


def dashed(name: str) -> str:
    """Return a flag as it is typed.

    Examples:
        >>> dashed("k"), dashed("seed")
        ('-k', '--seed')
    """
    return ("--" if len(name) > 1 else "-") + name


def canonical(name: str) -> str:
    """Return the name of a flag from its name or alias."""
    return ALIASES.get(name, name)
