"""Changes of a config by ``KEY=VALUE``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError, did_you_mean
from transformers_framework.models.config_values import check_values

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# who decides these instead
_OWNED = {
    "model_type": "--model",
    "max_multi_token_predictions": "--max_multi_token_predictions",
    "num_labels": "--num_labels",
    "id2label": "the data",
    "label2id": "the data",
    "problem_type": "--problem_type",
    "num_candidates": "-k",
    "classification_head_type": "--classification_head_type",
    "separated": "--separated",
    "candidate_length": "--max_sequence_length",
    "candidate_token_types": "--extended_token_type_ids",
    "labels_are_texts": "the data",
    "architectures": "--pipeline",
    "dtype": "--precision",
    "torch_dtype": "--precision",
    "transformers_version": "the installation",
}


def parse_value(text: str) -> Any:
    """Return a value as YAML types it; numbers such as ``1e-5`` are numbers, which YAML 1.1 alone denies.

    Examples:
        >>> [parse_value(text) for text in ("12", "1e-5", "true", "null", "gelu", "[1, 2]")]
        [12, 1e-05, True, None, 'gelu', [1, 2]]

    Raises:
        ValueError: When the text is not YAML, or a mapping.
    """
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:  # nested too deeply
        raise ValueError("it is not a value of YAML") from error
    if isinstance(value, dict):
        raise ValueError("nested values cannot be given here: put them in the config.json of --pre_trained_config")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    return value


def override(config: PreTrainedConfig, changes: Sequence[str]) -> PreTrainedConfig:
    """Return a config with changes, each ``KEY=VALUE``; the config given stays as it is.

    Raises:
        ConfigurationError: When a change is not ``KEY=VALUE``, the config has no such key, another flag decides it, or
            the config does not accept the value.
    """
    from huggingface_hub.errors import StrictDataclassError

    if not changes:
        return config
    declared = dataclasses.fields(config) if dataclasses.is_dataclass(config) else ()  # not in transformers 5.0
    known = {field.name for field in declared} | {*config.attribute_map, *config.to_dict()}
    known -= set(_OWNED)
    values: dict[str, Any] = {}
    for change in changes:
        flag = f"--additional_config_kwargs {change}"
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"{flag}: expected KEY=VALUE, for instance hidden_dropout_prob=0.2.")
        if key in _OWNED:
            raise ConfigurationError(f"{flag}: {_OWNED[key]} decides {key}.")
        if key not in known:
            raise ConfigurationError(
                f"{flag}: the config of family '{config.model_type}' has no '{key}'.{did_you_mean(key, known)} "
                f"Known: {', '.join(sorted(key for key in known if not key.startswith('_')))}."
            )
        try:
            values[config.attribute_map.get(key, key)] = parse_value(text)
        except ValueError as error:
            raise ConfigurationError(f"{flag}: {error}.") from error
    flag = f"--additional_config_kwargs {' '.join(changes)}"
    try:
        changed = type(config).from_dict({**config.to_dict(), **values})
    except (StrictDataclassError, AttributeError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{flag}: {' '.join(str(error).split())}") from error
    check_values(changed, flag, trained=True)
    return changed
