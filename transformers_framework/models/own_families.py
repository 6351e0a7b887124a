"""Families that transformers does not have: registered with its Auto classes when they are first asked for."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.families import FAMILIES, family_of
from transformers_framework.plugins import load_installed
from transformers_framework.registry import OWN_HEADS, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

PREDICTIONS = "max_multi_token_predictions"


def ensure_registered(model_type: str | None) -> None:
    """Register a family with transformers' Auto classes, where transformers does not have it.

    Installed plug-ins are asked for one that the table does not have, as a checkpoint may be of.
    """
    if model_type is not None and all(model_type != family.model_type for family in FAMILIES.values()):
        load_installed()
    if model_type is not None and (module := family_of(model_type).module) is not None:
        importlib.import_module(module)


def auto_class_of(head: str) -> Any:
    """Return the class that makes a head in any family that has it: transformers' of this name, or ours."""
    import transformers

    return resolve(OWN_HEADS[head]) if head in OWN_HEADS else getattr(transformers, head)


def load_export(folder: Path, head: str, **options: Any) -> PreTrainedModel:
    """Return the model of an export; its family is registered if transformers does not have it.

    Args:
        folder: Folder of the model.
        head: Auto class of its head.
        **options: Further arguments of ``from_pretrained``.
    """
    ensure_registered(json.loads((folder / "config.json").read_text("utf-8"))["model_type"])
    model: PreTrainedModel = auto_class_of(head).from_pretrained(folder, **options)
    return model


def extended_config(values: Mapping[str, Any], family: str, predictions: int | None) -> PreTrainedConfig | None:
    """Return the config of a family that extends another, made from one of that; None where none is asked for.

    Args:
        values: The config that was found.
        family: The family that is wanted, or ``auto``.
        predictions: Tokens to predict at each step, if the user gives a number.
    """
    from transformers import CONFIG_MAPPING

    if (extended := family_of(family).extends) is None or values.get("model_type") != extended:
        return None
    asked = {} if predictions is None else {PREDICTIONS: predictions}
    return CONFIG_MAPPING[family].from_dict({**values, "model_type": family, "architectures": None, **asked})


def check_predictions(config: PreTrainedConfig, predictions: int | None, flag: str, source: str) -> None:
    """Check that a config predicts as many tokens at each step as was asked before.

    Args:
        config: The config that was found.
        predictions: Tokens that were asked for, if they were.
        flag: Flag that named the config.
        source: Value of the flag.

    Raises:
        ConfigurationError: When it predicts another number of tokens, or one token only, as plain families do.
    """
    found = getattr(config, PREDICTIONS, None)
    if predictions is None or found == predictions:
        return
    if found is None:
        names = [name for name, family in FAMILIES.items() if family.extends]
        raise ConfigurationError(f"--{PREDICTIONS} {predictions}: it belongs to --model {', --model '.join(names)}.")
    raise ConfigurationError(
        f"--{flag} {source} predicts {found} tokens at each step, and not {predictions} as asked by --{PREDICTIONS} or "
        f"--pre_trained_model. Give --{PREDICTIONS} {found}, or start from a checkpoint of family "
        f"'{family_of(config.model_type).extends}' to learn another number."
    )
