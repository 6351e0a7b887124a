"""Sweep files: YAML files with the values of each flag that a sweep varies, read with the place of each value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transformers_framework.cli.config_files import at, composed, entries, given_of, kind
from transformers_framework.cli.given import Given
from transformers_framework.constants import ONCE
from transformers_framework.exceptions import ConfigurationError, UserError, caught, did_you_mean
from transformers_framework.several.grid import Choices, Interval, Setting, every_setting, sampled_settings

if TYPE_CHECKING:
    import yaml

METHODS = ("grid", "random")
OWN = ("method", "num_runs", "seed")  # keys that are no flags
BOUNDS = ("min", "max", "log")
# flags that a sweep cannot vary, with the reason
FIXED = {
    "name": "the sweep names its runs",
    "output_dir": "the runs of a sweep have the same",
    "seeds": "use --seeds, which runs each setting with each seed",
    **dict.fromkeys(
        (*ONCE, "check", "config", "default_env", "import", "preview", "sweep"), "it can only be given to all runs"
    ),
}


@dataclass
class Sweep:
    """A sweep: its settings, and the places of their values.

    Args:
        settings: The words of each varied flag, one mapping for each setting.
        places: Place of each varied flag, for messages.
        value_places: Place of each value in a list.
    """

    settings: list[Setting]
    places: Mapping[str, str]
    value_places: Mapping[tuple[str, tuple[str | None, ...]], str] = field(default_factory=dict)

    def place(self, name: str, setting: Setting) -> str:
        """Return the place of the value that a flag has in a setting."""
        return self.value_places.get((name, setting[name]), self.places[name])

    def given(self, setting: Setting) -> dict[str, Given]:
        """Return the flags of a setting."""
        return {name: Given(self.place(name, setting), words, len(words) != 1) for name, words in setting.items()}


@dataclass
class _File:
    """Contents of a sweep file, and its problems so far."""

    path: str
    problems: list[UserError] = field(default_factory=list)
    flags: dict[str, Choices | Interval] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    value_places: dict[tuple[str, tuple[str | None, ...]], str] = field(default_factory=dict)
    own: dict[str, Given] = field(default_factory=dict)


def read_sweep(path: str, place: str = "--sweep") -> Sweep:
    """Read a sweep file: a list of values for each flag, or a range of numbers for random sweeps.

    Args:
        path: The file.
        place: Place of its path, for messages.

    Raises:
        ConfigurationError: Lists all problems of the file.
    """
    path, root = composed(path, place)
    found = _File(path)
    for name, where, node in entries(path, root):
        with caught(found.problems.append):
            if name in OWN:
                found.own[name] = _own(name, where, path, node)
            elif name in FIXED:
                raise ConfigurationError(f"{where}: this flag cannot be varied: {FIXED[name]}.")
            else:
                found.places[name] = where
                found.flags[name] = _values(name, where, found, node)
    settings: list[Setting] = []
    with caught(found.problems.append):
        settings = _settings(found)
    if found.problems:
        raise ConfigurationError("\n".join(map(str, found.problems)))
    return Sweep(settings, found.places, found.value_places)


def _own(name: str, place: str, path: str, node: yaml.Node) -> Given:
    """Return the value of a key that is no flag."""
    given = given_of(name, place, path, node)
    if given.listed:
        more = ": use --seeds 1 2 3, which runs each setting with each seed" if name == "seed" else ""
        raise ConfigurationError(f"{place}: found a list, expected one value{more}.")
    return given


def _settings(found: _File) -> list[Setting]:
    if not found.places:
        raise ConfigurationError(
            f"{found.path}: no flag is varied, expected lists of values such as 'learning_rate: [1e-5, 3e-5]'."
        )
    method = str((found.own.get("method") or Given("", ("grid",))).words[0])
    if method not in METHODS:
        raise ConfigurationError(
            f"{found.own['method'].place}: found '{method}', expected one of {', '.join(METHODS)}."
            + did_you_mean(method, METHODS)
        )
    if method == "grid":
        ranges = [place for name, place in found.places.items() if isinstance(found.flags.get(name), Interval)]
        if ranges:
            raise ConfigurationError(f"{ranges[0]}: a range needs 'method: random'; a grid has lists of values.")
        if only := next((name for name in OWN[1:] if name in found.own), None):
            raise ConfigurationError(
                f"{found.own[only].place}: this is for 'method: random'; a grid runs all settings."
            )
        return every_setting({name: c for name, c in found.flags.items() if isinstance(c, Choices)})
    if "num_runs" not in found.own:
        raise ConfigurationError(f"{found.path}: 'method: random' needs 'num_runs', the number of settings to sample.")
    num_runs = _whole(found.own["num_runs"], 1)
    settings = sampled_settings(found.flags, num_runs, _whole(found.own.get("seed", Given("", ("0",))), 0))
    if len(settings) < num_runs and not found.problems:
        raise ConfigurationError(
            f"{found.own['num_runs'].place}: found {num_runs}, but there are only {len(settings)} different settings."
        )
    return settings


def _whole(given: Given, least: int) -> int:
    word = given.words[0] or ""
    if not word.isdecimal() or int(word) < least:
        raise ConfigurationError(f"{given.place}: found '{word}', expected an integer of {least} or more.")
    return int(word)


def _values(name: str, place: str, found: _File, node: yaml.Node) -> Choices | Interval:
    """Return the values of a flag: a list whose items are values, or lists for flags with several values."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        return _interval(place, found.path, node)
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        what = kind(node) if not isinstance(node, yaml.SequenceNode) else "an empty list"
        raise ConfigurationError(f"{place}: found {what}, expected a list of values, such as [1e-5, 3e-5].")
    values = [given_of(name, f"{at(found.path, item)}: {name}", found.path, item) for item in node.value]
    for value in values:
        if (name, value.words) in found.value_places:
            raise ConfigurationError(f"{value.place}: the value {' '.join(map(str, value.words))} is given twice.")
        found.value_places[name, value.words] = value.place
    return Choices(tuple(value.words for value in values))


def _interval(place: str, path: str, node: yaml.MappingNode) -> Interval:
    found: dict[str, Any] = {}
    for name, where, value in entries(path, node):
        if name not in BOUNDS:
            raise ConfigurationError(
                f"{where}: unknown key of a range, expected {', '.join(BOUNDS)}.{did_you_mean(name, BOUNDS)}"
            )
        found[name] = _own(name, where, path, value)
    if missing := [name for name in BOUNDS[:2] if name not in found]:
        raise ConfigurationError(f"{place}: this range has no '{missing[0]}', expected {{min: 1e-5, max: 1e-3}}.")
    low, high = (_number(found[name]) for name in BOUNDS[:2])
    word = str(found["log"].words[0]).lower() if "log" in found else "false"
    if word not in ("true", "false"):
        raise ConfigurationError(f"{found['log'].place}: found '{word}', expected true or false.")
    if low >= high:
        raise ConfigurationError(f"{place}: 'min' is {low:g} and 'max' is {high:g}; expected a larger 'max'.")
    if word == "true" and low <= 0:
        raise ConfigurationError(f"{found['min'].place}: found {low:g}; with 'log: true', expected a number above 0.")
    whole = all(str(found[name].words[0]).lstrip("+-").isdecimal() for name in BOUNDS[:2])
    return Interval(low, high, log=word == "true", whole=whole)


def _number(given: Given) -> float:
    word = given.words[0] or ""
    try:
        found = float(word)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ConfigurationError(f"{given.place}: found '{word}', expected a number.")
    return found
