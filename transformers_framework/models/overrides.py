"""Changes of settings by ``KEY=VALUE``."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
    "evidence_pooling": "--pre_trained_model",
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
        raise ValueError("nested values cannot be given here")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    return value


@dataclass(frozen=True)
class Settings:
    """What a flag may change by ``KEY=VALUE``.

    Args:
        flag: The flag, without dashes.
        of: What has the settings, for messages.
        known: Names of the settings that may be changed.
        owned: Names of others, each with what decides it.
        example: A change, for messages.
        file: Where nested values can be given.
    """

    flag: str
    of: str
    known: Collection[str]
    owned: Mapping[str, str]
    example: str
    file: str

    def read(self, changes: Sequence[str]) -> dict[str, Any]:
        """Return the values of changes by name; the last one of a name counts.

        Raises:
            ConfigurationError: When a change is not ``KEY=VALUE``, there is no such setting, or another flag decides
                it.
        """
        values: dict[str, Any] = {}
        for change in changes:
            flag = f"--{self.flag} {change}"
            key, equals, text = change.partition("=")
            if not equals or not key:
                raise ConfigurationError(f"{flag}: expected KEY=VALUE, for instance {self.example}.")
            if key in self.owned:
                raise ConfigurationError(f"{flag}: {self.owned[key]} decides {key}.")
            if key not in self.known:
                raise ConfigurationError(
                    f"{flag}: {self.of} has no '{key}'.{did_you_mean(key, self.known)} "
                    f"Known: {', '.join(sorted(key for key in self.known if not key.startswith('_')))}."
                )
            try:
                values[key] = parse_value(text)
            except ValueError as error:
                remedy = f": put them in the {self.file}" if "nested" in str(error) else ""
                raise ConfigurationError(f"{flag}: {error}{remedy}.") from error
        return values


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
    settings = Settings(
        flag="additional_config_kwargs",
        of=f"the config of family '{config.model_type}'",
        known=known - set(_OWNED),
        owned=_OWNED,
        example="hidden_dropout_prob=0.2",
        file="config.json of --pre_trained_config",
    )
    values = {config.attribute_map.get(key, key): value for key, value in settings.read(changes).items()}
    flag = f"--additional_config_kwargs {' '.join(changes)}"
    try:
        changed = type(config).from_dict({**config.to_dict(), **values})
    except (StrictDataclassError, AttributeError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{flag}: {' '.join(str(error).split())}") from error
    check_values(changed, flag, trained=True)
    return changed
