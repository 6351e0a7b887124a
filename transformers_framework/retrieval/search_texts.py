"""Texts in the files of a search, so that they can be read: each query, and the beginnings of the best passages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.sources.columns import rows_at
from transformers_framework.sources.fields import Field, field_texts

if TYPE_CHECKING:
    from datasets import Dataset

    from transformers_framework.inputs.query_passage import QueryPassage
    from transformers_framework.retrieval.corpus import Corpus, Numbers

BEST, LONGEST = 3, 200  # passages and their characters: a line stays below 1 KiB, without the ids
TOGETHER = 1000  # queries whose texts are read at once


def search_texts(
    inputs: QueryPassage, corpus: Corpus, queries: Dataset, rows: Numbers, found: Numbers
) -> Iterator[dict[str, Any]]:
    """Yield the texts of each query: its columns, and as ``texts`` the beginnings of the passages that are best.

    Args:
        inputs: Have the columns of the query.
        corpus: The passages.
        queries: Rows with the queries.
        rows: Row of each query, (Q,) int64.
        found: Numbers of the retrieved passages of each query, the best first, (Q, K) int64.
    """
    queries = queries.select_columns(list(inputs.query_field.columns))
    passages = corpus.dataset.select_columns(list(corpus.field.columns))
    for start in range(0, len(rows), TOGETHER):
        part, best = rows[start : start + TOGETHER], found[start : start + TOGETHER, :BEST]
        distinct, places = np.unique(best, return_inverse=True)
        texts = _beginnings(passages, corpus.field, corpus.rows[distinct])
        asked, of_query = rows_at(queries, part), places.reshape(best.shape)
        for query, numbers in enumerate(of_query):
            columns = {name: values[query] for name, values in asked.items()}
            yield columns | {"texts": [texts[number] for number in numbers]}


def _beginnings(passages: Dataset, field: Field, rows: Numbers) -> list[str]:
    return [beginning(str(text)) for text in field_texts(rows_at(passages, rows), field)] if len(rows) else []


def beginning(text: str, longest: int = LONGEST) -> str:
    """Return the beginning of a text, with an ellipsis where it is cut.

    Examples:
        >>> beginning("a short text", 12), beginning("a short text", 8)
        ('a short text', 'a short…')
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
