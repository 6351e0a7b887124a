"""Windows, targets and spans of machine reading, against plain loops and on every row of SQuAD."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from tests import tiny
from transformers_framework.inputs.question_context import QuestionContext
from transformers_framework.objectives.answers import Answers
from transformers_framework.processing.offsets import visible_offsets, with_marks
from transformers_framework.processing.reading import (
    END,
    Spans,
    answer_ends,
    best_spans,
    cut,
    merge,
    target_spans,
)
from transformers_framework.processing.windows import Ragged
from transformers_framework.sources.columns import DatasetSource

DATA = Path(__file__).parents[4] / "shared" / "data"
SETS = [(name, stage) for name in ("squad", "squad_v2") for stage in ("train", "dev", "test")]


# --- against plain loops ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_windows_hold_every_token_and_share_what_they_say(seed: int) -> None:
    draw = np.random.default_rng(seed)
    lengths, capacities = draw.integers(1, 90, 12), draw.integers(1, 40, 12)
    shared = int(draw.integers(0, 30))
    cuts = cut(lengths, capacities, shared)
    for context, (length, capacity) in enumerate(zip(lengths, capacities, strict=True)):
        mine = np.flatnonzero(cuts.contexts == context)
        tokens = [list(range(cuts.firsts[w], cuts.firsts[w] + cuts.lengths[w])) for w in mine]
        assert sorted({token for window in tokens for token in window}) == list(range(length)), "nothing is lost"
        assert all(len(window) == capacity for window in tokens[:-1])
        assert len(tokens[-1]) <= capacity
        common = [len({*one} & {*next_}) for one, next_ in itertools.pairwise(tokens)]
        assert common == [min(shared, capacity // 2)] * (len(tokens) - 1)
        assert cuts.before[mine].tolist() == [0, *common]
        assert cuts.after[mine].tolist() == [*common, 0]
        assert all(len({*one} & {*third}) == 0 for one, third in zip(tokens, tokens[2:], strict=False))
        assert len(tokens) == 1 or tokens[-1][-1] not in tokens[-2], "the last one is there for something"


@pytest.mark.parametrize("seed", range(20))
def test_best_spans_are_those_of_all_spans_of_a_document(seed: int) -> None:
    """Each span once, in the window where it has most context; scores are those of this window."""
    draw = np.random.default_rng(seed)
    length, capacity, shared = int(draw.integers(1, 60)), int(draw.integers(1, 25)), int(draw.integers(0, 20))
    longest, n = int(draw.integers(1, 30)), int(draw.integers(1, 25))
    cuts = cut(np.array([length]), np.array([capacity]), shared)
    start, end = draw.normal(size=(2, len(cuts.firsts), int(cuts.lengths.max()))).astype(np.float32)
    for window, size in enumerate(cuts.lengths):
        start[window, size:] = end[window, size:] = -np.inf

    wanted: dict[tuple[int, int], tuple[int, float]] = {}
    for window, (first, size) in enumerate(zip(cuts.firsts, cuts.lengths, strict=True)):
        for a in range(size):
            for b in range(a, min(a + longest, size)):
                context = min(a, size - 1 - b)
                if context > wanted.get((first + a, first + b), (-1, 0.0))[0]:
                    wanted[first + a, first + b] = (context, start[window, a] + end[window, b])
    found = best_spans(start, end, cuts.lengths, cuts.before, cuts.after, n=n, longest=longest)
    whole = Spans(found.scores, found.starts + cuts.firsts[:, None], found.ends + cuts.firsts[:, None])
    merged = merge(
        np.zeros(len(cuts.firsts), dtype=np.int64), np.zeros(len(cuts.firsts), dtype=np.float32), whole
    ).spans
    expected = sorted(((score, span) for span, (_, score) in wanted.items()), reverse=True)[:n]
    there = merged.scores[0] > -np.inf
    assert merged.scores[0][there].tolist() == [score for score, _ in expected]
    assert list(zip(merged.starts[0][there], merged.ends[0][there], strict=True)) == [span for _, span in expected]


def test_merging_takes_the_smallest_score_of_no_answer_and_each_span_once() -> None:
    spans = Spans(
        np.float32([[2, 1], [5, 4], [3, 2]]), np.array([[0, 7], [1, 2], [7, 0]]), np.array([[4, 9], [2, 3], [9, 4]])
    )
    found = merge(np.array([8, 3, 8]), np.float32([0.5, 9, -1]), spans)
    assert found.rows.tolist() == [3, 8]
    assert found.null_scores.tolist() == [9, -1]
    assert found.spans.scores.tolist() == [[5, 4], [3, 2]]
    assert found.spans.starts.tolist() == [[1, 2], [7, 0]]
    assert merge(np.array([8, 3, 8])[::-1], np.float32([-1, 9, 0.5]), Spans(*(c[::-1] for c in spans))).spans.ends.tolist() == found.spans.ends.tolist()  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("text", [" a", "a ", "  ", "\u3000a\u2003b", "\U0001f600 x", ""])
def test_characters_of_tokens_have_no_white_space_at_their_ends(text: str) -> None:
    pairs = [(a, b) for a in range(len(text) + 1) for b in range(a, len(text) + 1)]
    other = " other text "
    starts, ends = np.array([*pairs, (0, 3)]).T
    found = visible_offsets(starts, ends, np.array([len(pairs), 1]), [text, other])
    for (a, b), start, end in zip(pairs, *found, strict=False):
        assert text[start:end] == text[a:b].strip()
        assert 0 <= start <= len(text) >= end >= 0
    assert (found[0][-1], found[1][-1]) == (1, 3)


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("ab\u0301 c", [(0, 2), (4, 5)], [3, 5]),  # an accent behind the last letter
        ("a\u0301b\u0301", [(0, 1), (2, 3)], [2, 4]),  # of each letter; the last at the end of the text
        ("שָׁלוֹם.", [(0, 1), (3, 4), (4, 5), (6, 7), (7, 8)], [3, 4, 6, 7, 8]),
        ("विद्", [(0, 3)], [4]),  # a virama
        ("a\u200d b\u200b", [(0, 1), (3, 4)], [2, 4]),  # a joiner belongs to the word, a zero-width space to none
        ("\u0301a b", [(1, 2), (3, 4)], [2, 4]),  # nothing is before it
        ("a  b", [(0, 2), (2, 4)], [2, 4]),  # tokens that hold their spaces
        ("", [], []),
    ],
)
def test_marks_that_belong_to_no_token_are_the_last_letters(text: str, tokens: list, expected: list[int]) -> None:
    starts, ends = np.array(tokens, dtype=np.int64).reshape(-1, 2).T
    assert with_marks(starts, ends, np.array([len(tokens)]), [text]).tolist() == expected
    several = np.concatenate([starts, [0], starts]), np.concatenate([ends, [1], ends])
    found = with_marks(*several, np.array([len(tokens), 0, 1, len(tokens)]), [text, "\u0301", "x\u0301\u0302 y", text])
    assert found.tolist() == [*expected, 3, *expected]


def test_answers_of_decomposed_texts_keep_their_last_mark() -> None:
    words = ["cafe\u0301", "Jose\u0301", "Zu\u0308rich", "shalom"]
    context = " ".join(f"in {word}." for word in words)
    inputs = QuestionContext(without_accents(), 2, query_column="q", context_column="c", max_sequence_length=[64])
    rows = Dataset.from_dict({"q": ["where"], "c": [context]})
    (table,) = inputs.rewrite(rows, DatasetSource("train", "rows", str), batch_size=2)
    columns = {name: Ragged.of(table[name].to_pylist()) for name in ("char_starts", "char_ends")}
    (read_from,), (read_to,) = table["read_from"].to_pylist(), table["read_to"].to_pylist()
    for word in words:
        begin = context.index(word)
        answer = np.array([[begin, begin + len(word)]])
        ((first, last),) = target_spans(*columns.values(), np.array([read_from]), np.array([read_to]), answer).tolist()
        assert context[columns["char_starts"].values[first] : columns["char_ends"].values[last]] == word


@pytest.mark.parametrize("side", ["right", "left"])
def test_questions_are_cut_where_the_tokenizer_cuts(side: str) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.truncation_side = side
    inputs = QuestionContext(
        tokenizer, 2, query_column="q", context_column="c", max_sequence_length=[32], max_query_length=4
    )
    question = "the rain and a tiger near the sea"
    rows = Dataset.from_dict({"q": [question], "c": ["a storm"]})
    (table,) = inputs.rewrite(rows, DatasetSource("train", "rows", str), batch_size=2)
    ids = tokenizer(question, add_special_tokens=False)["input_ids"]
    assert table["input_ids"].to_pylist()[0][1:5] == (ids[:4] if side == "right" else ids[-4:])
    assert table["is_cut"].to_pylist() == [True]


def test_targets_are_the_fewest_tokens_that_hold_the_answer() -> None:
    # "we é": "▁" stands for the first letter too, " " for nothing that is seen, "é" is two tokens of bytes
    starts, ends = [0, 0, 3, 3, 3], [1, 2, 2, 4, 4]
    window = Ragged.of([starts]), Ragged.of([ends]), np.array([0]), np.array([END])
    assert target_spans(*window, np.array([[0, 2]])).tolist() == [[1, 1]]
    assert target_spans(*window, np.array([[3, 4]])).tolist() == [[4, 4]]
    assert target_spans(*window, np.array([[-1, -1]])).tolist() == [[-1, -1]]
    outside = window[0], window[1], np.array([1]), np.array([4])
    assert target_spans(*outside, np.array([[0, 2]])).tolist() == [[-1, -1]], "it begins before"
    assert target_spans(*outside, np.array([[3, 5]])).tolist() == [[-1, -1]], "it ends behind"


# --- on every row of real data ----------------------------------------------------------------------------------------


def letters() -> Any:
    """A tokenizer whose tokens are single characters: every answer begins and ends with a token."""
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def without_accents() -> Any:
    """BERT's tokenizer in miniature, which takes accents and control characters away."""
    tokenizer = tiny.tokenizer("wordpiece")
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "letters": letters,
    "wordpiece": without_accents,
    "bytes": functools.partial(tiny.tokenizer, "bpe"),
    "pieces": functools.partial(tiny.tokenizer, "unigram"),
}


@functools.cache
def dataset(name: str, stage: str) -> Any:
    path = DATA / name / f"{stage}.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return Dataset.from_list(rows)


@functools.cache
def answers(name: str, stage: str) -> np.ndarray:
    rows = dataset(name, stage)
    return Answers("context", "answers").spans(rows, DatasetSource("train", name, str))


class Expected:
    """What each row must give, token by token and window by window, in plain loops.

    Args:
        inputs: Cut the windows.
        rows: Questions and contexts.
        spans: Characters of answers ``(N, 2)``.
    """

    def __init__(self, inputs: QuestionContext, rows: Any, spans: np.ndarray) -> None:
        self.inputs, self.known = inputs, {}
        self.texts: list[str | None] = []  # None without an answer that tokens could write
        self.fits: list[bool] = []
        for question, context, (begin, stop) in zip(rows["question"], rows["context"], spans.tolist(), strict=True):
            tokens = self.tokens(context)
            inside = [t for t, (a, b) in enumerate(tokens) if a < b and a < stop and b > begin]
            self.texts.append(context[tokens[inside[0]][0] : tokens[inside[-1]][1]] if inside else None)
            self.fits.append(bool(inside) and self.fit(question, len(tokens), [t for t in inside if tokens[t][0] <= begin][-1:] or inside, inside[-1]))  # fmt: skip  # noqa: E501

    def tokens(self, context: str) -> list[tuple[int, int]]:
        """Return the visible characters of the tokens of a context."""
        if context not in self.known:
            encoding = self.inputs.backend.encode(context, add_special_tokens=False)
            self.known[context] = [
                (a + len(piece := context[a:b]) - len(piece.lstrip()), b - len(piece) + len(piece.rstrip()))
                for a, b in self.marked(context, encoding.offsets)
            ]
        return self.known[context]

    def marked(self, context: str, offsets: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield the characters of tokens and of marks behind them that are in no token."""
        for (a, b), (following, _) in zip(offsets, [*offsets[1:], (len(context), 0)], strict=True):
            stop = b
            while a < b < following and not context[b - 1].isspace() and stop < following:
                if context[stop].isspace() or context[stop] == "\u200b":
                    break
                stop += 1
            yield a, stop

    def fit(self, question: str, length: int, first: list[int], last: int) -> bool:
        """Tell whether a window holds the tokens of an answer."""
        asked = len(self.inputs.backend.encode(question.strip(), add_special_tokens=False))
        capacity = self.inputs.capacity - min(asked, self.inputs.max_query_length)
        step = capacity - min(self.inputs.doc_stride, capacity // 2)
        return any(
            start <= first[0] and last < start + capacity
            for start in range(0, max(1, length), step)
            if start == 0 or start - step + capacity < length
        )


SIZES = [(384, 128, 64), (96, 40, 16), (40, 0, 40)]
QUICK = [
    *((data, "letters", SIZES[0]) for data in SETS),
    *((SETS[-1], kind, size) for kind in TOKENIZERS for size in SIZES[1:]),
]
GRID = [
    pytest.param(*data, kind, size, marks=() if (data, kind, size) in QUICK else pytest.mark.slow)
    for data in SETS
    for kind in TOKENIZERS
    for size in SIZES
]


@pytest.mark.parametrize(("name", "stage", "kind", "lengths"), GRID)
def test_perfect_logits_give_the_right_answer(name: str, stage: str, kind: str, lengths: tuple[int, int, int]) -> None:
    rows, spans = dataset(name, stage), answers(name, stage)
    inputs = QuestionContext(
        TOKENIZERS[kind](), 2, query_column="question", context_column="context", max_sequence_length=[lengths[0]],
        doc_stride=lengths[1], max_query_length=lengths[2],
    )  # fmt: skip
    expected, contexts, right = Expected(inputs, rows, spans), rows["context"], 0
    for table in inputs.rewrite(rows, DatasetSource("train", name, str), batch_size=200):
        columns = table.to_pydict()
        sources = np.array(columns["source_row"])
        starts, ends = Ragged.of(columns["char_starts"]), Ragged.of(columns["char_ends"])
        found = target_spans(starts, ends, np.array(columns["read_from"]), np.array(columns["read_to"]), spans[sources])
        holds = found[:, 0] >= 0
        width, longest = int(starts.lengths.max()), 1 + int((found[:, 1] - found[:, 0]).max())
        char_starts, char_ends = starts.padded(width, 0), ends.padded(width, 0)
        start, end = np.where(answer_ends(char_starts, char_ends), np.float32(0), np.float32(-np.inf))
        start[holds, found[holds, 0]] += 10
        end[holds, found[holds, 1]] += 10
        shared = np.array(columns["shared_before"]), np.array(columns["shared_after"])
        best = best_spans(start, end, starts.lengths, *shared, n=2, longest=longest)
        places = np.arange(len(sources))[:, None]
        spans_of_windows = Spans(best.scores, char_starts[places, best.starts], char_ends[places, best.ends])
        documents = merge(sources, np.zeros(len(sources), dtype=np.float32), spans_of_windows)
        assert documents.rows.tolist() == sorted({*sources.tolist()}), "every row has a window"
        for number, row in enumerate(documents.rows.tolist()):
            a, b = int(documents.spans.starts[number, 0]), int(documents.spans.ends[number, 0])
            text = contexts[row][a:b]
            assert 0 <= a < b <= len(contexts[row])
            assert text == text.strip()
            assert bool(holds[sources == row].any()) == expected.fits[row], (
                "a target where the answer fits, nowhere else"
            )
            if expected.fits[row]:
                right += 1
                assert documents.spans.scores[number, 0] == 20
                assert text == expected.texts[row]
                assert kind != "letters" or (a, b) == tuple(spans[row]), "the very characters of the answer"
    assert right > (0.9 if lengths == SIZES[0] else 0.2) * (spans[:, 0] >= 0).sum()
