"""What the user gave, as text: the words of the command line, over those of config files, over the environment's.

All end in the same form and are read by the same code (:mod:`transformers_framework.cli.values`), so a value means the
same in each: none of YAML 1.1's own readings (``1e-4`` a string, ``on`` a truth, ``01:30:00`` a
number in base 60) can change a run.
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

# flags of the command that a file cannot give
COMMAND_LINE_ONLY = ("debug", "help", "print_completion", "print_config", "version")

# variables of the environment that give flags with --default_env, and settings of the same prefix that are no flags
PREFIX = "TRANSFORMERS_FRAMEWORK_"
SETTINGS = (f"{PREFIX}KEEP_ALLOCATOR", f"{PREFIX}PARENT")

# flags whose values are import paths, or mappings that give what they lead to its arguments
OBJECTS = ("callbacks", "metrics")

# a number is a value, not a flag, even when it begins with a minus
_FLAG = re.compile(r"--.*|-[A-Za-z]\Z", re.DOTALL)


class Quoted(str):
    """A text that stands in quotes in a file: ``"null"`` is then a text, and not the absence of one."""


@dataclass(frozen=True)
class Given:
    """The words that were given to one flag.

    Args:
        place: Where they stand, for messages: ``--name`` or ``file.yaml:3: name``.
        words: The words, ``None`` for YAML's null.
        listed: Whether they were written as a list, which only YAML can say of a single one.
    """

    place: str
    words: tuple[str | None, ...]
    listed: bool = False


def gather(argv: Sequence[str]) -> dict[str, Given]:
    """Read the command line and the config files it names: a later file wins over an earlier one.

    The command line wins over all of them, wherever ``--config`` stands, and all of them over variables of the
    environment, which count with ``--default_env``.

    Raises:
        ConfigurationError: When a word belongs to no flag or a config file cannot be read.
    """
    from transformers_framework.cli.config_files import read_config

    occurrences = _occurrences(argv)
    given: dict[str, Given] = {}
    for words in (found.words for name, found in occurrences if name == "config"):
        if len(words) != 1 or not words[0]:
            more = ": give each file its own --config" if len(words) > 1 else ""
            raise ConfigurationError(f"--config: found {count(words)}, expected one YAML file{more}.")
        given |= read_config(words[0])
    given |= dict(occurrences)
    asked = given.get("default_env", Given("", ("false",))).words
    return {**read_environment(os.environ), **given} if not asked or asked[0] in ("true", "yes", "on", "1") else given


def from_values(values: Mapping[str, object]) -> dict[str, Given]:
    """Return what values of Python give, as a command line would; ``config`` names files, over which the others win.

    Raises:
        ConfigurationError: When a value is of a kind that no flag has, or a config file cannot be read.

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
    """Return the word that a value would be on a command line."""
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
    """Say how many values there are.

    Examples:
        >>> count([]), count(["a"]), count(["a", "b"])
        ('no value', '1 value', '2 values')
    """
    return f"{len(words) or 'no'} value{'s' * (len(words) > 1)}"


def read_command_line(argv: Iterable[str]) -> dict[str, Given]:
    """Group the words of a command line by flag; the last of a repeated flag wins.

    Raises:
        ConfigurationError: When the line begins with a word that is no flag.

    Examples:
        >>> read_command_line(["--devices", "8", "--early_stopping", "--learning_rate", "-1e-3"])["learning_rate"].words
        ('-1e-3',)
    """
    return dict(_occurrences(argv))


def _occurrences(argv: Iterable[str]) -> list[tuple[str, Given]]:
    """Return the flags of a command line in order, each as often as it was given, with the words of each time."""
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
    """Read the flags that variables of the environment give; a list is written as in YAML.

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
    """Return the name of a flag that may have been called by another one."""
    return ALIASES.get(name, name)
