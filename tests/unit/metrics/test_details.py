"""Confusion, calibration, thresholds and entity types, against scikit-learn and seqeval."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from tests import tolerances
from tests.tolerances import STORED
from transformers_framework.metrics.calibration import reliability
from transformers_framework.metrics.confusion import PairCounter, count_pairs
from transformers_framework.metrics.entities import EntityTags
from transformers_framework.metrics.entity_types import EntityCounter
from transformers_framework.metrics.first_positive import FirstPositives, first_positives
from transformers_framework.metrics.thresholds import precision_recall

RANDOM = np.random.default_rng(7)
NAMES = ["a", "b", "c", "d", "e"]


def test_scores_of_classes_and_confusion_matrix_are_those_of_scikit_learn():
    labels, preds = RANDOM.integers(0, 4, 300), RANDOM.integers(0, 4, 300)
    preds[labels == 2] = 1
    counter = PairCounter(NAMES)
    for part in np.array_split(np.arange(300), 7):
        counter.add(labels[part], preds[part])
    counter.add([-100, 2], [1, -1])  # left out
    found = counter.confusion()
    expected = reference.classification_report(
        labels, preds, labels=range(4), target_names=NAMES[:4], output_dict=True, zero_division=0
    )
    for name in (*NAMES[:4], "macro avg", "weighted avg"):
        scores = {key.replace("f1-score", "f1"): value for key, value in expected[name].items()}
        assert found.scores()[name] == tolerances.approx(scores, STORED, torch.float64)
    assert "e" not in found.scores()
    assert found.matrix()[0] == NAMES
    assert (found.matrix()[1] == reference.confusion_matrix(labels, preds, labels=range(5))).all()


def test_the_matrix_of_many_classes_has_the_most_frequent_ones_and_the_sum_of_all():
    labels = np.repeat(np.arange(200), np.arange(200, 0, -1))
    found = count_pairs([f"c{n}" for n in range(200)], labels, np.where(labels % 7, labels, 0))
    names, counts = found.matrix(most=50)
    assert names[:8] == ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c8"]  # no row is predicted as c7
    assert (names[-1], len(names)) == ("151 others", 50)
    assert counts.sum() == len(labels) == found.total
    assert "confusion" not in found.values()
    assert found.values()["confusions"][0] == {"label": "c7", "prediction": "c0", "count": 193}


def test_reliability_is_that_of_scikit_learn_and_adds_up():
    probabilities, right = RANDOM.random(500), RANDOM.random(500) < 0.4
    whole = reliability(probabilities, right, 10)
    parts = reliability([], [], 10)
    for part in np.array_split(np.arange(500), 3):
        parts = parts + reliability(probabilities[part], right[part], 10)
    accuracy, confidence = calibration_curve(right, probabilities, n_bins=10)
    for found in (whole, parts):
        assert found.means[0] == tolerances.approx(confidence, STORED, torch.float64)
        assert found.means[1] == tolerances.approx(accuracy, STORED, torch.float64)
    expected = np.abs(accuracy - confidence) @ whole.counts / 500
    assert whole.error == tolerances.approx(expected, STORED, torch.float64)
    assert np.isnan(reliability([float("nan")], [True]).error)


def test_expected_calibration_error_of_literals():
    # bins (0.5, 1]: mean probability 0.8, accuracy 0.5; (0, 0.5]: 0.4 and 1
    assert reliability([0.7, 0.9, 0.4], [1, 0, 1], 2).error == tolerances.approx(
        (2 * 0.3 + 0.6) / 3, STORED, torch.float64
    )


@pytest.mark.parametrize("decimals", [1, 6])  # with ties and without
def test_precision_and_recall_at_thresholds_are_those_of_scikit_learn(decimals):
    scores, positive = RANDOM.random(200).round(decimals), RANDOM.random(200) < 0.3
    found = precision_recall(scores, positive)
    precision, recall, thresholds = reference.precision_recall_curve(positive, scores)
    assert found.thresholds.tolist() == thresholds.tolist()
    assert found.precision == tolerances.approx(precision[:-1], STORED, torch.float64)
    assert found.recall == tolerances.approx(recall[:-1], STORED, torch.float64)
    expected = reference.average_precision_score(positive, scores)
    assert found.average_precision == tolerances.approx(expected, STORED, torch.float64)
    best = found.thresholds[found.best]
    f1 = [reference.f1_score(positive, scores >= threshold) for threshold in thresholds]
    assert found.values()["f1_at_best_threshold"] == tolerances.approx(max(f1), STORED, torch.float64)
    assert f1[thresholds.tolist().index(best)] == max(f1)
    # counted by distinct score
    values = np.unique(scores)
    counts = [[int((positive[scores == v] == hit).sum()) for v in values] for hit in (True, False)]
    assert precision_recall(values, *counts).precision.tolist() == found.precision.tolist()
    assert precision_recall([0.5], [True]) is None


def test_rank_of_the_first_positive():
    ranks = first_positives([0, 0, 1, 1, 2], [1, 2, 2, 1, 1], [0, 1, 1, 1, 0], 3)
    assert ranks.tolist() == [2, 1, 0]
    values = FirstPositives(ranks).values()
    assert values["median"] == 1.5
    assert (values["at"]["1"], values["at"]["2"], values["at"]["none"]) == (1, 1, 1)


@pytest.mark.parametrize(
    "tags",
    [
        ["O", "B-person", "I-person", "B-place", "I-place"],
        ["O", "I-person", "I-place"],
        ["O", "B-a", "I-a", "E-a", "S-a", "B-b", "E-b"],
    ],
)
def test_entities_by_type_are_those_of_seqeval(tags):
    from seqeval.metrics import classification_report

    rows = [RANDOM.integers(0, len(tags), (2, size)) for size in RANDOM.integers(1, 12, 60)]
    known = EntityTags(tags)
    counter = EntityCounter(known)
    for part in (rows[:25], rows[25:]):
        wanted, found = (np.concatenate([np.append(row[side], -1) for row in part]) for side in (0, 1))
        counter.add(known.entities(wanted), known.entities(found))
    true, predicted = ([[tags[tag] for tag in row[side]] for row in rows] for side in (0, 1))
    expected = classification_report(true, predicted, output_dict=True, zero_division=0)
    report = counter.report()
    assert report.keys() == expected.keys()
    for name, scores in expected.items():
        scores = {key.replace("f1-score", "f1"): value for key, value in scores.items()}
        assert report[name] == tolerances.approx(scores, STORED, torch.float64), name
