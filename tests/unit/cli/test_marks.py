"""Tokens as text with marks: what a reader sees, in every kind of tokenizer, with colours and without."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

from tests import tiny
from transformers_framework.cli.marks import KEPT, MASKED, PUT_IN, REPLACED, UNCHANGED, WRITTEN, Pen, shows_colours

KINDS = ("wordpiece", "bpe", "unigram")
TEXT = "the quick brown fox jumps over the lazy dog"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def encoded(tokenizer, text: str) -> tuple[np.ndarray, list[int | None]]:
    """Return the tokens of a text and the word of each."""
    encoding = tokenizer(text)
    return np.array(encoding["input_ids"]), encoding.word_ids()


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [*tiny.TEXT[:12], "Zoë's naïve café, 東京 🙂!", "walking talked unrelated"])
def test_however_a_text_is_cut_into_spans_it_reads_as_the_tokenizer_decodes_it(kind, text):
    tokenizer = tiny.tokenizer(kind)
    ids, words = encoded(tokenizer, text)
    # neighbouring words differ in kind, the pieces of a word do not: bytes of a sign are never parted
    kinds = np.array([KEPT if word is None or word % 2 else PUT_IN for word in words])
    assert squeezed(Pen(tokenizer, False).write(ids, kinds)) == squeezed(tokenizer.decode(ids))


@pytest.mark.parametrize("kind", KINDS)
def test_spaces_are_those_of_the_text(kind):
    tokenizer = tiny.tokenizer(kind)
    ids, words = encoded(tokenizer, TEXT)
    before = tokenizer.decode(ids)
    assert Pen(tokenizer, False).write(ids, np.full(len(ids), KEPT)) == before
    for word in range(len(TEXT.split())):
        chosen = np.array([number == word for number in words])
        kinds = np.where(chosen, UNCHANGED, KEPT)
        written = Pen(tokenizer, False).write(ids, kinds)
        assert written.count("‹unchanged›") == 1
        assert f"{TEXT.split()[word]}‹unchanged›" in written
        assert written.replace("‹unchanged›", "") == before


@pytest.mark.parametrize("kind", KINDS)
def test_marks_say_what_stood_there(kind):
    tokenizer = tiny.tokenizer(kind)
    mask = tokenizer.mask_token
    before, words = encoded(tokenizer, TEXT)
    number = {word: np.array([n == i for n in words]) for i, word in enumerate(TEXT.split())}
    kinds = np.full(len(before), KEPT)
    after = before.copy()
    kinds[number["quick"]], after[number["quick"]] = MASKED, tokenizer.mask_token_id
    kinds[number["over"]] = UNCHANGED
    last = np.flatnonzero(number["fox"])[-1]  # a piece of a word
    piece = tokenizer.convert_ids_to_tokens([int(before[last])])[0].lstrip("#Ġ▁")
    after[last], kinds[last] = before[np.flatnonzero(number["dog"])[0]], REPLACED
    written = Pen(tokenizer, False).write(after, kinds, before)
    num_masks = int(number["quick"].sum())
    assert re.search(rf"(?:{re.escape(mask)} ?){{{num_masks}}}‹quick› brown", written), written
    assert f"‹was {piece}› jumps over‹unchanged› the lazy dog" in written
    assert re.search(r"the <mask>|the \[MASK\]", written), "a mask stands where the word stood"


def test_a_mask_of_the_text_itself_hides_nobody_knows_what():
    tokenizer = tiny.tokenizer()
    ids, _ = encoded(tokenizer, f"the {tokenizer.mask_token} fox")
    kinds = np.where(ids == tokenizer.mask_token_id, MASKED, KEPT)
    assert "the [MASK]‹?› fox" in Pen(tokenizer, False).write(ids, kinds, ids)


def test_nothing_of_a_text_ends_the_line_or_speaks_to_the_terminal():
    tokenizer = tiny.tokenizer("bpe")
    ids, _ = encoded(tokenizer, "one\ntwo\x1b[31m three\r")
    for kind in (KEPT, WRITTEN):
        written = Pen(tokenizer, False).write(ids, np.full(len(ids), kind))
        assert "one\\ntwo\\x1b[31m three\\r" in written
        assert written.isprintable()


def test_a_token_that_is_only_a_space_is_seen():
    tokenizer = tiny.tokenizer("bpe")
    space = tokenizer.convert_tokens_to_ids("Ġ")
    fox = tokenizer(" fox")["input_ids"][1:-1]
    before, after = np.array(fox), np.full(len(fox), space)
    assert Pen(tokenizer, False).write(after[:1], np.array([REPLACED]), before[:1]).startswith("␣‹was ")
    assert Pen(tokenizer, False).write(before[:1], np.array([REPLACED]), after[:1]).endswith("‹was ␣›")


def test_no_tokens_are_no_text():
    assert Pen(tiny.tokenizer(), True).write(np.zeros(0, np.int64), np.zeros(0, np.int64)) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_colours_are_added_and_change_no_sign(kind):
    tokenizer = tiny.tokenizer(kind)
    before, words = encoded(tokenizer, TEXT)
    kinds = np.array([KEPT if word is None else word % 6 for word in words])
    after = np.where(kinds == MASKED, tokenizer.mask_token_id, np.where(kinds == REPLACED, before[3], before))
    plain, painted = (Pen(tokenizer, colours).write(after, kinds, before) for colours in (False, True))
    assert "\033" not in plain
    assert re.sub(r"\033\[[\d;]*m", "", painted) == plain
    for colour in ("1;33", "1;31", "1;36", "32"):
        assert f"\033[{colour}m" in painted
    assert painted.count("\033[0m") * 2 == painted.count("\033[")


@pytest.mark.parametrize(
    ("variables", "on_terminal", "elsewhere"),
    [
        ({}, True, False),
        ({"TERM": "xterm"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_who_gets_colours(monkeypatch, variables, on_terminal, elsewhere):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (shows_colours(Terminal()), shows_colours(io.StringIO())) == (on_terminal, elsewhere)
