"""Decoders that predict several tokens a step: what they compute, find and learn, and how they are kept."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional
from transformers.generation import GenerationMixin

from tests import tiny
from tests.tolerances import assert_close, assert_gradients_close
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models import multi_token
from transformers_framework.models.auto import (
    HeadSpec,
    check_pair,
    checkpoint_activations,
    load_config,
    load_model,
)
from transformers_framework.models.seq_to_seq import VocabularyHead
from transformers_framework.models.tokenizers import load_tokenizer
from transformers_framework.registry import PIPELINES

HEAD = "AutoModelForSeq2SeqLM"
PLAIN = {"multi_token_bart": "bart", "multi_token_t5": "t5"}
FAMILIES = sorted(PLAIN)
LIVELY: dict[str, dict[str, Any]] = {  # enough for texts that differ and end at different lengths
    "bart": {"init_std": 0.35, "forced_eos_token_id": None},
    "t5": {"initializer_factor": 1.5},
}
LENGTH = 14


def model_of(family: str, m: int, seed: int = 0, **changes: Any) -> Any:
    """Return a model of few words whose projection is no identity."""
    options = {**LIVELY[PLAIN[family]], "vocab_size": 20, "max_multi_token_predictions": m, **changes}
    model = tiny.model_for(family, HEAD, seed=seed, **options)
    if model.projection is not None:
        noise = torch.randn(model.projection.weight.shape, generator=torch.Generator().manual_seed(seed))
        model.projection.weight.data += noise * 0.15
    return model


def writer_of(family: str, m: int, seed: int = 0) -> Any:
    """Return a model whose texts vary and end, though it has learned nothing.

    With tied embeddings it would repeat the last token, and with small ones of positions fall into a rut.
    """
    model, draw = model_of(family, m, seed), torch.Generator().manual_seed(seed)
    if family == "multi_token_bart":
        model.get_decoder().embed_positions.weight.data *= 10
        model.final_logits_bias = torch.randn(model.final_logits_bias.shape, generator=draw)
        model.final_logits_bias[:, model.config.eos_token_id] = 1.0
    others = model.lm_head.weight[torch.randperm(len(model.lm_head.weight), generator=draw)]
    model.lm_head.weight = torch.nn.Parameter(others.detach().clone())
    return model


def plain_of(model: Any) -> Any:
    """Return the model of transformers with the same weights, but for the projection."""
    values = {k: v for k, v in model.config.to_dict().items() if k not in ("model_type", "max_multi_token_predictions")}
    family = PLAIN[model.config.model_type]
    plain = getattr(transformers, HEAD).from_config(transformers.AutoConfig.for_model(family, **values)).eval()
    own = ("projection.weight", "lm_head.weight")
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k not in own}, strict=False)
    plain.lm_head = model.lm_head
    plain.generation_config = model.generation_config
    return plain


def batch_of(model: Any, rows: int = 3, seed: int = 0, length: int = 9) -> dict[str, torch.Tensor]:
    """Return sources of different lengths."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(6, model.config.vocab_size, (rows, length), generator=draw)
    mask = (torch.arange(length) < torch.randint(3, length + 1, (rows, 1), generator=draw)).long()
    return {"input_ids": ids.where(mask.bool(), model.config.pad_token_id), "attention_mask": mask}


def targets_of(model: Any, batch: dict[str, torch.Tensor], length: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(7)
    ids = torch.randint(6, model.config.vocab_size, (len(batch["input_ids"]), length), generator=draw)
    ids[:, 0] = model.config.decoder_start_token_id
    return ids


class Calls:
    """Counts the calls of a model's decoder."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        model.get_decoder().register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.count += 1


# --- what the decoder returns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("m", "length"), [(2, 8), (3, 10), (4, 3)])
def test_each_logit_comes_from_the_start_of_its_block(family, m, length):
    model = model_of(family, m)
    plain, batch = plain_of(model), batch_of(model)
    targets = targets_of(model, batch, length)
    decoded = plain.get_decoder()(
        input_ids=targets,
        encoder_hidden_states=plain.get_encoder()(**batch).last_hidden_state,
        encoder_attention_mask=batch["attention_mask"],
    ).last_hidden_state
    blocks = model.projection.weight.view(m, model.config.d_model, model.config.d_model)
    scale = model.config.d_model**-0.5 if family == "multi_token_t5" else 1.0
    found = model(**batch, decoder_input_ids=targets).logits
    for t in range(length):
        state = decoded[:, t - t % m] @ blocks[t % m].T
        assert_close(found[:, t], plain.lm_head(state * scale))


@pytest.mark.parametrize("family", FAMILIES)
def test_one_token_a_step_is_the_plain_model(family):
    model = model_of(family, 1)
    plain, batch = plain_of(model), batch_of(model)
    assert model.projection is None
    assert {*model.state_dict()} == {*plain.state_dict()}
    targets = targets_of(model, batch, 6)
    assert_close(model(**batch, decoder_input_ids=targets).logits, plain(**batch, decoder_input_ids=targets).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_later_targets_do_not_change_earlier_logits(family):
    model = model_of(family, 3)
    batch = batch_of(model)
    targets = targets_of(model, batch, 9)
    full = model(**batch, decoder_input_ids=targets).logits
    for length in range(1, 9):
        assert_close(model(**batch, decoder_input_ids=targets[:, :length]).logits, full[:, :length])


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_come_out_where_the_head_is_skipped_and_layers_are_compiled_or_recomputed(family):
    if family == "multi_token_bart":
        changes = {"dropout": 0.0, "encoder_layers": 1, "decoder_layers": 1}
    else:
        changes = {"dropout_rate": 0.0, "num_layers": 1, "num_decoder_layers": 1}
    model = model_of(family, 2, **changes).train()
    batch, head = batch_of(model), VocabularyHead(model)
    targets = targets_of(model, batch, 7)
    expected = model(**batch, decoder_input_ids=targets).logits
    expected.square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}

    def check(states: torch.Tensor) -> None:
        model.zero_grad()
        logits = functional.linear(states, head.weight, head.bias)
        assert_close(logits, expected)
        logits.square().mean().backward()
        assert_gradients_close({name: p.grad for name, p in model.named_parameters()}, gradients)

    def states() -> torch.Tensor:
        with head.skipped():
            return model(**batch, decoder_input_ids=targets, use_cache=False).logits

    check(states())
    checkpoint_activations(model.base_model)
    check(states())
    model.gradient_checkpointing_disable()
    model.compile(backend="aot_eager")
    check(states())


def test_models_that_predict_nothing_are_refused():
    with pytest.raises(ValueError, match="max_multi_token_predictions is 0"):
        tiny.model_for("multi_token_t5", HEAD, max_multi_token_predictions=0)


# --- search ----------------------------------------------------------------------------------------------------------

SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy, no repetition": {"no_repeat_ngram_size": 2, "repetition_penalty": 1.7, "min_length": 6},
    "greedy, forced": {"forced_bos_token_id": 9, "forced_eos_token_id": 3, "bad_words_ids": [[11], [12, 13]]},
    "greedy, two ends": {"eos_token_id": [2, 7, 8, 14]},
    "greedy, no end": {"eos_token_id": None},
    "greedy, suppressed": {"suppress_tokens": [7, 8, 13], "begin_suppress_tokens": [9, 10], "min_new_tokens": 4},
    "greedy, of the source": {"encoder_repetition_penalty": 1.5, "encoder_no_repeat_ngram_size": 1},
    "sample": {"do_sample": True, "top_k": 0},
    "sample, cut": {"do_sample": True, "top_k": 12, "top_p": 0.8, "temperature": 1.4, "num_return_sequences": 3},
    "sample, typical": {"do_sample": True, "typical_p": 0.7, "min_p": 0.01, "renormalize_logits": True},
    "beams": {"num_beams": 4},
    "beams, all": {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.0},
    "beams, long": {"num_beams": 3, "length_penalty": 2.0, "min_length": 5, "no_repeat_ngram_size": 2},
    "beams, short": {"num_beams": 3, "length_penalty": -1.0, "num_return_sequences": 2},
    "beams, early": {"num_beams": 4, "early_stopping": True, "num_return_sequences": 2},
    "beams, never early": {"num_beams": 4, "early_stopping": "never", "length_penalty": 1.5},
    "beams, never early, short": {"num_beams": 2, "early_stopping": "never", "length_penalty": -0.5},
    "beams, forced": {"num_beams": 3, "forced_bos_token_id": 9, "forced_eos_token_id": 3, "bad_words_ids": [[11]]},
    "beams, two ends": {"num_beams": 3, "eos_token_id": [2, 7, 8, 14]},
    "beams, no end": {"num_beams": 3, "eos_token_id": None},
    "beams, penalized": {"num_beams": 5, "repetition_penalty": 1.4, "exponential_decay_length_penalty": (4, 1.3)},
    "beams, sampled": {"num_beams": 3, "do_sample": True, "top_k": 20, "temperature": 1.3},
    "beams, many": {"num_beams": 12, "num_return_sequences": 12, "max_length": 5},
    "no room": {"num_beams": 2, "max_length": 2},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["greedy", "sample", "beams", "beams, early"])
def test_texts_of_these_models_end_here_and_there(family, name):
    """Else the tests below would see little."""
    lengths = []
    for seed in range(6):
        model = writer_of(family, 1, seed)
        found = found_by(type(model).generate, model, batch_of(model, seed=seed), **SEARCHES[name])
        ends = functional.pad((found[:, 1:] == model.config.eos_token_id).int(), (0, 1), value=1)
        lengths += ends.argmax(dim=1).tolist()
    assert len({*lengths}) >= 2


def found_by(search: Any, model: Any, batch: dict[str, torch.Tensor], **options: Any) -> torch.Tensor:
    torch.manual_seed(3)
    return search(model, **batch, **{"max_length": LENGTH, **options})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SEARCHES)
def test_one_token_a_step_finds_what_transformers_finds(family, name):
    for seed in range(4):
        model = writer_of(family, 1, seed)
        plain, batch = plain_of(model), batch_of(model, seed=seed)
        expected = found_by(GenerationMixin.generate, plain, batch, **SEARCHES[name])
        found = found_by(multi_token.MultiTokenGenerationMixin.generate, model, batch, **SEARCHES[name])
        assert torch.equal(found, expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("m", [2, 3, 4])
def test_blocks_are_searched_token_by_token(family, m):
    """Transformers' search without a cache reads every prefix anew, and needs no block."""
    for seed, (name, options) in enumerate(SEARCHES.items()):
        model = writer_of(family, m, seed)
        batch = batch_of(model, seed=seed)
        expected = found_by(GenerationMixin.generate, model, batch, **options, use_cache=False)
        found = found_by(multi_token.MultiTokenGenerationMixin.generate, model, batch, **options)
        assert found.tolist() == expected.tolist(), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}])
def test_texts_may_be_begun_anywhere_in_a_block(family, options):
    model = writer_of(family, 3)
    batch = batch_of(model)
    for length in range(1, 6):
        given = {"decoder_input_ids": targets_of(model, batch, length), **options}
        expected = found_by(GenerationMixin.generate, model, batch, **given, use_cache=False)
        assert torch.equal(found_by(type(model).generate, model, batch, **given), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"num_beams": 2}])
def test_the_decoder_is_called_once_a_block(family, m, options):
    model = writer_of(family, m)
    calls = Calls(model)
    model.generation_config.eos_token_id = None
    config = transformers.GenerationConfig(max_length=14, **options)
    found = model.generate(**batch_of(model), generation_config=config)
    assert found.shape[1] == 14
    assert calls.count == math.ceil(13 / m)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
def test_a_process_that_is_done_goes_on_calling_until_all_are(family, options, monkeypatch):
    model = writer_of(family, 4)
    batch = batch_of(model)
    expected = model.generate(**batch, max_length=6, **options)
    calls, others = Calls(model), iter([1, 1, 1, 1, 1, 0])  # another process has five blocks
    monkeypatch.setattr("torch.distributed.all_reduce", lambda running: running.add_(next(others)))
    assert torch.equal(model.generate(**batch, max_length=6, **options, synced_gpus=True), expected)
    assert calls.count == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use_cache": False}, "use_cache=False"),
        ({"return_dict_in_generate": True, "cache_implementation": "static"}, "implementation=static`, `return_dict"),
        ({"num_beam_groups": 2, "num_beams": 4}, "group beam search"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive search"),
        ({"prompt_lookup_num_tokens": 3}, "assisted generation"),
        ({"streamer": object()}, "streamer"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"stop_strings": ["a"]}, "stop_strings"),
    ],
)  # fmt: skip
def test_what_the_search_cannot_do_is_listed(options, words):
    model = writer_of("multi_token_t5", 2)
    with pytest.raises(ValueError, match=words):
        model.generate(**batch_of(model), **options)
    plain = {name: value for name, value in options.items() if name != "streamer"}
    if plain:
        with pytest.raises(ValueError, match=words):
            model.check_generation(transformers.GenerationConfig(**plain))


# --- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("m", [2, 4])
def test_it_learns_to_copy_and_copies_with_few_calls(family, m):
    length, kinds, first, eos = 8, 4, 3, 2  # each place has words of its own, so that little is to be learned

    def texts(rows: int, seed: int) -> torch.Tensor:
        draw = torch.Generator().manual_seed(seed)
        words = first + kinds * torch.arange(length) + torch.randint(kinds, (rows, length), generator=draw)
        return torch.cat([words, torch.full((rows, 1), eos)], dim=1)

    changes: dict[str, Any] = {"dropout_rate": 0.0}
    if family == "multi_token_bart":
        changes = {"dropout": 0.0, "forced_eos_token_id": None, "init_std": 0.1}
    specials = {"eos_token_id": eos, "pad_token_id": 1, "decoder_start_token_id": 1, "max_multi_token_predictions": m}
    model = tiny.model_for(family, HEAD, vocab_size=first + kinds * length, **specials, **changes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    losses = []
    while len(losses) < 400 and (not losses or losses[-1] > 0.02):
        ids = texts(32, seed=len(losses))
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.02 < math.log(kinds) < losses[0]
    model.eval()
    ids, calls = texts(16, seed=-1), Calls(model)
    for options in ({}, {"do_sample": True, "temperature": 0.5}, {"num_beams": 4, "num_return_sequences": 2}):
        calls.count = 0
        found = model.generate(input_ids=ids, max_length=length + 4, **options)
        best = found[:: options.get("num_return_sequences", 1)]
        assert (best[:, 1 : length + 2] == ids).all(dim=1).float().mean() > 0.9
        assert calls.count <= math.ceil((length + 3) / m)


# --- configs and checkpoints -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folders of plain models, and of models that predict three tokens."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for family, plain in PLAIN.items():
        tiny.save_checkpoint(plain, folder / plain, HEAD, **LIVELY[plain])
        model_of(family, 3).save_pretrained(folder / family)
        tiny.tokenizer_for(family).save_pretrained(folder / family)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_checkpoint_begins_as_the_plain_model(checkpoints, family, caplog):
    source = str(checkpoints / PLAIN[family])
    config = load_config(model=family, pre_trained_model=source)
    assert (config.model_type, config.max_multi_token_predictions) == (family, 2)
    check_pair("masked_lm", PIPELINES["denoising"], family)
    load_tokenizer(config, pre_trained_model=source)
    with caplog.at_level(logging.INFO):
        model = load_model({"denoising": HeadSpec(HEAD)}, config, pre_trained_model=source).heads["denoising"].eval()
    assert "projection.weight" in caplog.text
    assert torch.equal(model.projection.weight, torch.eye(32).repeat(2, 1))
    assert model.projection.weight.requires_grad
    plain, batch = getattr(transformers, HEAD).from_pretrained(source).eval(), batch_of(model)
    targets = targets_of(model, batch, 7)
    expected = plain(**batch, decoder_input_ids=targets).logits
    found = model(**batch, decoder_input_ids=targets).logits
    assert_close(found[:, ::2], expected[:, ::2])
    assert_close(found[:, 1::2], expected[:, :-1:2])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("model_name", ["family", "auto"])
def test_a_checkpoint_keeps_its_projection(checkpoints, family, model_name):
    source = str(checkpoints / family)
    config = load_config(model=family if model_name == "family" else "auto", pre_trained_model=source)
    assert config.max_multi_token_predictions == 3
    model = load_model({"denoising": HeadSpec(HEAD)}, config, pre_trained_model=source).heads["denoising"]
    assert torch.equal(model.projection.weight, model_of(family, 3).projection.weight)


def test_plain_configs_and_those_of_ours_start_from_scratch(checkpoints):
    for source in ("t5", "multi_token_t5"):
        flags = {"pre_trained_config": str(checkpoints / source)}
        config = load_config(model="multi_token_t5", **flags, max_multi_token_predictions=3)
        model = load_model({"denoising": HeadSpec(HEAD)}, config).heads["denoising"]
        assert torch.equal(model.projection.weight, torch.eye(32).repeat(3, 1))


@pytest.mark.parametrize(
    ("model", "source", "m", "words"),
    [
        ("multi_token_t5", "multi_token_t5", 4, "predicts 3 tokens at each step, and not 4"),
        ("auto", "multi_token_bart", 2, "Give --max_multi_token_predictions 3"),
        ("t5", "t5", 2, "belongs to --model multi_token_bart, --model multi_token_t5"),
        ("auto", "bart", 2, "belongs to --model"),
        ("multi_token_bart", "t5", 2, "--model t5"),
        ("t5", "multi_token_t5", None, "--model multi_token_t5"),
    ],
)
def test_what_does_not_fit_is_refused(checkpoints, model, source, m, words):
    with pytest.raises(ConfigurationError, match=words):
        load_config(model=model, pre_trained_model=str(checkpoints / source), max_multi_token_predictions=m)


def test_the_number_of_predictions_has_a_flag(checkpoints):
    with pytest.raises(ConfigurationError, match="--max_multi_token_predictions decides"):
        load_config(
            model="auto",
            pre_trained_model=str(checkpoints / "multi_token_t5"),
            additional_config_kwargs=["max_multi_token_predictions=4"],
        )


ELSEWHERE = """
import json, sys, torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
answers = []
for folder in sys.argv[1:]:
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
    AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    ids = torch.arange(6, 18).view(2, 6)
    logits = model(input_ids=ids, decoder_input_ids=ids).logits
    answers.append([logits.flatten().tolist(), model.generate(ids, num_beams=3, max_length=11).tolist()])
assert not any(name.startswith("transformers_framework") for name in sys.modules)
print(json.dumps(answers))
"""


def test_exports_load_here_and_elsewhere(checkpoints, tmp_path, monkeypatch):
    folders = [str(checkpoints / family) for family in FAMILIES]
    for family, folder in zip(FAMILIES, folders, strict=True):
        loaded, model = getattr(transformers, HEAD).from_pretrained(folder), model_of(family, 3)
        assert type(loaded) is type(model)
        for name, value in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value)
    command = [sys.executable, "-c", ELSEWHERE, *folders]
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert not done.returncode, done.stderr
    ids = torch.arange(6, 18).view(2, 6)
    for family, (logits, texts) in zip(FAMILIES, json.loads(done.stdout.splitlines()[-1]), strict=True):
        model = model_of(family, 3)
        expected = model(input_ids=ids, decoder_input_ids=ids).logits
        assert_close(torch.tensor(logits), expected.flatten().detach())
        assert texts == model.generate(ids, num_beams=3, max_length=11).tolist()
