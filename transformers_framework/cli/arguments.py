"""The parser of a run: jsonargparse's, with one group for each owner of flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from transformers_framework.cli.flags import Flag
from transformers_framework.cli.given import Given
from transformers_framework.cli.values import choices_of, describe, library_type, plain, prepare
from transformers_framework.exceptions import ConfigurationError, did_you_mean

PROGRAM = "transformers_framework"


class Arguments(ArgumentParser):
    """Reads and checks the values of flags by their types.

    Args:
        groups: Flags of the run by group.
    """

    def __init__(self, groups: Mapping[str, Mapping[str, Flag]]) -> None:
        super().__init__(prog=PROGRAM, exit_on_error=False, add_help=False, allow_abbrev=False, print_config=None)
        self.flags = {name: flag for flags in groups.values() for name, flag in flags.items()}
        for title, flags in groups.items():
            group = self.add_argument_group(title)
            for flag in flags.values():
                default = None if flag.is_required else flag.default
                group.add_argument(flag.dashed, type=library_type(flag.hint), default=default, help=flag.help)

    def read(self, name: str, given: Given) -> Any:
        """Return the value that a flag was given.

        Raises:
            ConfigurationError: When its type has no such value.
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
