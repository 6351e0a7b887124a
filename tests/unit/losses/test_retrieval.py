"""Losses of embeddings: equal to formulas written out here, and to sentence-transformers' own where it is installed."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import transformers_framework
from tests.tolerances import BACKWARD, approx, assert_close
from transformers_framework.losses.retrieval.batch import Embedded
from transformers_framework.losses.retrieval.configured import ConfiguredLoss
from transformers_framework.losses.retrieval.similarity import score_matrix
from transformers_framework.losses.retrieval.table import RETRIEVAL_LOSSES

SIZE, ROWS = 6, 8
MARGIN, SCALE = 0.6, 12.0
SCORES = ("cosine_similarity", "dot_product_similarity")


def sampled(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def texts(negative_rows: Sequence[int] = ()) -> Embedded:
    query, passage = sampled(ROWS, SIZE, seed=1), sampled(ROWS, SIZE, seed=2)
    return Embedded(query, passage, sampled(len(negative_rows), SIZE, seed=3) if len(negative_rows) else None)


def batch_of(labels: Any, negative_rows: Sequence[int] = ()) -> dict[str, torch.Tensor]:
    """A batch whose queries and texts are all different."""
    return {
        "labels": torch.tensor(labels, dtype=torch.float32),
        "queries": torch.arange(ROWS),
        "passages": torch.arange(ROWS + len(negative_rows)) + 1000,
        "negative_rows": torch.tensor(negative_rows, dtype=torch.int64),
    }


def each(number: int) -> list[int]:
    """The rows of hard negatives, of which each has so many."""
    return np.repeat(np.arange(ROWS), number).tolist()


RAGGED = [0, 1, 1, 1, 3, 4, 4, 6, 7, 7]  # rows 2 and 5 have none


POSITIVES = [1] * ROWS
MIXED = [1, 0, 1, 1, 0, 0, 1, 0]
NUMBERS = [0.9, 0.1, -0.3, 0.5, 1.0, 0.0, 0.25, 0.75]


# --- written out -----------------------------------------------------------------------------------------------------


def score(a: Any, b: Any, scores_fn: str) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.hypot(*a) / math.hypot(*b) if scores_fn == "cosine_similarity" else dot


def distance(a: Any, b: Any, distance_fn: str) -> float:
    if distance_fn == "cosine":
        return 1 - score(a, b, "cosine_similarity")
    differences = [abs(x - y) for x, y in zip(a, b, strict=True)]
    return math.hypot(*differences) if distance_fn == "euclidean" else sum(differences)


def softmax_loss(right: float, others: list[float]) -> float:
    return math.log(sum(math.exp(value) for value in [right, *others])) - right


def expected(
    name: str, found: Embedded, labels: Any, scores_fn: str, distance_fn: str, negative_rows: Sequence[int] = ()
) -> float:
    """The mean loss of a batch whose queries and texts are all different, by its definition."""
    q, p = found.query.tolist(), found.passage.tolist()
    rows = range(len(q))
    wrong = found.negatives.tolist() if found.negatives is not None else []
    n = [[text for text, of in zip(wrong, negative_rows, strict=True) if of == i] for i in rows]
    apart = [distance(q[i], p[i], distance_fn) for i in rows]
    if name == "contrastive_loss":
        losses = [d**2 if label else max(0, MARGIN - d) ** 2 for d, label in zip(apart, labels, strict=True)]
        return sum(losses) / 2 / len(losses)
    if name == "online_contrastive_loss":
        right = [d for d, label in zip(apart, labels, strict=True) if label]
        wrong = [d for d, label in zip(apart, labels, strict=True) if not label]
        hard_positive = [d for d in right if d > (min(wrong) if len(wrong) > 1 else np.mean(right))]
        hard_negative = [d for d in wrong if d < (max(right) if len(right) > 1 else np.mean(wrong))]
        return sum(d**2 for d in hard_positive) + sum(max(0, MARGIN - d) ** 2 for d in hard_negative)
    if name == "cosine_similarity_loss":
        return float(np.mean([(score(q[i], p[i], scores_fn) - labels[i]) ** 2 for i in rows]))
    if name == "margin_mse_loss":
        margins = [score(q[i], p[i], scores_fn) - score(q[i], n[i][0], scores_fn) for i in rows]
        return float(np.mean([(margin - label) ** 2 for margin, label in zip(margins, labels, strict=True)]))
    if name == "triplet_loss":
        triplets = [[max(0, apart[i] - distance(q[i], wrong, distance_fn) + MARGIN) for wrong in n[i]] for i in rows]
        return float(np.mean([np.mean(own or 0) for own in triplets]))
    if name.startswith("multiple"):
        among = [*p, *(wrong for row in n for wrong in row)]
        forward = [softmax_loss(SCALE * score(q[i], p[i], scores_fn), [SCALE * score(q[i], c, scores_fn) for j, c in enumerate(among) if j != i]) for i in rows if labels[i]]  # fmt: skip  # noqa: E501
        if "symmetric" not in name:
            return float(np.mean(forward))
        back = [softmax_loss(SCALE * score(q[i], p[i], scores_fn), [SCALE * score(q[j], p[i], scores_fn) for j in rows if j != i]) for i in rows if labels[i]]  # fmt: skip  # noqa: E501
        return float(np.mean(forward) + np.mean(back)) / 2
    everything = [*q, *p, *wrong]
    classes = [*rows, *(i if labels[i] else -1 - i for i in rows), *(-1 - ROWS - i for i in range(len(wrong)))]
    between = [[distance(a, b, distance_fn) for b in everything] for a in everything]
    same = {i: [j for j in range(len(classes)) if j != i and classes[i] == classes[j]] for i in range(len(classes))}
    other = {i: [j for j in range(len(classes)) if classes[i] != classes[j]] for i in range(len(classes))}
    if name == "batch_all_triplet_loss":
        losses = [between[i][j] - between[i][k] + MARGIN for i in same for j in same[i] for k in other[i]]
        return float(np.mean([loss for loss in losses if loss > 0]))
    if name == "batch_semi_hard_triplet_loss":
        losses = []
        for i in same:
            for j in same[i]:
                farther = [between[i][k] for k in other[i] if between[i][k] > between[i][j]]
                wrong = min(farther) if farther else max(between[i][k] for k in other[i])
                losses.append(max(0, between[i][j] - wrong + MARGIN))
        return float(np.mean(losses))
    gaps = [max(between[i][j] for j in same[i]) - min(between[i][k] for k in other[i]) for i in same if same[i]]
    soft = name == "batch_hard_soft_margin_triplet_loss"
    return float(np.mean([math.log1p(math.exp(gap)) if soft else max(0, gap + MARGIN) for gap in gaps]))


def ours(name: str, scores_fn: str, distance_fn: str) -> ConfiguredLoss:
    """Return a loss with the margin and the scale of this file, where it has one."""
    flags = RETRIEVAL_LOSSES[name].flags
    given = {flag: value for flag, value in (("margin", MARGIN), ("scale", SCALE)) if flag in flags}
    return ConfiguredLoss.of(name, scores_fn=scores_fn, distance_fn=distance_fn, **given)  # type: ignore[arg-type]


def labels_for(name: str) -> list[float]:
    learns_numbers = name in ("cosine_similarity_loss", "margin_mse_loss")
    return (
        NUMBERS if learns_numbers else MIXED if name in ("contrastive_loss", "online_contrastive_loss") else POSITIVES
    )


@pytest.mark.parametrize("scores_fn", SCORES)
@pytest.mark.parametrize("distance_fn", ["cosine", "euclidean", "manhattan"])
@pytest.mark.parametrize("name", RETRIEVAL_LOSSES)
def test_losses_are_what_they_are_defined_as(name: str, scores_fn: str, distance_fn: str) -> None:
    """Also where one row has more hard negatives than another."""
    row = RETRIEVAL_LOSSES[name]
    negative_rows = each(1) if name == "margin_mse_loss" else [] if row.negatives == "refused" else RAGGED
    found, labels = texts(negative_rows), labels_for(name)
    loss = ours(name, scores_fn, distance_fn)
    total = loss.of_batch(found, batch_of(labels, negative_rows))
    wanted = expected(name, found, labels, scores_fn, distance_fn, negative_rows)
    assert total.item() / loss.count(np.array(labels)) == approx(wanted)
    total.backward()
    assert all(part.grad.abs().sum() > 0 for part in found if part is not None)


@pytest.mark.parametrize("name", [name for name, row in RETRIEVAL_LOSSES.items() if row.in_batch])
def test_labels_of_in_batch_losses(name: str) -> None:
    """Rows with label 0 add negatives; they are positives of no query."""
    found, labels = texts(), [1, 1, 0, 1, 1, 0, 1, 1]
    loss = ours(name, "cosine_similarity", "cosine")
    wanted = expected(name, found, labels, "cosine_similarity", "cosine")
    assert loss.of_batch(found, batch_of(labels)).item() / loss.count(np.array(labels)) == approx(wanted)


@pytest.mark.parametrize("name", RETRIEVAL_LOSSES)
def test_padding_weighs_nothing(name: str) -> None:
    negative_rows = [] if RETRIEVAL_LOSSES[name].negatives == "refused" else each(1)
    found, labels = texts(negative_rows), labels_for(name)
    loss = ours(name, "cosine_similarity", "cosine")
    padded = Embedded(*(part if part is None else torch.cat([part, part[:1]]) for part in found))
    batch = batch_of(labels, negative_rows)
    numbers = batch["passages"]
    more = {
        "labels": torch.cat([batch["labels"], torch.tensor([-100.0])]),
        "queries": torch.cat([batch["queries"], batch["queries"][:1]]),
        "passages": torch.cat([numbers[:ROWS], numbers[:1], numbers[ROWS:], numbers[ROWS:][:1]]),
        "negative_rows": torch.tensor([*negative_rows, ROWS] if negative_rows else []),
    }
    assert_close(loss.of_batch(padded, more), loss.of_batch(found, batch))
    assert loss.count(more["labels"].numpy()) == loss.count(batch["labels"].numpy())


def test_positives_are_never_negatives() -> None:
    """Rows 0 and 1 are about one query; rows 2 and 3 have one passage: neither is a negative of the other."""
    batch = {"labels": torch.ones(4), "queries": torch.tensor([7, 7, 8, 9]), "passages": torch.tensor([1, 2, 3, 3])}
    query, passage = sampled(4, SIZE, seed=1), sampled(4, SIZE, seed=2)
    found = score_matrix(query, passage, "cosine_similarity") * SCALE
    among = [[0, 2, 3], [1, 2, 3], [2, 0, 1], [3, 0, 1]]  # the positive first
    scores = [[found[i, j].item() for j in row] for i, row in enumerate(among)]
    total = ours("multiple_negatives_ranking_loss", "cosine_similarity", "cosine").of_batch(
        Embedded(query, passage), batch
    )
    assert total.item() == approx(sum(softmax_loss(row[0], row[1:]) for row in scores))
    back = [[found[j, i].item() for j in row] for i, row in enumerate(among)]
    both = ours("multiple_negatives_symmetric_ranking_loss", "cosine_similarity", "cosine")
    other = sum(softmax_loss(row[0], row[1:]) for row in back)
    assert both.of_batch(Embedded(query, passage), batch).item() == approx((total.item() + other) / 2)


@pytest.mark.parametrize("name", [name for name, row in RETRIEVAL_LOSSES.items() if row.in_batch])
def test_a_copy_of_a_positive_is_no_negative(name: str) -> None:
    """It is labelled a negative of another query; where it lies changes nothing."""
    labels, numbers = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([1, 1, 2])
    batch = {"labels": labels, "queries": torch.tensor([7, 8, 7]), "passages": numbers}
    query, passage = sampled(3, SIZE, seed=1), sampled(3, SIZE, seed=2)
    query = torch.stack([query[0], query[1] + 90, query[0]])  # the other query is far away, and no hard negative
    moved = passage.detach().clone()
    moved[1] = query[0] + 1e-3 * moved[1]
    loss = ours(name, "cosine_similarity", "euclidean")
    first, second = (loss.of_batch(Embedded(query, found), batch) for found in (passage, moved))
    assert first.item() == approx(second.item(), BACKWARD)


def test_one_pair_of_a_kind() -> None:
    """Where there is one negative or none, online contrastive loss compares positives with their mean."""
    for labels in ([1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]):
        found = Embedded(sampled(4, SIZE, seed=4), sampled(4, SIZE, seed=5))
        wanted = expected("online_contrastive_loss", found, labels, "cosine_similarity", "euclidean")
        loss = ours("online_contrastive_loss", "cosine_similarity", "euclidean")
        value = loss.of_batch(found, {"labels": torch.tensor(labels)})
        assert value.item() == approx(wanted), labels


def test_a_batch_without_positives_has_no_loss_and_no_bad_gradient() -> None:
    for name, row in RETRIEVAL_LOSSES.items():
        if row.in_batch:
            found = texts()
            value = ours(name, "cosine_similarity", "cosine").of_batch(found, batch_of([0] * ROWS))
            value.backward()
            assert value.item() == 0, name
            assert all(bool(torch.isfinite(part.grad).all()) for part in (found.query, found.passage)), name


def test_nothing_is_decided_by_the_name_of_a_loss() -> None:
    """Names of losses, and parts of them, stand in the table, and one as the default of the flag."""
    names = {*RETRIEVAL_LOSSES, "contrastive", "online_", "soft_margin", "_soft_margin", "symmetric", "triplet"}
    package, found = Path(transformers_framework.__file__).parent, set()
    for path in package.rglob("*.py"):
        constants = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant))
        found |= {(path.name, node.value) for node in constants if isinstance(node.value, str) and node.value in names}
    assert {place for place in found if place[0] != "table.py"} == {("retrieval.py", "multiple_negatives_ranking_loss")}


# --- sentence-transformers -------------------------------------------------------------------------------------------


class Given(torch.nn.Module):
    """A model of sentence-transformers whose embeddings are those that it is given."""

    def forward(self, features: dict[str, torch.Tensor], **_: Any) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": features["embeddings"]}


def theirs(name: str, scores_fn: str) -> Any:
    """Their loss with the settings that ours has."""
    from sentence_transformers import losses, util

    by_cosine, model = scores_fn == "cosine_similarity", Given()
    pairwise = losses.SiameseDistanceMetric.COSINE_DISTANCE if by_cosine else losses.SiameseDistanceMetric.EUCLIDEAN
    of_triplets = losses.TripletDistanceMetric.COSINE if by_cosine else losses.TripletDistanceMetric.EUCLIDEAN
    functions = losses.BatchHardTripletLossDistanceFunction
    of_batch = functions.cosine_distance if by_cosine else functions.eucledian_distance
    similarity = util.cos_sim if by_cosine else util.dot_score
    by_name = {
        "contrastive_loss": lambda: losses.ContrastiveLoss(model, pairwise, MARGIN),
        "online_contrastive_loss": lambda: losses.OnlineContrastiveLoss(model, pairwise, MARGIN),
        "cosine_similarity_loss": lambda: losses.CosineSimilarityLoss(model),
        "margin_mse_loss": lambda: losses.MarginMSELoss(
            model, util.pairwise_cos_sim if by_cosine else util.pairwise_dot_score
        ),
        "triplet_loss": lambda: losses.TripletLoss(model, of_triplets, MARGIN),
        "multiple_negatives_ranking_loss": lambda: losses.MultipleNegativesRankingLoss(model, SCALE, similarity),
        "multiple_negatives_symmetric_ranking_loss": lambda: losses.MultipleNegativesSymmetricRankingLoss(
            model, SCALE, similarity
        ),
        "batch_all_triplet_loss": lambda: losses.BatchAllTripletLoss(model, of_batch, MARGIN),
        "batch_hard_triplet_loss": lambda: losses.BatchHardTripletLoss(model, of_batch, MARGIN),
        "batch_hard_soft_margin_triplet_loss": lambda: losses.BatchHardSoftMarginTripletLoss(model, of_batch),
        "batch_semi_hard_triplet_loss": lambda: losses.BatchSemiHardTripletLoss(model, of_batch, MARGIN),
    }
    return by_name[name]()


@pytest.mark.needs("sentence_transformers")
@pytest.mark.parametrize("scores_fn", SCORES)
@pytest.mark.parametrize("name", RETRIEVAL_LOSSES)
def test_losses_equal_those_of_sentence_transformers(name: str, scores_fn: str) -> None:
    if name == "cosine_similarity_loss" and scores_fn != "cosine_similarity":
        pytest.skip("theirs has cosine similarities only")
    loss = theirs(name, scores_fn)
    num_negatives = {"margin_mse_loss": 1, "triplet_loss": 1}.get(name, 2 if name.startswith("multiple") else 0)
    found, labels = texts(each(num_negatives)), torch.tensor(labels_for(name), dtype=torch.float32)
    columns = [found.query, found.passage]
    if found.negatives is not None:
        columns += [found.negatives[i::num_negatives] for i in range(num_negatives)]
    if name.startswith("batch"):
        columns, labels = [torch.cat(columns)], torch.arange(ROWS).repeat(2)
    elif not RETRIEVAL_LOSSES[name].needs_label:
        labels = None
    wanted = loss([{"embeddings": column} for column in columns], labels)
    mine = ours(name, scores_fn, "cosine" if scores_fn == "cosine_similarity" else "euclidean")
    rows = labels_for(name)
    total = mine.of_batch(found, batch_of(rows, each(num_negatives)))
    whole = mine.count(np.array(rows))
    assert_close(total / whole, wanted)
    inputs = [part for part in found if part is not None]
    for first, second in zip(
        torch.autograd.grad(total / whole, inputs), torch.autograd.grad(wanted, inputs), strict=True
    ):
        assert_close(first, second)
