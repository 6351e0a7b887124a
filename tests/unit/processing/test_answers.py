"""Exact match and F1 against the official rules, written here again from their description."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transformers_framework.processing.answers import all_scores, best_threshold, normalized, reading_metrics

DATA = Path(__file__).parents[4] / "shared" / "data"


def official_words(text: str) -> list[str]:
    """Lower case, no ASCII punctuation, articles that are whole words replaced by a space, split at white space."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    words, word = [], ""
    for letter in kept + " ":  # words as regular expressions see them
        if letter.isalnum() or letter == "_":
            word += letter
            continue
        words += [" " if word in ("a", "an", "the") else word, letter]
        word = ""
    return "".join(words).split()


def official_f1(prediction: str, gold: str) -> float:
    """Of words that are shared as often as both have them."""
    ours, theirs = official_words(prediction), official_words(gold)
    shared = 0
    for word in ours:
        if word in theirs:
            theirs.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(ours), shared / len(official_words(gold))
    return 2 * precision * recall / (precision + recall)


def official(predictions: Sequence[str], golds: Sequence[Sequence[str]], *, version: int) -> dict[str, float]:
    """Return what the official script of a version says."""
    exact, f1, answered = [], [], []
    for prediction, right in zip(predictions, golds, strict=True):
        answered.append(bool(right))
        if version == 2:
            right = [gold for gold in right if official_words(gold)] or [""]
        scores = [official_f1(prediction, gold) for gold in right]
        if version == 2:
            sides = [(official_words(prediction), official_words(gold)) for gold in right]
            scores = [
                float(ours == theirs) if not (ours and theirs) else score
                for score, (ours, theirs) in zip(scores, sides, strict=True)
            ]
        exact.append(max((float(official_words(prediction) == official_words(gold)) for gold in right), default=0.0))
        f1.append(max(scores, default=0.0))
    found = {}
    for part, wanted in {"": (True, False), "has_answer_": (True,), "no_answer_": (False,)}.items():
        rows = [row for row, has_answer in enumerate(answered) if has_answer in wanted]
        if rows and (version == 2 or not part):
            found[f"{part}exact_match"] = 100 * sum(exact[row] for row in rows) / len(rows)
            found[f"{part}f1"] = 100 * sum(f1[row] for row in rows) / len(rows)
    return found


def guesses(rows: Sequence[dict[str, Any]], seed: int) -> list[str]:
    """Answers as models give them: right, cut, too long, elsewhere, none."""
    draw = random.Random(seed)
    found = []
    for row in rows:
        context, texts = row["context"], row["answers"]["text"]
        start = draw.randrange(len(context))
        other = context[start : start + draw.randint(1, 40)]
        if not texts:
            found.append(draw.choice(["", other, "The.", "the"]))
            continue
        at, text = row["answers"]["answer_start"][0], texts[0]
        longer = context[max(0, at - draw.randint(0, 15)) : at + len(text) + draw.randint(0, 15)]
        found.append(draw.choice([text, longer, text[: len(text) // 2], f"The {text.upper()}!", other, "", "a"]))
    return found


def ours(predictions: Sequence[str], golds: Sequence[Sequence[str]], *, version: int) -> dict[str, float]:
    return reading_metrics(all_scores(predictions, golds, with_unanswerable=version == 2), [bool(g) for g in golds])


@pytest.mark.parametrize("stage", ["train", "dev", "test"])
@pytest.mark.parametrize(("name", "version"), [("squad", 1), ("squad_v2", 2)])
def test_scores_are_the_official_ones(name: str, version: int, stage: str) -> None:
    path = DATA / name / f"{stage}.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    golds = [row["answers"]["text"] for row in rows]
    for seed in range(3):
        predictions = guesses(rows, seed)
        found, expected = ours(predictions, golds, version=version), official(predictions, golds, version=version)
        assert found.keys() == expected.keys()
        assert 5 < expected["f1"] < 95
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, abs=1e-9), key


@pytest.mark.parametrize(
    ("prediction", "golds"),
    [
        ("the", ["The"]),  # nothing is left of both
        ("the", ["a house"]),
        ("", ["a house"]),
        ("", []),
        ("house", []),
        ("house", ["!", "House"]),
        ("", ["!", "the"]),
        ("a_b the-c", ["a b", "thec"]),
        ("Straße", ["strasse", "straße"]),
        ("\u00a0x\u3000y", ["x y"]),
        ("x x y", ["x y y", "y"]),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_doubtful_answers_are_judged_as_the_official_scripts_do(
    prediction: str, golds: list[str], version: int
) -> None:
    others = ["x"], [[]] if version == 2 else [["x"]]
    found = ours([prediction, *others[0]], [golds, *others[1]], version=version)
    expected = official([prediction, *others[0]], [golds, *others[1]], version=version)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-9), key


def test_words_are_the_official_ones() -> None:
    for text in ("a an the", "The-a", "_a_ a_", "U.S.A's", "1,000 a.m.", "an  \n answer\tthe", "thé the"):
        assert normalized(text) == " ".join(official_words(text))


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_is_the_best_there_is(seed: int) -> None:
    draw = np.random.default_rng(seed)
    size = int(draw.integers(1, 30))
    differences = draw.integers(-4, 5, size) / 2  # many are equal
    answered, empty = draw.random(size), (draw.random(size) < 0.5).astype(float)
    empty = np.where(empty > 0, 1.0, 0.0)

    def total(threshold: float) -> float:
        return float(np.where(differences > threshold, empty, answered).sum())

    found = best_threshold(differences, answered, empty)
    tried = [*(differences - 0.1), *differences, differences.min() - 5]
    assert total(found) == pytest.approx(max(map(total, tried)))
    assert found not in differences
