"""What a tokenizer and a config must agree on: vocabulary, special tokens, inputs."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.segments import type_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def check_vocabulary(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, flag: str, *, from_scratch: bool
) -> None:
    """Check that every token has an embedding.

    Args:
        config: Config of the model.
        tokenizer: The tokenizer.
        flag: Flag and value that the tokenizer comes from, for the message.
        from_scratch: Whether the vocabulary may still change.

    Raises:
        ConfigurationError: When the tokenizer knows more tokens than the model.
    """
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed <= config.vocab_size:
        return
    remedy = (
        f"Give --additional_config_kwargs vocab_size={needed}."
        if from_scratch
        else "Give the --pre_trained_tokenizer that the model was trained with."
    )
    raise ConfigurationError(f"{flag}: it has {needed} tokens and the model's vocabulary {config.vocab_size}. {remedy}")


def agree_on_special_tokens(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, *, from_scratch: bool
) -> None:
    """Fill special tokens that the config lacks; from scratch the tokenizer is right, else a difference is said."""
    ids = {role: getattr(tokenizer, f"{role}_token_id") for role in ("pad", "bos", "eos", "sep", "cls", "mask")}
    ids["bos"] = ids["cls"] if ids["bos"] is None else ids["bos"]
    ids["eos"] = ids["sep"] if ids["eos"] is None else ids["eos"]
    for role, token in ids.items():
        name = f"{role}_token_id"
        said = getattr(config, name, None)
        if token is None or said == token or (said is None and role in ("cls", "mask")):
            continue
        if said is None or from_scratch:
            setattr(config, name, token)
        elif role in ("pad", "eos"):
            logger.warning(
                "The model's config says %s=%s and the tokenizer says %s: the config's is kept for the model, the "
                "tokenizer's for the texts.", name, said, token,
            )  # fmt: skip
    start = getattr(config, "decoder_start_token_id", None)
    if config.is_encoder_decoder and (start is None or (from_scratch and start >= config.vocab_size)):
        config.decoder_start_token_id = config.pad_token_id


def drop_unknown_inputs(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Keep the tokenizer from making token types for a model without them, or with only one."""
    from transformers import MODEL_MAPPING

    classes = MODEL_MAPPING[type(config)]
    model_class: Any = classes[0] if isinstance(classes, tuple) else classes
    unknown = "token_type_ids" not in inspect.signature(model_class.forward).parameters
    if "token_type_ids" in tokenizer.model_input_names and (unknown or type_vocabulary(config) == 1):
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
