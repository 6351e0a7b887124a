"""Packed texts give the hidden states and gradients that they give alone, family by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests import tiny
from tests.tolerances import assert_close, assert_gradients_close
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.family_traits import UNTESTED, Masking
from transformers_framework.models.auto import checkpoint_activations
from transformers_framework.models.document_mask import (
    DocumentMask,
    SeqToSeqDocumentMask,
    check_document_mask,
)
from transformers_framework.processing.packing import pack
from transformers_framework.processing.spans import shifted_right
from transformers_framework.registry import MODELS

USUAL = ("bert", "roberta", "distilbert", "electra", "deberta_v2", "modernbert", "esm")
CHANGES: dict[str, dict[str, Any]] = {
    "bigbird_pegasus": {"attention_type": "original_full"},
    "esm": {"token_dropout": False},
    "mobilebert": {"trigram_input": False},
}  # what must be turned off for texts to be kept apart
MASKED = [name for name, family in MODELS.items() if isinstance(family.document_mask, Masking)]
ISOLATED = [
    pytest.param(name, marks=() if name in USUAL else pytest.mark.slow)
    for name in MASKED
    if not tiny.config_for(name).is_encoder_decoder
]
SEQ_TO_SEQ = [
    pytest.param(name, marks=() if name in ("bart", "pegasus", "t5") else pytest.mark.slow)
    for name in MASKED
    if tiny.config_for(name).is_encoder_decoder
]
REFUSED = {name for name, family in MODELS.items() if isinstance(family.document_mask, str)} - {"auto"}
SIZES = (3, 1, 2)  # texts of each row
WIDTH = 30
ROTATED = torch.float32  # in which rotary embeddings are computed, of models in float64 too


def texts(config: Any) -> dict[str, np.ndarray]:
    """Six texts of 4 to 27 tokens, no pad among them."""
    draw = np.random.default_rng(0)
    lengths = np.array([5, 12, 9, 27, 4, 21])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = draw.integers(6, config.vocab_size, mask.shape)
    return {
        "input_ids": np.where(mask, ids, config.pad_token_id),
        "attention_mask": mask.astype(np.int64),
        "weights": np.where(mask, draw.random(mask.shape), 0.0),
    }


def tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in batch.items()}


def states_of(model: Any, inputs: dict[str, Any], weights: torch.Tensor) -> torch.Tensor:
    """Return the hidden states ``(B, L, H)``, and add the gradients of some loss over the tokens."""
    (model(**inputs).logits.tanh().sum(dim=-1) * weights).sum().backward()
    return model.base_model(**inputs).last_hidden_state.detach()


def gradients_of(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def check_equal(model: Any) -> None:
    batch = texts(model.config)
    alone = tensors(batch)
    expected = []
    for ids, mask, weights in zip(alone["input_ids"], alone["attention_mask"] > 0, alone["weights"], strict=True):
        expected.append(states_of(model, {"input_ids": ids[mask][None]}, weights[mask])[0])  # without any padding
    wanted = gradients_of(model)
    packed = tensors(pack(batch, {}, SIZES, width=WIDTH, pad_token_id=model.config.pad_token_id)[0])
    inputs = {"input_ids": packed["input_ids"], **DocumentMask(model.base_model)(packed)}
    states = states_of(model, inputs, packed["weights"])
    gradients = gradients_of(model)
    assert torch.isfinite(states).all(), "padding gives nan"
    assert_close(states[packed["documents"] > 0], torch.cat(expected), dtype=ROTATED)
    assert_gradients_close(gradients, wanted, dtype=ROTATED)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ISOLATED)
def test_packed_is_equal_to_unpacked(name: str, attention: str) -> None:
    kind = transformers.MODEL_FOR_MASKED_LM_MAPPING[type(tiny.config_for(name))]
    if attention == "sdpa" and not kind._supports_sdpa:
        pytest.skip("the family has eager attention only")
    options = {"attn_implementation": attention, **CHANGES.get(name, {})}
    check_equal(tiny.model_for(name, "AutoModelForMaskedLM", **options).double())


def targets(config: Any) -> dict[str, np.ndarray]:
    """Targets of the six texts, of 2 to 17 tokens."""
    draw = np.random.default_rng(1)
    lengths = np.array([11, 2, 17, 3, 9, 5])
    mask = np.arange(lengths.max()) < lengths[:, None]
    labels = np.where(mask, draw.integers(6, config.vocab_size, mask.shape), -100)
    start = config.decoder_start_token_id if config.decoder_start_token_id is not None else 2
    return {
        "labels": labels,
        "decoder_input_ids": shifted_right(labels, start, config.pad_token_id),
        "weights": np.where(mask, draw.random(mask.shape), 0.0),
    }


def states_of_both(model: Any, inputs: dict[str, Any], weights: torch.Tensor) -> list[torch.Tensor]:
    """Return the states of encoder and decoder, and add the gradients of some loss over the tokens of targets."""
    found: list[torch.Tensor] = []
    stacks = (model.get_encoder(), model.get_decoder())
    hooks = [stack.register_forward_hook(lambda *call: found.append(call[-1][0].detach())) for stack in stacks]
    (model(**inputs, use_cache=False).logits.tanh().sum(dim=-1) * weights).sum().backward()
    for hook in hooks:
        hook.remove()
    return found


def check_equal_targets(
    model: Any, document_mask: SeqToSeqDocumentMask, *, prepare: Callable[[], Any] = lambda: None
) -> None:
    batch, own = texts(model.config), targets(model.config)
    ids, starts, weights = map(torch.from_numpy, (batch["input_ids"], own["decoder_input_ids"], own["weights"]))
    read, written = torch.from_numpy(batch["attention_mask"] > 0), torch.from_numpy(own["labels"] != -100)
    alone = []
    document_mask({})
    for row in range(len(ids)):  # without any padding
        inputs = {"input_ids": ids[row, read[row]][None], "decoder_input_ids": starts[row, written[row]][None]}
        alone.append([states[0] for states in states_of_both(model, inputs, weights[row, written[row]])])
    wanted = gradients_of(model)
    prepare()
    packed, moved = pack(batch, {"x": own}, SIZES, width=0, pad_token_id=model.config.pad_token_id)
    rows, inputs = tensors(packed), {"decoder_input_ids": torch.from_numpy(moved["x"]["decoder_input_ids"])}
    inputs |= {"input_ids": rows["input_ids"], **document_mask(rows)}
    found = states_of_both(model, inputs, torch.from_numpy(moved["x"]["weights"]))
    gradients = gradients_of(model)
    for side, states, segments in zip((0, 1), found, (rows["documents"], rows["decoder_documents"]), strict=True):
        assert torch.isfinite(states).all(), "padding gives nan"
        assert_close(states[segments > 0], torch.cat([each[side] for each in alone]), dtype=ROTATED)
    assert_gradients_close(gradients, wanted, dtype=ROTATED)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", SEQ_TO_SEQ)
def test_packed_targets_are_equal_to_unpacked(name: str, attention: str) -> None:
    kind = transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(tiny.config_for(name))]
    if attention == "sdpa" and not kind._supports_sdpa:
        pytest.skip("the family has eager attention only")
    options = {"attn_implementation": attention, **CHANGES.get(name, {})}
    model = tiny.model_for(name, "AutoModelForSeq2SeqLM", **options).double()
    check_equal_targets(model, SeqToSeqDocumentMask(model.base_model))


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_packed_targets_are_equal_with_layers_that_are_run_again_in_the_backward_pass(name: str) -> None:
    rates = ("dropout_rate",) if name == "t5" else ("dropout", "attention_dropout", "activation_dropout")
    model = tiny.model_for(name, "AutoModelForSeq2SeqLM", **dict.fromkeys(rates, 0.0)).double().train()

    def checkpoint() -> None:
        checkpoint_activations(model)
        assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())

    check_equal_targets(model, SeqToSeqDocumentMask(model.base_model), prepare=checkpoint)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_batches_that_are_not_packed_are_left_alone(name: str) -> None:
    model = tiny.model_for(name, "AutoModelForSeq2SeqLM")
    batch, own = tensors(texts(model.config)), tensors(targets(model.config))
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    inputs["decoder_input_ids"] = own["decoder_input_ids"]
    before = model(**inputs).logits
    document_mask = SeqToSeqDocumentMask(model.base_model)
    assert_close(model(**inputs).logits, before)
    rows, _ = pack(texts(model.config), {"x": targets(model.config)}, SIZES, width=0, pad_token_id=0)
    assert document_mask(tensors(rows)).keys() == {"attention_mask", "decoder_attention_mask"}
    assert document_mask(batch) == {}
    assert_close(model(**inputs).logits, before)


@pytest.mark.slow
def test_refused_decoders_do_mix_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers_framework.models.document_mask.check_document_mask", lambda *_, **__: None)
    model = tiny.model_for("pegasus_x", "AutoModelForSeq2SeqLM").double()
    with pytest.raises((AssertionError, RuntimeError)):
        check_equal_targets(model, SeqToSeqDocumentMask(model.base_model))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REFUSED - {"multi_token_bart", "multi_token_t5", "pegasus_x"}))
def test_refused_families_do_mix_texts(name: str) -> None:
    """The other way round: what is refused would be wrong, or not run at all."""
    model = tiny.model_for(name, "AutoModelForMaskedLM")
    batch = texts(model.config)
    packed = tensors(pack(batch, {}, SIZES, width=WIDTH, pad_token_id=model.config.pad_token_id)[0])
    same = packed["documents"][:, None, :, None] == packed["documents"][:, None, None, :]
    mask = torch.zeros(same.shape).masked_fill(~same, torch.finfo(torch.float32).min)
    alone = tensors(batch)
    expected = model.base_model(alone["input_ids"], attention_mask=alone["attention_mask"]).last_hidden_state
    try:
        states = model.base_model(
            packed["input_ids"], attention_mask=mask, position_ids=packed["position_ids"]
        ).last_hidden_state
    except (RuntimeError, ValueError, IndexError):
        return
    assert not torch.allclose(states[packed["documents"] > 0], expected[alone["attention_mask"] > 0], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("convbert", {}, "convolutions run over the borders"),
        ("bart", {}, "decoder attends to the whole row"),
        ("big_bird", {"attention_type": "block_sparse"}, "attention_type=original_full"),
        ("deberta_v2", {"conv_kernel_size": 3}, "convolution"),
        ("esm", {"token_dropout": True}, "token_dropout"),
        ("mobilebert", {"trigram_input": True}, "trigram_input=false"),
    ],
)
def test_what_mixes_texts_is_refused_with_the_reason(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--packing isolated: .*{message}.*--packing full"):
        check_document_mask(tiny.config_for(name, **changes))


@pytest.mark.parametrize(
    ("name", "message"), [("multi_token_bart", "several tokens at once"), ("marian", "no test has shown")]
)
def test_decoders_that_mix_texts_are_refused_with_the_reason(name: str, message: str) -> None:
    config = tiny.config_for(name) if name in MODELS else transformers.AutoConfig.for_model(name)
    with pytest.raises(ConfigurationError, match=f"--packing isolated: .*{message}.*--packing full"):
        check_document_mask(config, packs_targets=True)
    check_document_mask(tiny.config_for("bart"), packs_targets=True)


def test_attention_that_takes_no_such_mask_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"--attention flex_attention.*--attention sdpa"):
        check_document_mask(tiny.config_for("modernbert"), "flex_attention")


def test_every_family_is_either_proven_or_refused() -> None:
    """A family that is new in the registry must be looked at."""
    kinds = transformers.MODEL_FOR_MASKED_LM_MAPPING, transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    found = {
        name
        for name in MODELS
        if name != "auto" and type(config := tiny.config_for(name)) in kinds[config.is_encoder_decoder]
    }
    assert found == {name for name, family in MODELS.items() if family.document_mask != UNTESTED}


@pytest.mark.slow  # flex attention is compiled, and has no backward pass on a CPU
def test_flex_attention_gets_blocks() -> None:
    states = []
    for attention in ("sdpa", "flex_attention"):
        model = tiny.model_for("bert", hidden_size=64, attn_implementation=attention)
        packed = tensors(pack(texts(model.config), {}, SIZES, width=32, pad_token_id=model.config.pad_token_id)[0])
        with torch.no_grad():
            output = model(input_ids=packed["input_ids"], **DocumentMask(model)(packed))
        states.append(output.last_hidden_state[packed["documents"] > 0])
    assert_close(*states)


@pytest.mark.slow
def test_flex_attention_gets_blocks_within_targets_and_across() -> None:
    found = []
    for attention in ("sdpa", "flex_attention"):
        model = tiny.model_for("bart", "AutoModelForSeq2SeqLM", d_model=64, attn_implementation=attention)
        document_mask = SeqToSeqDocumentMask(model.base_model)
        rows, moved = pack(texts(model.config), {"x": targets(model.config)}, SIZES, width=0, pad_token_id=1, multiple=16)  # fmt: skip  # noqa: E501
        batch = tensors(rows)
        inputs = {"input_ids": batch["input_ids"], "decoder_input_ids": tensors(moved["x"])["decoder_input_ids"]}
        with torch.no_grad():
            states = model.base_model(**inputs, **document_mask(batch), use_cache=False).last_hidden_state
        found.append(states[batch["decoder_documents"] > 0])
    assert_close(*found)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_masks_of_targets_can_be_traced(name: str) -> None:
    """In training a batch is packed, in evaluation it is not: the hooks of one traced model see both."""
    torch.compiler.reset()
    model = tiny.model_for(name, "AutoModelForSeq2SeqLM")
    document_mask = SeqToSeqDocumentMask(model.base_model)
    rows, moved = pack(texts(model.config), {"x": targets(model.config)}, SIZES, width=0, pad_token_id=model.config.pad_token_id)  # fmt: skip  # noqa: E501
    batch, ids = tensors(rows), tensors(moved["x"])["decoder_input_ids"]
    packed = {"input_ids": batch["input_ids"], "decoder_input_ids": ids, **document_mask(batch), "use_cache": False}
    plain = {**packed, "attention_mask": batch["attention_mask"], "decoder_attention_mask": None}
    traced = torch.compile(model, backend="eager")
    with torch.no_grad():
        for inputs, given in ((packed, batch), (plain, {}), (packed, batch)):
            document_mask(given)
            assert_close(traced(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("name", ["bert", "deberta_v2", "modernbert"])
def test_masks_and_hooks_can_be_traced(name: str) -> None:
    """As ``--compile`` does, without generating code: the graph is that of the packed model."""
    model = tiny.model_for(name)
    packed = tensors(pack(texts(model.config), {}, SIZES, width=32, pad_token_id=model.config.pad_token_id)[0])
    inputs = {"input_ids": packed["input_ids"], **DocumentMask(model)(packed)}
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
        found = torch.compile(model, backend="eager")(**inputs).last_hidden_state
    assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_narrow_weights_and_padding_give_numbers(attention: str, dtype: torch.dtype) -> None:
    model = tiny.model_for("bert", attn_implementation=attention)
    document_mask = DocumentMask(model)
    model.to(dtype)
    batch = tensors(pack(texts(model.config), {}, SIZES, width=60, pad_token_id=model.config.pad_token_id)[0])
    batch["documents"][2] = 0  # nothing but padding
    states = model(input_ids=batch["input_ids"], **document_mask(batch)).last_hidden_state
    states.float().sum().backward()
    assert torch.isfinite(states).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["bart", "t5"])
def test_narrow_weights_and_padding_of_targets_give_numbers(name: str, attention: str, dtype: torch.dtype) -> None:
    model = tiny.model_for(name, "AutoModelForSeq2SeqLM", attn_implementation=attention)
    document_mask = SeqToSeqDocumentMask(model.base_model)
    model.to(dtype)
    own = {key: value for key, value in targets(model.config).items() if key != "weights"}
    rows, moved = pack(texts(model.config), {"x": own}, SIZES, width=0, pad_token_id=1, multiple=8)
    batch, labels = tensors(rows), tensors(moved["x"])["labels"]
    full = (batch["documents"] > 0).all(dim=1)
    batch["documents"][0][batch["documents"][0] == 0] = 3  # no padding to be seen, but some of the target's to see
    batch["documents"][2] = batch["decoder_documents"][2] = 0  # nothing but padding
    assert not full.any()
    assert (batch["decoder_documents"][0] == 0).any()
    ids = tensors(moved["x"])["decoder_input_ids"]
    logits = model(input_ids=batch["input_ids"], decoder_input_ids=ids, **document_mask(batch), use_cache=False).logits
    logits.float()[labels != -100].sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_hooks_leave_usual_masks_alone() -> None:
    for name in ("deberta_v2", "modernbert", "esm"):
        model = tiny.model_for(name, "AutoModelForMaskedLM", **CHANGES.get(name, {}))
        inputs = {key: value for key, value in tensors(texts(model.config)).items() if key != "weights"}
        before = model(**inputs).logits
        DocumentMask(model.base_model)
        assert_close(model(**inputs).logits, before)
