"""The tokenizer of a run, from the hub, a folder or S3; what does not fit the model is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.agreement import agree_on_inputs, agree_on_special_tokens, check_vocabulary
from transformers_framework.models.reading import hub_cache, name_or_path_of, reading
from transformers_framework.models.sizes import fit_vocabulary, names_size
from transformers_framework.processing.tokenizer_json import read_tokenizer, splits_by_itself
from transformers_framework.restricted import LocalPath, Source

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


def load_tokenizer(
    config: PreTrainedConfig,
    *,
    pre_trained_model: Source | None = None,
    pre_trained_config: Source | None = None,
    pre_trained_tokenizer: Source | None = None,
    additional_config_kwargs: list[str] | None = None,
    cache_dir: LocalPath | None = None,
) -> PreTrainedTokenizerBase:
    """Return the tokenizer, and fill in special tokens that the config lacks.

    Args:
        config: Config of the model; its special tokens are filled in, and the vocabulary of a named size.
        pre_trained_model: Weights to start from.
        pre_trained_config: Config of the model.
        pre_trained_tokenizer: Tokenizer: hub name, local folder or remote address. By default that of
            ``--pre_trained_model``, else that of ``--pre_trained_config``. Train one by ``python -m
            transformers_framework.tokenizer``.
        additional_config_kwargs: Changes of the config as ``KEY=VALUE``; values are typed as YAML.
        cache_dir: Folder for downloads and prepared data; by default the user's cache folder.

    Raises:
        ConfigurationError: When there is no tokenizer, it is slow, cannot pad, or knows more tokens than the model.
    """
    sources = {
        "pre_trained_tokenizer": pre_trained_tokenizer,
        "pre_trained_model": pre_trained_model,
        "pre_trained_config": pre_trained_config,
    }
    flag, source = next((flag, source) for flag, source in sources.items() if source is not None)
    if names_size(source):
        raise ConfigurationError(
            f"--{flag} {source}: a size has no tokenizer. Give one with --pre_trained_tokenizer; python -m "
            "transformers_framework.tokenizer trains one on your texts."
        )
    name_or_path = name_or_path_of(source, flag, cache_dir)
    name_or_path = str(Path(name_or_path).parent) if Path(name_or_path).is_file() else name_or_path
    with reading(flag, source, "tokenizer"):
        tokenizer: PreTrainedTokenizerBase = read_tokenizer(name_or_path, hub_cache(cache_dir))
    # without files, transformers 5 makes a tokenizer of nothing but special tokens, without a warning
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ConfigurationError(
            f"--{flag} {source}: there is no tokenizer in it. Give one with --pre_trained_tokenizer."
        )
    if not tokenizer.is_fast or splits_by_itself(tokenizer):
        raise ConfigurationError(
            f"--{flag} {source}: {type(tokenizer).__name__} runs in Python and knows neither words nor offsets, which "
            "are needed. Give a --pre_trained_tokenizer that has a tokenizer.json."
        )
    if tokenizer.pad_token_id is None:
        raise ConfigurationError(
            f"--{flag} {source}: the tokenizer has no padding token, so texts of different lengths cannot share a "
            "batch. Save it again with a pad_token, or give another --pre_trained_tokenizer."
        )
    if names_size(pre_trained_config):
        fit_vocabulary(config, tokenizer, additional_config_kwargs or ())
    check_vocabulary(config, tokenizer, f"--{flag} {source}", from_scratch=pre_trained_model is None)
    agree_on_special_tokens(config, tokenizer, from_scratch=pre_trained_model is None)
    agree_on_inputs(config, tokenizer)
    return tokenizer
