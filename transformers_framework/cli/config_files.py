"""Config files: YAML files with flags, read with the place of each value."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.cli.given import COMMAND_LINE_ONLY, OBJECTS, Given, Quoted, canonical
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import Expanded

if TYPE_CHECKING:
    import yaml


def read_config(path: str, including: tuple[Path, ...] = (), place: str = "--config") -> dict[str, Given]:
    """Read the flags of a YAML file: one mapping, whose values are scalars or lists of them.

    The YAML is composed but not constructed, so that tags cannot create objects. The file overrides the files of its
    key ``config``, whose paths are relative to its folder.

    Args:
        path: The file.
        including: Files that include this one, outermost first.
        place: Place of its path, for messages.

    Raises:
        ConfigurationError: When the file is absent, not text, not YAML, not such a mapping, or gives a flag twice; when
            it includes itself.
    """
    path, root = composed(path, place)
    try:
        return _flags_of(path, root, including)
    except RecursionError as error:  # an alias can stand in what it names
        raise ConfigurationError(f"{place}: '{path}' is nested too deeply, expected values or flat lists.") from error


def composed(path: str, place: str) -> tuple[str, yaml.Node | None]:
    """Return the expanded path of a YAML file, and its root node, which has the line of each value.

    Args:
        path: The file.
        place: Place of its path, for messages.

    Raises:
        ConfigurationError: When the file is absent, not text or not YAML.
    """
    import yaml

    try:
        path = Expanded(local=True)(path)
    except ValueError as error:
        raise ConfigurationError(f"{place}: found '{path}'{error}, expected a YAML file.") from None
    try:
        return path, yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise ConfigurationError(f"{place}: '{path}' is nested too deeply, expected values or flat lists.") from error
    except OSError as error:
        raise ConfigurationError(f"{place}: cannot read '{path}': {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{place}: '{path}' is not a text file in UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        raise ConfigurationError(f"{where}: this is not YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ConfigurationError(f"{place}: '{path}' is not YAML: {' '.join(str(error).split())}.") from error


def entries(path: str, root: yaml.Node | None) -> list[tuple[str, str, yaml.Node]]:
    """Return the entries of the mapping of a file: the name of a flag, its place and the node of its value.

    Raises:
        ConfigurationError: When it is no mapping of names, or has a name twice.
    """
    import yaml

    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{at(path, root)}: found {kind(root)}, expected one 'flag: value' per line.")
    places: dict[str, str] = {}
    found = []
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigurationError(f"{at(path, key)}: found {kind(key)}, expected the name of a flag.")
        name, place = canonical(key.value), f"{at(path, key)}: {key.value}"
        if name in COMMAND_LINE_ONLY:
            raise ConfigurationError(f"{place}: this flag can only be given on the command line.")
        if name in places:
            raise ConfigurationError(f"{place}: this flag is given twice, first at {places[name]}.")
        places[name] = place
        found.append((name, place, value))
    return found


def _flags_of(path: str, root: yaml.Node | None, including: tuple[Path, ...]) -> dict[str, Given]:
    """Return the flags of a file and of the files that it includes, which it overrides."""
    given = {name: given_of(name, place, path, value) for name, place, value in entries(path, root)}
    included = given.pop("config", Given("", ()))
    files = (*including, Path(path).resolve())
    first: dict[str, Given] = {}
    for word in included.words:
        if not word:
            raise ConfigurationError(f"{included.place}: found nothing, expected a YAML file.")
        target = str(Path(path).parent / os.path.expandvars(Path(word).expanduser()))
        if Path(target).resolve() in files:
            raise ConfigurationError(f"{included.place}: '{word}' includes itself through this file.")
        first |= read_config(target, files, included.place)
    return {**first, **given}


def given_by_text(name: str, place: str, text: str) -> Given:
    """Return the values of a flag from a text that is not in a file: a list in YAML, or the text itself."""
    import yaml

    node = None
    if text.startswith("["):
        with contextlib.suppress(yaml.YAMLError):
            node = yaml.compose(text, Loader=yaml.SafeLoader)
    return given_of(name, place, place, node) if node else Given(place, (text,))


def given_of(name: str, place: str, path: str, node: yaml.Node) -> Given:
    """Return the values of a flag from a YAML node: a value, a list, or a mapping for ``KEY=VALUE`` flags."""
    import yaml

    if isinstance(node, yaml.MappingNode) and name.endswith("_kwargs"):
        items = ((_word(place, path, key), _value(place, path, value)) for key, value in node.value)
        return Given(place, tuple(f"{key}={value}" for key, value in items), listed=True)
    listed = isinstance(node, yaml.SequenceNode)
    word = _object if name in OBJECTS else _word
    return Given(place, tuple(word(place, path, item) for item in (node.value if listed else [node])), listed)


def _value(place: str, path: str, node: yaml.Node) -> str:
    """Return the value of ``KEY=VALUE``: plain scalars as they are in the file, to be parsed as on the command line."""
    import yaml

    if isinstance(node, yaml.ScalarNode) and (word := _word(place, path, node)) and type(word) is not Quoted:
        return word
    return json.dumps(_plain(place, path, node))


def _object(place: str, path: str, node: yaml.Node) -> str | None:
    """Return an object with arguments as JSON, as it is typed on a command line."""
    import yaml

    return json.dumps(_plain(place, path, node)) if isinstance(node, yaml.MappingNode) else _word(place, path, node)


def _plain(place: str, path: str, node: yaml.Node) -> Any:
    """Return the value of a node: numbers, booleans and null as in JSON, everything else as text."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        return {str(_word(place, path, key)): _plain(place, path, value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(place, path, item) for item in node.value]
    word = _word(place, path, node)
    if word is None or isinstance(word, Quoted):
        return word and str(word)
    with contextlib.suppress(ValueError):
        return float(word.replace(".", "")) if word.endswith((".inf", ".nan")) else json.loads(word)
    return word


def _word(place: str, path: str, node: yaml.Node) -> str | None:
    import yaml

    if not isinstance(node, yaml.ScalarNode):
        raise ConfigurationError(f"{place}: found {kind(node)} at {at(path, node)}, expected a value or a flat list.")
    if node.tag not in yaml.SafeLoader.yaml_constructors:
        raise ConfigurationError(f"{place}: found the tag '{node.tag}' at {at(path, node)}, expected a plain value.")
    if node.style is not None:
        return Quoted(node.value)
    return None if node.tag == "tag:yaml.org,2002:null" else str(node.value)


def at(path: str, node: yaml.Node) -> str:
    """Return the file and the line of a node."""
    return f"{path}:{node.start_mark.line + 1}"


def kind(node: yaml.Node) -> str:
    """Return the kind of a node, for messages."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return f"'{node.value}'"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _is_number(text: str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False


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
        """Quotes the texts that would otherwise be read as the absence of a value, or as a number."""

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        # YAML 1.1 takes '1e-4' for a text, and breaks a line at the others
        style = "'" if text.lower() in ("none", "null") or _is_number(text) else None
        style = '"' if {"\x85", "\u2028", "\u2029"} & set(text) else style
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
