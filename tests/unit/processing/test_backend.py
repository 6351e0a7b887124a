"""The tokenizer that reads texts: no special token comes out of one, whatever it spells."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import AddedToken

from tests import tiny
from transformers_framework.inputs.inputs import InputNeeds
from transformers_framework.inputs.text import TextInputs
from transformers_framework.processing.backend import RESERVED, bare_tokenizer

TEXT = "He {0}wrote{0} {0} there{0}"


def special_ids(tokenizer):
    return set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


def ids_of(backend, text):
    return backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("style", sorted(tiny.STYLES))
def test_no_special_token_comes_from_a_text(style):
    tokenizer = tiny.tokenizer(style=style)
    inputs = TextInputs(tokenizer, 2, input_columns=["text"], max_sequence_length=[128])
    texts = [TEXT.format(token) for token in tokenizer.all_special_tokens]
    plain = inputs.post_process({"text": ["He wrote there"]})
    batch = inputs.post_process({"text": texts})
    special = sorted(special_ids(tokenizer) - {tokenizer.pad_token_id})
    expected = np.isin(plain["input_ids"], special).sum()
    assert np.isin(batch["input_ids"], special).sum(axis=1).tolist() == [expected] * len(texts)
    assert ((batch["input_ids"] != tokenizer.pad_token_id) == (batch["attention_mask"] > 0)).all()


@pytest.mark.parametrize("style", sorted(tiny.STYLES))
def test_texts_without_special_tokens_are_read_as_before(style):
    tokenizer = tiny.tokenizer(style=style)
    backend = bare_tokenizer(tokenizer)
    for text in (*tiny.TEXT[:8], "unknown ‱ sign", ""):
        assert ids_of(backend, text) == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_marks_that_were_added_for_texts_stay_tokens(kind):
    tokenizer = tiny.tokenizer(kind)
    tokenizer.add_special_tokens({"extra_special_tokens": ["[E1]", "<extra_id_7>"]})
    tokenizer.add_tokens([AddedToken("<name>", special=False)])
    mark, sentinel, name = tokenizer.convert_tokens_to_ids(["[E1]", "<extra_id_7>", "<name>"])
    found = ids_of(bare_tokenizer(tokenizer), "the [E1] old <name> kettle <extra_id_7>")
    assert mark in found
    assert name in found
    assert sentinel not in found


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_what_is_to_be_filled_in_may_be_kept(kind):
    tokenizer = tiny.tokenizer(kind)
    text = f"the {tokenizer.mask_token} fox {tokenizer.sep_token}"
    found = ids_of(bare_tokenizer(tokenizer, keep=[tokenizer.mask_token]), text)
    assert found.count(tokenizer.mask_token_id) == 1
    assert tokenizer.sep_token_id not in found


def test_texts_to_predict_may_hold_masks_and_others_may_not():
    needs = InputNeeds(tokens_to_fill=("[MASK]",))
    inputs = TextInputs(tiny.tokenizer(), 2, needs, input_columns=["text"], max_sequence_length=[32])
    mask = inputs.tokenizer.mask_token_id
    counts = {
        stage: int((inputs.in_stage(stage).post_process({"text": ["the [MASK] fox"]})["input_ids"] == mask).sum())
        for stage in ("train", "valid", "test", "predict")
    }
    assert counts == {"train": 0, "valid": 0, "test": 0, "predict": 1}
    assert inputs.in_stage("predict").length_key != inputs.length_key, "what is cached for one is not read by the other"


def test_spellings_of_roles_are_known():
    spelled = (
        "</s>",
        "<s>",
        "<pad>",
        "<mask>",
        "[CLS]",
        "[MASK]",
        "<extra_id_12>",
        "▁<extra_id_3>",
        "<mask_1>",
        "<unk_7>",
    )
    assert all(map(RESERVED.fullmatch, spelled))
    assert not any(map(RESERVED.fullmatch, ("[E1]", "<name>", "<s>s", "@user", "a")))
