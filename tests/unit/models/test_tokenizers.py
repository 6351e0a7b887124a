"""Tokenizers of other people: classes of transformers, and files that say something else than their class."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from tests import tiny
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.inputs.text import TextInputs
from transformers_framework.models.segments import type_vocabulary
from transformers_framework.models.tokenizers import load_tokenizer
from transformers_framework.processing.tokenizer_json import read_tokenizer
from transformers_framework.registry import MODELS

ROWS = {
    "first": ["Where does the river meet the sea?", "the rain"],
    "second": ["The old lighthouse.", "a storm, a tiger"],
}
SLOW = {"BlenderbotSmallTokenizer", "EsmTokenizer", "M2M100Tokenizer", "PLBartTokenizer"}  # without a Rust tokenizer
OF_NO_CLASS = {
    "nystromformer": "AlbertTokenizer",
    "modernbert": "BertTokenizer",
    "umt5": "T5Tokenizer",
}  # as on the hub


def class_of(family):
    name = OF_NO_CLASS.get(family) or TOKENIZER_MAPPING_NAMES.get(family)
    return None if name is None or name in SLOW | {"TokenizersBackend"} else getattr(transformers, name)


FAMILIES = sorted(family.model_type for family in MODELS.values() if class_of(family.model_type) is not None)


def real(family):
    """A tokenizer of transformers' own class for a family, with a small vocabulary."""
    made = class_of(family)
    if made is transformers.RoFormerTokenizer:  # splits Chinese with a package of its own; English as BERT's
        made = transformers.BertTokenizer
    kind = (made.model or models.Unigram).__name__  # CamemBERT's class does not say it
    if made is transformers.PegasusTokenizer:
        special = ["<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk>"]
    else:
        empty = made()
        special = sorted(empty.get_vocab(), key=empty.get_vocab().get)
    style = {"Unigram": "unigram", "BPE": "bpe"}.get(kind, "wordpiece")
    model = json.loads(tiny.tokenizer(style).backend_tokenizer.to_str())["model"]
    entries = model["vocab"]
    if kind == "Unigram":
        pieces = [tuple(entry) for entry in entries if entry[0] not in special]
        return made(vocab=[*((token, 0.0) for token in special), *pieces])
    vocab = {token: number for number, token in enumerate(dict.fromkeys([*special, *entries]))}
    return made(vocab=vocab, **({"merges": [tuple(merge) for merge in model["merges"]]} if kind == "BPE" else {}))


def save(tokenizer, family, folder, **says):
    """Save a tokenizer and a config that fits it."""
    tokenizer.save_pretrained(folder)
    config = tiny.config_for(family, vocab_size=max(tokenizer.get_vocab().values()) + 1)
    config.save_pretrained(folder)
    change(folder / "tokenizer_config.json", **says)
    return config


def change(file, **changes):
    said = json.loads(file.read_text("utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in said.items() if value is not None}), "utf-8")


# ---------------------------------------------------------------- every family


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_of_an_export_are_those_of_the_run(family, tmp_path):
    name = TOKENIZER_MAPPING_NAMES[family] if family == "roformer" else None
    config = save(real(family), family, tmp_path / "checkpoint", **({"tokenizer_class": name} if name else {}))
    tokenizer = load_tokenizer(config, pre_trained_config=str(tmp_path / "checkpoint"))
    knows = type_vocabulary(config)
    inputs = TextInputs(tokenizer, knows, input_columns=["first", "second"], max_sequence_length=[64])
    ours = inputs.post_process(ROWS)
    tokenizer.save_pretrained(tmp_path / "export")
    config.save_pretrained(tmp_path / "export")
    exported = transformers.AutoTokenizer.from_pretrained(tmp_path / "export")
    theirs = exported(ROWS["first"], ROWS["second"], padding=True, return_tensors="np")
    nothing = np.zeros_like(ours["input_ids"])
    for key in ("input_ids", "attention_mask", *(["token_type_ids"] if knows else [])):
        np.testing.assert_array_equal(ours.get(key, nothing), theirs.get(key, nothing), err_msg=key)
    assert (ours.get("token_type_ids", nothing).max() == 1) == (knows > 1)
    assert tokenizer.unk_token_id not in ours["input_ids"]


def test_what_a_checkpoint_says_of_its_inputs_is_followed(tmp_path):
    names = ["input_ids", "attention_mask"]
    config = save(real("albert"), "albert", tmp_path, model_input_names=names)
    tokenizer = load_tokenizer(config, pre_trained_config=str(tmp_path))
    inputs = TextInputs(tokenizer, 2, input_columns=["first", "second"], max_sequence_length=[64])
    assert "token_type_ids" not in inputs.post_process(ROWS)
    assert tokenizer.model_input_names == names


def test_padding_is_behind_the_tokens_and_so_it_is_in_an_export(tmp_path):
    config = save(real("bert"), "bert", tmp_path / "checkpoint", padding_side="left")
    tokenizer = load_tokenizer(config, pre_trained_config=str(tmp_path / "checkpoint"))
    inputs = TextInputs(tokenizer, 2, input_columns=["first"], max_sequence_length=[64])
    assert inputs.post_process(ROWS)["attention_mask"][:, 0].tolist() == [1, 1]
    tokenizer.save_pretrained(tmp_path / "export")
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "export").padding_side == "right"


# ---------------------------------------------------------------- tokenizer.json


def written(style, **parts):
    """The Rust tokenizer of a style with other parts."""
    backend = Tokenizer.from_str(tiny.tokenizer(style=style).backend_tokenizer.to_str())
    for name, part in parts.items():
        setattr(backend, name, part)
    return backend


FILES = {  # family, class that the checkpoint names, style, parts
    "sentence pieces in a BERT": ("bert", None, "xlm-roberta", {}),
    "NFKC in a DeBERTa": ("deberta-v2", "DebertaV2Tokenizer", "deberta-v2", {}),
    "cased": ("bert", None, "bert", {"normalizer": normalizers.BertNormalizer(lowercase=False)}),
    "spaces only": ("bert", "BertTokenizer", "bert", {"pre_tokenizer": pre_tokenizers.Whitespace()}),
    "bytes for T5": ("t5", "T5Tokenizer", "roberta", {}),
    "pieces for RoBERTa": ("roberta", "RobertaTokenizer", "xlm-roberta", {"decoder": decoders.Metaspace()}),
    "accents": ("albert", "AlbertTokenizer", "albert", {"normalizer": normalizers.NFC()}),
    "decoder": ("bert", "BertTokenizer", "bert", {"decoder": decoders.Fuse()}),
    "as its class": ("bert", "BertTokenizer", "bert", {}),
}
TEXTS = ("The Quick brown fox", "１２ ｋilometres　to the Café", "isn't it? Zürich—1998", "")


@pytest.mark.parametrize("name", FILES)
def test_tokenizer_json_decides(name, tmp_path, caplog):
    family, named, style, parts = FILES[name]
    backend = written(style, **parts)
    config = save(tiny.tokenizer(style=style), family, tmp_path / "checkpoint", tokenizer_class=named)
    backend.save(str(tmp_path / "checkpoint" / "tokenizer.json"))
    with caplog.at_level(logging.WARNING):
        tokenizer = load_tokenizer(config, pre_trained_config=str(tmp_path / "checkpoint"))
    assert ("tokenizer.json" in caplog.text) == (name != "as its class")
    tokenizer.save_pretrained(tmp_path / "export")
    config.save_pretrained(tmp_path / "export")
    exported = transformers.AutoTokenizer.from_pretrained(tmp_path / "export")
    for text in TEXTS:
        expected = backend.encode(text).ids
        assert tokenizer(text)["input_ids"] == expected
        assert tokenizer.backend_tokenizer.decode(expected) == backend.decode(expected)
        assert exported(text)["input_ids"] == expected
        assert exported(text, "a storm")["input_ids"] == backend.encode(text, "a storm").ids
    assert read_tokenizer(str(tmp_path / "export")).pad_token == tokenizer.pad_token


def test_a_role_that_only_the_class_knows(tmp_path):
    config = save(real("splinter"), "splinter", tmp_path, question_token=None)
    state = json.loads((tmp_path / "tokenizer.json").read_text("utf-8")) | {"normalizer": {"type": "NFKC"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state), "utf-8")
    tokenizer = load_tokenizer(config, pre_trained_config=str(tmp_path))
    assert tokenizer.backend_tokenizer.normalizer.normalize_str("Ａ") == "A"


def test_languages_stay_around_texts_that_are_read_as_the_file_says(tmp_path):
    languages = transformers.MBartTokenizer(src_lang="en_XX", tgt_lang="de_DE")
    special = sorted(languages.get_vocab(), key=languages.get_vocab().get)
    pieces = [entry for entry in json.loads(written("albert").to_str())["model"]["vocab"] if entry[0] not in special]
    made = transformers.MBartTokenizer(
        vocab=[*((token, 0.0) for token in special), *map(tuple, pieces)], src_lang="en_XX", tgt_lang="de_DE"
    )
    config = save(made, "mbart", tmp_path)
    state = json.loads((tmp_path / "tokenizer.json").read_text("utf-8")) | {"normalizer": {"type": "NFKC"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state), "utf-8")
    tokenizer = load_tokenizer(config, pre_trained_config=str(tmp_path))
    source, target = tokenizer("ｔhe sea")["input_ids"], tokenizer(text_target="the sea")["input_ids"]
    assert source[:-1] == target[:-1]
    assert tokenizer.convert_ids_to_tokens([source[-1], target[-1]]) == ["en_XX", "de_DE"]


def test_the_decoder_of_mbart_begins_with_the_language_of_targets(tmp_path):
    made = transformers.MBartTokenizer(src_lang="en_XX", tgt_lang="de_DE")
    config = save(made, "mbart", tmp_path)
    config.decoder_start_token_id = None
    tokenizer = load_tokenizer(config, pre_trained_config=str(tmp_path))
    assert tokenizer.convert_ids_to_tokens(config.decoder_start_token_id) == "de_DE"


def test_a_tokenizer_that_splits_texts_in_python_is_refused(tmp_path, monkeypatch):
    from transformers_framework.models import tokenizers as loading

    made, config = real("roformer"), save(real("roformer"), "roformer", tmp_path)
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(object())
    monkeypatch.setattr(loading, "read_tokenizer", lambda *_: made)
    with pytest.raises(ConfigurationError, match=r"runs in Python.*tokenizer\.json"):
        load_tokenizer(config, pre_trained_config=str(tmp_path))


@pytest.mark.parametrize("content", ["", "null", "{}", '{"version": "1.0", "model": {"type": "BPE"}}', "of no kind"])
def test_a_broken_tokenizer_json_is_refused(content, tmp_path):
    config = save(real("bert"), "bert", tmp_path)
    if content == "of no kind":
        state = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
        content = json.dumps(state | {"model": state["model"] | {"type": "Words"}})
    (tmp_path / "tokenizer.json").write_text(content, "utf-8")
    with pytest.raises(ConfigurationError, match="tokenizer"):
        load_tokenizer(config, pre_trained_config=str(tmp_path))
