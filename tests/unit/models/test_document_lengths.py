"""Attention by the lengths of documents gives the losses and gradients of attention with a document mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AttentionInterface

from tests import runs, tiny
from tests.tolerances import assert_close, assert_gradients_close
from tests.unit.models.test_document_mask import (
    CHANGES,
    ISOLATED,
    ROTATED,
    SIZES,
    WIDTH,
    gradients_of,
    states_of,
    tensors,
    texts,
)
from transformers_framework.compat.transformers import SUPPORTS
from transformers_framework.constants import UNPADDED
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models import document_lengths
from transformers_framework.models.document_lengths import LENGTHS, takes_lengths, with_lengths
from transformers_framework.models.document_mask import DocumentMask, check_document_mask
from transformers_framework.models.multi_head import MultiHeadModel
from transformers_framework.processing.packing import pack

OURS = "per_document"


def per_document(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each document, from the arguments of flash attention; heads are ``(B, heads, L, D)``."""
    assert attention_mask is None, "flash attention would read lengths from the mask"
    num_rows, length = query.shape[0], query.shape[2]
    if cu_seq_lens_q is None or cu_seq_lens_k is None or max_length_q is None:  # full rows
        cu_seq_lens_q = cu_seq_lens_k = torch.arange(0, num_rows * length + 1, length)
        max_length_q = max_length_k = length
    assert torch.equal(cu_seq_lens_q, cu_seq_lens_k)
    heads = [each.transpose(1, 2).flatten(0, 1).transpose(0, 1) for each in (query, key, value)]  # (heads, B·L, D)
    found = []
    for start, stop in zip(cu_seq_lens_q[:-1].tolist(), cu_seq_lens_q[1:].tolist(), strict=True):
        assert stop - start <= max_length_q == max_length_k
        places = torch.arange(stop - start)
        window = None if sliding_window is None else (places[:, None] - places).abs() < sliding_window
        part = [each[:, start:stop] for each in heads]
        if stop > start:
            attended = torch.nn.functional.scaled_dot_product_attention(
                *part, attn_mask=window, scale=scaling, enable_gqa=part[0].shape[0] != part[1].shape[0]
            )
            found.append(attended.transpose(0, 1))
    return torch.cat(found).view(num_rows, length, *found[0].shape[1:]), None


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    AttentionInterface.register(OURS, per_document)
    monkeypatch.setattr(document_lengths, "BY_LENGTH", {*document_lengths.BY_LENGTH, OURS})
    monkeypatch.setattr("transformers_framework.models.document_mask.BY_LENGTH", {OURS})


def flash(name: str) -> bool:
    kind = transformers.MODEL_FOR_MASKED_LM_MAPPING.get(type(tiny.config_for(name)), None)
    return bool(getattr(kind, SUPPORTS["flash_attention_2"], False))


BY_LENGTH = [param for param in ISOLATED if flash(param.values[0])]


def model_of(name: str, attention: str) -> MultiHeadModel:
    torch.manual_seed(3)
    head = tiny.model_for(name, "AutoModelForMaskedLM", attn_implementation="sdpa", **CHANGES.get(name, {})).double()
    head.set_attn_implementation(attention)
    return MultiHeadModel({"masked_lm": head})


def run(model: MultiHeadModel, batch: Mapping[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    head, inputs = model.heads["masked_lm"], {key: batch[key] for key in ("input_ids", "attention_mask")}
    if "documents" in batch:
        inputs |= DocumentMask(*model.backbones)(batch)
    states = states_of(head, inputs | batch.get(LENGTHS, {}), batch["weights"])
    return states, gradients_of(head)


@pytest.mark.parametrize("name", BY_LENGTH)
def test_lengths_do_what_masks_do(name: str) -> None:
    masked, by_length = model_of(name, "sdpa"), model_of(name, OURS)
    assert takes_lengths(by_length)
    assert not takes_lengths(masked)
    plain = texts(masked.config)
    packed = pack(plain, {}, SIZES, width=WIDTH, pad_token_id=masked.config.pad_token_id)[0]
    for batch in map(tensors, (plain, packed)):
        expected, wanted = run(masked, batch)
        states, gradients = run(by_length, with_lengths(batch, ("",), ()))
        there = batch.get("documents", batch["attention_mask"]) > 0
        assert_close(states[there], expected[there], dtype=ROTATED)
        assert_gradients_close(gradients, wanted, dtype=ROTATED)


def test_full_rows_need_no_lengths() -> None:
    ids = torch.ones(2, 3, dtype=torch.int64)
    assert with_lengths({"attention_mask": ids, UNPADDED: ("",)}, ("",), ("",)).keys() == {"attention_mask", UNPADDED}


@pytest.mark.parametrize("name", ["bart", "pegasus"])
def test_others_are_refused_with_the_reason(name: str) -> None:
    config = tiny.config_for(name)
    with pytest.raises(ConfigurationError, match="Use --attention sdpa") as error:
        check_document_mask(config, OURS, packs_targets=config.is_encoder_decoder)
    assert str(document_lengths.no_lengths(config)) in str(error.value)


@pytest.fixture
def by_length(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let runs with sdpa attention compute it by lengths."""
    original = MultiHeadModel.__init__

    def changed(self: MultiHeadModel, heads: Mapping[str, Any], *args: Any) -> None:
        for head in heads.values():
            head.set_attn_implementation(OURS)
        original(self, heads, *args)

    monkeypatch.setattr(MultiHeadModel, "__init__", changed)
    return


NO_DROPOUT = ["hidden_dropout_prob=0", "attention_probs_dropout_prob=0"]
RUNS: dict[str, dict[str, Any]] = {
    "masked_lm": {"packing": "isolated", "additional_config_kwargs": NO_DROPOUT},
    "seq_class": {"model": "modernbert"},
    "retrieval": {"additional_config_kwargs": NO_DROPOUT},
}


@pytest.mark.parametrize("pipeline", RUNS)
def test_whole_runs(tmp_path: Path, pipeline: str, request: pytest.FixtureRequest) -> None:
    data = runs.datasets(tmp_path / "data", pipeline)
    del data["predict_dataset"]
    flags = {**data, **RUNS[pipeline], "max_steps": 3}
    first = runs.run(tmp_path, pipeline=pipeline, name="masked", **flags)
    request.getfixturevalue("by_length")
    second = runs.run(tmp_path, pipeline=pipeline, name="by_length", **flags)
    ours, theirs = runs.scalars(second), runs.scalars(first)
    assert ours.keys() == theirs.keys()
    losses = [name for name in ours if name.endswith("loss")]
    for name in losses:
        for (_, value), (_, other) in zip(ours[name], theirs[name], strict=True):
            assert_close(torch.tensor(value), torch.tensor(other))
