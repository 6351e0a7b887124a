"""How texts are generated: the arguments of transformers' ``GenerationConfig`` as flags, checked against each other."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from transformers.generation.configuration_utils import GenerationConfig

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.positions import max_positions
from transformers_framework.restricted import NonNegativeInt, PositiveFloat, PositiveInt, Probability, Range

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

PREFIX = "generation_"

# types as the documentation of transformers writes them; what is not here cannot be written on a command line
TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "list[int]": list[int],
    "int or list[int]": int | list[int],
    "Union[int, list[int]]": int | list[int],
    "str or list[str]": list[str],
    "bool or str": bool | Literal["never"],
    "tuple(int, float)": tuple[int, float],
}
# the numbers that transformers accepts, where it would refuse others only when it generates
RANGES: dict[str, Any] = {
    **dict.fromkeys(
        ("max_length", "max_new_tokens", "num_beams", "num_return_sequences", "max_cache_len"), PositiveInt
    ),
    **dict.fromkeys(("min_length", "min_new_tokens", "top_k"), NonNegativeInt),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), NonNegativeInt),
    **dict.fromkeys(("forced_bos_token_id", "pad_token_id", "bos_token_id"), NonNegativeInt),
    **dict.fromkeys(("max_time", "temperature", "repetition_penalty", "encoder_repetition_penalty"), PositiveFloat),
    **dict.fromkeys(("top_p", "min_p"), Probability),
    **dict.fromkeys(("top_h", "typical_p"), Annotated[float, Range(above=0, le=1)]),
    **dict.fromkeys(("epsilon_cutoff", "eta_cutoff"), Annotated[float, Range(ge=0, below=1)]),
    "assistant_ensemble_weight": Annotated[float, Range(above=0, below=1)],
}
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

_ENTRY = re.compile(r"^    (\w+) *:? *\((.*)\):\n((?: {8}.*\n|\n)*)", re.MULTILINE)
_LINK = re.compile(r"\[([^]]+)\](?:\(([^)]*)\))?")


@functools.cache
def generation_arguments() -> dict[str, tuple[Any, str]]:
    """Return the arguments of ``GenerationConfig`` that words can express: the type and the meaning of each."""
    section = (inspect.getdoc(GenerationConfig) or "").partition("\nArgs:\n")[2] + "\n"
    arguments = {}
    for name, kind, text in _ENTRY.findall(section):
        written = re.sub(r", \*optional\*.*", "", kind).replace("`", "")
        if (hint := RANGES.get(name, TYPES.get(written))) is not None:
            arguments[name] = (hint | None, " ".join(_LINK.sub(_without_markup, text).split()))
    return arguments


def _without_markup(link: re.Match[str]) -> str:
    return f"{link[1]} ({link[2]})" if link[2] else link[1]


def _declared(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Give a function the arguments of ``GenerationConfig`` as keyword-only parameters that are none by default."""
    arguments = {PREFIX + name: argument for name, argument in generation_arguments().items()}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, (hint, _) in arguments.items()
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {name: hint for name, (hint, _) in arguments.items()}
    helps = "".join(f"    {name}: {text}\n" for name, (_, text) in arguments.items())
    function.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n{helps}"
    return function


@_declared
def generation_flags(**flags: Any) -> dict[str, Any]:
    """Return the arguments of transformers' ``GenerationConfig`` that are not none, by their names there."""
    return {name.removeprefix(PREFIX): value for name, value in flags.items() if value is not None}


def generation_config(options: Mapping[str, Any], model: Any, max_length: int) -> GenerationConfig:
    """Return how an encoder-decoder generates: as its checkpoint says, but for what the user says.

    ``max_new_tokens`` and ``min_new_tokens`` become ``max_length`` and ``min_length``, one more for the token that a
    decoder starts with.

    Args:
        options: All flags of the run; those that begin with ``generation_`` and are not none count.
        model: A model of transformers with its own ``generation_config``; where that does not say what decoders start
            with, its ``config`` does.
        max_length: Most tokens of a text, the decoder's start token among them, where the user does not say it.

    Raises:
        ConfigurationError: When the flags contradict each other, or the model cannot do what they ask.
    """
    given = generation_flags(**{name: options[name] for name in options if name.startswith(PREFIX)})
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
            raise ConfigurationError(_told(str(error))) from None
    return config


def generate(model: Any, config: GenerationConfig, tokenizer: Any, **inputs: Any) -> Tensor:
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
        raise ConfigurationError(_told(str(error))) from error
    return getattr(found, "sequences", found)  # scores and states are for programs, no file has them


def _check_together(given: Mapping[str, Any], own: GenerationConfig) -> None:
    """Refuse what transformers would refuse, or would warn of and ignore, of what the user gave."""
    for side in ("max", "min"):
        if {f"{side}_length", f"{side}_new_tokens"} <= given.keys():
            raise ConfigurationError(
                f"{_flag(f'{side}_length')} {given[f'{side}_length']} and {_flag(f'{side}_new_tokens')} "
                f"{given[f'{side}_new_tokens']} say the same in two ways. Leave one of them out."
            )
    judged = GenerationConfig()
    for name, value in ({name: getattr(own, name, None) for name in MODES} | dict(given)).items():
        setattr(judged, name, value)
    try:
        judged.validate(strict=True)
    except ValueError as error:
        raise ConfigurationError(_told(str(error))) from None


def _told(text: str) -> str:
    """Say what transformers says, in one line and with our flags for its arguments."""
    text = text.removeprefix("GenerationConfig is invalid: ").partition("\nIf you're using a pretrained model")[0]
    text = re.sub(r"^- `\w+`: ", "", text.strip(), flags=re.MULTILINE)
    flagged = re.sub(r"`(\w+)(=[^`]+|>1)?`", lambda name: _flagged(name[1], name[2]), text)
    return "Generation: " + " ".join(flagged.split())


def _flagged(name: str, value: str | None) -> str:
    if name not in generation_arguments():
        return f"`{name}{value or ''}`"
    return _flag(name) + (value or "").replace("=", " ").replace(">", " > ")


def _check_assisted(given: Mapping[str, Any], own: GenerationConfig, options: Mapping[str, Any]) -> None:
    """Refuse candidates to be checked by the model where it generates several texts at once."""
    assisted = next((name for name in ASSISTED if given.get(name)), None)
    if assisted is None:
        return
    beams = given.get("num_beams") or own.num_beams or 1
    rows = options.get("eval_batch_size") or options.get("batch_size") or 1
    for flag, value in ((_flag("num_beams"), beams), ("--eval_batch_size", rows)):
        if value > 1:
            raise ConfigurationError(f"{_flag(assisted)} checks candidates of one text at a time: it needs {flag} 1.")


def _check_lengths(config: GenerationConfig, given: Mapping[str, Any], model: Any) -> None:
    """Refuse texts that would end before they may, or that go past the decoder's positions."""
    positions = max_positions(model.config)
    if positions is not None and config.max_length - 1 > positions:  # nothing follows the last token
        flag = _flag("max_length") if "max_length" in given else "--max_sequence_length"
        raise ConfigurationError(
            f"{flag}: texts of {config.max_length} tokens are longer than the decoder's {positions} positions."
        )
    if (config.min_length or 0) <= config.max_length:
        return
    if "min_length" in given:
        limit = _flag("max_length") if "max_length" in given else "--max_sequence_length"
        raise ConfigurationError(
            f"{_flag('min_length')}: a text of {config.min_length} tokens or more cannot end at {config.max_length}, "
            f"as {limit} says (both with the decoder's start token)."
        )
    logger.warning(
        "The checkpoint wants texts of %d tokens or more, and the longest are %d: its own min_length is left out.",
        *(config.min_length, config.max_length),
    )
    config.min_length = 0


def _flag(name: str) -> str:
    return f"--{PREFIX}{name}"
