"""Lengths that a run is given, where inputs and objectives both need them."""

from __future__ import annotations

from collections.abc import Sequence

from transformers_framework.exceptions import ConfigurationError


def source_and_target(lengths: Sequence[int]) -> tuple[int, int]:
    """Return the longest source and the longest target, in tokens.

    Raises:
        ConfigurationError: When there are not two lengths.

    Examples:
        >>> source_and_target([512, 128])
        (512, 128)
    """
    if len(lengths) != 2:
        raise ConfigurationError(
            "--max_sequence_length: two lengths are needed here, of the source and of the target, as in "
            f"'--max_sequence_length 512 128', and {len(lengths)} {'was' if len(lengths) == 1 else 'were'} given."
        )
    return lengths[0], lengths[1]
