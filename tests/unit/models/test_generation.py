"""How texts are generated: transformers' own arguments as flags, what they become, and which contradict each other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from transformers import GenerationConfig

from tests import tiny
from transformers_framework.cli.arguments import Arguments
from transformers_framework.cli.flags import flags_of
from transformers_framework.cli.given import Given
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models.generation import generate, generation_config
from transformers_framework.models.generation_flags import ARGUMENTS, generation_flags, read_others

FLAGS = {flag.name: flag for flag in flags_of(generation_flags)}
VALUES: dict[Any, Any] = {int: 3, float: 0.5, bool: True, str: "dynamic"}


def model(family: str = "bart", **own: Any) -> Any:
    return SimpleNamespace(config=tiny.config_for(family), generation_config=GenerationConfig(**own))


def made(*, of: Any = None, target: int = 20, **flags: Any) -> GenerationConfig:
    """Return a config made of flags without their prefix."""
    options = {f"generation_{name}": value for name, value in flags.items()}
    return generation_config({"batch_size": 8, **options}, of or model(), target)


def test_every_row_is_an_argument_of_transformers_and_a_flag() -> None:
    assert ARGUMENTS.keys() <= vars(GenerationConfig()).keys()
    assert list(FLAGS) == [f"generation_{name}" for name in ARGUMENTS] + ["additional_generation_kwargs"]
    assert all(flag.default is None and flag.help for flag in FLAGS.values())


def test_flags_have_types() -> None:
    def value(name: str, *words: str) -> Any:
        return Arguments({"generation": FLAGS}).read(f"generation_{name}", Given(f"--generation_{name}", words))

    assert (value("num_beams", "4"), value("do_sample"), value("top_p", "0.9")) == (4, True, 0.9)
    assert (value("early_stopping"), value("early_stopping", "never")) == (True, "never")
    assert value("exponential_decay_length_penalty", "5", "1.1") == (5, 1.1)
    assert (value("eos_token_id", "1"), value("eos_token_id", "1", "2")) == (1, [1, 2])
    assert value("stop_strings", "end", "the end") == ["end", "the end"]
    assert value("suppress_tokens", "7") == [7]
    assert value("num_beams", "none") is None
    for name, wrong in (("top_p", "1.5"), ("temperature", "0"), ("num_beams", "0"), ("early_stopping", "sometimes")):
        with pytest.raises(ConfigurationError, match=f"--generation_{name}: found '{wrong}'"):
            value(name, wrong)


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_every_flag_reaches_the_config(name: str) -> None:
    hint = next(part for part in get_args(ARGUMENTS[name].hint | None) if part is not type(None))
    hint = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    value = VALUES.get(hint, [3] if hint == list[int] else (3, 1.5) if hint == tuple[int, float] else ["end"])
    beside = {
        **{flag: {"do_sample": True} for flag in ("temperature", "top_p", "min_p", "typical_p", "top_k")},
        **{flag: {"do_sample": True} for flag in ("epsilon_cutoff", "eta_cutoff")},
        **{flag: {"num_beams": 4} for flag in ("early_stopping", "length_penalty", "num_return_sequences")},
        "output_scores": {"return_dict_in_generate": True},
        **{flag: {"eval_batch_size": 1} for flag in ("prompt_lookup_num_tokens", "use_mtp")},
    }.get(name, {})
    options = {f"generation_{flag}": setting for flag, setting in {name: value, **beside}.items()} | beside
    config = generation_config({"batch_size": 8, **options}, model(), 20)
    if name.endswith("_new_tokens"):
        assert getattr(config, name.replace("new_tokens", "length")) == 4, "with the start token"
    else:
        assert getattr(config, name) == value
    assert getattr(generation_config({"batch_size": 8}, model(), 20), name) != value


@pytest.mark.parametrize(
    ("change", "value", "beside"),
    [
        ("guidance_scale=1.5", 1.5, {}),
        ("top_h=0.4", 0.4, {"generation_do_sample": True}),
        ("output_logits=true", True, {"generation_return_dict_in_generate": True}),
        ("assistant_early_exit=3", 3, {"batch_size": 1}),
        ("bad_words_ids=[[7], [8, 9]]", [[7], [8, 9]], {}),
        ("num_assistant_tokens_schedule=constant", "constant", {}),
    ],
)
def test_every_other_argument_reaches_the_config(change: str, value: Any, beside: dict[str, Any]) -> None:
    options = {"batch_size": 8, "additional_generation_kwargs": [change], **beside}
    assert getattr(generation_config(options, model(), 20), change.partition("=")[0]) == value


def test_all_arguments_of_transformers_can_be_given() -> None:
    """As a flag, or by name."""
    with pytest.raises(ConfigurationError, match=r"Known: (.*)\.$") as error:
        read_others(["x=1"])
    others = str(error.value).partition("Known: ")[2].removesuffix(".").split(", ")
    names = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert {*ARGUMENTS, *others, "transformers_version"} == names
    assert not ARGUMENTS.keys() & set(others)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "guidance_scael=2",
            "guidance_scael=2: GenerationConfig has no 'guidance_scael'. Did you mean 'guidance_scale'",
        ),
        ("num_beams=4", "num_beams=4: --generation_num_beams decides num_beams"),
        ("guidance_scale", "guidance_scale: expected KEY=VALUE, for instance guidance_scale=1.5"),
        (
            "sequence_bias={a: 1}",
            "sequence_bias={a: 1}: nested values .* generation_config.json of --pre_trained_model",
        ),
        ("transformers_version=4", "transformers_version=4: GenerationConfig has no"),
        ("_from_model_config=true", "_from_model_config=true: GenerationConfig has no"),
    ],
)
def test_what_is_no_other_argument_is_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^--additional_generation_kwargs {message}"):
        generation_config({"batch_size": 8, "additional_generation_kwargs": [change]}, model(), 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("top_h=0.4", "do_sample is not set.*--additional_generation_kwargs top_h is set to"),
        (
            "assistant_early_exit=3",
            "^--additional_generation_kwargs assistant_early_exit checks .* --eval_batch_size 1",
        ),
        ("assistant_ensemble_weight=high", "^Generation: .*'str'"),
        ("watermarking_config=3", "^Generation: .*'int'"),
    ],
)
def test_values_of_other_arguments_that_do_not_fit_are_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        generation_config({"batch_size": 8, "additional_generation_kwargs": [change]}, model(), 20)


def test_the_checkpoint_decides_what_the_user_does_not() -> None:
    own = model(num_beams=4, length_penalty=2.0, no_repeat_ngram_size=3, max_length=142, min_length=5)
    config = made(of=own, no_repeat_ngram_size=2)
    assert (config.num_beams, config.length_penalty, config.no_repeat_ngram_size) == (4, 2.0, 2)
    assert (config.max_length, config.min_length) == (20, 5)
    assert (own.generation_config.max_length, own.generation_config.no_repeat_ngram_size) == (142, 3)
    assert made(of=own, target=30).max_length == 30
    assert made(of=own, num_return_sequences=4).num_return_sequences == 4
    assert made(of=model(max_new_tokens=70)).max_new_tokens == 19, "the checkpoint's would win over the length"


def test_what_the_checkpoint_has_and_nobody_asked_for_is_no_contradiction() -> None:
    own = model(early_stopping=True, length_penalty=2.0, num_beams=4, temperature=0.7, do_sample=True)
    assert made(of=own, num_beams=1, do_sample=False).num_beams == 1


def test_a_shortest_length_of_the_checkpoint_gives_way(caplog: Any) -> None:
    assert made(of=model(min_length=56, max_length=142)).min_length == 0
    assert "min_length is 56" in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_length": 9, "max_new_tokens": 9}, "--generation_max_length 9 and --generation_max_new_tokens 9 say"),
        ({"min_length": 9, "min_new_tokens": 9}, "--generation_min_length 9 and --generation_min_new_tokens 9 say"),
        ({"min_length": 21}, "--generation_min_length: .* 21 tokens .* end at 20, as --max_sequence_length"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "--generation_min_length: .* 10 .* 9, as --generation_max_length"),
        ({"num_return_sequences": 2}, "--generation_num_return_sequences different than 1"),
        ({"num_return_sequences": 5, "num_beams": 4}, r"--generation_num_return_sequences \(5\) has to be smaller"),
        ({"temperature": 0.7}, "--generation_do_sample is not set to `True`.*--generation_temperature is set to `0.7`"),
        ({"top_k": 5, "top_p": 0.5}, "--generation_top_p is set .*--generation_top_k is set"),
        ({"early_stopping": True}, "--generation_num_beams is set to None.*--generation_early_stopping"),
        ({"length_penalty": 2.0, "num_beams": 1}, "--generation_length_penalty is set.*--generation_num_beams > 1"),
        ({"output_scores": True}, "--generation_return_dict_in_generate is NOT"),
        ({"use_cache": False, "cache_implementation": "static"}, "cache_implementation is set to static"),
        ({"cache_implementation": "clever"}, r"--generation_cache_implementation \(clever\)"),
        ({"suppress_tokens": [2], "forced_eos_token_id": 2}, "--generation_forced_eos_token_id .*also in --generation"),
        ({"prompt_lookup_num_tokens": 3, "num_beams": 4}, "prompt_lookup_num_tokens .* needs --generation_num_beams 1"),
        ({"prompt_lookup_num_tokens": 3}, "--generation_prompt_lookup_num_tokens .* needs --eval_batch_size 1"),
        ({"max_length": 130}, "--generation_max_length: texts of 130 tokens are longer than the decoder's 128"),
        ({"max_new_tokens": 129}, "--generation_max_.*: texts of 130 tokens"),
    ],
)
def test_contradictions_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as error:
        made(**flags)
    assert "\n" not in str(error.value)
    assert "pretrained model" not in str(error.value)


def test_lengths_up_to_the_decoders_positions_are_allowed() -> None:
    assert made(target=129).max_length == 129
    assert made(of=model("t5"), target=999).max_length == 999


def test_the_decoder_starts_where_the_checkpoint_says_it_or_else_the_model() -> None:
    eos = tiny.tokenizer_for("bart").eos_token_id
    assert made().decoder_start_token_id == eos
    assert made(of=model(decoder_start_token_id=7)).decoder_start_token_id == 7
    assert made(of=model(decoder_start_token_id=7), decoder_start_token_id=6).decoder_start_token_id == 6


def generated(**flags: Any) -> torch.Tensor:
    bart = tiny.model_for("bart", "AutoModelForSeq2SeqLM", init_std=0.5)
    config = made(of=bart, **flags)
    return generate(bart, config, tiny.tokenizer_for("bart"), input_ids=torch.tensor([[0, 9, 8, 2]]))


@pytest.mark.parametrize("flags", [{}, {"num_beams": 3, "num_return_sequences": 2}, {"max_new_tokens": 4}])
def test_a_model_generates_with_it(flags: dict[str, Any], caplog: Any) -> None:
    found = generated(min_new_tokens=3, **flags)
    assert found.shape[0] == flags.get("num_return_sequences", 1)
    assert 4 <= found.shape[1] <= (5 if "max_new_tokens" in flags else 20)
    assert not caplog.records


def test_texts_to_stop_at_and_outputs_that_no_file_has() -> None:
    whole = generated(min_new_tokens=9)
    assert torch.equal(generated(min_new_tokens=9, return_dict_in_generate=True, output_scores=True), whole)
    stop = tiny.tokenizer_for("bart").decode(whole[0, 3:5])
    assert len(whole[0]) > 5 >= len(generated(min_new_tokens=9, stop_strings=[stop])[0])


def test_what_a_model_cannot_do_is_told() -> None:
    bart = tiny.model_for("bart", "AutoModelForSeq2SeqLM")
    config = generation_config({"generation_use_mtp": True}, bart, 9)
    with pytest.raises(ConfigurationError, match=r"^Generation: .*num_mtp_layers"):
        generate(bart, config, None, input_ids=torch.tensor([[0, 9, 2]]))
