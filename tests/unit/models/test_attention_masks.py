"""Masks are made without reading which tokens are padding; batches without padding need none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from transformers import AttentionMaskInterface
from transformers.masking_utils import eager_mask, flash_attention_mask, sdpa_mask

from tests import tiny
from tests.synchronizations import waits
from transformers_framework.families import FAMILIES
from transformers_framework.models import attention_masks  # noqa: F401  # registers them

HEADS = (
    *("AutoModelForSeq2SeqLM", "AutoModelForMaskedLM", "AutoModelForSequenceClassification"),
    *("AutoModelForTokenClassification", "AutoModelForQuestionAnswering", "AutoModel"),
)
FAST = ("bert", "modernbert", "t5")


def test_masks_are_those_of_transformers_unread() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    sizes: dict[str, Any] = {"batch_size": 2, "q_length": 3, "kv_length": 3, "device": "cpu"}
    functions = {"sdpa": sdpa_mask, "eager": eager_mask, "flash_attention_2": flash_attention_mask}
    ours = AttentionMaskInterface()
    for name, theirs in functions.items():
        expected = theirs(**sizes, attention_mask=mask, allow_is_bidirectional_skip=True)
        with waits() as places:
            padded = ours[name](**sizes, attention_mask=mask, allow_is_bidirectional_skip=True)
            full = ours[name](**sizes, attention_mask=torch.ones(2, 3).bool(), allow_is_bidirectional_skip=True)
        assert places == []
        assert torch.equal(padded, expected)
        assert full is not None, "a mask that is given is not read"
        on_cpu = ours[name](**sizes, attention_mask=torch.ones(2, 3).bool(), allow_is_bidirectional_skip=True)
        assert on_cpu is None or name == "eager", "where reading is free, a mask without effect is left out"
    assert ours["sdpa"](**sizes, attention_mask=None, allow_is_causal_skip=True) is None


FAMILIES_TESTED = [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES if name != "auto"
]


@pytest.mark.parametrize("family", FAMILIES_TESTED)
def test_no_mask_is_a_mask_of_ones(family: str) -> None:
    config = tiny.config_for(family)
    ids = torch.randint(5, config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = getattr(config, "eos_token_id", None) or 3
    checked = 0
    for name in HEADS:
        auto = getattr(transformers, name)
        if type(config) not in auto._model_mapping:
            continue
        model = auto.from_config(copy.deepcopy(config)).eval()
        inputs: dict[str, Any] = {"input_ids": ids}
        if config.is_encoder_decoder and name in ("AutoModel", "AutoModelForSeq2SeqLM"):
            inputs |= {"decoder_input_ids": ids[:, :8], "use_cache": False}
        if "longformer" in family:  # which looks for separators else
            inputs["global_attention_mask"] = torch.zeros_like(ids).index_fill(1, torch.tensor(0), 1)
        found = []
        for mask in ({}, {"attention_mask": torch.ones_like(ids)}):
            torch.manual_seed(0)  # for hashes of yoso
            with torch.no_grad():
                found.append(model(**inputs, **mask)[0])
        assert torch.equal(*found), name
        checked += 1
    assert checked
