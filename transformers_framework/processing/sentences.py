"""Sentences of texts in any script, by their punctuation: no model and no list of abbreviations."""

from __future__ import annotations

import re

STOPS = ".?!…।॥؟۔"  # end a sentence where white space follows
WIDE_STOPS = "。？！｡"  # end a sentence in scripts without spaces
CLOSERS = r""""'”’»)\]」』"""  # quotation marks and brackets, after full stops
_END = re.compile(f"[{STOPS}{WIDE_STOPS}]+[{CLOSERS}]*(?=\\s)|[{WIDE_STOPS}]+[{CLOSERS}]*")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the start and the end of each sentence of a text, in characters, without white space around it.

    A sentence ends after a full stop, a question mark or the like, and the quotation marks and brackets that close
    after it, where white space follows; in scripts without spaces, anywhere.

    Args:
        text: A text.

    Examples:
        >>> text = 'He said "no." Then?  She  left'
        >>> [text[start:end] for start, end in sentence_spans(text)]
        ['He said "no."', 'Then?', 'She  left']
        >>> text = "今日は晴れ。「行こう。」はい"
        >>> [text[start:end] for start, end in sentence_spans(text)]
        ['今日は晴れ。', '「行こう。」', 'はい']
    """
    ends = [found.end() for found in _END.finditer(text)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    spans, start = [], 0
    for end in ends:
        part = text[start:end]
        if visible := part.strip():
            begin = start + len(part) - len(part.lstrip())
            spans.append((begin, begin + len(visible)))
        start = end
    return spans
