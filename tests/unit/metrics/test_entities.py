"""Entity F1: equal to a reference that is written out tag by tag, and to seqeval."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from transformers_framework.metrics.entities import EntityMetrics, are_entity_tags, entity_spans

BIO = ["O", "B-per", "I-per", "B-loc", "I-loc"]
IOBES = ["O", *(f"{prefix}-{kind}" for kind in ("per", "loc", "O", "a-b") for prefix in "BIES")]


def entities_of(tags: list[str]) -> set[tuple[str, int, int]]:
    """Type, first and last word of each entity, by the rules of conlleval, one tag after the other."""
    found: set[tuple[str, int, int]] = set()
    kind, first, before = "", 0, "O"
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, here = tag.partition("-")
        goes_on = prefix in ("I", "E") and before in ("B", "I") and here == kind
        if before != "O" and not goes_on:
            found.add((kind, first, place - 1))
        if prefix != "O" and not goes_on:
            first = place
        before, kind = prefix, here
    return found


def reference(rows: list[list[str]], truth: list[list[str]]) -> dict[str, float]:
    pairs = [(entities_of(row), entities_of(right)) for row, right in zip(rows, truth, strict=True)]
    correct = sum(len(found & right) for found, right in pairs)
    predicted, actual = sum(len(found) for found, _ in pairs), sum(len(right) for _, right in pairs)
    return {
        "entity_f1": 2 * correct / max(1, predicted + actual),
        "entity_precision": correct / max(1, predicted),
        "entity_recall": correct / max(1, actual),
    }


def drawn(names: list[str], seed: int, rows: int = 60) -> tuple[list[list[int]], list[list[int]]]:
    """Tags of rows of 0 to 12 words, and predictions of which three of four are right; -100 here and there."""
    draw = random.Random(seed)
    truth = [[draw.randrange(len(names)) for _ in range(draw.randrange(13))] for _ in range(rows)]
    preds = [[tag if draw.random() < 0.75 else draw.randrange(len(names)) for tag in row] for row in truth]
    return preds, [[-100 if draw.random() < 0.05 else tag for tag in row] for row in truth]


def table(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows), default=0)
    return torch.tensor([row + [-100] * (width - len(row)) for row in rows], dtype=torch.int64).reshape(
        len(rows), width
    )


def counted(names: list[str], preds: list[list[int]], truth: list[list[int]], batch_size: int) -> EntityMetrics:
    metric = EntityMetrics(names)
    for start in range(0, len(truth), batch_size):
        part = slice(start, start + batch_size)
        metric.update(table(preds[part]).clamp(min=0), table(truth[part]))
    return metric


def kept(names: list[str], preds: list[list[int]], truth: list[list[int]]) -> tuple[list[list[str]], list[list[str]]]:
    pairs = [
        [(names[p], names[t]) for p, t in zip(row, right, strict=True) if t >= 0]
        for row, right in zip(preds, truth, strict=True)
    ]
    return [[p for p, _ in row] for row in pairs], [[t for _, t in row] for row in pairs]


@pytest.mark.parametrize("names", [BIO, IOBES], ids=["bio", "iobes"])
@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_equal_to_the_rules_written_out(names: list[str], batch_size: int) -> None:
    for seed in range(10):
        preds, truth = drawn(names, seed)
        values = counted(names, preds, truth, batch_size).compute()
        assert values == pytest.approx(reference(*kept(names, preds, truth)), abs=1e-12)
        assert 0 < values["entity_f1"] < 1


@pytest.mark.parametrize("names", [BIO, IOBES], ids=["bio", "iobes"])
@pytest.mark.filterwarnings("ignore")
def test_equal_to_seqeval(names: list[str]) -> None:
    from seqeval import metrics as seqeval

    for seed in range(20):
        preds, truth = drawn(names, seed, rows=40)
        values = counted(names, preds, truth, 40).compute()
        found, right = kept(names, preds, truth)
        assert values["entity_f1"] == pytest.approx(seqeval.f1_score(right, found), abs=1e-9)
        assert values["entity_precision"] == pytest.approx(seqeval.precision_score(right, found), abs=1e-9)
        assert values["entity_recall"] == pytest.approx(seqeval.recall_score(right, found), abs=1e-9)


def test_an_entity_never_reaches_into_the_next_row() -> None:
    metric = EntityMetrics(BIO)
    tags = torch.tensor([[0, 1], [2, 2]])  # O B-per | I-per I-per
    metric.update(tags, tags)
    assert metric.counts.tolist() == [2, 2, 2]


def test_types_and_both_ends_must_be_right() -> None:
    metric = EntityMetrics(BIO)
    truth = torch.tensor([[1, 2, 0, 3, 0]])
    for preds in ([[1, 2, 2, 3, 0]], [[0, 1, 0, 3, 0]], [[1, 2, 0, 1, 0]]):
        metric.update(torch.tensor(preds), truth)
    assert metric.counts.tolist() == [3, 6, 6]


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_to_find_is_no_division_by_zero() -> None:
    metric = EntityMetrics(BIO)
    assert metric.compute() == {"entity_f1": 0.0, "entity_precision": 0.0, "entity_recall": 0.0}
    metric.update(torch.zeros(3, 0, dtype=torch.int64), torch.zeros(3, 0, dtype=torch.int64))
    metric.update(torch.tensor([[1, 2]]), torch.tensor([[-100, -100]]))
    assert metric.counts.tolist() == [0, 0, 0]
    assert list(metric.compute()) == metric.names


def test_an_empty_sequence_has_no_entities() -> None:
    ends, begins = entity_spans(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert len(ends) == len(begins) == 0


@pytest.mark.parametrize(
    ("names", "expected"),
    [(BIO, True), (IOBES, True), (["B-x", "O"], True), (["NOUN", "O"], False), (["O"], False), (["B-x", "I-x"], True),
     ([], False), (["O", "B"], False), (["O", "U-x"], True),
     (["I-x", "E-x"], False), (["S", "M", "L"], False), (["B-x", "NOUN"], False)],
)  # fmt: skip
def test_tags_are_told_from_other_classes(names: list[str], expected: bool) -> None:
    assert are_entity_tags(names) is expected


@pytest.mark.parametrize("names", [BIO, IOBES], ids=["bio", "iobes"])
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_entities_across_windows_are_those_of_whole_rows(names: list[str]) -> None:
    """Windows of some rows come in any order, in batches with whole rows."""
    draw = np.random.default_rng(3)
    preds, truth = drawn(names, 5, rows=40)
    parts = []  # document, first word, preds, truth
    for row, (found, wanted) in enumerate(zip(preds, truth, strict=True)):
        if row % 3:
            parts.append((-1, 0, found, wanted))
            continue
        bounds = sorted(draw.choice(np.arange(1, len(found)), size=min(2, len(found) - 1), replace=False))
        for start, end in zip([0, *bounds], [*bounds, len(found)], strict=True):
            first = max(0, start - 2)  # words of the window before have no class here
            holes = [-100] * (start - first)
            parts.append((row, first, found[first:end], holes + wanted[start:end]))
    order = draw.permutation(len(parts))
    metric = EntityMetrics(names)
    for start in range(0, len(parts), 8):
        some = [parts[place] for place in order[start : start + 8]]
        width = max(len(part[2]) for part in some)
        tags = [torch.tensor([p[k] + [-100] * (width - len(p[k])) for p in some]) for k in (2, 3)]
        metric.update(tags[0].clamp(min=0), tags[1], *(torch.tensor([p[k] for p in some]) for k in (0, 1)))
    expected = counted(names, preds, truth, 40).compute()
    assert 0 < expected["entity_f1"] < 1
    assert metric.compute() == expected


@pytest.mark.parametrize(
    ("tags", "others"),
    [
        ("O B-x I-x E-x O S-y B-y E-y", "O B-x I-x L-x O U-y B-y L-y"),  # IOBES and BILOU
        ("O B-x I-x E-x O S-y B-y E-y", "O B-x M-x E-x O S-y B-y E-y"),  # and BMES
        ("B-x I-x B-y B-x B-x", "B-x M-x S-y S-x S-x"),  # without O
        ("B I I B B I", "B M E S B E"),  # without types, as words of Chinese
        ("O B-x I-x O O", "O B-x I-x LABEL_3 O"),  # a class that no row has
    ],
)
def test_schemes_say_the_same(tags: str, others: str) -> None:
    truths, counts = [], []
    for names in (tags.split(), others.split()):
        classes = list(dict.fromkeys(names))
        assert are_entity_tags(classes)
        metric = EntityMetrics(classes)
        row = torch.tensor([[classes.index(name) for name in names]])
        metric.update(row, row)
        truths.append(metric.compute()["entity_f1"])
        counts.append(metric.counts.tolist())
    assert truths == [1.0, 1.0]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("scheme", ["BILOU", "IOBES"])
def test_seqeval_scores_right_tags_alike(scheme: str) -> None:
    from seqeval.metrics import f1_score
    from seqeval.scheme import BILOU, IOBES

    begin, inside, end, single = ("B", "I", "L", "U") if scheme == "BILOU" else ("B", "I", "E", "S")
    draw, classes = (
        random.Random(3),
        ["O", *(f"{prefix}-{kind}" for prefix in scheme if prefix != "O" for kind in "xy")],
    )

    def drawn_row(size: int) -> list[str]:
        tags: list[str] = []
        while len(tags) < size:
            length, kind = draw.randint(0, min(3, size - len(tags))), draw.choice("xy")
            found = [[], [single], [begin, end], [begin, inside, end]][length]
            tags += [f"{prefix}-{kind}" for prefix in found] or ["O"]
        return tags

    truth = [drawn_row(12) for _ in range(20)]
    preds = [row if draw.random() < 0.5 else drawn_row(len(row)) for row in truth]
    metric = EntityMetrics(classes)
    for row, right in zip(preds, truth, strict=True):
        metric.update(*(torch.tensor([[classes.index(tag) for tag in tags]]) for tags in (row, right)))
    wanted = f1_score(truth, preds, mode="strict", scheme={"BILOU": BILOU, "IOBES": IOBES}[scheme])
    assert metric.compute()["entity_f1"] == pytest.approx(wanted)
