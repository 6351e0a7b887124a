"""What the user gave, as text: the words of the command line over those of config files.

Both sources end in the same form and are converted by the same code (:mod:`transformers_framework.cli.flags`), so a
value means the same in either: none of YAML 1.1's own readings (``1e-4`` a string, ``on`` a truth, ``01:30:00`` a
number in base 60) can change a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import Expanded

if TYPE_CHECKING:
    import yaml

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
    files = values.get("config") or []
    given: dict[str, Given] = {}
    for path in files if isinstance(files, list | tuple) else [files]:
        given |= read_config(str(path))
    for name, value in values.items():
        flag = canonical(name.removesuffix("_"))
        place = f"{'--' if len(flag) > 1 else '-'}{flag}"
        if isinstance(value, Mapping) and flag not in OBJECTS:  # KEY=VALUE of --additional_config_kwargs
            value = [f"{key}={json.dumps(item)}" for key, item in value.items()]
        listed = isinstance(value, list | tuple)
        items = value if isinstance(value, list | tuple) else [value]
        if flag != "config":
            given[flag] = Given(place, tuple(_word_of(place, item) for item in items), listed)
    return given


def _word_of(place: str, value: object) -> str | None:
    """Return the word that a value would be on a command line."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | os.PathLike):
        return Quoted(os.fspath(value))
    if isinstance(value, Mapping):
        return json.dumps(value)
    raise ConfigurationError(
        f"{place}: found {value!r}, expected a text, a number, True, False, None, or a list of these."
    )


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
            raise ConfigurationError(f"Unexpected '{word}': every value follows its flag, as in --pipeline NAME.")
    return found


def read_environment(variables: Mapping[str, str]) -> dict[str, Given]:
    """Read the flags that variables of the environment give; a list is written as in YAML.

    Examples:
        >>> found = read_environment({"TRANSFORMERS_FRAMEWORK_INPUT_COLUMNS": "[question, answer]", "HOME": "/"})
        >>> found["input_columns"].words
        ('question', 'answer')
    """
    import yaml

    given: dict[str, Given] = {}
    for variable, text in variables.items():
        if variable.startswith(PREFIX) and variable not in SETTINGS:
            node: Any = None
            if text.startswith("["):
                with contextlib.suppress(yaml.YAMLError):
                    node = yaml.compose(text, Loader=yaml.SafeLoader)
            name = canonical(variable.removeprefix(PREFIX).lower())
            if name in COMMAND_LINE_ONLY or name == "config":
                raise ConfigurationError(f"{variable}: this flag can stand on the command line only.")
            given[name] = _given(name, variable, variable, node) if node else Given(variable, (text,))
    return given


def canonical(name: str) -> str:
    """Return the name of a flag that may have been called by another one."""
    return ALIASES.get(name, name)


def read_config(path: str, including: tuple[Path, ...] = (), place: str = "--config") -> dict[str, Given]:
    """Read the flags of a YAML file: one mapping, whose values are scalars or lists of them.

    The file is composed but never constructed: no tag of it can make an object. What its key ``config`` names, relative
    to its own folder, is read first, and it wins over that.

    Args:
        path: The file.
        including: Files that include this one, the first first.
        place: Where it is named, for messages.

    Raises:
        ConfigurationError: When the file is absent, not text, not YAML, not such a mapping, or gives a flag twice; when
            it includes itself.
    """
    import yaml

    try:
        path = Expanded(local=True)(path)
    except ValueError as error:
        raise ConfigurationError(f"{place}: found '{path}'{error}, expected a YAML file.") from None
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise ConfigurationError(f"{place}: '{path}' is nested too deeply, expected values or flat lists.") from error
    except OSError as error:
        raise ConfigurationError(f"{place}: cannot read '{path}': {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{place}: '{path}' is not a text file in UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        raise ConfigurationError(f"{at}: this is not YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ConfigurationError(f"{place}: '{path}' is not YAML: {' '.join(str(error).split())}.") from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{_at(path, root)}: found {_kind(root)}, expected one 'flag: value' a line.")
    given: dict[str, Given] = {}
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigurationError(f"{_at(path, key)}: found {_kind(key)}, expected the name of a flag.")
        name, place = canonical(key.value), f"{_at(path, key)}: {key.value}"
        if name in COMMAND_LINE_ONLY:
            raise ConfigurationError(f"{place}: this flag can stand on the command line only.")
        if name in given:
            raise ConfigurationError(f"{place}: the flag is given twice, first at {given[name].place}.")
        given[name] = _given(name, place, path, value)
    included = given.pop("config", Given("", ()))
    files = (*including, Path(path).resolve())
    first: dict[str, Given] = {}
    for word in included.words:
        if not word:
            raise ConfigurationError(f"{included.place}: found nothing, expected a YAML file.")
        target = str(Path(path).parent / os.path.expandvars(Path(word).expanduser()))
        if Path(target).resolve() in files:
            raise ConfigurationError(f"{included.place}: '{word}' includes itself, by way of this file.")
        first |= read_config(target, files, included.place)
    return {**first, **given}


def _given(name: str, place: str, path: str, node: yaml.Node) -> Given:
    """Return what a node gives to a flag: a value, a list of values, or a mapping where it takes ``KEY=VALUE``."""
    import yaml

    if isinstance(node, yaml.MappingNode) and name.endswith("_kwargs"):
        items = ((_word(place, path, key), _plain(place, path, value)) for key, value in node.value)
        return Given(place, tuple(f"{key}={json.dumps(value)}" for key, value in items), listed=True)
    listed = isinstance(node, yaml.SequenceNode)
    word = _object if name in OBJECTS else _word
    return Given(place, tuple(word(place, path, item) for item in (node.value if listed else [node])), listed)


def _object(place: str, path: str, node: yaml.Node) -> str | None:
    """Return an object with arguments as JSON, the form that it has on a command line."""
    import yaml

    return json.dumps(_plain(place, path, node)) if isinstance(node, yaml.MappingNode) else _word(place, path, node)


def _plain(place: str, path: str, node: yaml.Node) -> Any:
    """Return what a node holds: a number, truth or null is what it is in JSON, all else is text."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        return {str(_word(place, path, key)): _plain(place, path, value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(place, path, item) for item in node.value]
    word = _word(place, path, node)
    if word is None or isinstance(word, Quoted):
        return word and str(word)
    with contextlib.suppress(ValueError):
        return json.loads(word)
    return word


def _word(place: str, path: str, node: yaml.Node) -> str | None:
    import yaml

    if not isinstance(node, yaml.ScalarNode):
        raise ConfigurationError(f"{place}: found {_kind(node)} at {_at(path, node)}, expected a value or a flat list.")
    if node.tag not in yaml.SafeLoader.yaml_constructors:
        raise ConfigurationError(f"{place}: found the tag '{node.tag}' at {_at(path, node)}, expected a plain value.")
    if node.style is not None:
        return Quoted(node.value)
    return None if node.tag == "tag:yaml.org,2002:null" else str(node.value)


def _at(path: str, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"


def _kind(node: yaml.Node) -> str:
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return f"'{node.value}'"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _written(name: str, value: Any) -> Any:
    """Return a value as it is written: an object with arguments as a mapping."""
    if name not in OBJECTS or not value:
        return value
    found = []
    for text in value:
        found.append(text)
        if text.startswith("{"):
            with contextlib.suppress(ValueError):  # whoever makes the object refuses it
                found[-1] = json.loads(text)
    return found


def to_yaml(groups: Mapping[str, Mapping[str, object]], comments: Mapping[str, str] | None = None) -> str:
    """Write values as YAML that :func:`read_config` reads back, one title a group.

    Args:
        groups: Values by group.
        comments: What stands above a flag, for each that has a comment.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes the texts that a flag would otherwise take for the absence of a value."""

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = "'" if text.lower() in ("none", "null") else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    def represent_list(dumper: yaml.SafeDumper, values: Sequence[object]) -> yaml.SequenceNode:
        return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)

    Dumper.add_representer(str, represent)
    Dumper.add_representer(list, represent_list)
    Dumper.add_representer(tuple, represent_list)

    def line(name: str, value: object) -> str:
        comment = (comments or {}).get(name)
        text = yaml.dump({name: _written(name, value)}, Dumper=Dumper, allow_unicode=True, width=2**31)
        return f"\n# {comment}\n{text}" if comment else text

    sections = (
        f"# {title}\n" + "".join(map(line, values, values.values())) for title, values in groups.items() if values
    )
    return "\n".join(sections)
