"""The vocabulary head of encoder-decoders, skipped: equal to transformers' own loss in value and every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional

from tests import tiny
from tests.tolerances import assert_close, assert_gradients_close
from transformers_framework.models.own_families import ensure_registered
from transformers_framework.models.seq_to_seq import DecoderOutput, VocabularyHead, hidden_states_at
from transformers_framework.processing.masking import sparse_labels
from transformers_framework.registry import MODELS

for family in MODELS.values():
    ensure_registered(family.model_type)
HEADS = transformers.AutoModelForSeq2SeqLM._model_mapping
FAMILIES = sorted(
    name
    for name, family in MODELS.items()
    if family.model_type in transformers.CONFIG_MAPPING and transformers.CONFIG_MAPPING[family.model_type] in HEADS
)


def batch_of(model: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return inputs of two rows and their labels ``(2, 7)``, of which the second row has three."""
    size = model.config.vocab_size
    ids = torch.randint(5, size, (2, 9), generator=torch.Generator().manual_seed(1))
    labels = torch.randint(5, size, (2, 7), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, 6:], labels[1, 3:] = 0, -100
    decoder = labels.roll(1, dims=1).clamp(min=0)
    decoder[:, 0] = 2
    return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoder}, labels


def states_of(model: Any, head: VocabularyHead, batch: dict[str, Any], labels: torch.Tensor) -> tuple[Any, Any]:
    positions, kept = map(torch.from_numpy, sparse_labels(labels.numpy()))
    with head.skipped():
        output = model(**batch, use_cache=False)
    return DecoderOutput(head, hidden_states_at(output, positions)), kept


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_those_of_the_family(family: str) -> None:
    model: Any = tiny.model_for(family, "AutoModelForSeq2SeqLM", init_std=0.5).double().eval()
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias = torch.randn_like(model.final_logits_bias)
    batch, labels = batch_of(model)
    expected = model(**batch).logits
    loss = functional.cross_entropy(expected.flatten(0, 1), labels.flatten(), reduction="sum")
    loss.backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    keys = set(model.state_dict())

    output, kept = states_of(model, VocabularyHead(model), batch, labels)
    found, correct = output.cross_entropy(kept)
    found.backward()
    assert_close(found, loss)
    assert int(correct.sum()) == int((expected.argmax(dim=-1) == labels).sum())
    assert_gradients_close({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, gradients)
    assert set(model.state_dict()) == keys
    assert_close(model(**batch).logits, expected)


def test_likeliest_tokens_and_their_probabilities() -> None:
    model = tiny.model_for("bart", "AutoModelForSeq2SeqLM", init_std=0.5).eval()
    batch, labels = batch_of(model)
    output, kept = states_of(model, VocabularyHead(model), batch, labels)
    tokens, scores = output.top_tokens()
    expected = model(**batch).logits.softmax(dim=-1).max(dim=-1)
    chosen = labels != -100
    assert torch.equal(tokens[kept != -100], expected.indices[chosen])
    assert_close(scores[kept != -100], expected.values[chosen])


def test_a_head_is_put_back_after_an_error() -> None:
    model: Any = tiny.model_for("bart", "AutoModelForSeq2SeqLM")
    head = VocabularyHead(model)
    layer, bias = model.lm_head, model.final_logits_bias
    with pytest.raises(ZeroDivisionError), head.skipped():
        _ = 1 // 0
    assert (model.lm_head is layer, model.final_logits_bias is bias) == (True, True)
