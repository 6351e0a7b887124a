"""Rates are those asked for, words stay whole, specials stay as they are, and a text is corrupted alike everywhere."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests import tiny
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.inputs.inputs import InputNeeds
from transformers_framework.inputs.text import TextInputs
from transformers_framework.processing.masking import (
    Vocabulary,
    labels_of,
    mask_tokens,
    replace_tokens,
    select_tokens,
    select_words,
    sparse_labels,
)
from transformers_framework.processing.random import keys

KINDS = ["wordpiece", "bpe", "unigram"]
LITERALS = "[MASK] [SEP] [CLS] [PAD] [UNK] <mask> </s> <s> <pad> <unk>"


def chi_squared_fits(counts, shares):
    """Say whether shares make counts likely: chi-squared within four standard deviations, as Wilson and Hilferty."""
    counts, shares = np.asarray(counts, float), np.asarray(shares, float)
    assert (counts[shares == 0] == 0).all(), "what never happens did"
    counts, shares = counts[shares > 0], shares[shares > 0]
    expected = counts.sum() * shares / shares.sum()
    freedom = len(counts) - 1
    if not freedom:
        return True
    spread = 2 / (9 * freedom)
    return ((counts - expected) ** 2 / expected).sum() <= freedom * (1 - spread + 4 * np.sqrt(spread)) ** 3


def texts(num, seed=0):
    """Return texts of all lengths that also spell out special tokens."""
    draw = np.random.default_rng(seed)
    words = " ".join(tiny.TEXT).split() + LITERALS.split()
    return [" ".join(draw.choice(words, size=size)) for size in draw.integers(1, 40, size=num)]


def encode(tokenizer, some, *, words=False, length=64, multiple=1):
    needs = InputNeeds(word_ids=words)
    inputs = TextInputs(tokenizer, 0, needs, input_columns=["text"], max_sequence_length=[length])
    return inputs.post_process({"text": some}, pad_to_multiple_of=multiple)


def vocabulary_of(size=1000, special=10):
    flags = np.arange(size) < special
    return Vocabulary(flags, np.arange(special, size), mask_token_id=3)


def random_batch(rows=400, width=100, size=1000, seed=0):
    """Return ids of which a tenth are special, and the vocabulary."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(10, size, size=(rows, width))
    ids[draw.random(ids.shape) < 0.1] = draw.integers(0, 10)
    return ids, vocabulary_of(size)


def corrupt(ids, vocabulary, row_ids, *, probability=0.15, word_ids=None, seed=1, epoch=0, **rates):
    select, change = (keys(seed, epoch, row_ids, purpose) for purpose in ("select", "change"))
    eligible = vocabulary.eligible(ids)
    if word_ids is None:
        selected = select_tokens(eligible, probability, select)
    else:
        selected = select_words(word_ids, eligible, probability, select)
    return mask_tokens(ids, selected, vocabulary, change, **rates), selected


# --- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.0, 0.01, 0.15, 0.5, 1.0])
@pytest.mark.parametrize("seed", [0, 1337])
def test_the_share_of_selected_tokens_is_the_asked_one(probability, seed):
    ids, vocabulary = random_batch()
    eligible = vocabulary.eligible(ids)
    selected = select_tokens(eligible, probability, keys(seed, 0, np.arange(len(ids)), "select"))
    assert not (selected & ~eligible).any()
    num = int(selected.sum())
    assert chi_squared_fits([num, eligible.sum() - num], [probability, 1 - probability])
    other = abs(probability - 0.02) if probability > 0.1 else probability + 0.02
    assert not chi_squared_fits([num, eligible.sum() - num], [other, 1 - other]), "the test can tell"


def test_tokens_are_selected_independently_at_every_place():
    ids = np.full((20_000, 12), 20)
    selected = select_tokens(ids > 0, 0.3, keys(3, 0, np.arange(len(ids)), "select"))
    for place in range(12):
        assert chi_squared_fits(np.bincount(selected[:, place], minlength=2), [0.7, 0.3])
    pairs = (selected[:, :-1] * 2 + selected[:, 1:]).ravel()
    assert chi_squared_fits(np.bincount(pairs, minlength=4), [0.49, 0.21, 0.21, 0.09])


@pytest.mark.parametrize(
    "rates", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0.9, 0.1, 0), (0, 0.5, 0.5)]
)
def test_selected_tokens_are_masked_replaced_and_kept_at_the_asked_rates(rates):
    ids, vocabulary = random_batch()
    masked, replaced, unchanged = rates
    options = {"masked": masked, "replaced": replaced, "unchanged": unchanged}
    changed, selected = corrupt(ids, vocabulary, np.arange(len(ids)), probability=0.5, **options)
    before, after = ids[selected], changed[selected]
    num_masked, num_kept = int((after == 3).sum()), int((after == before).sum())
    assert chi_squared_fits([num_masked, len(after) - num_masked - num_kept, num_kept], rates)
    assert (changed[~selected] == ids[~selected]).all()


def test_what_a_token_becomes_does_not_depend_on_its_selection():
    """Purposes have numbers of their own: with one stream for both, all selected tokens would be masked."""
    ids, vocabulary = random_batch(rows=2000)
    for probability in (0.05, 0.15, 0.9):
        changed, selected = corrupt(ids, vocabulary, np.arange(len(ids)), probability=probability)
        after = changed[selected]
        assert chi_squared_fits([(after == 3).sum(), (after != 3).sum()], [0.8, 0.2])


@pytest.mark.parametrize("whole", [False, True])
def test_whole_words_have_the_same_rates(whole):
    draw = np.random.default_rng(5)
    ids, vocabulary = random_batch(rows=1500)
    word_ids = np.cumsum(draw.random(ids.shape) < 0.5, axis=1)
    word_ids = word_ids if whole else np.tile(np.arange(ids.shape[1]), (len(ids), 1))
    eligible = vocabulary.eligible(ids)
    selected = select_words(word_ids, eligible, 0.15, keys(1, 0, np.arange(len(ids)), "select"))
    word = (np.arange(len(ids))[:, None] * 1000 + word_ids)[eligible]
    first = np.unique(word, return_index=True)[1]
    by_word = selected[eligible][first]
    assert chi_squared_fits(np.bincount(by_word, minlength=2), [0.85, 0.15])
    changed = mask_tokens(ids, selected, vocabulary, keys(1, 0, np.arange(len(ids)), "change"))
    after, before = changed[selected], ids[selected]
    counts = [(after == 3).sum(), ((after != 3) & (after != before)).sum(), (after == before).sum()]
    assert chi_squared_fits(counts, [0.8, 0.1, 0.1])


# --- replacements ----------------------------------------------------------------------------------------------------


def replacements(vocabulary, original, num=60_000):
    ids = np.full((num // 50, 50), original)
    return replace_tokens(ids, np.ones_like(ids, dtype=bool), vocabulary, keys(2, 0, np.arange(len(ids)), "replace"))


@pytest.mark.parametrize("original", [10, 11, 40, 58, 59])
def test_replacements_are_uniform_over_all_regular_tokens_but_the_original(original):
    counts = np.bincount(replacements(vocabulary_of(60), original).ravel(), minlength=60)
    shares = (np.arange(60) >= 10) & (np.arange(60) != original)
    assert chi_squared_fits(counts, shares)


def test_a_special_token_is_replaced_by_any_regular_one():
    counts = np.bincount(replacements(vocabulary_of(60), 4).ravel(), minlength=60)
    assert chi_squared_fits(counts, np.arange(60) >= 10)


def test_masking_replaces_by_other_regular_tokens_uniformly():
    vocabulary = vocabulary_of(60)
    ids = np.full((1500, 80), 30)
    changed, selected = corrupt(
        ids, vocabulary, np.arange(len(ids)), probability=0.9, masked=0.3, replaced=0.5, unchanged=0.2
    )
    after = changed[selected]
    counts = np.bincount(after[(after != 3) & (after != 30)], minlength=60)
    assert chi_squared_fits(counts, (np.arange(60) >= 10) & (np.arange(60) != 30))


def test_two_regular_tokens_become_each_other():
    vocabulary = Vocabulary(np.array([True, False, False]), np.array([1, 2]))
    ids = np.tile([1, 2], (3, 40))
    changed = replace_tokens(ids, ids > 0, vocabulary, keys(0, 0, np.arange(3), "replace"))
    assert (changed == 3 - ids).all()


# --- what is never touched -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", sorted(tiny.STYLES))
def test_specials_are_neither_touched_nor_drawn_also_when_a_text_spells_them(style):
    tokenizer = tiny.tokenizer(style=style)
    vocabulary = Vocabulary.of(tokenizer, len(tokenizer))
    batch = encode(tokenizer, texts(150))
    ids = batch["input_ids"]
    # the language code of mBART is special in the Rust tokenizer alone
    added = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
    special_ids = [*tokenizer.all_special_ids, *added]
    special = np.isin(ids, special_ids)
    assert (special & (batch["attention_mask"] == 1)).sum() > len(ids) * 1.2, "the texts spell specials"
    assert not vocabulary.eligible(ids)[batch["attention_mask"] == 0].any()
    everything = np.ones(len(ids), dtype=np.uint64) * 7
    selected = select_tokens(vocabulary.eligible(ids), 1.0, everything)
    assert (selected == ~special).all()
    changed = replace_tokens(ids, selected, vocabulary, keys(1, 0, np.arange(len(ids)), "replace"))
    assert (changed[special] == ids[special]).all()
    assert (changed != ids)[selected].all()
    assert not np.isin(changed[selected], special_ids).any()


def test_labels_and_inputs_give_the_original_back():
    ids, vocabulary = random_batch()
    original = ids.copy()
    changed, selected = corrupt(ids, vocabulary, np.arange(len(ids)), probability=0.4)
    assert (ids == original).all(), "the batch that was given is left alone"
    labels = labels_of(ids, selected)
    assert ((labels != -100) == selected).all()
    assert (np.where(labels != -100, labels, changed) == original).all()


# --- alike everywhere ------------------------------------------------------------------------------------------------


def rows_of(ids, mask):
    """Return the real tokens of each row, padding cut off wherever it is."""
    return [row[kept.astype(bool)].tolist() for row, kept in zip(ids, mask, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole", [False, True])
def test_equal_whatever_the_batch_its_padding_and_the_side_of_it(kind, whole):
    some = texts(24, seed=3)
    row_ids = np.arange(100, 124)

    def corrupted(parts, *, left=False, multiple=1):
        tokenizer = tiny.tokenizer(kind)
        tokenizer.padding_side = "left" if left else "right"
        vocabulary = Vocabulary.of(tokenizer, len(tokenizer))
        found = {}
        for part in parts:
            batch = encode(tokenizer, [some[i] for i in part], words=whole, multiple=multiple)
            ids, words = batch["input_ids"], batch.get("word_ids")
            changed, selected = corrupt(ids, vocabulary, row_ids[part], probability=0.3, word_ids=words)
            labels = labels_of(ids, selected)
            both = zip(*(rows_of(values, batch["attention_mask"]) for values in (changed, labels)), strict=True)
            found.update(zip(part, both, strict=True))
        return [found[i] for i in range(24)]

    reference = corrupted([list(range(24))])
    assert sum(label != -100 for _, labels in reference for label in labels) > 50
    assert corrupted([[i] for i in range(24)]) == reference
    assert corrupted([list(range(23, 11, -1)), list(range(12))]) == reference
    assert corrupted([list(range(24))], multiple=32) == reference
    assert corrupted([list(range(24))], left=True) == reference
    assert corrupted([[i] for i in range(24)], left=True, multiple=16) == reference


@pytest.mark.parametrize("whole", [False, True])
def test_different_in_other_epochs_seeds_and_rows(whole):
    ids, vocabulary = random_batch(rows=50)
    ids[:] = ids[0]
    words = np.tile(np.arange(ids.shape[1]) // 2, (len(ids), 1)) if whole else None
    rows = np.arange(50)
    reference, _ = corrupt(ids, vocabulary, rows, word_ids=words)
    assert len(np.unique(reference, axis=0)) == 50, "equal texts in different rows"
    for other in ({"epoch": 1}, {"seed": 2}):
        assert (corrupt(ids, vocabulary, rows, word_ids=words, **other)[0] != reference).any(axis=1).all()
    again, _ = corrupt(ids, vocabulary, rows, word_ids=words)
    assert (again == reference).all()


# --- whole words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("probability", [0.15, 0.6])
def test_words_are_selected_whole(kind, probability):
    tokenizer = tiny.tokenizer(kind, vocab_size=300)  # short pieces
    vocabulary = Vocabulary.of(tokenizer, len(tokenizer))
    batch = encode(tokenizer, texts(300), words=True)
    ids, words = batch["input_ids"], batch["word_ids"]
    assert ((words == -1) | (batch["attention_mask"] == 1)).all()
    eligible = vocabulary.eligible(ids)
    selected = select_words(words, eligible, probability, keys(1, 0, np.arange(len(ids)), "select"))
    pieces = 0
    for row in range(len(ids)):
        for word in np.unique(words[row][eligible[row]]):
            chosen = selected[row][(words[row] == word) & eligible[row]]
            assert chosen.all() or not chosen.any()
            pieces += len(chosen) > 1
    assert pieces > 500, "words of several pieces"
    num = int(selected.sum())
    # pieces of a word go together, so that there are fewer choices than tokens: only the rate itself is compared
    assert abs(num / eligible.sum() - probability) < 0.02


def test_a_word_that_is_cut_off_is_selected_as_the_whole_one():
    tokenizer = tiny.tokenizer("wordpiece")
    vocabulary = Vocabulary.of(tokenizer, len(tokenizer))
    some = texts(40, seed=9)
    short, long = (encode(tokenizer, some, words=True, length=length) for length in (20, 64))
    chosen = [
        select_words(
            batch["word_ids"], vocabulary.eligible(batch["input_ids"]), 0.4, keys(1, 0, np.arange(40), "select")
        )[:, :19]
        for batch in (short, long)
    ]
    assert short["truncated"].sum() > 10
    assert (chosen[0] == chosen[1]).all(), "only the separator at the end is another token"
    assert chosen[0].sum() > 100


# --- vocabulary ------------------------------------------------------------------------------------------------------


def with_holes():
    """Return a tokenizer of which ids 4, 5, 8 and 9 have no token, with an ordinary and a special added token."""
    vocab = {"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "a": 3, "b": 10, "c": 11}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]")
    made.add_tokens(["d"])
    made.add_tokens(["<ent>"], special_tokens=True)
    return made


def test_replacements_have_a_text_and_an_embedding():
    tokenizer = with_holes()
    added, entity = tokenizer.convert_tokens_to_ids(["d", "<ent>"])
    small, large = Vocabulary.of(tokenizer, 11), Vocabulary.of(tokenizer, 100)
    assert (added, entity) == (6, 7)
    assert small.regular.tolist() == [3, added, 10], "c has no embedding"
    assert large.regular.tolist() == [3, added, 10, 11]
    assert large.mask_token_id == 2
    assert large.size == 100
    assert small.size == 12, "what the tokenizer returns can be looked up"
    assert sorted(np.flatnonzero(large.special).tolist()) == [0, 1, 2, entity]


def test_an_ordinary_token_that_serves_as_padding_is_special():
    tokenizer = with_holes()
    tokenizer.pad_token = "a"
    vocabulary = Vocabulary.of(tokenizer, 100)
    assert vocabulary.special[3]
    assert 3 not in vocabulary.regular


def test_tokenizers_that_cannot_mask_are_refused():
    t5 = tiny.tokenizer_for("t5")
    assert Vocabulary.of(t5, len(t5)).mask_token_id is None
    with pytest.raises(ConfigurationError, match=r"--pre_trained_tokenizer.*no mask token"):
        Vocabulary.of(t5, len(t5), needs_mask=True)
    with pytest.raises(ConfigurationError, match="0 tokens that are not special"):
        Vocabulary.of(t5, 2)


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [0, 1, 63, 64, 65, 200])
def test_sparse_labels_hold_the_same_as_dense_ones(num):
    draw = np.random.default_rng(num)
    labels = np.full((7, 50), -100)
    places = draw.choice(labels.size, size=num, replace=False)
    labels.reshape(-1)[places] = draw.integers(0, 900, size=num)
    positions, found = sparse_labels(labels)
    assert len(positions) == len(found) == {0: 64, 1: 64, 63: 64, 64: 64, 65: 128, 200: 256}[num]
    assert positions.dtype == found.dtype == np.int64
    assert (found[num:] == -100).all()
    assert (positions[num:] == 0).all()
    dense = np.full(labels.size, -100)
    dense[positions[:num]] = found[:num]
    assert (dense.reshape(labels.shape) == labels).all()
