"""Configs by the name of a size, such as ``bert:small``, for training from scratch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformers_framework.exceptions import ConfigurationError, did_you_mean
from transformers_framework.families import family_of
from transformers_framework.models.own_families import ensure_registered
from transformers_framework.registry import MODELS, lookup

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from transformers_framework.families import Family


def names_size(source: str | None) -> bool:
    """Return whether the value of a flag is the name of a size, ``family:size``, and not a file of that name.

    Examples:
        >>> [names_size(source) for source in ("bert:small", "user/name", "s3://bucket/config", None)]
        [True, False, False, False]
    """
    return source is not None and bool(re.fullmatch(r"[\w-]+:[\w.-]+", source)) and not Path(source).exists()


def config_of_size(source: str, flag: str) -> PreTrainedConfig:
    """Return the config of a size: the defaults of the family's class, with the settings of the size.

    Args:
        source: The name, ``family:size``.
        flag: Flag that has the name, for messages.

    Raises:
        ConfigurationError: When there is no such family or size; the message lists those there are.
    """
    from transformers import CONFIG_MAPPING, __version__

    family, size = source.split(":")
    row = lookup(MODELS, family.replace("-", "_"), "model")
    if isinstance(row.sizes, str):
        raise ConfigurationError(
            f"--{flag} {source}: there are no sizes of {family}: {row.sizes}. Give {_instead(row, size)}."
        )
    if size not in row.sizes:
        known = ", ".join(f"{family}:{name}" for name in row.sizes)
        raise ConfigurationError(
            f"--{flag} {source}: unknown size '{size}'.{did_you_mean(size, row.sizes)} Known: {known}."
        )
    ensure_registered(row.model_type)
    if row.model_type not in CONFIG_MAPPING:
        raise ConfigurationError(
            f"--{flag} {source}: transformers {__version__} does not have {family}; install a newer one."
        )
    config: PreTrainedConfig = CONFIG_MAPPING[row.model_type](**row.sizes[size])
    return config


def _instead(row: Family, size: str) -> str:
    extended = family_of(row.extends or "")
    return f"{extended.name}:{size}" if size in extended.sizes else "a hub name, a folder or a config.json instead"


def fit_vocabulary(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, changes: Sequence[str]) -> None:
    """Give the config of a size as many tokens as a tokenizer has, unless a change of it sets their number.

    Args:
        config: The config.
        tokenizer: The tokenizer.
        changes: Changes of the config, as ``KEY=VALUE``.
    """
    if all(change.partition("=")[0] != "vocab_size" for change in changes):
        config.vocab_size = max(tokenizer.get_vocab().values()) + 1


def check_size_alone(given: Mapping[str, str | None]) -> None:
    """Check that no size is given together with the weights of a model.

    Args:
        given: Values of the flags that can name a model or a config, the weights first.

    Raises:
        ConfigurationError: When there are weights too, whose config they need.
    """
    (flag, weights), *others = given.items()
    for other, config in others:
        if weights is not None and names_size(config):
            raise ConfigurationError(
                f"--{other} {config}: a size is the config of a model that is trained from scratch, and --{flag} "
                f"{weights} has a config. Leave one of them out."
            )
