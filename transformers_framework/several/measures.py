"""The metrics of predictions as functions of sums over rows, queries, questions or sentences.

Each function reads the rows of a file of predictions and returns a :class:`Measure` with the metrics that can be
computed from them, by the formulas with which a run computes them. :data:`OBJECTIVES` has those of each objective.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from transformers_framework.constants import IGNORE_INDEX, RELEVANT
from transformers_framework.metrics.statistics import Array, Measure, Resampled
from transformers_framework.several.classes import Classes, place_of_class
from transformers_framework.several.losses import binary_cross_entropies, cross_entropies, logarithms, with_loss
from transformers_framework.several.rank_correlation import RankCorrelation
from transformers_framework.several.results import OF_CLASS

Rows = Sequence[Mapping[str, Any]]

MOST_CLASSES = 100
CUT_OFF = re.compile(r"(precision|hitrate|ndcg|recall)@(\d+)")


@dataclass(frozen=True)
class Labelled:
    """The labels of the predictions of a run: columns, classes and logged metrics.

    Args:
        flags: Flags of the run.
        classes: Names of the classes of the trained model, or their numbers; None if it has none.
        classes_are_texts: Whether the classes are names even if they look like numbers.
        logged: Names of the metrics of the objective, without prefix.
    """

    flags: Mapping[str, Any]
    classes: Sequence[str] | None
    classes_are_texts: bool
    logged: Sequence[str]

    def column(self, flag: str) -> str:
        """Return the column that a flag names."""
        return str(self.flags[flag])

    def cut_offs(self, prefix: str = "") -> dict[str, list[int]]:
        """Return the cut-offs k of the metrics at k, such as ``{"precision_at": [1, 5]}``."""
        found: dict[str, list[int]] = {}
        for name in self.logged:
            if name.startswith(prefix) and (at := CUT_OFF.fullmatch(name.removeprefix(prefix))):
                found.setdefault(f"{at[1]}_at", []).append(int(at[2]))
        return found

    @property
    def empty_target_action(self) -> Any:
        """Return how queries without a positive count."""
        return self.flags.get("metrics_empty_target_action") or "skip"

    def encoder(self, column: str, *, in_lists: bool = False) -> Any:
        """Return the label encoder of a run that tests the trained model."""
        from transformers_framework.objectives.labels import LabelEncoder

        known = self.classes or self._logged_classes()
        encoder = LabelEncoder(
            column, len(known or ()) or None, known, in_lists=in_lists, known_as_texts=self.classes_are_texts
        )
        encoder.fix_classes(trains=False)
        return encoder

    def _logged_classes(self) -> list[str] | None:
        """Return the classes of which an F1 was logged, in the order that they have by default."""
        names = [name.removeprefix(OF_CLASS) for name in self.logged if name.startswith(OF_CLASS)]
        return sorted(names, key=place_of_class) or None


# ---------------------------------------------------------------- classes


def sequence_classes(rows: Rows, run: Labelled) -> Measure | None:
    """Return the metrics of sequence classification: single label, multi-label or regression."""
    column = run.column("label_column")
    if "mean_squared_error" in run.logged:
        return _regression(*_numbers(rows, run))
    classes = Classes(run.encoder(column, in_lists="micro_f1" in run.logged))
    if classes.encoder.in_lists:
        wanted, found = (_many_hot(classes, [row[name] for row in rows]) for name in (column, "prediction"))
        measure = _multi_label(wanted, found, classes, run)
        probabilities = np.array([[row["scores"][name] for name in classes.names] for row in rows], dtype=np.float64)
        return with_loss(measure, *binary_cross_entropies(probabilities, wanted, classes.weighted(run)))
    labels, found = (classes.numbers([row[name] for row in rows]) for name in (column, "prediction"))
    if len(classes.names) > MOST_CLASSES:
        return _accuracy((found == labels) & (labels >= 0), labels >= 0)
    measure = _single_label(_counters(found, labels, len(classes.names)), classes, run)
    if not all(isinstance(row["scores"], list) for row in rows):  # of many classes, some have scores
        return measure
    probabilities = classes.columns(np.array([row["scores"] for row in rows], dtype=np.float64))
    return with_loss(measure, *cross_entropies(logarithms(probabilities), labels, classes.weighted(run)))


def _accuracy(right: np.ndarray, counted: np.ndarray) -> Measure:
    """Return the accuracy alone: the counters of all classes of each row would need too much memory."""
    statistics = np.stack([right, counted], axis=1)
    return _measure(lambda sums: {"accuracy": sums[:, 0] / np.maximum(sums[:, 1], 1)}, statistics)


def _counters(found: np.ndarray, labels: np.ndarray, count: int) -> Array:
    """Return true positives, predicted and actual classes of each row (N, 3 C) float64; -100 does not count."""
    counted = (labels >= 0)[:, None]
    predicted, actual = (np.eye(count)[np.maximum(classes, 0)] * counted for classes in (found, labels))
    return np.concatenate([predicted * actual, predicted, actual], axis=1)


def _single_label(counters: Array, classes: Classes, run: Labelled) -> Measure:
    from transformers_framework.metrics.classification import classification_values

    names = classes.logged(run)
    return _measure(
        lambda sums: classification_values(*np.split(sums, 3, axis=1), class_names=names), counters, classes=classes
    )


def _many_hot(classes: Classes, lists: Sequence[Any]) -> np.ndarray:
    """Return whether each row has each class (N, C) float64."""
    found, sizes = np.zeros((len(lists), len(classes.names))), [len(values or ()) for values in lists]
    numbers = classes.numbers(list(chain.from_iterable(values or () for values in lists)))
    found[np.repeat(np.arange(len(lists)), sizes), numbers] = 1
    return found


def _multi_label(wanted: np.ndarray, found: np.ndarray, classes: Classes, run: Labelled) -> Measure:
    from transformers_framework.metrics.classification import multi_label_values

    names = classes.logged(run)
    right = (wanted == found).all(axis=1, keepdims=True)
    statistics = np.concatenate([wanted * found, found, wanted, right, np.ones_like(right)], axis=1)

    def values(sums: Array) -> Mapping[str, Array]:
        right_rows, num_rows = sums[:, -2], sums[:, -1]
        counters = np.split(sums[:, :-2], 3, axis=1)
        return multi_label_values(*counters, right_rows=right_rows, num_rows=num_rows, class_names=names)

    return _measure(values, statistics, classes=classes)


def _numbers(rows: Rows, run: Labelled) -> tuple[Array, Array]:
    """Return the labels of regression, nan where there is none, and the predictions, (N,) float64 both."""
    labels = np.array([row[run.column("label_column")] for row in rows], dtype=np.float64)
    wanted = labels.astype(np.float32).astype(np.float64)  # as a run has them
    return wanted, np.array([row["prediction"] for row in rows], dtype=np.float64)


def _regression(wanted: Array, found: Array) -> Measure:
    """Return correlation and errors; for Spearman's correlation see :func:`rank_correlation`."""
    known = ~np.isnan(wanted)
    center = wanted[known].mean()  # the correlation is the same, and more exact
    x, y = np.where(known, found, center) - center, np.where(known, wanted, center) - center
    statistics = np.stack([known, x, y, x * x, y * y, x * y, (x - y) ** 2, np.abs(x - y)], axis=1)

    def values(sums: Array) -> Mapping[str, Array]:
        with np.errstate(divide="ignore", invalid="ignore"):  # nan without rows, or if all numbers are equal
            x, y, xx, yy, xy, squared, absolute = (sums[:, 1:] / sums[:, :1]).T
            pearson = (xy - x * y) / np.sqrt(np.maximum(0, xx - x * x) * np.maximum(0, yy - y * y))
        return {"pearson": pearson, "mean_squared_error": squared, "mean_absolute_error": absolute}

    return with_loss(_measure(values, statistics), statistics[:, -2], statistics[:, 0])


def rank_correlation(rows: Rows, run: Labelled) -> RankCorrelation | None:
    """Return Spearman's correlation of regression."""
    if "spearman" not in run.logged:
        return None
    wanted, found = _numbers(rows, run)
    known = ~np.isnan(wanted)
    return RankCorrelation(wanted[known], found[known, None])


# ---------------------------------------------------------------- rankings


def candidates(rows: Rows, run: Labelled, *, ranks_only: bool = False) -> Measure | None:
    """Return the metrics of ranked candidates by query: answer selection and retrieval.

    Args:
        rows: Rows of predictions.
        run: Their labels.
        ranks_only: Without those of classes and the loss, which not all objectives have.
    """
    from transformers_framework.metrics.classification import classification_values
    from transformers_framework.metrics.ranking import sort_candidates, values_of_queries
    from transformers_framework.objectives.label_values import number_of

    label, index = run.flags.get("label_column"), run.flags.get("index_column")
    if label is None or index is None or not rows or "scores" not in rows[0]:
        return None
    rows = list(_single_candidates(rows, str(label), str(index)))
    values = np.array([np.nan if row[label] is None else number_of(row[label]) for row in rows], dtype=np.float64)
    target = np.where(np.isnan(values) | (values == IGNORE_INDEX), IGNORE_INDEX, values >= RELEVANT).astype(np.int64)
    scores = np.array([row["scores"] for row in rows], dtype=np.float32)
    # the data may have a column "id" of their own, so rows are known by their places
    ranked = sort_candidates(scores, target, [row[index] for row in rows], np.arange(len(rows)))
    query, rank = ranked.query[ranked.positive], ranked.rank[ranked.positive]
    positives = np.bincount(query, minlength=ranked.num_queries)
    per_query, counted = values_of_queries(
        query, rank, positives, empty_target_action=run.empty_target_action, **run.cut_offs()
    )
    means = np.stack([np.where(counted, values, 0) for values in per_query.values()] + [counted], axis=1)
    if ranks_only:
        return _measure(lambda sums: _means(per_query, sums), means, unit="queries")
    is_classified = np.array([row.get("prediction", 0) is not None for row in rows])  # else not re-ranked
    labelled = np.where(is_classified, target, IGNORE_INDEX)
    classes = _counters((scores > 0).astype(np.int64), labelled, 2)[ranked.order]
    by_query = np.stack([np.bincount(ranked.query, column, ranked.num_queries) for column in classes.T], axis=1)

    def values_of(sums: Array) -> Mapping[str, Array]:
        of_queries, of_classes = np.split(sums, [means.shape[1]], axis=1)
        return _means(per_query, of_queries) | classification_values(*np.split(of_classes, 3, axis=1))

    measure = _measure(values_of, np.concatenate([means, by_query], axis=1), unit="queries")
    if run.flags.get("loss_fn") not in (None, "cross_entropy", "binary"):  # of lists
        return measure
    probabilities = -np.logaddexp(0, np.stack([scores, -scores], axis=1).astype(np.float64))
    losses, items = (
        np.bincount(ranked.query, column[ranked.order], ranked.num_queries).astype(np.float64)
        for column in cross_entropies(probabilities, labelled, run.flags)
    )
    return with_loss(measure, losses, items)


def corpus(rows: Rows, run: Labelled) -> Measure | None:
    """Return the metrics of the passages of a corpus that a search found, by query."""
    from transformers_framework.metrics.corpus import PREFIX
    from transformers_framework.metrics.ranking import values_of_queries

    relevant = [set(row["relevant"]) for row in rows]
    hits = [
        (query, rank)
        for query, row in enumerate(rows)
        for rank, passage in enumerate(row["passages"], 1)
        if passage in relevant[query]
    ]
    query, rank = np.array(hits, dtype=np.int64).reshape(-1, 2).T
    positives = np.array([len(ids) for ids in relevant])
    per_query, counted = values_of_queries(
        query, rank, positives, empty_target_action=run.empty_target_action, **run.cut_offs(PREFIX)
    )
    found = {PREFIX + name: values for name, values in per_query.items()}
    means = np.stack([np.where(counted, values, 0) for values in found.values()] + [counted], axis=1)
    return _measure(lambda sums: _means(found, sums), means, unit="queries")


def _means(names: Iterable[str], sums: Array) -> dict[str, Array]:
    """Return means over queries, from the sums of the values of each metric and the number of queries (R, N + 1)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return dict(zip(names, (sums[:, :-1] / sums[:, -1:]).T, strict=True))


def _single_candidates(rows: Rows, label: str, index: str) -> Sequence[Mapping[str, Any]]:
    """Return a row for each candidate that has a score, if rows have lists of candidates."""
    if not isinstance(rows[0]["scores"], list):
        return rows
    queries = (row[index] if isinstance(row[index], list) else [row[index]] * len(row["scores"]) for row in rows)
    labels = (row[label] if isinstance(row[label], list) else [row[label]] * len(row["scores"]) for row in rows)
    parts = (
        zip(row["scores"], of_row, keys, strict=True) for row, of_row, keys in zip(rows, labels, queries, strict=True)
    )
    every = chain.from_iterable(parts)
    return [{"scores": score, label: of, index: key} for score, of, key in every if score is not None]


# ---------------------------------------------------------------- words, answers, texts


def words(rows: Rows, run: Labelled) -> Measure | None:
    """Return the metrics of the classes of words, and of entities, by sentence."""
    from transformers_framework.metrics.classification import classification_values
    from transformers_framework.metrics.entities import EntityTags, entity_values

    column = run.column("label_column")
    classes = Classes(run.encoder(column, in_lists=True))
    names, count = classes.logged(run), len(classes.names)
    sizes = np.array([len(row[column]) for row in rows])
    sentence = np.repeat(np.arange(len(rows)), sizes)
    wanted, found = (
        classes.numbers(list(chain.from_iterable(row[name] for row in rows))) for name in (column, "prediction")
    )
    kept = (wanted >= 0) & (found >= 0)  # a word without tokens has no prediction
    sentence, wanted, found = sentence[kept], wanted[kept], found[kept]

    def by_sentence(columns: np.ndarray, of: np.ndarray) -> Array:
        return np.stack([np.bincount(of, column, len(rows)) for column in columns.T], axis=1)

    statistics = by_sentence(_counters(found, wanted, count), sentence)
    has_entities = "entity_f1" in run.logged
    if has_entities:
        ends = np.flatnonzero(np.diff(sentence)) + 1  # an O between sentences
        tags, of = (np.insert(tags, ends, -1) for tags in (found, wanted)), np.insert(sentence, ends, 0)
        statistics = np.concatenate([statistics, by_sentence(EntityTags(classes.names).ends(*tags).T, of)], axis=1)

    def values(sums: Array) -> Mapping[str, Array]:
        of_words = classification_values(*np.split(sums[:, : 3 * count], 3, axis=1), class_names=names)
        return of_words | (entity_values(*sums[:, 3 * count :].T) if has_entities else {})

    return _measure(values, statistics, unit="sentences", classes=classes)


def answers(rows: Rows, run: Labelled) -> Measure | None:
    """Return exact match and F1 of questions, also of those with and without an answer."""
    from transformers_framework.objectives.answers import answer_texts
    from transformers_framework.processing.answers import PERCENT, SCORES, all_scores

    golds = [answer_texts(row[run.column("answers_column")]) for row in rows]
    with_unanswerable = "no_answer_f1" in run.logged
    scores = all_scores([row["prediction"] for row in rows], golds, with_unanswerable=with_unanswerable)
    answered = np.array([bool(texts) for texts in golds])[:, None]
    parts = {"": np.ones_like(answered)}
    if with_unanswerable:
        parts |= {"has_answer_": answered, "no_answer_": ~answered}
    statistics = np.concatenate([np.concatenate([scores * part, part], axis=1) for part in parts.values()], axis=1)

    def values(sums: Array) -> Mapping[str, Array]:
        found: dict[str, Array] = {}
        for number, part in enumerate(parts):
            *totals, size = sums[:, 3 * number : 3 * number + 3].T
            with np.errstate(divide="ignore", invalid="ignore"):
                found |= {f"{part}{name}": PERCENT * total / size for name, total in zip(SCORES, totals, strict=True)}
        return found

    return _measure(values, statistics, unit="questions")


def summaries(rows: Rows, run: Labelled) -> Measure | None:
    """Return ROUGE and BLEU of generated texts."""
    from transformers_framework.metrics.bleu import Bleu
    from transformers_framework.metrics.generation import SCORES_PER_UNIT
    from transformers_framework.metrics.rouge import Rouge
    from transformers_framework.objectives.summarization import NEEDED_BY, summary_texts

    columns = [run.flags.get(flag) for flag in ("summary_column", "additional_summaries_column")]
    lists = [[summary_texts(row[column]) for column in columns if column is not None] for row in rows]
    references = [list(dict.fromkeys(chain.from_iterable(texts))) for texts in lists]
    preds, tokenizer = [row["prediction"] for row in rows], run.flags.get("summary_tokenizer")
    rouge, bleu = Rouge(NEEDED_BY, tokenizer), Bleu(NEEDED_BY, tokenizer)
    scores = rouge.rounded(rouge.scores(preds, references)) / SCORES_PER_UNIT
    statistics = np.concatenate([np.ones((len(rows), 1)), scores, bleu(preds, references)], axis=1)

    def values(sums: Array) -> Mapping[str, Array]:
        size, (of_rouge, of_bleu) = sums[:, :1], np.split(sums[:, 1:], [rouge.size], axis=1)
        means = dict(zip(rouge.names, (of_rouge / size).T, strict=True))
        counts = np.rint(of_bleu).astype(np.int64).tolist()
        return means | {"bleu": np.array([bleu.values(row, len(rows))["bleu"] for row in counts])}

    return _measure(values, statistics)


def _measure(
    values: Callable[[Array], Mapping[str, Array]], statistics: Any, unit: str = "rows", classes: Classes | None = None
) -> Measure:
    """Return a measure of a function that returns the values of R data sets by name, each (R,)."""
    found = np.asarray(statistics, dtype=np.float64)
    names = tuple(values(found.sum(axis=0, keepdims=True)))
    of_classes = tuple(classes.names) if classes else ()
    return Measure(names, found, lambda sums: np.stack([*values(sums).values()], axis=1), unit, of_classes)


MeasureOf = Callable[[Rows, Labelled], Resampled | None]

# objective -> its metrics, as far as they can be computed from predictions
OBJECTIVES: Mapping[str, MeasureOf] = {
    "answer_selection": candidates,
    "question_answering": answers,
    "retrieval": candidates,
    "seq_class": sequence_classes,
    "summarization": summaries,
    "token_class": words,
}

RANKED = tuple(name for name, measure_of in OBJECTIVES.items() if measure_of is candidates)
RANKING = "ranking"  # in the names of metrics that runs of several of these have in common

# objective -> further metrics, each from a file of predictions
FURTHER: Mapping[str, tuple[str, MeasureOf]] = {
    "retrieval": ("corpus", corpus),
    "seq_class": ("seq_class", rank_correlation),
}
