"""What a tokenizer and a config must agree on: vocabulary, special tokens, inputs."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.families import family_of
from transformers_framework.models.segments import type_vocabulary
from transformers_framework.processing.encoding import Template

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

TYPES = "token_type_ids"

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
    """Fill special tokens that the config lacks; from scratch the tokenizer's count, else a difference is logged."""
    ids = {role: getattr(tokenizer, f"{role}_token_id") for role in ("pad", "bos", "eos", "sep", "cls", "mask")}
    ids["bos"] = ids["cls"] if ids["bos"] is None else ids["bos"]
    ids["eos"] = ids["sep"] if ids["eos"] is None else ids["eos"]
    before = {role: getattr(config, f"{role}_token_id", None) for role in ("pad", "bos", "eos")}
    for role, token in ids.items():
        name = f"{role}_token_id"
        own = getattr(config, name, None)
        if token is None or own == token or (own is None and role in ("cls", "mask")):
            continue
        if own is None or from_scratch:
            setattr(config, name, token)
        elif role in ("pad", "eos"):
            logger.warning(
                "The model's config has %s=%s and the tokenizer %s: the model keeps the first, texts get the second.",
                *(name, own, token),
            )
    if config.is_encoder_decoder:
        _agree_on_decoder(config, tokenizer, before if from_scratch else {})


def _agree_on_decoder(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, before: Mapping[str, int | None]
) -> None:
    """Let the decoder begin, and be made to end, with the tokens that have the roles which its config meant.

    Args:
        config: Config of an encoder-decoder, whose special tokens are the tokenizer's.
        tokenizer: The tokenizer.
        before: What the config's special tokens were, by role, where they may still change.
    """
    for name in ("decoder_start_token_id", "forced_eos_token_id"):
        meant = getattr(config, name, None)
        role = next((role for role in ("eos", "pad", "bos") if meant is not None and before.get(role) == meant), None)
        if role is not None:
            setattr(config, name, getattr(config, f"{role}_token_id"))
    start = getattr(config, "decoder_start_token_id", None)
    if start is None or start >= config.vocab_size:
        last = Template.of_target(tokenizer).suffix[-1:] if family_of(config.model_type).starts_with_suffix else ()
        config.decoder_start_token_id = last[0] if last else config.pad_token_id


def agree_on_inputs(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the tokenizer make what the model reads, here and where an export is used.

    No token types for a model that has none, or only one. Types of a second text where the model knows two and the
    tokenizer gives them to the texts: classes of transformers 5, as ALBERT's, leave them out if the checkpoint does not
    list its inputs. Padding is on the right: positions are counted from the first token.
    """
    from transformers import MODEL_MAPPING

    classes = MODEL_MAPPING[type(config)]
    model_class: Any = classes[0] if isinstance(classes, tuple) else classes
    known = type_vocabulary(config) if TYPES in inspect.signature(model_class.forward).parameters else 1
    names = list(tokenizer.model_input_names)
    if known == 1:
        names = [name for name in names if name != TYPES]
    elif TYPES not in names and known > 1 and "model_input_names" not in tokenizer.init_kwargs:
        tokenizer.model_input_names = [*names, TYPES]
        names += [TYPES] if max(Template.of(tokenizer).token_types) else []
    _set(tokenizer, model_input_names=names)
    if tokenizer.padding_side != "right":
        logger.info("The tokenizer pads before the tokens; this model is trained, and exported, with padding after.")
        _set(tokenizer, padding_side="right")


def _set(tokenizer: PreTrainedTokenizerBase, **values: Any) -> None:
    """Set attributes of a tokenizer, and the arguments from which its checkpoints are written."""
    for name, value in values.items():
        setattr(tokenizer, name, value)
    tokenizer.init_kwargs.update(values)
