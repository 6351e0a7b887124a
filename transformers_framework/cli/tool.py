"""Commands beside runs, such as clusters and predict: flags of a function, one message per mistake, exit statuses."""

from __future__ import annotations

import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transformers_framework.cli.flags import Flag, flags_of, merge
from transformers_framework.cli.given import Given, read_command_line
from transformers_framework.constants import DONE, FAILED, INTERRUPTED, WRONG
from transformers_framework.display import bars_cleared
from transformers_framework.exceptions import ConfigurationError, UserError, printable

Groups = dict[str, dict[str, Flag]]


@dataclass(frozen=True, kw_only=True)
class ToolFlags:
    """Flags that every command has.

    Args:
        debug: Show the traceback of an error.
        help: Show this help, and exit.
    """

    debug: bool = False
    help: bool = False


class Values(NamedTuple):
    """The values of the flags of a command.

    Args:
        own: Those of its function, by name.
        further: Those of further flags that were given.
    """

    own: dict[str, Any]
    further: dict[str, Any]


def groups_of_tool(title: str, function: Callable[..., Any], more: Groups | None = None) -> Groups:
    """Return the flags of a command by group: those of its function, further ones, and those of every command."""
    return {title: merge(flags_of(function)), **(more or {}), "command": merge(flags_of(ToolFlags))}


def values_or_help(given: Mapping[str, Given], groups: Groups, usage: str, *, asks: bool) -> dict[str, Any] | None:
    """Return the values of all flags; None if the help was printed instead.

    Args:
        given: The flags of the command line.
        groups: All flags.
        usage: First line of the help.
        asks: Whether the command line asks for something; without, the help goes to standard error.

    Raises:
        ConfigurationError: When a flag is unknown, missing or invalid.
    """
    from transformers_framework.cli import help as helps
    from transformers_framework.cli.parser import values_of

    if not asks or "help" in given:
        (sys.stdout if asks else sys.stderr).write(helps.full(groups, usage) + "\n")
        return None
    return values_of(given, groups)


def check_writable(path: Path) -> None:
    """Check, before a long computation, that a file or folder can be written.

    Args:
        path: Value of ``--output``.

    Raises:
        ConfigurationError: When nothing can be written to the folder that it is in, or would be made in.
    """
    there = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ConfigurationError(f"--output {path}: nothing can be written to {there} ({error.strerror}).") from None


def run_function(
    argv: Sequence[str] | None,
    command: Callable[[Values], None],
    function: Callable[..., Any],
    *,
    title: str,
    usage: str,
    words: Mapping[str, str] | None = None,
    further: Callable[[Mapping[str, Given]], Groups] = lambda given: {},
    needs_flags: bool = True,
) -> int:
    """Run a command whose flags are the arguments of a function; return its exit status, see :func:`run_tool`.

    Args:
        argv: The words after the program's name; those of the process when absent.
        command: Runs the command with the values of its flags.
        function: The function.
        title: Title of its flags in the help.
        usage: First line of the help.
        words: Replacements in messages about a run: regular expressions, and the words of this command.
        further: Returns further flags, which may depend on those that are given.
        needs_flags: Whether the help is printed if no flag is given.
    """

    def run(argv: Sequence[str]) -> int:
        given = read_command_line(argv)
        groups, asks = groups_of_tool(title, function, further(given)), bool(given) or not needs_flags
        if (options := values_or_help(given, groups, usage, asks=asks)) is None:
            return DONE if asks else WRONG
        own = {name: options[name] for name in groups[title]}
        others = {name: options[name] for name in given if name not in own and name not in groups["command"]}
        command(Values(own, others))
        return DONE

    def reworded(message: str) -> str:
        for theirs, ours in (words or {}).items():
            message = re.sub(theirs, ours, message)
        return message

    return run_tool(argv, run, reworded=reworded)


def run_tool(
    argv: Sequence[str] | None,
    command: Callable[[Sequence[str]], int],
    *,
    interrupted: str = "interrupted: nothing was written",
    reworded: Callable[[str], str] = str,
) -> int:
    """Run a command and return its exit status: 0 done, 1 it failed, 2 the command or its input is wrong, 130 Ctrl-C.

    Args:
        argv: The words after the program's name; those of the process when absent.
        command: Returns the exit status of the command with these words.
        interrupted: Message after Ctrl-C.
        reworded: Returns a message in the words of this command.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        with bars_cleared():
            return command(argv)
    except UserError as error:
        if "--debug" in argv:
            traceback.print_exc()
        sys.stderr.write(printable(f"error: {reworded(str(error))}") + "\n")
        return WRONG
    except KeyboardInterrupt:
        sys.stderr.write(f"{interrupted}\n")
        return INTERRUPTED
    except BrokenPipeError:  # as in `... --output - | head`
        sys.stderr.close()
        return DONE
    except Exception as error:
        traceback.print_exc()
        sys.stderr.write(printable(f"error: {type(error).__name__}: {error}") + "\n")
        return FAILED
