"""Details of a search: rank of the first relevant passage, and passages retrieved above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.metrics.first_positive import FirstPositives
from transformers_framework.objectives.details.collapse import one_score
from transformers_framework.objectives.details.stage_details import (
    MOST_ABOVE,
    Highest,
    Mistakes,
    StageDetails,
    Strong,
    Table,
)
from transformers_framework.processing.text_ids import value_hashes
from transformers_framework.sources.fields import field_texts

if TYPE_CHECKING:
    from datasets import Dataset

    from transformers_framework.inputs.query_passage import QueryPassage
    from transformers_framework.objectives.details.predicted import Predicted, Row
    from transformers_framework.retrieval.corpus import Corpus


def search_details(corpus: Corpus, queries: Dataset, predicted: Predicted, num_mistakes: int) -> StageDetails:
    """Return ranks of the first relevant passages, and the queries for which another passage is first.

    Args:
        corpus: The passages.
        queries: Rows with the texts of the queries.
        predicted: Results of the search: row of each query, ids and scores of passages, and ids of relevant ones.
        num_mistakes: Number of queries to list.
    """
    worst, start, ranks = Highest(num_mistakes), 0, []
    lowest, highest, num_scores = np.inf, -np.inf, 0
    for rows in predicted.chunks():
        margins, places = [], []
        for place, row in enumerate(rows, start):
            if len(scores := row["scores"]) > 1:  # a single passage per query may be equal to it: cosine 1
                lowest, highest = min(lowest, *scores), max(highest, *scores)
                num_scores += len(scores)
            if row["relevant"]:
                ranks.append(rank := rank_of(row))
                if rank != 1 and scores:
                    margins.append(scores[0] - scores[rank - 1])  # where none is found, the last one
                    places.append(place)
        worst.add(margins, places)
        start += len(rows)
    positions = FirstPositives(np.array(ranks, dtype=np.int64), corpus.top_k)
    values: dict[str, Any] = {"first_positive": positions.values() | {"without_positive": start - len(ranks)}}
    figures = {"first_positive": positions} if ranks else {}
    warnings = one_score(lowest, highest, num_scores, "retrieved passages")
    if not num_mistakes:
        return StageDetails(values, figures, warnings=warnings)
    tables = [_table(corpus, corpus.inputs, queries, row) for _, row, _ in worst.with_rows(predicted)]
    found = f"{worst.total:,} of {len(ranks):,} queries with a relevant passage have another one first"
    order = "Sorted by the score of the first passage minus that of the best relevant one, or of the last one."
    return StageDetails(values, figures, Mistakes(found, order, tables), warnings)


def rank_of(row: Row) -> int:
    """Return the rank of the first relevant passage of a query, from 1; 0 if none was retrieved.

    Examples:
        >>> rank_of({"passages": ["b", "a"], "relevant": ["a", "c"]}), rank_of({"passages": ["b"], "relevant": ["a"]})
        (2, 0)
    """
    relevant = set(row["relevant"])
    return next((rank for rank, passage in enumerate(row["passages"], 1) if passage in relevant), 0)


def _table(corpus: Corpus, inputs: QueryPassage, queries: Dataset, row: Row) -> Table:
    """Return the passages retrieved above the first relevant one of a query."""
    rank, field = rank_of(row), inputs.query_field
    shown = [*range(1, min(MOST_ABOVE, (rank or len(row["passages"]) + 1) - 1) + 1)]
    ids = [row["passages"][place - 1] for place in shown] + [row["passages"][rank - 1] if rank else row["relevant"][0]]
    texts = passage_texts(corpus, ids)
    lines = [
        (f"{place:,}", f"{row['scores'][place - 1]:.4g}", "other", text)
        for place, text in zip(shown, texts, strict=False)
    ]
    score = f"{row['scores'][rank - 1]:.4g}" if rank else ""
    lines.append((f"{rank:,}" if rank else "none", score, Strong("relevant"), texts[-1]))
    (query,) = field_texts(queries[row["id"] : row["id"] + 1], field)
    where = f"at rank {rank:,}" if rank else f"not among the first {len(row['passages']):,}"
    return Table(("rank", "score", "passage", "text"), lines, f"The relevant passage is {where}: {query}")


def passage_texts(corpus: Corpus, ids: Sequence[Any]) -> list[str]:
    """Return the texts of passages by their ids."""
    if corpus.id_column is None:
        rows = [int(number) for number in ids]
    else:
        rows = corpus.rows[corpus.by_id(value_hashes(list(ids)))].tolist()
    return [str(text) for text in field_texts(corpus.dataset[rows], corpus.field)]
