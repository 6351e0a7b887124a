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
    """Anything that is wrong with what the user gave: the parent of all errors of this module."""


class ConfigurationError(UserError):
    """A flag, a config file or a combination of them is wrong."""


class DataError(UserError):
    """A data set, a file, a column or a value in them is wrong."""


class RunError(Exception):
    """A run that was right could not go on; the program ends with status 1 and this message."""


class MissingDependencyError(ConfigurationError):
    """An optional package is needed and absent.

    Args:
        package: Import name of the package that is absent.
        needed_by: What the user asked for that needs it, for instance a flag with its value.
        extra: The extra of this project that installs it; None where it is installed by its own name.
    """

    def __init__(self, package: str, needed_by: str, extra: str | None) -> None:
        install = package if extra is None else f"'transformers-framework[{extra}]'"
        super().__init__(f"{needed_by} needs the package '{package}', which is not installed: pip install {install}")


@contextlib.contextmanager
def caught(on_error: Callable[[UserError], None] | None) -> Iterator[None]:
    """Hand the user's mistakes in a block to a function and go on behind it; without one they are raised."""
    try:
        yield
    except UserError as error:
        if on_error is None:
            raise
        on_error(error)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return a sentence that names the closest of the choices, or an empty string.

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
    r"""Return a text in which what would command a terminal is escaped: control characters but line breaks and tabs.

    Examples:
        >>> printable("a \x1b[31mred\x1b[0m label")
        'a \\x1b[31mred\\x1b[0m label'
    """
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
