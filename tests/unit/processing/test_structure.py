"""Structural pre-training: every label again from the documents, by brute force; shares; duplicates; stability."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.stats import chisquare

from transformers_framework.inputs.paragraphs import normalized
from transformers_framework.processing.random import keys
from transformers_framework.processing.sentences import sentence_spans
from transformers_framework.processing.structure import (
    ABSENT,
    Groups,
    Paragraphs,
    Structure,
    StructureSampler,
)
from transformers_framework.processing.text_ids import value_hashes
from transformers_framework.processing.windows import Ragged

STRUCTURES: tuple[Structure, ...] = ("same_paragraph", "span_in_paragraph", "same_document", "in_context")


class Corpus(NamedTuple):
    """Documents as lists of paragraphs, as lists of different sentences; and what the sampler gets."""

    sentences: list[list[str]]
    documents: list[int]
    data: Paragraphs


def corpus(num_documents: int = 12, *, longest: int = 6) -> Corpus:
    """Documents with sentences, paragraphs and whole documents that occur again."""
    draw, documents = random.Random(3), []
    shared = [f"all rights are reserved by {n}" for n in range(4)]
    for number in range(num_documents):
        paragraphs = []
        for part in range(draw.randint(3, 7)):
            own = [f"sentence {n} of part {part} in {number}" for n in range(draw.randint(2, longest))]
            paragraphs.append(draw.sample(own + draw.sample(shared, draw.randint(0, 2)), len(own)))
        documents.append(paragraphs)
    documents += [documents[0], [documents[1][0], documents[2][1], documents[1][2]]]  # a copy, and parts of two
    flat = [(number, paragraph) for number, paragraphs in enumerate(documents) for paragraph in paragraphs]
    sentences = [paragraph for _, paragraph in flat]
    hashes = value_hashes([sentence for paragraph in sentences for sentence in paragraph])
    data = Paragraphs(
        np.array([number for number, _ in flat]),
        Ragged(hashes, np.array([len(paragraph) for paragraph in sentences])),
        value_hashes([" ".join(paragraph) for paragraph in sentences]),
    )
    return Corpus(sentences, [number for number, _ in flat], data)


TEXTS = corpus()


def of_documents() -> list[list[list[str]]]:
    """Return the paragraphs of each document."""
    return [
        [paragraph for paragraph, owner in zip(TEXTS.sentences, TEXTS.documents, strict=True) if owner == document]
        for document in range(max(TEXTS.documents) + 1)
    ]


def sampler(structure: Structure, least: int = 1, most: int = 2) -> StructureSampler:
    hard = 0 if structure == "same_document" else 2
    return StructureSampler(structure, least, most, 1, hard, 4 - hard)


def asked(found: StructureSampler, texts: Corpus = TEXTS) -> np.ndarray:
    return np.flatnonzero(texts.data.sentences.lengths >= found.least_sentences())


def sample(found: StructureSampler, rows: np.ndarray, epoch: int = 0, texts: Corpus = TEXTS) -> Groups:
    return found.sample(texts.data, rows, lambda purpose: keys(1337, epoch, rows, purpose))


def described(groups: Groups, row: int, texts: Corpus = TEXTS) -> tuple[tuple[int, list[str]], list[dict[str, Any]]]:
    """Return the span of a row, with its paragraph, and its candidates, as sentences."""

    def of(spans: Any, *place: int) -> tuple[int, list[str]]:
        paragraph, start, length = (int(values[place]) for values in vars(spans).values())
        return paragraph, texts.sentences[paragraph][start : start + length]

    candidates = []
    for k in range(groups.labels.shape[1]):
        if groups.candidates.paragraphs[row, k] == ABSENT:
            continue
        paragraph, found = of(groups.candidates, row, k)
        _, removed = of(groups.removed, row, k)
        left = [sentence for sentence in found if sentence not in removed]
        assert len(left) == len(found) - len(removed)
        candidates.append({"paragraph": paragraph, "sentences": left, "label": int(groups.labels[row, k])})
    return of(groups.spans, row), candidates


@pytest.mark.parametrize("spans", [(1, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_labels_are_those_of_the_documents(structure: Structure, spans: tuple[int, int]) -> None:
    found = sampler(structure, *spans)
    rows, kinds, num_absent = asked(found), Counter[str](), 0
    for epoch in range(6):
        groups = sample(found, rows, epoch)
        assert groups.spans.paragraphs.tolist() == rows.tolist()
        for row, paragraph in enumerate(rows.tolist()):
            (_, span), candidates = described(groups, row)
            document, text = TEXTS.documents[paragraph], TEXTS.sentences[paragraph]
            num_absent += found.num_candidates - len(candidates)
            assert len({tuple(candidate["sentences"]) for candidate in candidates}) == len(candidates), "all differ"
            assert sum(candidate["label"] for candidate in candidates) == 1
            if structure != "same_document":
                assert spans[0] <= len(span) <= spans[1]
            of_document = [TEXTS.sentences[i] for i, d in enumerate(TEXTS.documents) if d == document]
            for candidate in candidates:
                sentences, is_other = candidate["sentences"], candidate["paragraph"] != paragraph
                whole = TEXTS.sentences[candidate["paragraph"]]
                assert sentences
                if structure == "same_document":
                    assert whole != text, "no paragraph is its own candidate"
                    assert candidate["label"] == (whole in of_document), "a copy of one of its paragraphs is none"
                    continue
                assert not set(span) & set(sentences), "no span is its own candidate, nor in its paragraph any more"
                if structure == "span_in_paragraph":
                    assert candidate["label"] == (not is_other)
                    assert (whole == text) == (not is_other), "a copy of the paragraph is no negative"
                    assert not (is_other and set(whole) & set(span))
                    assert len(whole) - len(sentences) == min(len(span), len(whole) - 1), "as much is removed of all"
                else:
                    assert candidate["label"] == bool(set(sentences) & set(text)) == (not is_other)
                    assert 1 <= len(sentences) <= spans[1]
                if not candidate["label"]:
                    kinds["hard" if TEXTS.documents[candidate["paragraph"]] == document else "easy"] += 1
    if structure == "same_document":
        return
    assert num_absent == 0
    # the document's own negatives, or others where it has too few: paragraphs that share a sentence are no candidates
    assert kinds["hard"] > 0.5 * kinds["easy"]
    if spans == (1, 1) and structure != "span_in_paragraph":
        assert kinds["hard"] == kinds["easy"]


def test_shares_are_even() -> None:
    """Of positions in a group, of spans in a paragraph, of negatives: by χ² at one in a thousand."""
    found = sampler("same_paragraph", 1, 1)
    every = [list(chain.from_iterable(paragraphs)) for paragraphs in of_documents()]
    alone = [len(set(sentences)) == len(sentences) for sentences in every]
    paragraph = int(np.argmax((TEXTS.data.sentences.lengths == 4) & np.array(alone)[TEXTS.documents]))
    rows = np.arange(20_000)  # row ids differ, the paragraph is the same

    groups = found.sample(TEXTS.data, np.full(len(rows), paragraph), lambda purpose: keys(7, 0, rows, purpose))
    size = int(TEXTS.data.sentences.lengths[paragraph])
    there = np.nonzero(groups.labels)
    positive = groups.candidates.starts[there]
    pairs = np.bincount(groups.spans.starts * size + positive, minlength=size * size).reshape(size, size)
    assert (np.diag(pairs) == 0).all()
    negatives = groups.candidates.selected(groups.labels == 0)
    places = TEXTS.data.starts[negatives.paragraphs] + negatives.starts
    documents = np.array(TEXTS.documents)
    mine = documents[negatives.paragraphs] == documents[paragraph]
    for name, counts in {
        "positions": np.bincount(there[1], minlength=5),
        "pairs": pairs[~np.eye(size, dtype=bool)],
        "hard": np.unique(places[mine], return_counts=True)[1],
    }.items():
        assert chisquare(counts).pvalue > 1e-3, name
    others = documents == documents[paragraph]
    assert len(np.unique(places[mine])) == TEXTS.data.sentences.lengths[others].sum() - size
    assert mine.mean() == 0.5
    spans = StructureSampler("same_paragraph", 1, 2, 1, 2, 2)
    lengths = spans.sample(TEXTS.data, np.full(len(rows), paragraph), lambda p: keys(7, 0, rows, p)).spans.lengths
    assert chisquare(np.bincount(lengths)[1:]).pvalue > 1e-3


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_row_is_sampled_by_itself(structure: Structure) -> None:
    """Other rows in its batch change nothing; another epoch changes nearly all."""
    found = sampler(structure)
    rows = asked(found)
    whole, other = sample(found, rows), sample(found, rows, epoch=1)
    parts = [sample(found, rows[start : start + 3]) for start in range(0, len(rows), 3)]
    for name in ("candidates", "removed"):
        for key, values in vars(getattr(whole, name)).items():
            assert np.array_equal(values, np.concatenate([vars(getattr(part, name))[key] for part in parts]))
    assert np.array_equal(whole.labels, np.concatenate([part.labels for part in parts]))
    same = (whole.candidates.paragraphs == other.candidates.paragraphs).all(axis=1)
    assert same.mean() < 0.1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two!  Three", ["One.", "Two!", "Three"]),
        ("Er sagte: „Nein.“ Gut.", ["Er sagte: „Nein.“ Gut."]),
        ('She said "no." Then left.', ['She said "no."', "Then left."]),
        ("यह एक है। वह दो है।", ["यह एक है।", "वह दो है।"]),
        ("هل هذا؟ نعم.", ["هل هذا؟", "نعم."]),
        ("これは一。「二？」三", ["これは一。", "「二？」", "三"]),
        ("3.5 percent of it", ["3.5 percent of it"]),
        (" \n", []),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == expected


def test_normalized() -> None:
    assert normalized(" The\nEND ") == "the end"
