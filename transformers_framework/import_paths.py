"""Import of objects by import paths such as ``my_package.objectives:Similarity``, with messages for users."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from transformers_framework.exceptions import ConfigurationError, RunError, UserError, did_you_mean

PACKAGE = "transformers_framework"
KEYS = ("class_path", "init_args")  # of an object with arguments, as LightningCLI calls them


def resolve(path: str, asked_by: str = "") -> Any:
    """Import the object of an import path.

    Modules of this package may be written without its name, as in ``"objectives.seq_class:SequenceClassification"``.

    Args:
        path: ``module:name``; ``module.name`` where there is no colon.
        asked_by: Flag that has the path, for messages, such as ``--metrics``.

    Raises:
        ConfigurationError: When there is no such module or no such name in it, or when importing it fails.
    """
    start = f"{asked_by} {path}".lstrip()
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    if not module or not name:
        raise ConfigurationError(f"{start}: expected an import path, such as my_package.my_module:MyClass.")
    found = None
    for full in (f"{PACKAGE}.{module}", module):
        if _exists(full, start):
            found = import_module(full, start)
            if hasattr(found, name):
                return getattr(found, name)
    if found is None:
        raise ConfigurationError(f"{start}: {absent_module(module)}")
    names = [known for known in vars(found) if not known.startswith("_")]
    raise ConfigurationError(f"{start}: the module '{module}' has no '{name}'.{did_you_mean(name, names)}")


def import_module(name: str, start: str) -> ModuleType:
    """Import a module; errors in modules of other packages are raised as errors of the user.

    Args:
        name: Full name of the module.
        start: Start of messages, with the flag that names it.

    Raises:
        ConfigurationError: When there is no such module, or when importing it fails.
    """
    if name.partition(".")[0] != PACKAGE:
        with _explained(name, start):
            return importlib.import_module(name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not _is_of(error, name):
            raise
        raise ConfigurationError(f"{start}: {absent_module(name)}") from error


def absent_module(name: str) -> str:
    """Return a sentence about a module that does not exist, with the closest existing name or a remedy."""
    parent, _, last = name.rpartition(".")
    folders = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    if name.endswith(".py") or not parent or folders is None:
        folders, parent, last = None, "", name.removesuffix(".py")
    close = did_you_mean(last, [module.name for module in pkgutil.iter_modules(folders)])
    if parent:
        close = close.replace("'", f"'{parent}.", 1)
    remedy = close or " Install it, or give its folder in PYTHONPATH."
    return f"there is no module '{name}'.{remedy}"


def build_object(text: str, flag: str, home: str, kind: type) -> Any:
    """Create the object that a text describes: an import path, or a JSON object with arguments.

    Args:
        text: ``my_package:MyMetric``, or ``{"class_path": "my_package:MyMetric", "init_args": {"k": 5}}``.
        flag: The flag that gave it.
        home: Module in which a class without a module is looked up.
        kind: What it must be an instance of.

    Raises:
        ConfigurationError: When it cannot be imported or called with these arguments, or the result has another type.
    """
    path, arguments = object_and_arguments(text, flag)
    target = resolve(path if {":", "."} & set(path) else f"{home}:{path}", f"--{flag}")
    try:
        made = target(**arguments)
    except (UserError, RunError):
        raise
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise ConfigurationError(
            f"--{flag} {path}: calling it with {given or 'no arguments'} fails: {type(error).__name__}: {error}. "
            f"Arguments: {_arguments_of(target)}."
        ) from error
    if not isinstance(made, kind):
        expected = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise ConfigurationError(f"--{flag} {path}: found {_article(type(made))}, expected a subclass of {expected}.")
    return made


def object_and_arguments(text: str, flag: str) -> tuple[str, dict[str, Any]]:
    """Return the import path and the arguments of an object that a text describes.

    Examples:
        >>> object_and_arguments('{"class_path": "my_package:TopK", "init_args": {"k": 5}}', "metrics")
        ('my_package:TopK', {'k': 5})
    """
    if not text.lstrip().startswith("{"):
        return text, {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"--{flag} {text}: this is not JSON: {error}.") from None
    path, arguments = (found.pop(key, default) for key, default in zip(KEYS, ("", {}), strict=True))
    if found:
        raise ConfigurationError(f"--{flag}: unknown key '{next(iter(found))}'. Known: {', '.join(KEYS)}.")
    if not path or not isinstance(path, str) or not isinstance(arguments or {}, dict):
        raise ConfigurationError(
            f"--{flag} {text}: expected class_path, an import path, and init_args, a mapping of its arguments."
        )
    return path, arguments or {}


def _exists(module: str, start: str) -> bool:
    if module in sys.modules:
        return True
    with _explained(module, start):
        try:
            return importlib.util.find_spec(module) is not None
        except ModuleNotFoundError as error:
            if _is_of(error, module):
                return False
            raise


@contextlib.contextmanager
def _explained(module: str, start: str) -> Iterator[None]:
    """Convert errors in the import of a user's module to one message with the place of the error."""
    try:
        yield
    except (UserError, RunError):
        raise
    except (Exception, SystemExit) as error:
        if _is_of(error, module):
            raise ConfigurationError(f"{start}: {absent_module(module)}") from error
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
        place, reason = f"{frames[-1].filename}:{frames[-1].lineno}", str(error)
        if isinstance(error, SyntaxError):
            place, reason = f"{error.filename}:{error.lineno}", error.msg
        raise ConfigurationError(
            f"{start}: importing '{module}' fails at {place}: {type(error).__name__}: {reason}"
        ) from error


def _is_of(error: BaseException, module: str) -> bool:
    """Return whether an error is about the missing module itself, or a package that contains it."""
    return isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")


def _arguments_of(target: Any) -> str:
    try:
        return str(inspect.signature(target)).strip("()") or "none"
    except (TypeError, ValueError):
        return "unknown"


def _article(kind: type) -> str:
    name = kind.__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def keyword_types(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotation of each keyword-only parameter of a function; types of others may be unknown at runtime."""
    import types
    import typing

    function = inspect.unwrap(function)
    parameters = inspect.signature(function).parameters.values()
    names = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    stub = types.SimpleNamespace(__annotations__={k: v for k, v in function.__annotations__.items() if k in names})
    return typing.get_type_hints(stub, function.__globals__, include_extras=True)
