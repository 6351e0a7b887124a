"""Sequence classification and answer selection: loss, metrics, scores, what is written."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tests.tolerances import approx, assert_close
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.objectives.answer_selection import AnswerSelection
from transformers_framework.objectives.capabilities import PredictedPart
from transformers_framework.objectives.objective import Context, Setup, metric_names
from transformers_framework.objectives.seq_class import SequenceClassification
from transformers_framework.processing.text_ids import query_numbers
from transformers_framework.sources.columns import DatasetSource

LOGITS = torch.tensor([[2.0, -1.0], [0.5, 0.7], [-3.0, 4.0], [0.1, 0.0], [9.0, 9.0]])
LABELS = torch.tensor([0, 1, 1, 0, -100])  # the last row only evens out processes
QUERIES = [7530267129497158631, 7648418704539917674, 7530267129497158631]
OUTPUT = SimpleNamespace(logits=LOGITS)


def source(stage: Any) -> DatasetSource:
    return DatasetSource(stage, f"{stage}.jsonl", lambda row: f"{stage}.jsonl:{row + 1}")


def seq_class(labels: list[Any] = [0, 1], **flags: Any) -> SequenceClassification:  # noqa: B006
    objective = SequenceClassification(Setup(), label_column="y", **flags)
    objective.pre_process(Dataset.from_dict({"y": labels}), source("train"))
    return objective


def answer_selection(**flags: Any) -> AnswerSelection:
    objective = AnswerSelection(Setup(), **{"label_column": "y", "index_column": "key", **flags})
    objective.pre_process(Dataset.from_dict({"y": [0, 1], "key": [1, 1]}), source("train"))
    return objective


@pytest.mark.parametrize("weights", [None, [1.0, 4.0]])
def test_loss_is_the_mean_over_labels(weights: list[float] | None) -> None:
    for objective in (seq_class(label_weights=weights), answer_selection(label_weights=weights)):
        total = objective.evaluate(OUTPUT, {"labels": LABELS}).loss
        num_items = objective.num_items({"labels": LABELS.numpy()})
        expected = cross_entropy(LOGITS, LABELS, None if weights is None else torch.tensor(weights), ignore_index=-100)
        assert float(total / num_items) == pytest.approx(float(expected))


def test_a_batch_of_nothing_but_padding_weighs_nothing() -> None:
    logits = LOGITS.clone().requires_grad_()
    labels = torch.full((5,), -100)
    total = seq_class().evaluate(SimpleNamespace(logits=logits), {"labels": labels}).loss
    assert (float(total), seq_class().num_items({"labels": labels.numpy()})) == (0, 0)
    total.backward()
    assert not logits.grad.any()


def test_half_precision_logits_make_a_loss_of_full_precision() -> None:
    total = seq_class().evaluate(SimpleNamespace(logits=LOGITS.bfloat16()), {"labels": LABELS}).loss
    assert total.dtype == torch.float32


def test_head_knows_the_classes() -> None:
    assert seq_class(["b", "a", "c"]).head_config == {
        "num_labels": 3,
        "id2label": {0: "a", 1: "b", 2: "c"},
        "label2id": {"a": 0, "b": 1, "c": 2},
        "problem_type": "single_label_classification",
    }


def test_metrics_have_a_value_a_name_in_each_stage() -> None:
    classes = ["accuracy", "f1", "f1_class_a", "f1_class_b", "f1_class_c"]
    assert [metric_names(seq_class(["b", "a", "c"]), stage) for stage in ("train", "test")] == [classes, classes]
    ranking = ["mean_average_precision", "mean_reciprocal_rank", "ndcg", "precision@1", "hitrate@5"]
    assert metric_names(answer_selection(), "train") == ["accuracy", "f1"]
    assert metric_names(answer_selection(), "valid") == ["accuracy", "f1", *ranking]


def test_metrics_of_a_batch() -> None:
    objective = answer_selection()
    batch = {"labels": LABELS, "indexes": torch.tensor([7, 7, 8, 8, 8]), "row_ids": torch.tensor([0, 1, 2, 3, -1])}
    values: dict[str, float] = {}
    for name, metric in objective.metrics("valid").items():
        metric.update(**objective.evaluate(OUTPUT, batch).metric_inputs[name])
        values |= metric.compute()
    assert set(values) == set(metric_names(objective, "valid"))
    assert values["accuracy"] == 1
    assert values["mean_average_precision"] == 1


def test_scores_are_probabilities_of_classes_and_differences_for_ranking() -> None:
    found = seq_class().predictions(OUTPUT, {})
    assert_close(found["scores"], LOGITS.softmax(dim=-1))
    assert found["prediction"].tolist()[:4] == [0, 1, 1, 0]
    assert_close(answer_selection().predictions(OUTPUT, {})["scores"], LOGITS[:, 1] - LOGITS[:, 0])


@pytest.mark.parametrize("flags", [{}, {"label_weights": [1.0, 4.0]}, {"label_smoothing": 0.2}])
def test_a_single_output_is_a_score(flags: dict[str, Any]) -> None:
    config = SimpleNamespace(architectures=["BertForSequenceClassification"], num_labels=1)
    objective = AnswerSelection(Setup(config=config), label_column="y", index_column="key", **flags)
    objective.pre_process(Dataset.from_dict({"y": [0, 1], "key": [1, 1]}), source("train"))
    assert objective.head_config == {"binary_labels": ["0", "1"], "problem_type": None}
    logits, labels = torch.tensor([[3.0], [-2.0], [0.5], [-0.1], [7.0]], requires_grad=True), LABELS
    found = objective.evaluate(SimpleNamespace(logits=logits), {"labels": labels})
    total, inputs = found.loss, found.metric_inputs
    known, share = labels[:4].float(), flags.get("label_smoothing", 0)
    weights = torch.tensor(flags.get("label_weights", [1.0, 1.0]))
    target = known * (1 - share) + share / 2
    expected = binary_cross_entropy_with_logits(logits[:4, 0], target, weights[labels[:4]], reduction="sum")
    torch.testing.assert_close(total, expected)
    total.backward()
    assert logits.grad is not None
    assert logits.grad.count_nonzero() == 4
    assert inputs["classes"]["preds"].tolist() == [1, 0, 1, 0, 1]
    predicted = objective.predictions(SimpleNamespace(logits=logits), {})
    torch.testing.assert_close(predicted["scores"], logits.detach()[:, 0])
    assert predicted["prediction"].tolist() == [1, 0, 1, 0, 1]


def test_large_differences_do_not_tie() -> None:
    logits = torch.tensor([[-20.0, 20.0], [-25.0, 25.0]])
    scores = answer_selection().predictions(SimpleNamespace(logits=logits), {})["scores"]
    assert scores[1] > scores[0], "both probabilities are 1 in float32"


def test_predictions_carry_the_names_of_classes() -> None:
    assert seq_class(["b", "a"]).decode({"prediction": 1, "scores": []})["prediction"] == "b"
    assert seq_class([0, 1]).decode({"prediction": 1, "scores": []})["prediction"] == 1


@pytest.mark.parametrize(
    ("stage", "keys"), [("train", {"labels"}), ("valid", {"labels", "indexes"}), ("predict", set())]
)
def test_labels_of_a_stage(stage: Any, keys: set[str]) -> None:
    made = answer_selection().post_process({"y": [1, 0], "key": ["a", "b"]}, {}, Context(stage, 1, 0, np.array([0, 1])))
    assert set(made) == keys


def files_of(texts: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    for suffix, text in texts:
        files.setdefault(suffix, []).extend(text.splitlines())
    return files


def test_rank_files_need_labels_and_queries() -> None:
    columns = {"scores": np.array([0.5, 1.5]), "row_ids": np.array([0, 2])}  # a part of the rows
    parts = [PredictedPart(columns, {"y": [1, 0], "key": ["a", "a"]})]
    files = files_of(answer_selection().prediction_files("test", parts))
    assert [line.split()[0] for line in files[".run"]] == ["a", "a"]
    assert sorted(line.split()[-1] for line in files[".qrels"]) == ["0", "1"]
    assert set(files_of(answer_selection().prediction_files("predict", parts))) == {".run"}
    assert files_of(answer_selection(index_column=None).prediction_files("predict", parts)) == {}


@pytest.mark.parametrize(("action", "queries"), [("skip", {"a"}), ("neg", {"a", "b"})])
def test_judgements_hold_the_queries_that_count(action: Any, queries: set[str]) -> None:
    parts = [
        PredictedPart({"scores": np.ones(1), "row_ids": np.array([row])}, {"y": [label], "key": [query]})
        for row, (label, query) in enumerate([(1, "a"), (0, "a"), (0, "b")])
    ]
    objective = answer_selection(metrics_empty_target_action=action)
    lines = files_of(objective.prediction_files("test", parts))[".qrels"]
    assert {line.split()[0] for line in lines} == queries


def test_query_numbers_do_not_depend_on_the_process() -> None:
    assert query_numbers([3, 1, 3]).tolist() == [3, 1, 3]
    # literals: the built-in hash of texts is another one in each process
    assert query_numbers(["q1", "q2", "q1"]).tolist() == QUERIES
    assert len(set(query_numbers([f"q{i}" for i in range(10_000)]).tolist())) == 10_000
    assert query_numbers(["q1", 1]).tolist()[1] == query_numbers(["1", "q1"]).tolist()[0], "mixed ids are texts"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_labels": 3}, "--num_labels: answer_selection has 2 classes"),
        ({"label_weights": [1.0]}, "--label_weights: 1 weights for 2 classes"),
    ],
)
def test_flags_are_checked(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        answer_selection(**flags)


def test_queries_are_needed_where_rows_are_ranked() -> None:
    dataset = Dataset.from_dict({"y": [0, 1], "key": [1, None]})
    with pytest.raises(ConfigurationError, match="--index_column is needed to rank the valid data set"):
        answer_selection(index_column=None).pre_process(dataset, source("valid"))
    with pytest.raises(DataError, match=r"valid\.jsonl:2: 'key' has no query id"):
        answer_selection().pre_process(dataset, source("valid"))
    answer_selection(index_column=None).pre_process(dataset, source("train"))
    with pytest.raises(ConfigurationError, match="--label_column is needed"):
        SequenceClassification(Setup()).pre_process(dataset, source("train"))


def test_class_weights_are_those_that_were_asked_for_in_any_precision() -> None:
    objective = seq_class(label_weights=[0.3, 70_000.0])
    loss = objective.evaluate(
        SimpleNamespace(logits=torch.zeros(1, 2, dtype=torch.float16)), {"labels": torch.ones(1, dtype=torch.int64)}
    ).loss
    assert float(loss) == approx(70_000 * np.log(2))


def test_random_numbers_of_stages_differ() -> None:
    keys = [Context(stage, 1, 0, np.arange(5)).keys("select") for stage in ("train", "valid", "test")]
    assert len(np.unique(np.concatenate(keys))) == 15
