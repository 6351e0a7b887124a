"""All broken rows of a data set are counted, whatever is wrong with them, and the first five named in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from tests import tiny
from transformers_framework.data.checks import checked, report
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.inputs import Inputs
from transformers_framework.inputs.joint_candidates import JointCandidates
from transformers_framework.inputs.query_passage import QueryPassage
from transformers_framework.inputs.question_context import QuestionContext
from transformers_framework.inputs.source_target import SourceTarget
from transformers_framework.inputs.text import TextInputs
from transformers_framework.inputs.words import WordInputs
from transformers_framework.objectives.answer_selection import AnswerSelection
from transformers_framework.objectives.joint_answer_selection import JointAnswerSelection
from transformers_framework.objectives.objective import Objective, Setup
from transformers_framework.objectives.question_answering import QuestionAnswering
from transformers_framework.objectives.retrieval import Retrieval
from transformers_framework.objectives.seq_class import SequenceClassification
from transformers_framework.objectives.summarization import Summarization
from transformers_framework.objectives.token_class import TokenClassification
from transformers_framework.sources.columns import DatasetSource

BROKEN = [2, 3, 5, 7, 11, 13, 17]
NUM_ROWS = 20
LENGTH = [64]
SETUP = Setup(tiny.tokenizer_for("bert"), max_sequence_length=[64, 32])
PAIR = {"question": "who", "answer": "me", "label": 1, "key": 1}
READING = {"question": "who", "context": "it is me", "answers": {"text": ["me"], "answer_start": [6]}}
LISTS = {"question": "who", "answers": ["me", "you"], "labels": [1, 0], "key": 1}
COLUMNS = ["question", "answer"]


def parts(pipeline: str) -> list[Inputs | Objective]:
    """Return inputs and objective of a pipeline."""
    build: dict[str, Any] = {"input_columns": COLUMNS, "max_sequence_length": LENGTH}
    label: dict[str, Any] = {"label_column": "label"}
    tokenizer = SETUP.tokenizer
    if pipeline in ("single_label", "multi_label", "regression"):
        text = TextInputs(tokenizer, 2, input_columns=["text"], max_sequence_length=LENGTH)
        return [text, SequenceClassification(SETUP, **label, problem_type=pipeline)]
    if pipeline == "answer_selection":
        return [TextInputs(tokenizer, 2, **build), AnswerSelection(SETUP, **label, index_column="key")]
    if pipeline == "retrieval":
        build |= {"input_columns": [*COLUMNS, "*wrong"]}
        columns = {"input_columns": build["input_columns"], "index_column": "key"}
        return [QueryPassage(tokenizer, 2, **build), Retrieval(SETUP, **columns, **label, loss_fn="triplet_loss")]
    if pipeline == "words":
        words = WordInputs(tokenizer, 2, input_columns=["words"], max_sequence_length=LENGTH)
        return [words, TokenClassification(SETUP, input_columns=["words"], label_column="labels")]
    if pipeline == "summarization":
        document = SourceTarget(tokenizer, 2, document_column="text", max_sequence_length=[64, 32])
        return [document, Summarization(SETUP, summary_column="summary")]
    if pipeline == "reading":
        columns = {"query_column": "question", "context_column": "context"}
        context = QuestionContext(tokenizer, 2, **columns, max_sequence_length=LENGTH)  # type: ignore[arg-type]
        return [context, QuestionAnswering(SETUP, context_column="context", answers_column="answers")]
    candidates = {"input_columns": ["question", "*answers"], "k": 2, "max_sequence_length": LENGTH}
    candidates |= {"label_column": "labels", "index_column": "key"}
    return [JointCandidates(tokenizer, 2, **candidates), JointAnswerSelection(SETUP, **candidates)]


CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("single_label", {"text": "a", "label": "x"}, {"text": " "}, "the text in 'text' is null or empty"),
    ("single_label", {"text": "a", "label": "x"}, {"text": "\u0301"}, "the tokenizer returns no token"),
    ("single_label", {"text": "a", "label": "x"}, {"label": None}, r"'label' has no label \(null\)"),
    ("single_label", {"text": "a", "label": "x"}, {"label": "[1, 2]"}, "this is a list in the form of a string"),
    ("multi_label", {"text": "a", "label": ["x"]}, {"label": None}, r"'label' has no labels \(null\)"),
    ("multi_label", {"text": "a", "label": ["x"]}, {"label": ["x", "x"]}, "'x' twice; expected each class once"),
    ("regression", {"text": "a", "label": 0.5}, {"label": float("nan")}, "the label nan; expected a finite number"),
    ("answer_selection", PAIR, {"label": 2}, "the label 2; expected 0 to 1"),
    ("answer_selection", PAIR, {"key": None}, r"'key' has no query id \(null\)"),
    ("retrieval", {**PAIR, "wrong": ["no"]}, {"wrong": ["no", ""]}, "hard negative 2 in 'wrong' is null or empty"),
    ("retrieval", {**PAIR, "wrong": ["no"]}, {"label": 3}, "'label' is 3; expected 1"),
    ("words", {"words": ["a"], "labels": ["x"]}, {"words": ["a", "b"]}, "has 1 labels and 'words' has 2 words"),
    ("words", {"words": ["a"], "labels": ["x"]}, {"words": [None]}, "word 0 of 'words' is null"),
    ("words", {"words": ["a"], "labels": ["x"]}, {"words": [], "labels": []}, "'words' is null or has no words"),
    ("words", {"words": ["a"], "labels": ["x"]}, {"labels": [""]}, "'labels' has an empty label"),
    ("summarization", {"text": "a b", "summary": "a"}, {"summary": ""}, "the summary in 'summary' is null or empty"),
    ("reading", READING, {"answers": {"text": ["me"], "answer_start": [1]}}, "starts at 1, but there the context has"),
    ("reading", READING, {"answers": {"text": ["me"], "answer_start": [9]}}, "but the context has 8 characters"),
    ("joint", LISTS, {"answers": ["me", None]}, "candidate 1 of 'answers' is null or empty"),
    ("joint", LISTS, {"labels": [1]}, "'labels' has 1 items for the 2 candidates of 'answers'"),
    ("joint", LISTS, {"answers": ["me"], "labels": [1]}, "has 1 candidates, which cannot be split into full groups"),
]


@pytest.mark.parametrize(("pipeline", "row", "change", "reason"), CASES, ids=[f"{c[0]}: {c[2]}" for c in CASES])
def test_every_kind_of_broken_rows_is_counted(
    pipeline: str, row: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    rows = [row | (change if number in BROKEN else {}) for number in range(NUM_ROWS)]
    if "label" in row and pipeline != "multi_label":  # a second class, where labels are classes
        rows[0] = row | {"label": {"x": "y", 1: 0}.get(row["label"], row["label"])}
    if pipeline == "multi_label":
        rows[0] = row | {"label": ["y"]}
    if pipeline == "words":
        rows[0] = row | {"labels": ["y"]}
    if "key" in row:
        rows = [{**kept, "key": kept["key"] and number} for number, kept in enumerate(rows)]
    stage: Any = "valid" if "key" in change else "train"
    source = DatasetSource(stage, "rows.jsonl", lambda number: f"rows.jsonl:{number + 1}")
    _, (error,) = checked(Dataset.from_list(rows), parts(pipeline), source)
    head, *lines, last = str(error).split("\n")
    assert head == f"--{stage}_dataset rows.jsonl: {len(BROKEN)} rows are broken:"
    assert [line.partition(": ")[0] for line in lines] == [f"rows.jsonl:{number + 1}" for number in BROKEN[:5]]
    with pytest.raises(DataError, match=reason):
        raise DataError(lines[0])
    assert last == "and 2 more."


def test_errors_of_all_parts_are_in_the_order_of_the_rows() -> None:
    changes = {4: {"label": None}, 1: {"text": ""}, 3: {"text": None, "label": "1.5.0"}}
    rows = [{"text": "a", "label": "xy"[number % 2]} | changes.get(number, {}) for number in range(6)]
    rows[3]["label"] = "[0]"
    source = DatasetSource("valid", "a.csv", "a.csv:{}".format)
    errors = checked(Dataset.from_list(rows), parts("single_label"), source)[1]
    assert [line.partition(":")[0] + line.partition(":")[2][:2] for line in str(errors[0]).split("\n")[1:]] == [
        *("a.csv1:", "a.csv3:", "a.csv3:", "a.csv4:"),
    ]
    assert "3 rows are broken" in str(errors[0])
    assert source.errors is None, "the collector is that of one check"


def test_a_broken_column_hides_no_rows_of_another_and_a_run_says_both() -> None:
    rows = Dataset.from_list(
        [{"other": "a", "label": "x"}, {"other": "b", "label": None}, {"other": "b", "label": "y"}]
    )
    source = DatasetSource("train", "a.csv", "a.csv:{}".format)
    errors = checked(rows, parts("single_label"), source)[1]
    assert ["no column 'text'" in str(errors[0]), str(errors[1]).startswith("a.csv:1: 'label'")] == [True, True]
    with pytest.raises(DataError, match=r"(?s)no column .text.*\na\.csv:1: .label. has no label"):
        report(errors, None)
    with pytest.raises(ConfigurationError, match=r"^a$"):
        report([ConfigurationError("a")], None)


def test_a_million_broken_rows_need_a_bit_each() -> None:
    calls = []
    errors = DatasetSource("train", "a", str).errors
    assert errors is None
    from transformers_framework.sources.row_errors import RowErrors

    found = RowErrors()
    for start in range(0, 1_000_000, 100_000):
        found.add(np.arange(start, start + 100_000), lambda at: calls.append(at) or "wrong")  # type: ignore[func-returns-value]
    assert found._bits.nbytes == 125_000
    assert len(calls) == 50
    assert len(found._messages) == 5
    assert str(found.error("--train_dataset a", str)).startswith(
        "--train_dataset a: 1,000,000 rows are broken:\n0: wrong"
    )
    assert found.sound(1_000_001).tolist() == [1_000_000]
