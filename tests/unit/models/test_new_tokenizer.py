"""Learned tokenizers: equal for equal texts, with the special tokens and templates of transformers' own classes."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tests import tiny
from tests.runs import ROOT
from transformers_framework.families import FAMILIES, TYPICAL
from transformers_framework.models.new_tokenizer import class_of, learn_tokenizer, save_tokenizer, text_steps
from transformers_framework.objectives.denoising import sentinels_of
from transformers_framework.processing.tokenizer_json import differing
from transformers_framework.processing.vocabulary import TooFewTokensError, unigram_pieces, word_pieces
from transformers_framework.special_tokens import SpecialTokens, TokenizerType

TYPES: tuple[TokenizerType, ...] = ("wordpiece", "bpe", "unigram")
TRAINABLE = {name: family for name, family in FAMILIES.items() if isinstance(family.tokens, SpecialTokens)}
STYLES = {id(family.tokens): name for name, family in reversed(TRAINABLE.items())}  # one family for each
# classes whose constructor makes another template than the tokenizers that were published, or none
OTHER_TEMPLATES = {"blenderbot", "deberta", "rembert"}
PAIR = ("Where does the river meet the sea?", "Questions are answered, again and again.")


def texts() -> Iterator[list[str]]:
    yield list(tiny.TEXT)
    yield ["Ordinary texts may spell <unk>, [MASK] or </s> out. " * 3, "", "été, naïve, 日本"]


@functools.cache
def learned(name: str, type: TokenizerType, lower_case: bool = False) -> Any:
    tokens = FAMILIES[name].tokens
    assert isinstance(tokens, SpecialTokens)
    return learn_tokenizer(
        texts,
        tokens,
        type,
        vocab_size=600,
        lower_case=lower_case,
        character_coverage=1.0,
        model_max_length=128,
    )


def own_type(name: str) -> tuple[SpecialTokens, Any]:
    tokens = FAMILIES[name].tokens
    assert isinstance(tokens, SpecialTokens)
    first = STYLES[id(tokens)]
    return tokens, learned(first, tokens.type)


@pytest.mark.parametrize("name", TRAINABLE)
def test_special_tokens_and_pairs_are_those_of_the_class_of_the_family(name: str, tmp_path: Path) -> None:
    """transformers' class of the family, with the vocabulary that was learned, surrounds a pair as the tokenizer."""
    tokens, found = own_type(name)
    save_tokenizer(found, tmp_path, FAMILIES[name], lower_case=False)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(*PAIR).data == found(*PAIR).data
    assert loaded.model_max_length == 128
    assert [loaded.convert_ids_to_tokens(i) for i in range(len(tokens.first))] == list(tokens.first)
    roles = {f"{role}_token": token for role, token in tokens.roles.items()}
    assert {role: str(token) for role, token in loaded.special_tokens_map.items() if role in roles} == roles
    model = json.loads(found.backend_tokenizer.to_str())["model"]
    if (known := class_of(FAMILIES[name])) is None or name == "roformer":  # whose class needs a package for Chinese
        return
    vocabulary = model["vocab"] if isinstance(model["vocab"], dict) else list(map(tuple, model["vocab"]))
    merges = {"merges": list(map(tuple, model["merges"]))} if "merges" in model else {}
    reference = known(vocab=vocabulary, **merges, **({"extra_ids": tokens.sentinels} if tokens.sentinels else {}))
    expected = {role: str(token) for role, token in reference.special_tokens_map.items()}
    assert {role: expected.get(role) for role in roles} == roles
    frames = [outside(tokenizer, *pair) for tokenizer in (found, reference) for pair in (PAIR, PAIR[:1])]
    same = frames[:2] == frames[2:]  # tokens before, between and after the texts
    assert same == (name not in OTHER_TEMPLATES), frames


def outside(tokenizer: Any, *pair: str) -> list[tuple[str, int]]:
    """Return the special tokens around texts, with their types, and a mark for each text."""
    encoding = tokenizer(*pair, return_token_type_ids=True)
    owners, types = encoding.sequence_ids(0), encoding["token_type_ids"]
    marks = [
        f"text {owner}" if owner is not None else token for owner, token in zip(owners, encoding.tokens(), strict=True)
    ]
    both = list(zip(marks, types, strict=True))
    return [entry for i, entry in enumerate(both) if i == 0 or entry != both[i - 1] or owners[i] is None]


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("name", STYLES.values())
def test_texts_are_decoded_and_every_reader_makes_the_same_tokens(
    name: str, type: TokenizerType, tmp_path: Path
) -> None:
    found = learned(name, type)
    save_tokenizer(found, tmp_path, FAMILIES[name], lower_case=False)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert not differing(loaded, json.loads((tmp_path / "tokenizer.json").read_text("utf-8")))
    ids = loaded(PAIR[0])["input_ids"]
    assert ids == Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(PAIR[0]).ids
    assert loaded.decode(ids, skip_special_tokens=True) == PAIR[0]
    assert loaded.unk_token_id not in loaded("été, naïve, 日本")["input_ids"]
    numbers = sorted(loaded.get_vocab().values())
    assert numbers == list(range(len(loaded)))
    size = max(numbers) + 1
    assert len(sentinels_of(loaded, size)) == FAMILIES[name].tokens.sentinels  # type: ignore[union-attr]


@pytest.mark.parametrize("type", TYPES)
def test_lower_case_is_kept_by_the_class_that_reads_it(type: TokenizerType, tmp_path: Path) -> None:
    name = TYPICAL[type]
    save_tokenizer(learned(name, type, True), tmp_path, FAMILIES[name], lower_case=True)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(PAIR[0].upper())["input_ids"] == loaded(PAIR[0])["input_ids"]
    text = "यह मेरा जन्म है, ÉTÉ, Й"
    assert loaded.backend_tokenizer.normalizer.normalize_str(text).lstrip("▁") == text.lower()
    if type == "wordpiece":
        assert json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))["strip_accents"] is False
    cased = learned(name, type)
    assert cased(PAIR[0].upper())["input_ids"] != cased(PAIR[0])["input_ids"]


@pytest.mark.parametrize(
    ("name", "type", "expected"),
    [
        ("bert", "wordpiece", "BertTokenizer"),
        ("roberta", "bpe", "RobertaTokenizer"),
        ("xlm_roberta", "unigram", "XLMRobertaTokenizer"),
        ("t5", "unigram", "T5Tokenizer"),
        ("bert", "bpe", "TokenizersBackend"),
        ("albert", "unigram", "TokenizersBackend"),  # its class replaces quotation marks
    ],
)
def test_the_class_is_named_where_it_does_the_same(
    name: str, type: TokenizerType, expected: str, tmp_path: Path
) -> None:
    save_tokenizer(learned(name, type), tmp_path, FAMILIES[name], lower_case=False)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))["tokenizer_class"] == expected


def test_sentinels_of_t5_have_the_last_ids_and_the_first_sentinel_the_very_last() -> None:
    found = learned("t5", "unigram")
    assert [found.convert_tokens_to_ids(f"<extra_id_{i}>") for i in (0, 99)] == [len(found) - 1, len(found) - 100]


def test_a_size_below_the_characters_is_refused_with_the_smallest_one() -> None:
    for learn, type in ((word_pieces, TYPES[0]), (unigram_pieces, TYPES[2])):
        backend = text_steps(type, lower_case=False)
        with pytest.raises(TooFewTokensError) as error:
            learn(backend, texts, 20, ["<u>"], "<u>", 1.0)
        assert learn(backend, texts, error.value.fewest, ["<u>"], "<u>", 1.0)
        with pytest.raises(TooFewTokensError):
            learn(backend, texts, error.value.fewest - 1, ["<u>"], "<u>", 1.0)


def test_equal_texts_make_equal_files_with_any_number_of_threads(tmp_path: Path) -> None:
    """In other processes, whose hash maps have other orders."""
    program = (
        "import sys; from pathlib import Path; from transformers_framework.families import FAMILIES\n"
        "from transformers_framework.models.new_tokenizer import learn_tokenizer, save_tokenizer\n"
        "from tests import tiny\n"
        "options = {'vocab_size': 600, 'lower_case': False, 'character_coverage': 1.0, 'model_max_length': 128}\n"
        "for family in map(FAMILIES.get, ('bert', 'roberta', 't5')):\n"
        "    (folder := Path(sys.argv[1], family.name)).mkdir(parents=True)\n"
        "    made = learn_tokenizer(lambda: iter([list(tiny.TEXT)]), family.tokens, family.tokens.type, **options)\n"
        "    save_tokenizer(made, folder, family, lower_case=False)"
    )
    env = {**os.environ, "TOKENIZERS_PARALLELISM": "true"}
    for threads in ("1", "3"):
        words = [sys.executable, "-c", program, str(tmp_path / threads)]
        subprocess.run(words, check=True, env={**env, "RAYON_NUM_THREADS": threads}, cwd=ROOT)
    files = {path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.json")}
    assert len(files) == 6
    for name in files:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()
