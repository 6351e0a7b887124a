"""The parser of a run: jsonargparse's, with one group for each owner of flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from jsonargparse import ArgumentError, ArgumentParser, set_loader

from transformers_framework.cli.flags import Flag
from transformers_framework.cli.given import Given
from transformers_framework.cli.values import (
    choices_of,
    describe,
    is_sequence,
    library_type,
    members_of,
    plain,
    prepare,
)
from transformers_framework.exceptions import ConfigurationError, did_you_mean
from transformers_framework.restricted import Expanded

PROGRAM = "transformers_framework"
set_loader("words", lambda text: text)  # texts are not parsed as YAML


class Arguments(ArgumentParser):
    """Reads and checks the values of flags by their types.

    Args:
        groups: Flags of the run by group.
    """

    def __init__(self, groups: Mapping[str, Mapping[str, Flag]]) -> None:
        super().__init__(PROGRAM, exit_on_error=False, add_help=False, print_config=None, parser_mode="words")
        self.flags = {name: flag for flags in groups.values() for name, flag in flags.items()}
        self.arguments: dict[str, Any] = {}
        for title, flags in groups.items():
            group = self.add_argument_group(title)
            for name, flag in flags.items():
                default = None if flag.is_required else flag.default
                self.arguments[name] = group.add_argument(
                    flag.dashed, type=library_type(flag.hint), default=default, help=flag.help
                )

    def read(self, name: str, given: Given) -> Any:
        """Return the value that a flag was given.

        Raises:
            ConfigurationError: When the value is not valid for its type.
        """
        flag = self.flags[name]
        if given.listed and not given.words and not flag.is_required and not flag.default:
            return flag.default
        reason: Exception
        try:
            words = prepare(flag.hint, given.words, listed=given.listed)
            return plain(self.parse_object({name: words}, defaults=False)[name])
        except (ValueError, ArgumentError) as error:
            reason = error
        found = " ".join("nothing" if word is None else f"'{word}'" for word in given.words)
        found = (f"the list {found}" if found else "an empty list") if given.listed else found or "no value"
        raise ConfigurationError(
            f"{given.place}: found {found}{reason if isinstance(reason, ValueError) else ''}, "
            f"expected {describe(flag.hint)}."
            + "".join(did_you_mean(word or "", choices_of(flag.hint)) for word in given.words)
        ) from None

    def completion(self, shell: str) -> str:
        """Return a script that lets a shell complete flags and their values; nothing can be parsed after it."""
        import shtab

        for name, action in self.arguments.items():
            members = members_of(self.flags[name].hint)
            action.option_strings = [self.flags[name].dashed]
            action.nargs = "+" if any(map(is_sequence, members)) else None
            if name == "config" or any(isinstance(rule, Expanded) for m in members for rule in get_args(m)[1:]):
                action.complete = shtab.FILE
            else:
                action.choices = choices_of(self.flags[name].hint) + ["true", "false"] * (bool in members)
        return shtab.complete(self, shell)
