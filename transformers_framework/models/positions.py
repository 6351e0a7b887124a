"""How long inputs may be: the positions that a model has, and the default length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers_framework.constants import MOST_TOKENS
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.families import family_of
from transformers_framework.models.sentence_transformers import longest_text
from transformers_framework.restricted import LocalPath, Source

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


def max_positions(config: PreTrainedConfig) -> int | None:
    """Return the longest sequence that a model takes, in tokens; None where only distances between tokens count."""
    if getattr(config, "relative_attention", False) and not getattr(config, "position_biased_input", True):
        return None
    limit: int | None = getattr(config, "max_position_embeddings", None)
    if limit is None:
        return None
    if family_of(config.model_type).positions_after_padding:
        if getattr(config, "position_embedding_type", "absolute") != "absolute":
            return limit
        return limit - int(config.pad_token_id or 0) - 1
    return limit


def check_length(config: PreTrainedConfig, length: int, parts: int = 1, *, model: str = "model") -> None:
    """Check that inputs are no longer than a model allows.

    Args:
        config: Config of the model.
        length: Value of ``--max_sequence_length``.
        parts: Number of texts of this length that are joined to one input.
        model: The model in the message, such as "generator".

    Raises:
        ConfigurationError: When they are.
    """
    longest = max_positions(config)
    if longest is not None and length * parts > longest:
        found = f"{length} is" if parts == 1 else f"{parts} texts of {length}, joined, are"
        raise ConfigurationError(
            f"--max_sequence_length: {found} longer than the {model}'s {longest} positions. Use {longest // parts} or "
            "less."
        )


def default_length(
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    pre_trained_model: Source | None = None,
    cache_dir: LocalPath | None = None,
) -> int:
    """Return the default length of inputs, in tokens: the limit of model and tokenizer, at most 512.

    Args:
        config: Config of the model.
        tokenizer: Tokenizer of the run.
        pre_trained_model: Weights to start from; those of sentence-transformers may have a limit of their own.
        cache_dir: Folder for downloads.
    """
    own = longest_text(pre_trained_model, "pre_trained_model", cache_dir) if pre_trained_model else None
    limits = (max_positions(config), tokenizer.model_max_length, own)
    return min(MOST_TOKENS, *(limit for limit in limits if limit is not None))
