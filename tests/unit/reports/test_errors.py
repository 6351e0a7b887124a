"""``errors.md``: which mistakes are listed, and that Markdown shows their texts as they are."""

from __future__ import annotations

import json

import pytest

from transformers_framework.metrics.entities import EntityTags
from transformers_framework.objectives.details.classes import multi_label_details, regression_details
from transformers_framework.objectives.details.predicted import Predicted
from transformers_framework.objectives.details.ranking import Columns, ranking_details
from transformers_framework.objectives.details.reading import excerpt, reading_details
from transformers_framework.objectives.details.stage_details import Highest, Mistakes, Strong, Table
from transformers_framework.objectives.details.texts import detection_details, generation_details
from transformers_framework.objectives.details.words import word_details
from transformers_framework.objectives.labels import LabelEncoder
from transformers_framework.reports.errors import markdown

HOSTILE = "a|b *c* _d_ <script>alert(1)</script> [x](javascript:y) `z` # $m$ \x1b[31m\u202e\nend"


def encoder(names: list[str], *, in_lists: bool = False) -> LabelEncoder:
    classes = LabelEncoder("label", asked=names, in_lists=in_lists)
    classes.fix_classes(trains=True)
    return classes


@pytest.fixture
def predicted(tmp_path):
    """Return a function that writes rows of predictions and returns their reader."""

    def write(rows):
        path = tmp_path / "test.jsonl"
        path.write_text("".join(f"{json.dumps({'id': n, **row})}\n" for n, row in enumerate(rows)), encoding="utf-8")
        return Predicted(path)

    return write


def test_texts_are_escaped_and_shortened():
    table = Table(["row", "a|b"], [["1", HOSTILE], ["2", "word " * 500], ["3", [" x ", Strong("in(side)"), "y"]]])
    lines = list(markdown("Errors of *run*", {"seq_class": Mistakes("1 of 2 rows", "Sorted.", [table])}))
    assert lines[:5] == ["# Errors of \\*run\\*", "", "## seq\\_class", "", "1 of 2 rows. Sorted."]
    assert lines[6:8] == ["| row | a\\|b |", "|---|---|"]
    assert lines[8] == (
        "| 1 | a\\|b \\*c\\* \\_d\\_ &lt;script&gt;alert(1)&lt;/script&gt; \\[x\\](javascript:y) \\`z\\` \\# \\$m\\$ "
        "\\\\x1b\\[31m\\\\u202e end |"
    )
    assert lines[9].endswith("word … |")
    assert len(lines[9]) < 320
    assert lines[10] == "| 3 |  x <b>in(side)</b>y |"


def test_rows_are_found_again_by_their_place(predicted):
    found = predicted([{"text": f"é{n}"} for n in range(25)])
    chunks = list(found.chunks(size=10))
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    assert [row["text"] for row in found.rows([17, 3])] == ["é17", "é3"]
    assert len(found) == 25


def test_the_highest_of_many_parts_are_kept():
    highest = Highest(2, width=2)
    for start, values in ((0, [1.0, 3.0]), (2, [float("nan"), 2.0])):
        highest.add(values, [start, start + 1], [7, 8])
    assert (highest.values.tolist(), highest.entries.tolist(), highest.total) == ([3.0, 2.0], [[1, 8], [3, 8]], 4)


def test_mistakes_of_several_labels_and_of_numbers(predicted):
    classes = encoder(["new", "old", "red"], in_lists=True)
    scores = [[0.9, 0.1, 0.2], [0.2, 0.3, 0.7], [0.6, 0.8, 0.1]]
    named = [dict(zip(classes.names, row, strict=True)) for row in scores]
    rows = [
        {"text": "a", "label": ["new"], "prediction": ["new"], "scores": named[0]},
        {"text": "b", "label": ["new"], "prediction": ["red"], "scores": named[1]},
        {"text": "c", "label": [], "prediction": ["new", "old"], "scores": named[2]},
    ]
    found = multi_label_details(classes, predicted(rows), 5)
    assert found.mistakes.found == "2 of 3 rows have other labels than predicted"
    assert found.mistakes.tables[0].rows == [("1", "new", "red", "0.800", "b"), ("2", "none", "new, old", "0.800", "c")]
    assert found.values["classes"]["new"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert found.figures.keys() == {"reliability", "precision_recall"}
    rows = [{"text": "a", "label": 1.5, "prediction": 1.0}, {"text": "b", "label": 3, "prediction": None}]
    found = regression_details("label", predicted(rows), 5)
    assert found.mistakes.tables[0].rows == [("0", "1.5", "1", "0.5", "a")]


def test_mistakes_of_words_and_of_entities(predicted):
    tags = ["O", "B-person", "I-person", "B-place"]
    rows = [
        {"words": ["Ann", "Lee", "in", "Rome"], "label": ["B-person", "I-person", "O", "B-place"]},
        {"words": ["in", "May", None], "label": ["O", "O", "O"]},
    ]
    rows[0] |= {"prediction": ["B-person", "O", "O", "B-place"], "scores": [0.9, 0.7, 0.8, 0.9]}
    rows[1] |= {"prediction": ["O", "B-person", None], "scores": [0.9, 0.6, None]}
    found = word_details(encoder(tags, in_lists=True), "words", predicted(rows), 5, EntityTags(tags))
    assert found.mistakes.found == "1 entities are missed and 2 are predicted wrongly in 2 rows"
    assert found.mistakes.tables[0].rows == [
        ("0", "Ann Lee (person)", "Ann (person)", "0.900", ["Ann Lee", " in Rome"]),
        ("1", "", "May (person)", "0.600", ["in ", "May", " "]),
    ]
    assert found.values["entities"]["place"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}
    assert found.values["entities"]["micro avg"]["f1"] == 0.4
    found = word_details(encoder(tags, in_lists=True), "words", predicted(rows), 1, None)
    assert found.mistakes.tables[0].rows == [
        ("0", "Lee", "I-person", "O", "0.700", ["Ann ", "Lee", " in Rome"]),
    ]


def test_mistakes_of_rankings_of_rows_and_of_lists(predicted):
    def target(labels):
        import numpy as np

        return np.array(labels)

    labels, scores = [0, 1, 1, 0, 0], [2.0, 1.0, 3.0, 0.5, 1.0]
    rows = [
        {"key": key, "question": f"q{key}", "answer": answer, "label": label, "scores": score, "prediction": 0}
        for key, answer, label, score in zip("aabbc", "vwxyz", labels, scores, strict=True)
    ]
    found = ranking_details(predicted(rows), 5, Columns("label", "key"), target, are_logits=True)
    assert found.mistakes.found == "1 of 2 queries with a positive have a negative first"
    (table,) = found.mistakes.tables
    assert table.heading == "The positive is at rank 2 of 2: qa"
    assert table.rows == [("1", "2", "negative", "v"), ("2", "1", "positive", "w")]
    assert found.values["first_positive"]["queries"] == 2
    assert found.values["first_positive"]["without_positive"] == 1
    assert found.figures["first_positive"].ranks.tolist() == [2, 1]
    lists = [{"question": "qa", "answers": ["v", "w", "x"], "label": [0, 1, 0], "scores": [2.0, 1.0, None]}]
    found = ranking_details(predicted(lists), 5, Columns("label", "source_row", "answers"), target, are_logits=True)
    assert found.mistakes.tables[0].rows == table.rows
    assert found.mistakes.tables[0].columns == ("rank", "score", "label", "answers")


def test_wrong_answers_are_shown_in_their_context(predicted):
    answers = [{"text": "London", "score": 3.0, "probability": 0.8}, {"text": "", "score": 1.0, "probability": 0.2}]
    row = {"question": "where?", "context": "In Paris, not in London.", "n_best": answers, "null_score": 1.0}
    rows = [
        {**row, "answers": {"text": ["Paris"], "answer_start": [3]}, "prediction": "London", "score": 3.0},
        {**row, "answers": {"text": [], "answer_start": []}, "prediction": "", "score": 1.0},
    ]
    options = {"with_unanswerable": True, "threshold": 0.0}
    found = reading_details("context", ("answers",), predicted(rows), 5, **options)
    assert found.mistakes.tables[0].columns == (
        *("row", "question", "answers", "predicted", "probability", "F1", "context"),
    )
    assert found.mistakes.tables[0].rows == [
        ("0", "where?", "Paris", "London", "0.800", "0.0", ["In ", "Paris", ", not in London."])
    ]
    assert found.values["null_threshold"]["used"] == 0.0
    assert found.figures.keys() == {"reliability", "precision_recall"}
    assert excerpt("one two three four five", [(4, 7), (19, 23)], around=1) == ["… ", " ", "two", " ", " … ", " five"]


def test_the_worst_summaries_and_detected_tokens(predicted):
    rows = [{"text": f"t{n}", "prediction": f"p{n}", "rouge1": n / 4, "rougeL": 1 - n / 4} for n in range(4)]
    found = generation_details(("rouge1", "rougeL"), "rougeL", predicted(rows), 2)
    assert found.mistakes.tables[0].rows == [("3", "0.250", "p3", "t3"), ("2", "0.500", "p2", "t2")]
    assert found.values["rouge1"]["50th_percentile"] == 0.375
    tokens = [{"tokens": list("abc"), "scores": [0.1234, 0.9, 0.2], "prediction": [1], "replaced": [1]}]
    found = detection_details(predicted(tokens))
    assert found.figures["precision_recall"].thresholds.tolist() == [0.1234, 0.2, 0.9]
    assert found.values["thresholds"]["average_precision"] == 1.0
    assert found.figures["reliability"].counts.sum() == 3
