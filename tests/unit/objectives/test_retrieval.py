"""Retrieval: labels from a column to the loss."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from pytorch_lightning.plugins.precision import HalfPrecision

from tests.tolerances import approx
from transformers_framework.exceptions import DataError
from transformers_framework.losses.retrieval.batch import Embedded
from transformers_framework.objectives.capabilities import PredictedPart
from transformers_framework.objectives.objective import Context, Setup
from transformers_framework.objectives.retrieval import Retrieval
from transformers_framework.sources.columns import DatasetSource


def objective(loss_fn: Any = "contrastive_loss") -> Retrieval:
    return Retrieval(
        Setup(), input_columns=["q", "p"], label_column="y", index_column="key", loss_fn=loss_fn, batch_size=4
    )


def source(stage: Any = "train") -> DatasetSource:
    return DatasetSource(stage, f"{stage}.jsonl", lambda row: f"{stage}.jsonl:{row + 1}")


def labels_of(made: Retrieval, values: list[Any], stage: Any = "valid") -> np.ndarray:
    rows = {"y": values, "key": list(range(len(values)))}
    batch = {"input_ids": np.ones((len(values), 2), np.int64)}
    return made.post_process(rows, batch, Context(stage, 1, 0, np.arange(len(values))))["labels"]


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_labels_are_float32_in_every_precision(precision: Any) -> None:
    made, labels = objective("cosine_similarity_loss"), [1 / 3, 0.123456789, 0.0, 0.7]
    bits = labels_of(made, labels)
    bits[3] = -100  # a row that only evens out processes
    batch = {"labels": torch.from_numpy(bits), "indexes": torch.arange(4), "row_ids": torch.arange(4)}
    batch = HalfPrecision(precision).convert_input(batch)
    same = torch.tensor([[1.0, 0.0]] * 4)
    found = made.evaluate(Embedded(same, same), batch)
    loss, inputs = found.loss, found.metric_inputs
    assert loss.item() == approx(sum((1 - label) ** 2 for label in labels[:3]))
    assert inputs["candidates"]["labels"].tolist() == [*np.float32(labels[:3]).tolist(), -100]
    assert made.num_items({"labels": bits}) == 3


@pytest.mark.parametrize(
    "values", [["YES", "no"], ["True", "FALSE"], [True, False], [1.0, 0.0], [Decimal(1), Decimal(0)]]
)
def test_words_for_yes_and_no_are_labels(values: list[Any]) -> None:
    made = objective()
    made.pre_process(Dataset.from_dict({"q": ["a", "b"], "p": ["a", "b"], "y": values, "key": [1, 1]}), source())
    assert labels_of(made, values).view(np.float32).tolist() == [1, 0]
    part = PredictedPart({"scores": np.ones(2), "row_ids": np.arange(2)}, {"y": values, "key": [1, 1]})
    (qrels,) = (text for suffix, text in made.prediction_files("test", [part]) if suffix == ".qrels")
    assert sorted((line.split()[2][-1], line.split()[3]) for line in qrels.splitlines()) == [("0", "1"), ("1", "0")]


def test_labels_that_say_neither_are_refused() -> None:
    columns = {"q": ["a", "b"], "p": ["a", "b"], "key": [1, 1]}
    with pytest.raises(DataError, match=r"train.jsonl:2: 'y' is 'maybe'; expected 1 .positive. or 0"):
        objective().pre_process(Dataset.from_dict({**columns, "y": ["yes", "maybe"]}), source())
    turned = Dataset.from_dict({**columns, "y": [0, 1]}).cast_column("y", ClassLabel(names=["yes", "no"]))
    with pytest.raises(DataError, match="has the classes yes, no, so 0 would be a positive"):
        objective().pre_process(turned, source())


@pytest.mark.parametrize("size", [2, 8])
def test_online_contrastive_loss_is_a_sum_over_the_batch(size: int) -> None:
    made = objective("online_contrastive_loss")
    labels = np.ones(size, np.float32).view(np.int32)
    assert made.num_items({"labels": labels, "queries": labels}) == 1, "in training, batches are counted"
    assert made.num_items({"labels": labels}) == size, "in evaluation, rows"
    assert made.num_items({"labels": np.full(size, -100, np.int32), "queries": labels}) == 0
