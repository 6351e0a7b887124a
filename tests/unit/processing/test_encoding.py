"""Encoding equals what transformers' tokenizers do, in every style, for any lengths."""

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tests import tiny
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.processing.backend import bare_tokenizer
from transformers_framework.processing.encoding import (
    Template,
    WordMarks,
    assemble,
    number_words,
    tokenize,
    tokenize_words,
    truncate_longest_first,
)

FAMILIES = ["bert", "roberta", "deberta_v2", "xlm_roberta", "t5", "electra", "mpnet", "modernbert", "bart"]
WORDS = ["the", "model", "reads", "questions", "and", "ranks", "answers", "in", "documents,", "über", "42", "cafés!"]


def texts(num, seed):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, size=size)) for size in draw.integers(1, 30, size=num)]


def encode(tokenizer, segments, counts, **options):
    ids, lengths = tokenize(bare_tokenizer(tokenizer), segments)
    options = {"max_length": 32, "pad_token_id": tokenizer.pad_token_id} | options
    return assemble(ids, lengths, np.array(counts), Template.of(tokenizer), **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_length", [9, 10, 16, 33, 128])
@pytest.mark.parametrize("side", ["right", "left"])
def test_pairs_equal_the_tokenizer_of_transformers(family, max_length, side):
    tokenizer = tiny.tokenizer_for(family)
    tokenizer.truncation_side = side
    first, second = texts(40, seed=1), texts(40, seed=2)
    theirs = tokenizer(first, second, truncation=True, max_length=max_length, padding=True, return_token_type_ids=True)
    template = Template.of(tokenizer)
    ours = encode(
        tokenizer,
        [text for pair in zip(first, second, strict=True) for text in pair],
        [2] * 40,
        max_length=max_length,
        token_types=template.token_types,
        pad_left=tokenizer.padding_side == "left",
    )
    assert ours["input_ids"].tolist() == theirs["input_ids"]
    assert ours["attention_mask"].tolist() == theirs["attention_mask"]
    assert ours["token_type_ids"].tolist() == theirs["token_type_ids"]
    full = tokenizer(first, second)["input_ids"]
    assert ours["truncated"].tolist() == [len(ids) > max_length for ids in full]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_single_texts_equal_the_tokenizer_of_transformers(family, side):
    tokenizer = tiny.tokenizer_for(family)
    tokenizer.truncation_side = side
    some = texts(20, seed=3)
    theirs = tokenizer(some, truncation=True, max_length=20, padding=True)
    assert encode(tokenizer, some, [1] * 20, max_length=20)["input_ids"].tolist() == theirs["input_ids"]


def test_three_segments_are_joined_by_separators_and_typed_in_order():
    tokenizer = tiny.tokenizer_for("bert")
    batch = encode(tokenizer, ["the model", "reads", "questions"], [3], token_types=(0, 1, 2))
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    bare = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("the model", "reads", "questions")]
    assert batch["input_ids"][0].tolist() == [cls, *bare[0], sep, *bare[1], sep, *bare[2], sep]
    sizes = [len(bare[0]) + 2, len(bare[1]) + 1, len(bare[2]) + 1]
    assert batch["token_type_ids"][0].tolist() == [0] * sizes[0] + [1] * sizes[1] + [2] * sizes[2]


def test_rows_may_have_different_numbers_of_segments():
    tokenizer = tiny.tokenizer_for("roberta")
    mixed = encode(tokenizer, ["the model", "reads", "questions", "answers"], [1, 3])
    alone = [encode(tokenizer, ["the model"], [1]), encode(tokenizer, ["reads", "questions", "answers"], [3])]
    for row, single in enumerate(alone):
        length = int(single["attention_mask"].sum())
        assert mixed["attention_mask"][row].sum() == length
        assert mixed["input_ids"][row][:length].tolist() == single["input_ids"][0].tolist()


@pytest.mark.parametrize("multiple", [1, 8, 16])
def test_lengths_are_rounded_up_but_never_past_the_limit(multiple):
    tokenizer = tiny.tokenizer_for("bert")
    batch = encode(tokenizer, texts(8, seed=5), [1] * 8, max_length=27, pad_to_multiple_of=multiple)
    width = batch["input_ids"].shape[1]
    assert width <= 27
    assert width % multiple == 0 or width == 27
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()


def test_truncation_keeps_the_budget_and_levels_the_longest():
    draw = np.random.default_rng(0)
    lengths, budgets = draw.integers(0, 40, size=(500, 4)), draw.integers(0, 90, size=500)
    kept = truncate_longest_first(lengths, budgets)
    assert (kept <= lengths).all()
    assert (kept.sum(axis=1) == np.minimum(lengths.sum(axis=1), budgets)).all()
    cut = kept < lengths
    highest = kept.max(axis=1, keepdims=True)
    assert (kept[cut] >= (highest - 1).repeat(4, axis=1)[cut]).all(), "a cut segment is among the longest"


def test_empty_texts_are_encoded_as_special_tokens_alone():
    tokenizer = tiny.tokenizer_for("bert")
    batch = encode(tokenizer, ["", ""], [1, 1])
    assert batch["input_ids"].tolist() == [[tokenizer.cls_token_id, tokenizer.sep_token_id]] * 2


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(ConfigurationError, match=r"Slow is a slow tokenizer.*tokenizer\.json"):
        Template.of(Slow())


# --- words -----------------------------------------------------------------------------------------------------------

HARD = [
    "Hello don't [MASK]x  unbelievable <mask> </s>[SEP] rain, snow!",
    "",
    "  two   spaces\nnew\train-bow 12ab ##ing a##b # ## x",
    "ünbelievably über-cafés\u200b 雨が降る [UNK]unk <unk>y",
    "x" * 300,
    *tiny.TEXT[:20],
]


def word_ids_of_the_tokenizer(backend, some):
    """Return what the tokenizer calls words, numbered without gaps."""
    numbered = []
    for encoding in backend.encode_batch(some, add_special_tokens=False):
        words = list(dict.fromkeys(encoding.word_ids))
        numbered.append([words.index(word) for word in encoding.word_ids])
    return numbered


def word_ids_of_ours(backend, some):
    ids, lengths, starts = tokenize_words(backend, some, WordMarks.of(backend))
    assert [ids.tolist(), lengths.tolist()] == [values.tolist() for values in tokenize(backend, some)]
    return [part.tolist() for part in np.split(number_words(starts, lengths), np.cumsum(lengths)[:-1])]


@pytest.mark.parametrize("style", sorted(tiny.STYLES))
def test_words_are_those_of_the_tokenizer(style):
    backend = bare_tokenizer(tiny.tokenizer(style=style, vocab_size=300))
    expected = word_ids_of_the_tokenizer(backend, HARD)
    assert any(len(words) > len(set(words)) for words in expected), "words of several pieces"
    assert word_ids_of_ours(backend, HARD) == expected


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("content", ["<ent>", "##ing", "new town"])
@pytest.mark.parametrize("special", [True, False])
def test_added_tokens_are_words_of_their_own(kind, content, special):
    tokenizer = tiny.tokenizer(kind)
    tokenizer.add_tokens([AddedToken(content, special=special, normalized=False)])
    backend = bare_tokenizer(tokenizer)
    some = [f"the old {content}learning {content} wind{content}", content, f"learn{content}", *HARD]
    expected = word_ids_of_the_tokenizer(backend, some)
    assert expected[1] == [0]
    assert word_ids_of_ours(backend, some) == expected


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_every_text_begins_with_a_word(kind):
    backend = bare_tokenizer(tiny.tokenizer(kind, vocab_size=300))
    _, lengths, starts = tokenize_words(backend, ["telescope", "", "telescope", "rocket"], WordMarks.of(backend))
    assert np.flatnonzero(starts).tolist() == [0, lengths[0], 2 * lengths[0]]


def test_word_pieces_tell_their_words_themselves_and_others_do_not():
    marks = {
        kind: WordMarks.of(bare_tokenizer(tiny.tokenizer(kind))) is not None for kind in ("wordpiece", "bpe", "unigram")
    }
    assert marks == {"wordpiece": True, "bpe": False, "unigram": False}


@pytest.mark.parametrize("split", ["metaspace", "normalizer"])
def test_texts_that_a_tokenizer_does_not_split_have_words_between_spaces(split):
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    if split == "metaspace":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(split=False, prepend_scheme="first")
    else:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>", "<s>"], show_progress=False)
    backend.train_from_iterator([word for text in tiny.TEXT for word in text.split()], trainer)
    backend.add_special_tokens(["<s>"])
    some = ["the old storm, and", "", "rain<s>wind a雨b"]
    assert {*backend.encode(some[0]).word_ids} == {0}
    words = word_ids_of_ours(backend, some)
    tokens = [encoding.tokens for encoding in backend.encode_batch(some, add_special_tokens=False)]
    pieces = [
        ["".join(token for token, w in zip(row, numbers, strict=True) if w == word) for word in range(1 + max(numbers))]
        for row, numbers in zip(tokens, words, strict=True)
        if row
    ]
    assert pieces[0] == ["▁the", "▁old", "▁storm,", "▁and"]
    assert [piece.lstrip("▁") for piece in pieces[1]] == ["rain", "<s>", "wind", "a<unk>b"]


def test_further_numbers_of_tokens_go_where_the_tokens_go():
    ids, lengths, counts = np.arange(100, 120), np.array([7, 5, 3, 5]), np.array([2, 1, 1])
    template = Template(prefix=(1,), between=(2, 3), suffix=(2,))
    for pad_left in (False, True):
        for max_length in (8, 20):
            batch = assemble(
                ids, lengths, counts, template, max_length=max_length, pad_token_id=0, pad_left=pad_left,
                extra={"same": ids, "half": (ids // 2).astype(np.int32)},
            )  # fmt: skip
            real = batch["input_ids"] >= 100
            assert (batch["same"] == np.where(real, batch["input_ids"], -1)).all()
            assert (batch["half"] == np.where(real, batch["input_ids"] // 2, -1)).all()
            assert batch["half"].dtype == np.int32
            assert batch["truncated"].any() == (max_length == 8)
