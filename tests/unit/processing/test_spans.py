"""Spans: drawn, laid out, cut out; lengths that fill what is asked for; whole words."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tests.draws import bound, chi_squared, drawing, rows_of, streams
from transformers_framework.processing.encoding import word_starts
from transformers_framework.processing.span_corruption import (
    LONGEST_WORD,
    Denoiser,
    SpanCorruption,
    longest_text,
    span_counts,
)
from transformers_framework.processing.spans import (
    LengthLimits,
    Spans,
    choose,
    compositions,
    framed,
    put_aside,
    random_spans,
    replaced,
    shifted_right,
    unframed,
)
from transformers_framework.processing.windows import Ragged
from transformers_framework.processing.word_spans import Words

SENTINELS = np.arange(1000, 1100)


def same_distribution(first, second, df=None):
    """Compare two samples of integers: the chi-squared of their histograms, rare values in one bin."""
    top = max(first.max(), second.max()) + 1
    a, b = np.bincount(first, minlength=top), np.bincount(second, minlength=top)
    many = a + b >= 20
    a, b = (np.append(x[many], x[~many].sum()) for x in (a, b))
    a, b = a[a + b > 0], b[a + b > 0]
    scale = math.sqrt(a.sum() / b.sum())
    value = (((a / scale - b * scale) ** 2) / (a + b)).sum()
    assert value < bound(len(a) - 1), (value, len(a))


def reference_mask(length, probability, mean, draw):
    """Span corruption, one row and one token after the other, as the paper's section 3.1.4 and its code say it."""
    if length < 2:
        return np.zeros(length, dtype=bool)
    noise = min(max(round(length * probability), 1), length - 1)
    spans = max(round(noise / mean), 1)

    def cut(size):
        is_first = [1] * (spans - 1) + [0] * (size - spans)
        draw.shuffle(is_first)
        parts = [1]
        for flag in is_first:
            if flag:
                parts.append(1)
            else:
                parts[-1] += 1
        return parts

    mask = []
    for kept, hidden in zip(cut(length - noise), cut(noise), strict=True):
        mask += [False] * kept + [True] * hidden
    return np.array(mask)


def runs(mask):
    """Lengths of the stretches of a mask, and whether each is hidden."""
    return [(value, len(list(group))) for value, group in itertools.groupby(mask.tolist())]


# --- drawing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [(6, 2), (6, 4), (5, 1), (7, 3)])
def test_every_set_of_places_is_equally_likely(size, count):
    n = 12000
    chosen = np.zeros((n, size), dtype=bool)
    chosen.reshape(-1)[choose(np.full(n, size), np.full(n, count), streams(n))] = True
    assert (chosen.sum(axis=1) == count).all()
    found = np.bincount(chosen @ (1 << np.arange(size)), minlength=1 << size)
    found = found[found > 0]
    assert len(found) == math.comb(size, count)
    assert chi_squared(found, n / len(found)) < bound(len(found) - 1)


def test_all_places_or_none_are_chosen_and_rows_may_be_empty():
    sizes, counts = np.array([0, 4, 4, 0, 1, 1]), np.array([0, 4, 0, 0, 1, 0])
    assert choose(sizes, counts, streams(6)).tolist() == [0, 1, 2, 3, 8]
    assert len(choose(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), streams(0))) == 0


def test_a_row_is_drawn_alike_beside_any_others():
    sizes, counts = np.array([40, 9, 300, 12]), np.array([20, 3, 100, 0])
    together = choose(sizes, counts, streams(4))
    alone = [choose(sizes[[row]], counts[[row]], streams(4)[[row]]) + sizes[:row].sum() for row in range(4)]
    assert together.tolist() == np.concatenate(alone).tolist()


def test_every_composition_is_equally_likely():
    n = 12000
    parts = compositions(np.full(n, 7), np.full(n, 3), streams(n)).reshape(n, 3)
    assert (parts.sum(axis=1) == 7).all()
    assert (parts >= 1).all()
    found = np.unique(parts, axis=0, return_counts=True)[1]
    assert len(found) == math.comb(6, 2)
    assert chi_squared(found, n / len(found)) < bound(len(found) - 1)


@pytest.mark.parametrize(("length", "probability", "mean"), [(100, 0.15, 3.0), (60, 0.5, 3.0), (90, 0.15, 8.0)])
def test_spans_are_those_of_a_sampler_that_goes_one_by_one(length, probability, mean):
    n, draw = 1500, np.random.default_rng(7)
    lengths = np.full(n, length)
    noise, counts = span_counts(lengths, probability, mean, 1000)
    drawn = drawing(n)
    spans = random_spans(lengths, noise, counts, drawn("kept"), drawn("noise"))
    masks = np.zeros((n, length), dtype=bool)
    for start, size in zip(spans.starts.tolist(), spans.lengths.tolist(), strict=True):
        masks.reshape(-1)[start : start + size] = True
    expected = np.stack([reference_mask(length, probability, mean, draw) for _ in range(n)])
    assert (masks.sum(axis=1) == expected[0].sum()).all()
    assert [len(runs(mask)) for mask in masks] == [len(runs(mask)) for mask in expected]
    for hidden in (False, True):
        lengths_of = [
            np.array([size for mask in both for value, size in runs(mask) if value is hidden])
            for both in (masks, expected)
        ]
        same_distribution(*lengths_of)
    places = masks.sum(axis=0), expected.sum(axis=0)  # which tokens are hidden, from front to end
    assert np.abs(places[0] - places[1]).max() < 5 * math.sqrt(n / 2)


def test_counts_are_those_of_the_paper():
    for length in range(200):
        for probability, mean in ((0.15, 3.0), (0.5, 3.0), (0.5, 32.0), (0.15, 8.0), (0.25, math.inf)):
            noise, spans = (int(part[0]) for part in span_counts(np.array([length]), probability, mean, 100))
            if length < 2:
                assert (noise, spans) == (0, 0)
                continue
            assert noise == min(max(round(length * probability), 1), length - 1)
            assert spans == max(1, min(round(noise / mean), length - noise, noise, 100))


def test_fewer_spans_hide_as_much():
    lengths = np.full(300, 200)
    noise, counts = span_counts(lengths, 0.3, 3.0, 4)
    assert set(noise) == {60}
    assert set(counts) == {4}
    spans = random_spans(lengths, noise, counts, streams(300), streams(300, purpose="noise"))
    assert spans.lengths.mean() == 15


# --- cutting out ------------------------------------------------------------------------------------------------------


def test_rows_and_spans_are_taken_apart_as_loops_would():
    draw = np.random.default_rng(3)
    rows, bounds = [], []
    for _ in range(60):
        length = int(draw.integers(0, 12))
        rows.append(draw.integers(0, 99, size=length).tolist())
        cuts = sorted(draw.integers(0, length + 1, size=2 * int(draw.integers(0, 3))).tolist())
        bounds.append(list(zip(cuts[::2], cuts[1::2], strict=True)))
    texts = Ragged.of(rows)
    flat = [(start + a, b - a) for start, row in zip(texts.starts.tolist(), bounds, strict=True) for a, b in row]
    starts, lengths = np.array(flat, dtype=np.int64).reshape(-1, 2).T
    spans = Spans(starts, lengths, np.array([len(row) for row in bounds]))
    tokens = np.arange(1000, 1000 + len(starts))
    taken = iter(tokens.tolist())
    kept, aside = [], []
    for row, cuts in zip(rows, bounds, strict=True):
        left, put, last = [], [], 0
        for a, b in cuts:
            token = next(taken)
            left += [*row[last:a], token]
            put += [token, *row[a:b]]
            last = b
        kept.append(left + row[last:])
        aside.append(put)
    for found, expected in ((replaced(texts, spans, tokens), kept), (put_aside(texts, spans, tokens), aside)):
        assert found.values.tolist() == [value for row in expected for value in row]
        assert found.lengths.tolist() == [len(row) for row in expected]


@pytest.mark.parametrize("left", [False, True])
def test_frames_are_put_on_and_taken_off(left):
    rows = [[5, 6, 7], [], [8], [9, 10, 11, 12]]
    ids, mask = framed(Ragged.of(rows), [1], [2, 3], 0, left=left)
    width = 7
    for row, found, taken in zip(rows, ids.tolist(), mask.tolist(), strict=True):
        whole, padding = [1, *row, 2, 3], width - len(row) - 3
        assert found == ([0] * padding + whole if left else whole + [0] * padding)
        assert taken == ([0] * padding + [1] * len(whole) if left else [1] * len(whole) + [0] * padding)
    assert rows_of(unframed(ids, mask, 1, 2)) == rows
    full, mask = framed(Ragged.of([[5, 6], [7, 8]]), [1], [2, 3], 0, left=left)
    assert full.tolist() == [[1, 5, 6, 2, 3], [1, 7, 8, 2, 3]]
    assert mask.all()
    assert rows_of(unframed(full, mask, 1, 2)) == [[5, 6], [7, 8]]
    empty = framed(Ragged.of([[], []]), [], [], 0)
    assert [part.tolist() for part in empty] == [[[0], [0]], [[0], [0]]]


def test_the_decoder_reads_what_it_has_written():
    labels = np.array([[5, 6, 7, 2], [8, 2, -100, -100], [-100] * 4])
    assert shifted_right(labels, 9, 0).tolist() == [[9, 5, 6, 7], [9, 8, 0, 0], [9, 0, 0, 0]]
    assert shifted_right(labels, None, 0).tolist() == [[2, 5, 6, 7], [2, 8, 0, 0], [0, 0, 0, 0]]
    assert labels[0].tolist() == [5, 6, 7, 2]


# --- span corruption --------------------------------------------------------------------------------------------------


def texts_of(lengths):
    """Texts of which every token is another number, so that order and loss show."""
    lengths = np.asarray(lengths)
    return Ragged(np.arange(int(lengths.sum())) % 900, lengths)


def restored(source, target):
    """Put what each sentinel of a target stands for into its place in the source."""
    found, current = {}, -1
    for token in target:
        if token in SENTINELS:
            assert token not in found
            found[current := token] = []
        else:
            found[current].append(token)
    assert list(found) == SENTINELS[: len(found)].tolist(), "in order, from the first on"
    assert [token for token in source if token in SENTINELS] == list(found)
    assert all(found.values()), "no span is empty"
    return [piece for token in source for piece in found.get(token, [token])]


def test_input_and_target_give_the_text_back():
    texts = texts_of([0, 1, *range(2, 356, 3)])
    corrupt = SpanCorruption([Denoiser(0.15, 3.0)], SENTINELS, LengthLimits(500, 500), len(SENTINELS))
    inputs, targets = corrupt(texts, None, drawing(120))
    for source, target, text in zip(rows_of(inputs), rows_of(targets), rows_of(texts), strict=True):
        assert restored(source, target) == text
        if len(text) >= 2:
            assert source[0] == text[0]
            assert source[-1] in SENTINELS
            assert target[0] == SENTINELS[0]
            kinds = [token in SENTINELS for token in source]
            assert not any(a and b for a, b in itertools.pairwise(kinds)), "kept tokens lie between any two spans"
    assert rows_of(inputs)[:2] == [[], [0]]
    assert rows_of(targets)[:2] == [[], []], "nothing can be hidden of less than two tokens"


def test_each_row_draws_its_denoiser_anew_in_each_epoch():
    n = 3000
    mixture = [Denoiser(0.15, 3.0), Denoiser(0.5, 32.0, prefix=7), Denoiser(0.25, math.inf, prefix=8)]
    corrupt = SpanCorruption(mixture, SENTINELS, LengthLimits(500, 500), len(SENTINELS))
    texts = texts_of(np.full(n, 100))
    epochs = []
    for epoch in (0, 1):
        inputs, targets = corrupt(texts, None, drawing(n, epoch=epoch))
        drawn = np.select([targets.lengths == 20, targets.lengths == 52, targets.lengths == 26], [0, 1, 2], -1)
        assert chi_squared(np.bincount(drawn, minlength=3), n / 3) < bound(2)
        first = inputs.values[inputs.starts]
        assert (first[drawn == 1] == 7).all()
        assert (first[drawn == 2] == 8).all()
        assert (first[drawn == 0] == texts.values[texts.starts[drawn == 0]]).all()
        row = int(np.flatnonzero(drawn == 2)[0])
        last = rows_of(inputs)[row]
        assert last == [8, *rows_of(texts)[row][:75], SENTINELS[0]], "one span, at the end"
        epochs.append(drawn)
    agreeing = (epochs[0] == epochs[1]).mean()
    assert 0.28 < agreeing < 0.39


def lengths_of(length, denoiser, most=100):
    noise, spans = (int(part[0]) for part in span_counts(
        np.array([length]), denoiser.probability, denoiser.mean_span_length, most
    ))  # fmt: skip
    return length - noise + spans + (denoiser.prefix >= 0), noise + spans


@pytest.mark.parametrize(
    "denoiser",
    [
        Denoiser(0.15, 3.0), Denoiser(0.15, 8.0), Denoiser(0.5, 3.0), Denoiser(0.5, 32.0, 1),
        Denoiser(0.25, math.inf, 1), Denoiser(0.15, 64.0), Denoiser(0.3, 1.5),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("most", [100, 5])
def test_the_longest_text_fills_input_or_target(denoiser, most):
    for length_limits in (
        LengthLimits(n, m) for n in (3, 9, 31, 64, 127, 511, 1023) for m in (3, 8, 57, 114, 511, 1023)
    ):
        longest = longest_text(denoiser, length_limits, most)
        source, target = lengths_of(longest, denoiser, most)
        assert source <= length_limits.input
        assert target <= length_limits.target
        # a token more in the target may be a span more, too
        assert source == length_limits.input or target in (length_limits.target, length_limits.target - 1)
        source, target = lengths_of(longest + 1, denoiser, most)
        assert source > length_limits.input or target > length_limits.target


def test_windows_fill_the_input_exactly():
    for limit in (63, 127, 511):
        corrupt = SpanCorruption([Denoiser(0.15, 3.0)], SENTINELS, LengthLimits(limit, limit), len(SENTINELS))
        inputs, targets = corrupt(texts_of(np.full(20, corrupt.longest)), None, drawing(20))
        assert set(inputs.lengths) == {limit}
        assert targets.lengths.max() <= limit


def test_a_mixture_loses_nothing():
    mixture = [Denoiser(0.15, 3.0), Denoiser(0.5, 3.0), Denoiser(0.25, math.inf, 1)]
    corrupt = SpanCorruption(mixture, SENTINELS, LengthLimits(127, 127), len(SENTINELS))
    assert corrupt.longest == min(longest_text(one, LengthLimits(127, 127), 100) for one in mixture)
    inputs, targets = corrupt(texts_of(np.full(500, corrupt.longest)), None, drawing(500))
    assert inputs.lengths.max() == 127
    assert targets.lengths.max() <= 127


def test_the_smallest_rooms():
    assert longest_text(Denoiser(0.15, 3.0), LengthLimits(2, 2), 100) == 2
    assert longest_text(Denoiser(0.15, 3.0, 1), LengthLimits(2, 2), 100) == 1
    assert longest_text(Denoiser(0.15, 3.0), LengthLimits(2, 1), 100) == 1
    assert longest_text(Denoiser(0.15, 3.0), LengthLimits(-1, 5), 100) == -1


# --- whole words ------------------------------------------------------------------------------------------------------


def random_words(draw, total, longest=6):
    """Words of some tokens each that add up to a total; returns the word of each token."""
    sizes = []
    while sum(sizes) < total:
        sizes.append(int(min(draw.integers(1, longest + 1), total - sum(sizes))))
    return np.repeat(np.arange(len(sizes)), sizes)


def test_words_from_their_numbers():
    numbers = np.array([0, 0, 1, -1, -1, 1, 1, 0, 1])
    starts = word_starts(numbers, np.array([7, 0, 2]))
    assert starts.astype(int).tolist() == [1, 0, 1, 1, 1, 1, 0, 1, 1]
    words = Words.of(starts, np.array([7, 0, 2]))
    assert words.lengths.tolist() == [2, 1, 1, 1, 2, 1, 1]
    assert words.counts.tolist() == [5, 0, 2]


def hidden_words(numbers, source, target, text):
    """Return the tokens hidden of each word, and the tokens of each word."""
    hidden = {token for token in target if token not in SENTINELS}
    mask = np.array([token in hidden for token in text])
    return np.bincount(numbers, weights=mask), np.bincount(numbers)


@pytest.mark.parametrize(
    ("denoiser", "length_limits"),
    [
        (Denoiser(0.15, 3.0), LengthLimits(127, 127)),
        (Denoiser(0.5, 3.0), LengthLimits(127, 127)),  # input and target bind both
        (Denoiser(0.15, 3.0), LengthLimits(200, 40)),  # the target binds
        (Denoiser(0.25, math.inf, 1), LengthLimits(60, 60)),
        (Denoiser(0.5, 32.0), LengthLimits(255, 255)),
    ],
    ids=str,
)
@pytest.mark.parametrize("longest", [1, 4, LONGEST_WORD])
def test_whole_words_fit_whatever_their_lengths(denoiser, length_limits, longest):
    draw = np.random.default_rng(longest)
    corrupt = SpanCorruption([denoiser], SENTINELS, length_limits, len(SENTINELS), whole_words=True)
    full = corrupt.longest
    lengths = np.concatenate([np.full(150, full), draw.integers(0, full + 1, size=100), [0, 1, 2, 3]])
    numbers = [random_words(draw, length, longest) for length in lengths]
    texts = texts_of(lengths)
    words = Words.of(word_starts(np.concatenate(numbers), lengths), lengths)
    inputs, targets = corrupt(texts, words, drawing(len(lengths)))
    assert inputs.lengths.max() <= length_limits.input
    assert targets.lengths.max() <= length_limits.target
    asked = span_counts(lengths, denoiser.probability, denoiser.mean_span_length, 100)[0]
    found = []
    for row, (source, target, text) in enumerate(zip(rows_of(inputs), rows_of(targets), rows_of(texts), strict=True)):
        source = source[int(denoiser.prefix >= 0) :]
        assert restored(source, target) == text
        if text:
            part, whole = hidden_words(numbers[row], source, target, text)
            assert ((part == 0) | (part == whole)).all(), "all tokens of a word or none"
            found.append(int(part.sum()))
            assert abs(part.sum() - asked[row]) < longest
        else:
            found.append(0)
    share = sum(found[:150]) / asked[:150].sum()
    # where a limit binds, the word that reaches it is taken or left for the limit's sake
    assert abs(share - 1) < 0.01 + (longest - 1) / 2 / asked[0]
    if longest == 1:
        assert found == asked.tolist()
        filled = longest_text(denoiser, length_limits, 100, spare=LONGEST_WORD - 1)
        assert filled == full
    if length_limits.target >= length_limits.input and denoiser.probability < 0.2:
        assert length_limits.input - longest < inputs.lengths[:150].mean() <= length_limits.input


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_asked_for_everything_fits_and_nothing_is_lost(seed):
    draw = np.random.default_rng(seed)
    tried = 0
    for epoch in range(150):
        mixture = [
            Denoiser(float(draw.choice([0.01, 0.15, 0.5, 0.9, 0.99])), float(draw.choice([1, 1.5, 3, 32, math.inf])))
            for _ in range(draw.integers(1, 3))
        ]
        length_limits, most = LengthLimits(*draw.integers(2, 120, size=2).tolist()), int(draw.choice([1, 3, 100]))
        corrupt = SpanCorruption(mixture, SENTINELS, length_limits, most, whole_words=bool(epoch % 2))
        if corrupt.longest < 2:
            continue
        lengths = np.append(draw.integers(0, corrupt.longest + 1, size=4), corrupt.longest)
        words = None
        if corrupt.whole_words:
            longest = int(draw.choice([1, 5, 300]))
            numbers = np.concatenate([random_words(draw, length, longest) for length in lengths])
            words = Words.of(word_starts(numbers, lengths), lengths)
        texts = texts_of(lengths)
        inputs, targets = corrupt(texts, words, drawing(5, epoch=epoch))
        assert inputs.lengths.max() <= length_limits.input
        assert targets.lengths.max() <= length_limits.target
        for source, target, text in zip(rows_of(inputs), rows_of(targets), rows_of(texts), strict=True):
            assert restored(source, target) == text
            assert sum(token in SENTINELS for token in source) <= most
        tried += 1
    assert tried > 100


def test_a_word_longer_than_everything_is_cut_and_fits():
    length_limits = LengthLimits(63, 63)
    corrupt = SpanCorruption([Denoiser(0.15, 3.0)], SENTINELS, length_limits, len(SENTINELS), whole_words=True)
    lengths = np.full(4, corrupt.longest)
    numbers = [np.zeros(lengths[0]), np.repeat([0, 1], [1, lengths[0] - 1]), np.repeat([0, 1], [lengths[0] - 1, 1])]
    numbers.append(np.repeat([0, 1, 2], [10, lengths[0] - 20, 10]))
    texts = texts_of(lengths)
    words = Words.of(word_starts(np.concatenate(numbers).astype(int), lengths), lengths)
    inputs, targets = corrupt(texts, words, drawing(4))
    assert inputs.lengths.max() <= length_limits.input
    assert targets.lengths.max() <= length_limits.target
    for source, target, text in zip(rows_of(inputs), rows_of(targets), rows_of(texts), strict=True):
        assert restored(source, target) == text
        assert target, "something is hidden"


def test_whole_words_of_a_row_do_not_depend_on_others():
    draw = np.random.default_rng(5)
    corrupt = SpanCorruption(
        [Denoiser(0.15, 3.0), Denoiser(0.5, 3.0)], SENTINELS, LengthLimits(127, 127), 100, whole_words=True
    )
    lengths = draw.integers(0, 120, size=12)
    numbers = [random_words(draw, length) for length in lengths]
    texts = texts_of(lengths)
    together = corrupt(texts, Words.of(word_starts(np.concatenate(numbers), lengths), lengths), drawing(12))
    for row, text in enumerate(rows_of(texts)):
        size = lengths[[row]]
        words = Words.of(word_starts(numbers[row], size), size)
        alone = corrupt(Ragged(np.array(text, dtype=np.int64), size), words, drawing(1, rows=[row]))
        for part, whole in zip(alone, together, strict=True):
            assert part.values.tolist() == rows_of(whole)[row]


def test_spans_of_words_have_the_asked_mean_length():
    draw = np.random.default_rng(6)
    lengths = np.full(200, 300)
    numbers = [random_words(draw, 300, 2) for _ in lengths]
    words = Words.of(word_starts(np.concatenate(numbers), lengths), lengths)
    corrupt = SpanCorruption([Denoiser(0.15, 5.0)], SENTINELS, LengthLimits(500, 500), 100, whole_words=True)
    targets = corrupt(texts_of(lengths), words, drawing(200))[1]
    spans = np.isin(targets.values, SENTINELS).sum()
    assert 4.5 < (len(targets.values) - spans) / spans < 5.5
