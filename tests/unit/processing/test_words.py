"""Words to pieces: as transformers does it with lists of words, for every kind of tokenizer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from tests import tiny
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.processing.backend import bare_tokenizer, probe_of
from transformers_framework.processing.encoding import Template, WordMarks
from transformers_framework.processing.words import WordTokenizer, cut_words, first_pieces
from transformers_framework.sources.fields import word_column

WORDS = [
    ["The", "quick", "brown", "fox", "isn't", "here", ".", "The"],
    ["", "Zürich", "\u200d", "雨", "a b", " led", "x-ray", "", "\t", "(", "unbelievable"],
    [],
    ["", "\u200d"],
]


def without_space(tokenizer: Any) -> Any:
    """The same tokenizer as checkpoints have it: a text's first word has no space before it."""
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = state["pre_tokenizer"]
    kind.update({"add_prefix_space": False} if kind["type"] == "ByteLevel" else {"prepend_scheme": "never"})
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("spaced", [True, False])
def test_pieces_are_those_of_transformers(kind: str, spaced: bool) -> None:
    tokenizer = tiny.tokenizer(kind)
    bare = tokenizer if spaced or kind == "wordpiece" else without_space(tokenizer)
    ours = WordTokenizer(bare_tokenizer(bare))
    assert ours.needs_space is (bare is not tokenizer)
    for words in WORDS:
        ids, pieces = ours(words)
        expected = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
        assert ids.tolist() == expected["input_ids"]
        assert np.repeat(np.arange(len(words)), pieces).tolist() == expected.word_ids()
        assert ids.dtype == pieces.dtype == np.int64


def test_a_word_has_the_pieces_that_it_has_in_a_text() -> None:
    tokenizer = without_space(tiny.tokenizer("bpe"))
    ids, _ = WordTokenizer(bare_tokenizer(tokenizer))(["the", "quick", "fox"])
    assert ids.tolist() == tokenizer(" the quick fox", add_special_tokens=False)["input_ids"]
    assert ids.tolist() != tokenizer("the quick fox", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_words_that_spell_special_tokens_are_words(kind: str) -> None:
    tokenizer = tiny.tokenizer(kind)
    words = [tokenizer.mask_token, tokenizer.sep_token, "fox"]
    ids, pieces = WordTokenizer(bare_tokenizer(without_space(tokenizer) if kind == "bpe" else tokenizer))(words)
    known = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert not known.intersection(ids.tolist())
    assert (pieces > 0).all()


def other_script() -> Any:
    """A byte-level tokenizer that has seen Thai alone: it knows no Latin letter."""
    from tokenizers import models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<s>", "</s>", "<pad>"], show_progress=False)
    backend.train_from_iterator(["สวัสดี ชาวโลก สวัสดี ตอนเช้า ชาวโลก"], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, cls_token="<s>", sep_token="</s>", pad_token="<pad>")


def test_tokenizers_of_other_scripts_keep_the_space_before_words() -> None:
    tokenizer = other_script()
    assert not tokenizer("a", add_special_tokens=False)["input_ids"]
    ours = WordTokenizer(bare_tokenizer(tokenizer))
    assert ours.needs_space
    ids, pieces = ours(["ชาวโลก", "สวัสดี"])
    assert ids.tolist() == tokenizer(" ชาวโลก สวัสดี", add_special_tokens=False)["input_ids"]
    assert (pieces > 0).all()


def test_tokenizers_of_other_scripts_have_a_template() -> None:
    assert Template.of(other_script()) == Template(prefix=(0,), between=(1,), suffix=(1,))
    assert WordMarks.of(bare_tokenizer(other_script())) is None


def test_a_tokenizer_that_makes_no_token_is_refused() -> None:
    from tokenizers import models

    with pytest.raises(ConfigurationError, match="makes no token of any text"):
        probe_of(Tokenizer(models.BPE()))


def test_first_pieces_of_words_with_and_without_pieces() -> None:
    words = np.array([[-1, -1, 1, 1, 2, -1], [-1, 0, 0, 0, 4, -1], [-1, -1, -1, -1, -1, -1]])
    starts = first_pieces(words)
    assert starts.tolist() == [[-1, 2, 4, -1, -1], [1, -1, -1, -1, 4], [-1] * 5]
    assert words[0, 2] == 1, "the argument stays as it is"
    assert first_pieces(np.full((2, 3), -1)).shape == (2, 0)
    assert first_pieces(np.array([[0, 0, 1]])).tolist() == [[0, 2]], "no special token before the words"


@pytest.mark.parametrize("columns", [["a", "b"], ["*a"], ["a:b"], []])
def test_words_are_one_list_column(columns: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"--input_columns: .*not one column of lists of words"):
        word_column(columns)


@pytest.mark.parametrize("capacity", [1, 4, 7, 50])
@pytest.mark.parametrize("shared", [0, 1, 3, 100])
def test_a_word_is_the_windows_in_which_it_has_most_context(capacity: int, shared: int) -> None:
    """Against all windows and words, one by one."""
    draw = np.random.default_rng(capacity * 100 + shared)
    counts = draw.integers(0, 40, size=12)
    pieces = draw.choice([0, 1, 1, 1, 2, 3, 6], size=counts.sum())
    cuts = cut_words(pieces, counts, capacity=capacity, shared=shared)
    row_of = np.repeat(np.arange(len(counts)), counts)
    owners: dict[int, int] = {}
    for window, (row, start, end, owns_from, owns_to) in enumerate(zip(*cuts, strict=True)):
        size = pieces[start:end].sum()
        assert size <= capacity or end - start == 1, "only a word that is longer than a window is cut"
        assert set(row_of[start:end]) <= {row}
        if window and cuts.rows[window - 1] == row:
            assert cuts.starts[window - 1] < start <= cuts.ends[window - 1] < end
            assert pieces[start : cuts.ends[window - 1]].sum() <= min(shared, capacity // 2)
        for word in range(owns_from, owns_to):
            assert word not in owners
            owners[word] = window
    assert sorted(owners) == list(range(counts.sum()))

    def context(window: int, word: int) -> int:
        start, end = cuts.starts[window], cuts.ends[window]
        return min(pieces[start:word].sum(), pieces[word + 1 : end].sum())

    for word, owner in owners.items():
        of = [w for w in range(len(cuts.rows)) if cuts.starts[w] <= word < cuts.ends[w]]
        if len(of) <= 2:  # in three of them only where a neighbour is longer than half a window
            assert owner == max(of, key=lambda window: (context(window, word), -window))
        assert owner in of


def test_windows_are_as_full_as_words_allow() -> None:
    cuts = cut_words(np.ones(100, dtype=np.int64), np.array([100]), capacity=10, shared=4)
    assert set((cuts.ends - cuts.starts)[:-1]) == {10}
    assert cuts.starts.tolist() == list(range(0, 91, 6))
