"""Text infilling and sentence permutation: lengths, places, shares, sentences."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tests import tiny
from tests.draws import bound, chi_squared, drawing, rows_of, streams
from transformers_framework.cli.flags import flags_of
from transformers_framework.objectives.denoising import Denoising
from transformers_framework.processing.backend import bare_tokenizer
from transformers_framework.processing.encoding import word_starts
from transformers_framework.processing.infilling import (
    SentenceMarks,
    TextInfilling,
    poisson_lengths,
    reordered,
    rotated,
    scattered,
    shuffled,
)
from transformers_framework.processing.spans import LengthLimits
from transformers_framework.processing.windows import Ragged
from transformers_framework.processing.word_spans import Words

MASK = 5000


def texts_of(lengths):
    lengths = np.asarray(lengths)
    return Ragged(np.arange(int(lengths.sum())) % 4000, lengths)


def reference_lengths(total, mean, draw):
    """Section 2.2, one span after the other: lengths are drawn until they are enough, the last one is cut."""
    lengths = []
    while sum(lengths) < total:
        lengths.append(int(draw.poisson(mean)))
    lengths[-1] -= sum(lengths) - total
    return lengths


# --- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.7, 3.0, 10.0])
def test_lengths_are_poisson_until_the_total_is_hit(mean):
    n, total = 1500, 60
    lengths = poisson_lengths(np.full(n, total), mean, np.full(n, 10_000), streams(n))
    rows = rows_of(lengths)
    assert {sum(row) for row in rows} == {total}
    # all but the last ones, which made the total full, are those of the distribution
    first = np.array([row[0] for row in rows if len(row) > 1])
    top = int(mean + 4 * math.sqrt(mean))
    expected = np.array([math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(top)])
    expected = np.append(expected, 1 - expected.sum()) * len(first)
    found = np.bincount(np.minimum(first, top), minlength=top + 1)
    assert chi_squared(found[expected > 5], expected[expected > 5]) < bound((expected > 5).sum())

    draw = np.random.default_rng(2)
    others = [reference_lengths(total, mean, draw) for _ in range(n)]
    for count in (len, lambda row: row.count(0), lambda row: row[-1], max):
        a, b = (np.array([count(row) for row in both], dtype=np.float64) for both in (rows, others))
        assert abs(a.mean() - b.mean()) < 5 * math.sqrt((a.var() + b.var()) / n) + 1e-9


def test_fewer_spans_share_what_is_left_over():
    totals = np.array([100, 100, 7, 0, 1])
    lengths = poisson_lengths(totals, 3.0, np.array([4, 1000, 3, 5, 1]), streams(5))
    rows = rows_of(lengths)
    assert [sum(row) for row in rows] == totals.tolist()
    assert len(rows[0]) == 4
    assert max(rows[0]) - min(rows[0]) <= 12
    assert len(rows[1]) > 20
    assert len(rows[2]) <= 3
    assert rows[3] == []
    assert rows[4] == [1]


def test_many_empty_spans_are_drawn_until_the_total_is_hit_and_no_further_than_allowed():
    lengths = poisson_lengths(np.array([30, 30]), 0.05, np.array([10**6, 40]), streams(2))
    assert [sum(row) for row in rows_of(lengths)] == [30, 30]
    assert lengths.lengths[0] > 300
    assert lengths.lengths[1] == 40


def test_lengths_begin_anywhere():
    n = 4000
    first = rotated(Ragged(np.tile(np.arange(5), n), np.full(n, 5)), streams(n)).values.reshape(n, 5)
    assert chi_squared(np.bincount(first[:, 0], minlength=5), n / 5) < bound(4)
    assert ((first[:, 1:] - first[:, :-1]) % 5 == 1).all()


# --- places -----------------------------------------------------------------------------------------------------------


def test_every_layout_is_equally_likely():
    n = 12000
    spans = scattered(np.full(n, 6), Ragged(np.tile([2, 0], n), np.full(n, 2)), streams(n))
    starts = spans.starts.reshape(n, 2) - 6 * np.arange(n)[:, None]
    assert (starts[:, 1] >= starts[:, 0] + 2).all()
    assert (starts <= 6).all()
    found = np.unique(starts, axis=0, return_counts=True)[1]
    assert len(found) == math.comb(6, 2), "four kept tokens and two spans, in any order"
    assert chi_squared(found, n / len(found)) < bound(len(found) - 1)


def infilled(lengths, probability=0.3, mean=3.0, max_length=1000, max_spans=1000, words=None, **options):
    texts = texts_of(lengths)
    corrupt = TextInfilling(probability, mean, MASK, LengthLimits(max_length, 1000), max_spans)
    return texts, corrupt(texts, words, drawing(len(texts), **options))


@pytest.mark.parametrize("probability", [0.0, 0.15, 0.3, 0.5, 1.0])
def test_exactly_the_asked_share_is_hidden_and_one_mask_stands_for_each_span(probability):
    texts, (inputs, targets) = infilled(np.arange(150), probability)
    assert targets is texts
    spans = []
    for source, text in zip(rows_of(inputs), rows_of(texts), strict=True):
        kept = [token for token in source if token != MASK]
        assert len(text) - len(kept) == round(len(text) * probability)
        assert kept == [token for token in text if token in set(kept)], "in order"
        assert MASK in source or round(len(text) * probability) == 0
        spans.append(source.count(MASK))
    assert max(spans) == 0 if probability == 0 else sum(spans) > 0


def test_spans_are_where_their_masks_stand():
    """What lies between two masks must be one stretch of the text, and what lies between stretches is hidden."""
    texts, (inputs, _) = infilled(np.full(300, 40))
    hidden = []
    for source, text in zip(rows_of(inputs), rows_of(texts), strict=True):
        left = list(text)
        for is_mask, group in itertools.groupby(source, lambda token: token == MASK):
            stretch = list(group)
            if is_mask:
                continue
            at = left.index(stretch[0])
            assert left[at : at + len(stretch)] == stretch
            hidden.append(at)
            left = left[at + len(stretch) :]
    assert {0, 1, 3, 5} <= set(hidden), "a mask may hide nothing, too"


def test_inserted_masks_make_no_input_too_long():
    texts, (inputs, _) = infilled(np.full(400, 30), probability=0.1, mean=0.2, max_length=30)
    assert inputs.lengths.max() == 30
    assert max(source.count(MASK) for source in rows_of(inputs)) == 3, "at most as many as tokens are hidden"
    free = infilled(np.full(400, 30), probability=0.1, mean=0.2, max_length=45)[1][0]
    assert 40 < free.lengths.max() <= 45
    assert np.array_equal(texts.lengths, np.full(400, 30))


def test_the_number_of_spans_is_limited():
    inputs = infilled(np.full(100, 200), max_spans=4)[1][0]
    for source in rows_of(inputs):
        assert source.count(MASK) <= 4
        assert len(source) - source.count(MASK) == 140


def test_a_row_is_corrupted_alike_beside_any_others():
    lengths = np.array([50, 0, 1, 300, 2, 77])
    texts, (together, _) = infilled(lengths)
    for row, text in enumerate(rows_of(texts)):
        corrupt = TextInfilling(0.3, 3.0, MASK, LengthLimits(1000, 1000), 1000)
        alone = corrupt(Ragged(np.array(text, dtype=np.int64), lengths[[row]]), None, drawing(1, rows=[row]))[0]
        assert alone.values.tolist() == rows_of(together)[row]


def test_whole_words_are_counted_and_hidden_as_words():
    draw = np.random.default_rng(4)
    sizes = [draw.integers(1, 5, size=draw.integers(0, 60)) for _ in range(200)]
    lengths = np.array([size.sum() for size in sizes])
    numbers = np.concatenate([np.repeat(np.arange(len(size)), size) for size in sizes])
    words = Words.of(word_starts(numbers, lengths), lengths)
    texts, (inputs, _) = infilled(lengths, words=words)
    begins = np.cumsum(lengths) - lengths
    for row, (source, text) in enumerate(zip(rows_of(inputs), rows_of(texts), strict=True)):
        kept = np.isin(text, [token for token in source if token != MASK])
        own = numbers[begins[row] : begins[row] + lengths[row]]
        part, whole = np.bincount(own, weights=kept), np.bincount(own)
        assert ((part == 0) | (part == whole)).all()
        assert (part == 0).sum() == round(len(sizes[row]) * 0.3)


# --- sentences --------------------------------------------------------------------------------------------------------


def test_every_other_order_is_equally_likely():
    n = 9200
    order = shuffled(np.full(n, 4), streams(n)).reshape(n, 4) - 4 * np.arange(n)[:, None]
    found = np.unique(order, axis=0, return_counts=True)
    assert len(found[0]) == 23, "all but the given one"
    assert [0, 1, 2, 3] not in found[0].tolist()
    assert chi_squared(found[1], n / 23) < bound(22)


def test_orders_of_rows_do_not_depend_on_others():
    counts = np.array([2, 0, 5, 1, 2, 2, 9, 2])
    together = np.split(shuffled(counts, streams(8)), np.cumsum(counts)[:-1])
    for row, order in enumerate(together):
        alone = shuffled(counts[[row]], streams(8)[[row]])
        assert alone.tolist() == (order - counts[:row].sum()).tolist()
    assert together[0].tolist() == [1, 0]


def test_parts_are_moved_whole():
    texts = texts_of([5, 0, 3])
    parts = Words(np.array([0, 2, 3, 5, 7]), np.array([2, 1, 2, 2, 1]), np.array([3, 0, 2]))
    source = reordered(texts, parts, np.array([2, 0, 1, 4, 3]))
    assert source.tolist() == [3, 4, 0, 1, 2, 7, 5, 6]


def sentences_of(family, text):
    tokenizer = tiny.tokenizer_for(family)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = SentenceMarks.of(bare_tokenizer(tokenizer)).sentences(Ragged.of([ids]))
    ends = found.begins + found.lengths
    return [tokenizer.decode(ids[a:b]).strip() for a, b in zip(found.begins, ends, strict=True)]


@pytest.mark.parametrize("family", ["bart", "mbart", "t5", "pegasus"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The sky is old. A river! Who? Me.", ["The sky is old.", "A river!", "Who?", "Me."]),
        ("It is 3.14 and a.b.c now . Yes .", ["It is 3.14 and a.b.c now .", "Yes ."]),
        ("no end", ["no end"]),
        ("one sentence.", ["one sentence."]),
        ('He said "it rains." Then nothing.', ['He said "it rains."', "Then nothing."]),
    ],
)  # fmt: skip
def test_sentences_end_with_full_stops_before_words(family, text, expected):
    found = sentences_of(family, text)
    assert [part.replace(" ", "") for part in found] == [part.replace(" ", "") for part in expected]


def test_separators_end_sentences_and_stay_behind_them():
    stop, word, separator = np.eye(5, dtype=bool)[[0, 1, 3]]
    marks = SentenceMarks(stop | separator, np.zeros(5, dtype=bool), word, separator)
    texts = Ragged.of([[1, 0, 3, 3, 2, 2, 0, 1], [4, 3, 1]])
    found = marks.sentences(texts)
    assert found.begins.tolist() == [0, 4, 7, 8, 10]
    assert found.counts.tolist() == [3, 2]


def test_two_sentences_are_always_swapped_as_the_help_says():
    assert shuffled(np.full(50, 2), streams(50)).tolist() == [place ^ 1 for place in range(100)]
    (flag,) = (flag for flag in flags_of(Denoising) if flag.name == "shuffle_sentences")
    assert "always changes if there are two" in flag.help


@pytest.mark.parametrize("words", [False, True])
def test_sentences_are_permuted_and_the_target_is_not(words):
    kinds = np.zeros((3, 3000), dtype=bool)
    kinds[0, 0::10], kinds[1, 1::10] = True, True  # a sentence is 1 2 … 9 0, counted on
    marks = SentenceMarks(kinds[0], kinds[2], kinds[1], kinds[2])
    rows = [list(range(1 + 100 * row, 1 + 100 * row + size)) for row, size in enumerate((0, 1, 9, 10, 11, 20, 25, 90))]
    texts = Ragged.of(rows)
    found = None
    if words:
        starts = word_starts(texts.values // 2 % 7, texts.lengths)
        found = Words.of(starts, texts.lengths)
    corrupt = TextInfilling(0.0, 3.0, MASK, LengthLimits(1000, 1000), 1000, marks)
    inputs, targets = corrupt(texts, found, drawing(len(rows)))
    assert targets is texts
    for source, text in zip(rows_of(inputs), rows, strict=True):
        assert sorted(source) == text
        cut = [text[start : start + 10] for start in range(0, len(text), 10)]
        pieces = []
        while source:
            piece = next(part for part in cut if part[0] == source[0])
            assert source[: len(piece)] == piece
            pieces.append(piece)
            source = source[len(piece) :]
        assert (pieces != cut) == (len(cut) > 1)
