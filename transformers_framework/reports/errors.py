"""``errors.md``: the most confident mistakes of the test stage with their texts, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from transformers_framework.exceptions import printable
from transformers_framework.objectives.details.stage_details import Cell, Mistakes, Strong, Table

LONGEST = 300  # characters of a part of a text
LONGEST_HEADING = 200
NAME = "errors.md"

_MARKUP = re.compile(r"([\\`*_{}\[\]#|~$!])")


def markdown(title: str, mistakes: Mapping[str, Mistakes]) -> Iterator[str]:
    """Yield the lines of a Markdown file with the mistakes of each objective.

    Args:
        title: Heading of the file.
        mistakes: Mistakes by the name of the objective.
    """
    yield f"# {escaped(title)}"
    for name, found in mistakes.items():
        yield from ("", f"## {escaped(name)}", "", f"{escaped(found.found)}. {escaped(found.order)}")
        for table in found.tables:
            yield ""
            if table.heading:
                yield from (f"### {cell_text(table.heading, LONGEST_HEADING)}", "")
            yield from lines_of(table)


def lines_of(table: Table) -> Iterator[str]:
    r"""Yield the lines of a table.

    Examples:
        >>> print(*lines_of(Table(["row", "text"], [["1", ["a ", Strong("b|c"), "\n<d>"]]])), sep="\n")
        | row | text |
        |---|---|
        | 1 | a **b\|c** &lt;d&gt; |
    """
    yield f"| {' | '.join(map(escaped, table.columns))} |"
    yield f"|{'---|' * len(table.columns)}"
    for row in table.rows:
        yield f"| {' | '.join(cell_text(cell) for cell in row)} |"


def cell_text(cell: Cell, longest: int = LONGEST) -> str:
    """Return a cell as Markdown: one line, escaped and shortened, with emphasized parts."""
    parts: Sequence[str] = [cell] if isinstance(cell, str) else cell
    return "".join(_emphasized(part, longest) if isinstance(part, Strong) else escaped(part, longest) for part in parts)


def escaped(text: str, longest: int = LONGEST) -> str:
    r"""Return a text so that Markdown shows it as it is, on one line, and shortened if it is longer.

    Examples:
        >>> escaped("a *b* | <c>\n& `d`"), escaped("one two three", longest=9)
        ('a \\*b\\* \\| &lt;c&gt; &amp; \\`d\\`', 'one two …')
    """
    start, end = text[:1].isspace(), text[-1:].isspace()
    words = " ".join(printable(text[: 2 * longest]).split())  # longer texts are not read to their end
    if len(words) > longest or len(text) > 2 * longest:
        end = False
        words = f"{words[:longest].rpartition(' ')[0] or words[:longest]} …"
    safe = _MARKUP.sub(r"\\\1", words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return f"{' ' if start else ''}{safe}{' ' if end and words else ''}"


def _emphasized(text: str, longest: int) -> str:
    """Return a text in bold; asterisks beside punctuation within a word would not be read as markup."""
    words = escaped(text.strip(), longest)
    if not words:
        return ""
    return f"**{words}**" if text[0].isalnum() and text[-1].isalnum() else f"<b>{words}</b>"
