"""The flags of text generation: arguments of transformers' ``GenerationConfig``, those that matter one by one.

An argument that is not given is the checkpoint's, and the default of transformers where that has none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from transformers_framework.models.overrides import Settings
from transformers_framework.restricted import NonNegativeInt, PositiveFloat, PositiveInt, Probability, Range

PREFIX = "generation_"
OTHERS = "additional_generation_kwargs"


class Argument(NamedTuple):
    """One argument: its type and what it means, for users."""

    hint: Any
    help: str


_Share = Annotated[float, Range(above=0, le=1)]
_Cutoff = Annotated[float, Range(ge=0, below=1)]
_Tokens = int | list[int]

ARGUMENTS: dict[str, Argument] = {
    # length
    "max_length": Argument(PositiveInt, "Longest text in tokens, with the decoder's start token."),
    "max_new_tokens": Argument(PositiveInt, "Longest text in tokens, without the decoder's start token."),
    "min_length": Argument(NonNegativeInt, "Shortest text in tokens, with the decoder's start token."),
    "min_new_tokens": Argument(NonNegativeInt, "Shortest text in tokens, without the decoder's start token."),
    "max_time": Argument(PositiveFloat, "Seconds after which the texts of a batch end."),
    "stop_strings": Argument(list[str], "Strings at which a text ends."),
    # beams
    "num_beams": Argument(PositiveInt, "Number of beams for beam search; 1 is no beam search."),
    "num_return_sequences": Argument(PositiveInt, "Number of texts for each row, the best first."),
    "length_penalty": Argument(
        float, "Exponent of the length that divides a beam's log-likelihood; above 0, longer texts are preferred."
    ),
    "early_stopping": Argument(
        bool | Literal["never"],
        "End beam search at num_beams complete texts; false: when better ones are unlikely; never: impossible.",
    ),
    # sampling
    "do_sample": Argument(bool, "Sample tokens; otherwise the most probable one is taken."),
    "temperature": Argument(PositiveFloat, "Divide logits by this number before sampling."),
    "top_k": Argument(NonNegativeInt, "Sample from the K most probable tokens; 0 is all."),
    "top_p": Argument(Probability, "Sample from the fewest tokens whose probabilities sum to P or more."),
    "min_p": Argument(Probability, "Sample from tokens with at least this share of the highest probability."),
    "typical_p": Argument(_Share, "Sample from the locally most typical tokens whose probabilities sum to P or more."),
    "epsilon_cutoff": Argument(_Cutoff, "Sample from tokens of a higher probability than this."),
    "eta_cutoff": Argument(_Cutoff, "Sample from tokens above a limit that falls with the entropy (eta sampling)."),
    # penalties
    "repetition_penalty": Argument(PositiveFloat, "Penalty of tokens that the text has already; 1.0 is none."),
    "encoder_repetition_penalty": Argument(PositiveFloat, "Penalty of tokens that the input lacks; 1.0 is none."),
    "no_repeat_ngram_size": Argument(NonNegativeInt, "Size of the n-grams that occur at most once in a text."),
    "encoder_no_repeat_ngram_size": Argument(NonNegativeInt, "Size of the n-grams of the input that no text has."),
    "exponential_decay_length_penalty": Argument(
        tuple[int, float], "Number of tokens after which the end becomes more probable, and the factor for each token."
    ),
    "renormalize_logits": Argument(bool, "Normalize logits again after all of these changes."),
    "remove_invalid_values": Argument(bool, "Replace logits that are not finite."),
    # tokens
    "forced_bos_token_id": Argument(NonNegativeInt, "First token after decoder_start_token_id, as a language code."),
    "forced_eos_token_id": Argument(_Tokens, "Last token of texts of the greatest length."),
    "suppress_tokens": Argument(list[int], "Tokens that no text has."),
    "begin_suppress_tokens": Argument(list[int], "Tokens with which no text begins."),
    "pad_token_id": Argument(NonNegativeInt, "Token that fills texts up."),
    "bos_token_id": Argument(NonNegativeInt, "Token with which texts begin."),
    "eos_token_id": Argument(_Tokens, "Tokens at which a text ends."),
    "decoder_start_token_id": Argument(_Tokens, "Token that the decoder starts with."),
    # speed
    "use_cache": Argument(bool, "Keep keys and values of tokens that the decoder has read."),
    "cache_implementation": Argument(str, "Kind of that cache: dynamic, static, offloaded or quantized."),
    "prompt_lookup_num_tokens": Argument(int, "Number of tokens to propose from the input and check together."),
    "use_mtp": Argument(bool, "Predict several tokens at once, where the model can."),
    # output, for programs that use an export
    "return_dict_in_generate": Argument(bool, "Let generate() of exports return an object, and not token ids alone."),
    "output_scores": Argument(bool, "Let generate() of exports return scores too."),
}


def flag_of(name: str) -> str:
    """Return how an argument is given on the command line.

    Examples:
        >>> flag_of("num_beams"), flag_of("guidance_scale")
        ('--generation_num_beams', '--additional_generation_kwargs guidance_scale')
    """
    return f"--{PREFIX}{name}" if name in ARGUMENTS else f"--{OTHERS} {name}"


def _declared(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Give a function the rows of :data:`ARGUMENTS` as keyword-only parameters, None by default."""
    rows = {PREFIX + name: argument for name, argument in ARGUMENTS.items()}
    rows[OTHERS] = Argument(
        list[str],
        "Other arguments of transformers' GenerationConfig as KEY=VALUE; values are typed as YAML.",
    )
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in rows]
    )
    function.__annotations__ = {name: row.hint | None for name, row in rows.items()}
    helps = "".join(f"    {name}: {row.help}\n" for name, row in rows.items())
    function.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n{helps}"
    return function


@_declared
def generation_flags(**flags: Any) -> dict[str, Any]:
    """Return the arguments of transformers' ``GenerationConfig`` that were given, by their names there.

    Raises:
        ConfigurationError: When one of the others is not ``KEY=VALUE``, has a flag of its own, or does not exist.
    """
    others = read_others(flags.pop(OTHERS, None) or ())
    return {name.removeprefix(PREFIX): value for name, value in flags.items() if value is not None} | others


def read_others(changes: Sequence[str]) -> dict[str, Any]:
    """Return the values of ``--additional_generation_kwargs``."""
    if not changes:
        return {}
    from transformers import GenerationConfig

    known = {name for name in vars(GenerationConfig()) if not name.startswith("_")} - {"transformers_version"}
    return Settings(
        flag=OTHERS,
        of="GenerationConfig",
        known=known - ARGUMENTS.keys(),
        owned={name: flag_of(name) for name in ARGUMENTS},
        example="guidance_scale=1.5",
        file="generation_config.json of --pre_trained_model",
    ).read(changes)
