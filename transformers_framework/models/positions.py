"""How long inputs may be: the positions that a model has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers_framework.families import family_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


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
