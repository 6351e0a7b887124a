"""Losses of lists of candidates: equal to formulas written out here, and to those of sentence-transformers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.tolerances import BACKWARD, approx, assert_close
from transformers_framework.losses.distillation import divergence, divergence_of_yes_and_no
from transformers_framework.losses.ranking.lists import mean_over_queries
from transformers_framework.losses.ranking.table import RANKING_LOSSES

LISTS = [[1, 0, 0, 1, 0], [0, 1], [1, 0, 0], [0, 0, 1, 1]]  # of labels
COMPARING = [name for name, row in RANKING_LOSSES.items() if row.compares]


def sampled(sizes: list[int], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(size, generator=generator) for size in sizes]


def padded(rows: list[torch.Tensor], fill: float, width: int = 0) -> torch.Tensor:
    width = max(width, *map(len, rows))
    return torch.stack([torch.nn.functional.pad(row, (0, width - len(row)), value=fill) for row in rows])


SCORES = sampled(list(map(len, LISTS)))
LABELS = [torch.tensor(labels) for labels in LISTS]


def mean_loss(name: str, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    row = RANKING_LOSSES[name]
    return row.of_lists(scores, labels) / int(row.items_of_lists(labels.numpy()).sum())


def written_out(name: str) -> float:
    found: list[float] = []
    for scores, labels in zip([row.tolist() for row in SCORES], LISTS, strict=True):
        positives, negatives = (
            [s for s, label in zip(scores, labels, strict=True) if label == kind] for kind in (1, 0)
        )
        if name == "softmax":
            found += [-p + math.log(math.exp(p) + sum(map(math.exp, negatives))) for p in positives]
        elif name == "listnet":
            total, weight = math.log(sum(map(math.exp, scores))), sum(map(math.exp, labels))
            shares = [math.exp(label) / weight for label in labels]
            found.append(sum(share * (total - s) for share, s in zip(shares, scores, strict=True)))
        else:
            ranks = {s: 1 + sum(other > s for other in scores) for s in scores}
            best = sum(1 / math.log2(1 + rank) for rank in range(1, len(positives) + 1))
            for p in positives:
                for n in negatives:
                    apart = abs(ranks[p] - ranks[n])
                    weight = 10 * (1 / math.log2(1 + apart) - 1 / math.log2(2 + apart))
                    weight += abs(1 / math.log2(1 + ranks[p]) - 1 / math.log2(1 + ranks[n]))
                    found.append(math.log2(1 + math.exp(n - p)) * (weight / best if name == "lambda" else 1))
    return sum(found) / len(found)


@pytest.mark.parametrize("name", COMPARING)
def test_the_mean_over_lists_is_the_formula_with_any_order_and_padding(name: str) -> None:
    expected = written_out(name)
    assert float(mean_loss(name, padded(SCORES, 7.0), padded(LABELS, -100))) == approx(expected)
    generator = torch.Generator().manual_seed(1)
    orders = [torch.randperm(len(row), generator=generator) for row in SCORES]
    scores = padded([row[order] for row, order in zip(SCORES, orders, strict=True)], -3.0, 9).requires_grad_()
    labels = padded([row[order] for row, order in zip(LABELS, orders, strict=True)], -100, 9)
    # as well as a padding row, whose labels are all ignored
    loss = mean_loss(name, torch.cat([scores, scores[:1]]), torch.cat([labels, torch.full((1, 9), -100)]))
    loss.backward()
    assert float(loss.detach()) == approx(expected)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert not scores.grad[labels < 0].any(), "padding has no gradient"
    # evaluation: rows in any order, and as many queries at once as memory allows
    flat, target = torch.cat(SCORES).numpy(), np.concatenate(LISTS)
    queries = np.repeat([5, 3, 8, 1], list(map(len, LISTS)))
    mixed = np.random.default_rng(0).permutation(len(flat))
    assert mean_over_queries(RANKING_LOSSES[name], flat[mixed], target[mixed], queries[mixed]) == approx(expected)


@pytest.mark.parametrize("name", COMPARING)
def test_equal_scores_do_not_make_the_order_of_a_list_matter(name: str) -> None:
    labels = torch.tensor([[1, 0, 0, 1]])
    scores = torch.tensor([[1.0, 1.0, 0.5, 0.5]])
    order = torch.tensor([2, 0, 3, 1])
    assert_close(mean_loss(name, scores[:, order], labels[:, order]), mean_loss(name, scores, labels))


def cross_encoder(scores: torch.Tensor) -> Any:
    """A cross-encoder of candidates that are numbers: the places of their scores."""
    from sentence_transformers import CrossEncoder

    class Scored(CrossEncoder):
        num_labels, device = 1, torch.device("cpu")

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def preprocess(self, pairs: Any, **_: Any) -> dict[str, torch.Tensor]:
            return {"places": torch.tensor([int(candidate) for _, candidate in pairs])}

        def forward(self, inputs: dict[str, torch.Tensor], **_: Any) -> dict[str, torch.Tensor]:
            return {"scores": scores[inputs["places"]][:, None]}

    return Scored()


@pytest.mark.needs("sentence_transformers")
@pytest.mark.parametrize(("name", "theirs"), [
    ("ranknet", "RankNetLoss"), ("lambda", "LambdaLoss"), ("listnet", "ListNetLoss"),
])  # fmt: skip
def test_losses_of_lists_equal_those_of_sentence_transformers(name: str, theirs: str) -> None:
    from sentence_transformers.cross_encoder import losses

    flat = torch.cat(SCORES).requires_grad_()
    ends = np.cumsum(list(map(len, LISTS)))
    texts = [[str(n) for n in range(end - len(labels), end)] for end, labels in zip(ends, LISTS, strict=True)]
    expected = getattr(losses, theirs)(cross_encoder(flat))([["q"] * len(texts), texts], [*LABELS])
    (wanted,) = torch.autograd.grad(expected, flat)
    own = torch.cat(SCORES).requires_grad_()
    found = mean_loss(name, padded([*own.split(list(map(len, LISTS)))], 0), padded(LABELS, -100))
    assert_close(found, expected)
    assert_close(torch.autograd.grad(found, own)[0], wanted, BACKWARD)


@pytest.mark.needs("sentence_transformers")
def test_softmax_equals_multiple_negatives_ranking_with_its_own_negatives() -> None:
    """Theirs also uses the candidates of other questions as negatives: lists of one question each have none."""
    from sentence_transformers.cross_encoder import losses

    (scores,) = sampled([5], 3)
    loss = losses.MultipleNegativesRankingLoss(cross_encoder(scores), activation_fn=None, scale=1.0)
    expected = loss([["q"], *[[str(n)] for n in range(5)]], torch.zeros(1))
    assert_close(mean_loss("softmax", scores[None], torch.tensor([[1, 0, 0, 0, 0]])), expected)


@pytest.mark.needs("sentence_transformers")
def test_losses_of_candidates_equal_those_of_sentence_transformers() -> None:
    from types import SimpleNamespace

    from sentence_transformers.cross_encoder import losses

    from transformers_framework.losses.classification import cross_entropy
    from transformers_framework.objectives.ranker_outputs import two_class_output

    flat, labels = torch.cat(SCORES), torch.cat(LABELS)
    texts = [str(n) for n in range(len(flat))]
    binary = losses.BinaryCrossEntropyLoss(cross_encoder(flat))
    expected = binary([["q"] * len(flat), texts], labels.float())
    assert_close(
        cross_entropy(two_class_output(SimpleNamespace(logits=flat[:, None])).logits, labels) / len(flat), expected
    )


def test_distillation_from_equal_scores_is_nothing_whatever_is_added_to_them() -> None:
    scores, known = padded(SCORES, 0), padded(LABELS, -100) >= 0
    assert_close(divergence(scores, scores + 3, 2.0, known), torch.zeros(4))
    teacher = padded(sampled(list(map(len, LISTS)), 9), 5.0)
    reference = [
        4 * torch.nn.functional.kl_div(
            (own / 2).log_softmax(0), (row[: len(own)] / 2).log_softmax(0), log_target=True, reduction="sum"
        )
        for own, row in zip(SCORES, teacher, strict=True)
    ]  # fmt: skip
    assert_close(divergence(scores, teacher, 2.0, known), torch.stack(reference))
    one, other = scores[:, :1], teacher[:, :1]  # two classes, of which one has the logit 0
    pairs = [torch.nn.functional.pad(each, (1, 0)) for each in (one, other)]
    assert_close(divergence_of_yes_and_no(one, other, 2.0)[:, 0], divergence(*pairs, 2.0))
