"""How texts are generated: the flags of generation, checked against each other and against the model."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from transformers.generation.configuration_utils import GenerationConfig

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.generation_flags import ARGUMENTS, OTHERS, PREFIX, flag_of, generation_flags
from transformers_framework.models.positions import max_positions

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig

logger = logging.getLogger(__name__)

# what decides whether other arguments make sense: a model's own choice of these counts as much as the user's
MODES = (
    "do_sample",
    "num_beams",
    "num_return_sequences",
    "use_cache",
    "cache_implementation",
    "return_dict_in_generate",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
)
ASSISTED = ("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp")  # these need one row and no beams


class GenerativeModel(Protocol):
    """What generation asks of a model of transformers."""

    @property
    def config(self) -> PreTrainedConfig:
        """Config of the model."""

    @property
    def generation_config(self) -> GenerationConfig:
        """How the model generates where nothing else is asked for."""

    def generate(self, **arguments: Any) -> Any:
        """Return token ids ``(B * R, T) int64``, or an output whose ``sequences`` are these."""


def generation_config(options: Mapping[str, Any], model: GenerativeModel, max_length: int) -> GenerationConfig:
    """Return how an encoder-decoder generates: as its checkpoint does, except for what the user gives.

    ``max_new_tokens`` and ``min_new_tokens`` become ``max_length`` and ``min_length``, one more for the token that a
    decoder starts with.

    Args:
        options: All flags of the run; those of generation that are not None count.
        model: A model of transformers with its own ``generation_config``; where that has no
            ``decoder_start_token_id``, its ``config`` has.
        max_length: Most tokens of a text, the decoder's start token among them, where the user gives no length.

    Raises:
        ConfigurationError: When the flags contradict each other, or the model cannot do what they ask.
    """
    given = generation_flags(**{name: options[name] for name in options if name.startswith(PREFIX) or name == OTHERS})
    own = model.generation_config
    _check_together(given, own)
    _check_assisted(given, own, options)
    for side in ("max", "min"):
        if (new_tokens := given.pop(f"{side}_new_tokens", None)) is not None:
            given[f"{side}_length"] = new_tokens + 1
    config = copy.deepcopy(own)
    if config.decoder_start_token_id is None:
        config.decoder_start_token_id = getattr(model.config, "decoder_start_token_id", None)
    for name, value in {"max_length": max_length, **given}.items():
        setattr(config, name, value)
    if config.max_new_tokens is not None:  # the checkpoint's own, which would win over the length
        config.max_new_tokens = config.max_length - 1
    _check_lengths(config, given, model)
    if (check := getattr(model, "check_generation", None)) is not None:  # a generator of its own knows what it can do
        try:
            check(config)
        except ValueError as error:
            raise ConfigurationError(_rephrased(str(error))) from None
    return config


def generate(model: GenerativeModel, config: GenerationConfig, tokenizer: Any, **inputs: Any) -> Tensor:
    """Return generated texts, those of one row after the other, ``(B * R, T) int64``.

    Args:
        model: A model of transformers.
        config: As :func:`generation_config` returns it.
        tokenizer: Tokenizer of the run, by which texts to stop at are found.
        **inputs: Of the model.

    Raises:
        ConfigurationError: When the model cannot do what the flags ask.
    """
    by_text = {"tokenizer": tokenizer} if config.stop_strings else {}
    try:
        found = model.generate(**inputs, generation_config=config, **by_text)
    except (ValueError, NotImplementedError) as error:
        raise ConfigurationError(_rephrased(str(error))) from error
    # scores and hidden states are written to no file
    return cast("Tensor", getattr(found, "sequences", found))


def _check_together(given: Mapping[str, Any], own: GenerationConfig) -> None:
    """Refuse what transformers would refuse, or would warn of and ignore, of what the user gave."""
    for side in ("max", "min"):
        if {f"{side}_length", f"{side}_new_tokens"} <= given.keys():
            raise ConfigurationError(
                f"{flag_of(f'{side}_length')} {given[f'{side}_length']} and {flag_of(f'{side}_new_tokens')} "
                f"{given[f'{side}_new_tokens']} say the same in two ways. Leave one of them out."
            )
    judged = GenerationConfig()
    for name, value in ({name: getattr(own, name, None) for name in MODES} | dict(given)).items():
        setattr(judged, name, value)
    try:
        judged.validate(strict=True)
    except (ValueError, TypeError, AttributeError) as error:  # values of the other arguments have no type of ours
        raise ConfigurationError(_rephrased(str(error))) from None


def _rephrased(text: str) -> str:
    """Return a message of transformers in one line, with our flags for its arguments."""
    text = text.removeprefix("GenerationConfig is invalid: ").partition("\nIf you're using a pretrained model")[0]
    text = re.sub(r"^- `\w+`: ", "", text.strip(), flags=re.MULTILINE)
    flagged = re.sub(r"`(\w+)(=[^`]+|>1)?`", lambda name: _flagged(name[1], name[2]), text)
    return "Generation: " + " ".join(flagged.split())


def _flagged(name: str, value: str | None) -> str:
    if name in ARGUMENTS:
        return flag_of(name) + (value or "").replace("=", " ").replace(">", " > ")
    return f"`{name}{value or ''}`" if not hasattr(GenerationConfig(), name) else flag_of(name) + (value or "")


def _check_assisted(given: Mapping[str, Any], own: GenerationConfig, options: Mapping[str, Any]) -> None:
    """Refuse candidates to be checked by the model where it generates several texts at once."""
    assisted = next((name for name in ASSISTED if given.get(name)), None)
    if assisted is None:
        return
    beams = given.get("num_beams") or own.num_beams or 1
    rows = options.get("eval_batch_size") or options.get("batch_size") or 1
    for flag, value in ((flag_of("num_beams"), beams), ("--eval_batch_size", rows)):
        if value != 1:
            raise ConfigurationError(f"{flag_of(assisted)} checks candidates of one text at a time: it needs {flag} 1.")


def _check_lengths(config: GenerationConfig, given: Mapping[str, Any], model: GenerativeModel) -> None:
    """Refuse texts that would end before they may, or that go past the decoder's positions."""
    positions = max_positions(model.config)
    if positions is not None and config.max_length - 1 > positions:  # nothing follows the last token
        flag = flag_of("max_length") if "max_length" in given else "--max_sequence_length"
        raise ConfigurationError(
            f"{flag}: texts of {config.max_length} tokens are longer than the decoder's {positions} positions."
        )
    if (config.min_length or 0) <= config.max_length:
        return
    if "min_length" in given:
        limit = flag_of("max_length") if "max_length" in given else "--max_sequence_length"
        raise ConfigurationError(
            f"{flag_of('min_length')}: a text of {config.min_length} tokens or more cannot end at {config.max_length}, "
            f"as {limit} says (both with the decoder's start token)."
        )
    logger.warning(
        "The checkpoint's min_length is %d, and texts end at %d tokens: min_length is left out.",
        *(config.min_length, config.max_length),
    )
    config.min_length = 0
