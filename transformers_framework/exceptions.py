"""Errors that users can cause, each with one message that says what to do.

The program ends with status 2 for a :class:`UserError`, with 1 for a :class:`RunError`, both without a traceback
(``--debug`` shows it).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator

# C0 and C1 control characters, line separators of Unicode, and what turns the direction of writing
_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class UserError(Exception):
    """An error in flags, config files or data: base class of the errors that end the program with status 2."""


class ConfigurationError(UserError):
    """A flag, a config file or a combination of them is wrong."""


class DataError(UserError):
    """A data set, a file, a column or a value in them is wrong."""


class RunError(Exception):
    """A run with valid flags and data failed; the program ends with status 1 and this message."""


class MissingDependencyError(ConfigurationError):
    """An optional package is needed but not installed.

    Args:
        package: Import name of the package.
        needed_by: Feature that needs it, for instance a flag with its value.
        extra: The extra of this project that installs it; None where it is installed by its own name.
    """

    def __init__(self, package: str, needed_by: str, extra: str | None) -> None:
        install = package if extra is None else f"'transformers-framework[{extra}]'"
        super().__init__(f"{needed_by} needs the package '{package}', which is not installed: pip install {install}")


@contextlib.contextmanager
def caught(on_error: Callable[[UserError], None] | None) -> Iterator[None]:
    """Context manager that passes a :class:`UserError` to a function and continues; without a function it is raised."""
    try:
        yield
    except UserError as error:
        if on_error is None:
            raise
        on_error(error)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return a sentence with the closest of the choices, or an empty string.

    Examples:
        >>> did_you_mean("answer_selecton", ["answer_selection", "seq_class"])
        " Did you mean 'answer_selection'?"
        >>> did_you_mean("xyz", ["answer_selection"])
        ''
    """
    import difflib

    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def printable(text: str) -> str:
    r"""Escape the control characters of a text, except line breaks and tabs, so that it can be printed to a terminal.

    Examples:
        >>> printable("a \x1b[31mred\x1b[0m label")
        'a \\x1b[31mred\\x1b[0m label'
    """
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
