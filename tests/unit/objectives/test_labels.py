"""Classes of a column: from the data where it is trained on, from the checkpoint where nothing is trained."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features

from transformers_framework.constants import Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.objectives.labels import Classes
from transformers_framework.processing.columns import Origin


def origin(stage: Stage = "train") -> Origin:
    return Origin(stage, f"{stage}.jsonl", lambda row: f"{stage}.jsonl:{row + 1}")


def data(labels: list[Any], names: list[str] | None = None) -> Dataset:
    features = Features({"y": ClassLabel(names=names)}) if names else None
    return Dataset.from_dict({"y": labels}, features=features)


def found(*steps: tuple[Stage, Dataset], **options: Any) -> Classes:
    classes = Classes("y", **options)
    for stage, dataset in steps:
        classes.inspect(dataset, origin(stage))
    return classes


@pytest.mark.parametrize(
    ("dataset", "options", "names"),
    [
        (data([0, 2, 1, 0]), {}, ["0", "1", "2"]),
        (data([0, 0]), {"num_labels": 2}, ["0", "1"]),
        (data([0, 1]), {"num_labels": 4}, ["0", "1", "2", "3"]),
        (data(["no", "yes", "maybe", "no"]), {}, ["maybe", "no", "yes"]),
        (data([True, False]), {}, ["0", "1"]),
        (data([1, 0], ["neg", "pos"]), {}, ["neg", "pos"]),
        (data([0, 0], ["neg", "neutral", "pos"]), {}, ["neg", "neutral", "pos"]),
        # a checkpoint that is trained further keeps its order of the same names, and takes others from the data
        (data(["no", "yes"]), {"known": ["yes", "no", "maybe"]}, ["yes", "no", "maybe"]),
        (data(["a", "b"]), {"known": ["yes", "no", "maybe"]}, ["a", "b"]),
        (data([0, 1]), {"known": ["0", "1", "2"]}, ["0", "1"]),
        # names that are asked for are all there are, in their order, whatever the data have
        (data([0, 1]), {"asked": ["z", "y", "x"]}, ["z", "y", "x"]),
        (data(["y", "z"]), {"asked": ["z", "y", "x"]}, ["z", "y", "x"]),
        (data([1, 0], ["z", "y"]), {"asked": ["z", "y"]}, ["z", "y"]),
        (data([0, 1]), {"known": ["a", "b", "c"], "asked": ["z", "y"]}, ["z", "y"]),
    ],
)
def test_training_data_decide(dataset: Dataset, options: dict[str, Any], names: list[str]) -> None:
    classes = found(("train", dataset), **options)
    assert classes.display_names == names
    assert classes.count == len(names)


@pytest.mark.parametrize(
    ("dataset", "known", "names"),
    [
        (data([0, 1]), ["0", "1", "2"], ["0", "1", "2"]),
        (data([0, 1]), ["x", "y", "z"], ["x", "y", "z"]),
        (data(["z"]), ["x", "y", "z"], ["x", "y", "z"]),
        (data([0, 1], ["neg", "pos"]), ["0", "1"], ["neg", "pos"]),
    ],
)
def test_a_checkpoint_that_is_tested_decides(dataset: Dataset, known: list[str], names: list[str]) -> None:
    """Else a test set without the last class would get a new head of fewer classes."""
    assert found(("test", dataset), known=known).display_names == names


def test_a_checkpoint_without_names_takes_those_that_are_asked_for() -> None:
    options: dict[str, Any] = {"known": ["0", "1"], "asked": ["z", "y"]}
    classes = found(("test", data([0, 1])), **options)
    assert classes.display_names == ["z", "y"]
    assert classes.numbers([1, "y", -100]).tolist() == [1, 1, -100]


def test_nothing_but_texts_to_predict() -> None:
    classes = Classes("", known=["x", "y", "z"])
    classes.settle(trains=False)
    assert classes.display_names == ["x", "y", "z"]
    classes = Classes("")
    classes.settle(trains=False)
    assert classes.count == 2


@pytest.mark.parametrize(
    ("steps", "options", "message"),
    [
        ([("train", data(["x", "w"]))], {"asked": ["z", "x"]}, "train.jsonl:2: 'y' has the label 'w'; expected one of"),
        ([("train", data([0, 2]))], {"asked": ["z", "x"]}, "train.jsonl:2: 'y' has the label 2; expected 0 to 1"),
        ([("train", data([0, 1], ["x", "z"]))], {"asked": ["z", "x"]}, "has the classes x, z; expected z, x"),
        ([("train", data([0, None]))], {}, "train.jsonl:2: 'y' has no label \\(null\\)"),
        ([("train", data([0.5, 1.0]))], {}, "train.jsonl:1: 'y' has the label 0.5"),
        ([("train", data([0, 3]))], {"num_labels": 3}, "train.jsonl:2: .* 3; expected 0 to 2"),
        ([("train", data([0, -1]))], {}, "--predict_dataset"),
        ([("train", data([0, 1])), ("valid", data([0, 2]))], {}, "valid.jsonl:2: .* 2; expected 0 to 1"),
        ([("train", data(["a", "b"])), ("valid", data(["b", "c"]))], {}, "valid.jsonl:2: .* 'c'; expected one of a, b"),
        ([("train", data(["a", "b", "c"]))], {"num_labels": 2}, "--num_labels: 2 classes were asked for"),
        ([("test", data([0, 3]))], {"known": ["x", "y", "z"]}, "test.jsonl:2: .* 3; expected 0 to 2"),
        ([("test", data(["x", "w"]))], {"known": ["x", "y"]}, "test.jsonl:2: .* 'w'; expected one of x, y"),
        (
            [("train", data([0, 1], ["neg", "pos"])), ("valid", data([0, 1], ["pos", "neg"]))], {},
            "valid.jsonl has the classes pos, neg; expected neg, pos",
        ),
        ([("test", data([0, 1], ["pos", "neg"]))], {"known": ["neg", "pos"]}, "expected neg, pos, in this order"),
    ],
)  # fmt: skip
def test_wrong_labels(steps: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        found(*steps, **options)


def test_a_checkpoint_with_another_number_of_classes() -> None:
    with pytest.raises(ConfigurationError, match=r"it has 3 classes .*2 are needed"):
        found(("test", data([0, 1])), num_labels=2, known=["0", "1", "2"])


def test_numbers_of_names() -> None:
    classes = found(("train", data(["no", "yes"])))
    assert classes.numbers(["yes", "no", None]).tolist() == [1, 0, -100]
    assert found(("train", data([0, 1]))).numbers([1, -100, None, 0]).tolist() == [1, -100, -100, 0]
