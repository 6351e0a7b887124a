"""Token types: how many a model knows, and more of them for inputs of three segments or more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.embedding_sharing import disentangled
from transformers_framework.registry import MODELS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Grown = TypeVar("Grown")

logger = logging.getLogger(__name__)


def type_vocabulary(config: PreTrainedConfig) -> int:
    """Return how many token types a model knows, 0 when its family has no embeddings for them."""
    return int(getattr(config, "type_vocab_size", 0) or 0)


def families_with_types() -> list[str]:
    """Return our names of the families that have token-type embeddings."""
    from transformers import CONFIG_MAPPING

    known = {name: family.model_type for name, family in MODELS.items() if family.model_type in CONFIG_MAPPING}
    return [name for name, model_type in known.items() if _can_know(CONFIG_MAPPING[model_type]())]


def _can_know(config: PreTrainedConfig) -> bool:
    """Return whether a family has embeddings of token types, in some checkpoints at least: DeBERTa's have none."""
    return hasattr(config, "type_vocab_size")


def grow_type_vocabulary(model_or_config: Grown, size: int) -> Grown:
    """Make room for more token types, in place: the known ones keep their vectors, the others are newly initialized.

    New rows are N(mean of the known rows, ``initializer_range``): the known rows of a pre-trained model have a vector
    in common, which is part of every input it has read. Every config of the model gets the new size, so that an export
    loads again. A model that knows as many types already is left as it is. One without any gets its first embeddings
    when it is built: its config grows before.

    Args:
        model_or_config: A model of transformers, a ``MultiHeadModel``, or the config of a model to be built.
        size: Token types the model must know.

    Returns:
        What was given.

    Raises:
        ConfigurationError: When the family has no token-type embeddings.
    """
    configs = _configs(model_or_config)
    known = type_vocabulary(configs[0])
    if not known and not _can_know(configs[0]):
        raise ConfigurationError(
            f"--extended_token_type_ids: models of family '{configs[0].model_type}' have no token-type embeddings, so "
            f"they cannot tell segments apart. Families that can: {', '.join(families_with_types())}."
        )
    if size <= known:
        return model_or_config
    if not known:
        assert not isinstance(model_or_config, nn.Module), "a model without embeddings of token types is built anew"
        logger.info("The model has no token types yet: embeddings of %d are newly initialized.", size)
    elif isinstance(model_or_config, nn.Module):
        tables = [
            module
            for name, module in model_or_config.named_modules()
            if name.rpartition(".")[2] == "token_type_embeddings"
            and isinstance(getattr(module, "weight", None), nn.Parameter)
            and module.weight.shape[0] == known
        ]
        assert tables, f"the config of {configs[0].model_type} counts token types, and the model has none"
        grown: dict[int, nn.Parameter] = {}
        for table in tables:
            old = table.weight
            _grow(table, size, configs[0].initializer_range)
            table.weight = grown.setdefault(id(old), table.weight)  # of two networks that share it
        for _, follower in disentangled(model_or_config):
            follower.resize()
    for config in configs:
        config.type_vocab_size = size
    return model_or_config


def _configs(model_or_config: Any) -> list[Any]:
    """Return every config with the size: those of the heads of a model and of its backbone."""
    if not isinstance(model_or_config, nn.Module):
        return [model_or_config]
    found = [module.config for module in model_or_config.modules() if hasattr(module, "config")]
    return list({id(config): config for config in found if type(config) is type(found[0])}.values())


def _grow(table: Any, size: int, deviation: float) -> None:
    # in place, not a new module: I-BERT's quantized tables keep their class and their integer copy of the weights
    old = table.weight.data
    rows = old.new_empty(size, old.shape[1]).normal_(0.0, deviation) + old.mean(dim=0)
    rows[: old.shape[0]] = old
    for name, buffer in table.named_buffers(recurse=False):
        if buffer.shape == old.shape:
            setattr(table, name, torch.cat([buffer, buffer.new_zeros(size - len(old), old.shape[1])]))
    table.weight = nn.Parameter(rows, requires_grad=table.weight.requires_grad)
    if hasattr(table, "num_embeddings"):
        table.num_embeddings = size
