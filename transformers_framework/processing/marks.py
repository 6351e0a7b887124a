"""Combining marks: signs of a script, such as vowel signs, without which words are other words."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache


def num_marks(text: str) -> int:
    """Return the number of combining marks except those of Latin, Greek and Cyrillic letters, which are accents.

    Examples:
        >>> num_marks("पेशा"), num_marks("été й"), num_marks("が")
        (2, 0, 1)
    """
    counts = Counter(unicodedata.normalize("NFD", text))
    return sum(count for character, count in counts.items() if _is_mark(character))


@cache
def _is_mark(character: str) -> bool:
    if unicodedata.category(character) not in ("Mn", "Mc"):
        return False
    name = unicodedata.name(character, "")
    is_general = name.startswith(("COMBINING ", "VARIATION SELECTOR"))  # not of one script
    return not is_general or "KATAKANA" in name
