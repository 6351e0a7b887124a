"""Tokens as text, with marks for masked, replaced, unchanged and inserted tokens, optionally in colours."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from transformers_framework.constants import IGNORE_INDEX

KEPT, MASKED, REPLACED, UNCHANGED, PUT_IN, WRITTEN = range(6)  # kinds of tokens after corruption
COUNTED = {MASKED: "masked", REPLACED: "replaced", UNCHANGED: "unchanged", PUT_IN: "inserted"}
MARKS = {MASKED: "‹{}›", REPLACED: "‹was {}›", UNCHANGED: "‹unchanged›"}  # after the token, with the original
COLOURS = {MASKED: "1;33", REPLACED: "1;31", UNCHANGED: "1;36", PUT_IN: "1;33", WRITTEN: "32"}
BLANK, UNKNOWN = "␣", "?"  # a token that is only a space; the original of a mask token that is in the text
ANCHOR = "x"  # decoded before other tokens, because the first token of a text loses its space or keeps its ##


def shows_colours(stream: TextIO) -> bool:
    """Return whether to use colours: as ``NO_COLOR`` or ``FORCE_COLOR`` demands, otherwise in terminals."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (os.environ.get("TERM") != "dumb" and stream.isatty())


def kinds_of(
    before: NDArray[np.int64], after: NDArray[np.int64], labels: NDArray[np.int64], mask: int | None, *, sparse: bool
) -> NDArray[np.int64]:
    """Return the kind of each token, where corruption changes no positions.

    Args:
        before: Tokens without corruption ``(L,) int64``.
        after: Tokens that the model reads ``(L,) int64``.
        labels: Labels, -100 for tokens without one ``(L,) int64``.
        mask: Id of the mask token, if the tokenizer has one.
        sparse: Whether only selected tokens have a label; otherwise all tokens have one.

    Returns:
        One of the kinds for each token ``(L,) int64``.

    Examples:
        >>> text, seen = np.array([5, 6, 7, 8]), np.array([5, 4, 9, 8])
        >>> [COUNTED.get(kind) for kind in kinds_of(text, seen, np.array([-100, 6, 7, 8]), 4, sparse=True).tolist()]
        [None, 'masked', 'replaced', 'unchanged']
        >>> [COUNTED.get(kind) for kind in kinds_of(text, seen, np.array([0, 1, 1, 0]), None, sparse=False).tolist()]
        [None, 'replaced', 'replaced', None]
    """
    changed = after != before
    chosen = labels != IGNORE_INDEX if sparse else changed
    masked = chosen & (after == mask) if mask is not None else np.zeros_like(changed)
    return np.select([masked, changed, chosen], [MASKED, REPLACED, UNCHANGED], KEPT)


class Pen:
    """Decodes tokens to text, with a mark for each kind.

    Args:
        tokenizer: Fast tokenizer of the run.
        colours: Whether to print marks in colours.
    """

    def __init__(self, tokenizer: Any, colours: bool) -> None:
        self.tokenizer, self.colours = tokenizer, colours

    def write(
        self, tokens: NDArray[np.int64], kinds: NDArray[np.int64], originals: NDArray[np.int64] | None = None
    ) -> str:
        """Return the text of tokens; neighbours of one kind are decoded together, to keep characters of several bytes.

        Args:
            tokens: Token ids ``(L,) int64``.
            kinds: Kind of each ``(L,) int64``.
            originals: Tokens before corruption, for marks that show them ``(L,) int64``.
        """
        borders = np.flatnonzero(np.diff(kinds, prepend=-1, append=-1)).tolist()
        before = tokens if originals is None else originals
        spans = ((int(kinds[a]), tokens[a:b], before[a:b]) for a, b in pairwise(borders))
        return "".join(self._span(*span) for span in spans).strip(" ")

    def _span(self, kind: int, tokens: NDArray[np.int64], originals: NDArray[np.int64]) -> str:
        seen, was = self.text(tokens), self.text(originals)
        if kind == KEPT:
            return seen
        spaced = seen.startswith(" ") or (kind == MASKED and was.startswith(" "))  # a mask stands where the word stood
        if kind == MASKED and np.array_equal(tokens, originals):
            was = UNKNOWN
        return " " * spaced + self.mark(kind, seen, was)

    def text(self, tokens: NDArray[np.int64]) -> str:
        """Return tokens within a text as the tokenizer decodes them, on one line, with a space before if there is."""
        pieces = self.tokenizer.convert_ids_to_tokens(tokens.tolist())
        text = self.tokenizer.convert_tokens_to_string([ANCHOR, *pieces]).removeprefix(ANCHOR)
        # escape line breaks and control characters
        return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)

    def mark(self, kind: int, seen: str, was: str = "") -> str:
        """Return a text with the mark of its kind, which shows the original."""
        mark = MARKS.get(kind, "").format(was.strip(" ") or BLANK)
        return self._paint(kind, seen.strip(" ") or BLANK) + self._paint(WRITTEN, mark)

    def _paint(self, kind: int, text: str) -> str:
        return f"\033[{COLOURS[kind]}m{text}\033[0m" if self.colours and text else text
