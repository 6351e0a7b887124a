"""Classes of a column: from the data where it is trained on, from the checkpoint where nothing is trained."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features

from transformers_framework.constants import Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.objectives.label_values import is_written_list
from transformers_framework.objectives.labels import LabelEncoder
from transformers_framework.sources.columns import DatasetSource


def source(stage: Stage = "train") -> DatasetSource:
    return DatasetSource(stage, f"{stage}.jsonl", lambda row: f"{stage}.jsonl:{row + 1}")


def data(labels: list[Any], names: list[str] | None = None) -> Dataset:
    features = Features({"y": ClassLabel(names=names)}) if names else None
    return Dataset.from_dict({"y": labels}, features=features)


def found(*steps: tuple[Stage, Dataset], **options: Any) -> LabelEncoder:
    classes = LabelEncoder("y", **options)
    for stage, dataset in steps:
        classes.inspect(dataset, source(stage))
    return classes


@pytest.mark.parametrize(
    ("dataset", "options", "names"),
    [
        (data([0, 2, 1, 0]), {}, ["0", "1", "2"]),
        (data([0, 0]), {"num_labels": 2}, ["0", "1"]),
        (data([0, 1]), {"num_labels": 4}, ["0", "1", "2", "3"]),
        (data(["no", "yes", "maybe", "no"]), {}, ["maybe", "no", "yes"]),
        (data([True, False]), {}, ["0", "1"]),
        (data([0.0, 1.0, 2.0]), {}, ["0", "1", "2"]),
        (data(["0.0", "1.0"]), {}, ["0", "1"]),
        (data(["01", "02"]), {}, ["01", "02"]),
        (data(["TRUE", "False", "FALSE"]), {}, ["false", "true"]),
        (data(["no", "yes"]), {"num_labels": 4}, ["no", "yes", "LABEL_2", "LABEL_3"]),
        (data([1, 0], ["no", "yes"]), {"num_labels": 3}, ["no", "yes", "LABEL_2"]),
        (data([1, 0], ["neg", "pos"]), {}, ["neg", "pos"]),
        (data([0, 0], ["neg", "neutral", "pos"]), {}, ["neg", "neutral", "pos"]),
        # a checkpoint that is trained further keeps its order of the same names, and takes others from the data
        (data(["no", "yes"]), {"known": ["yes", "no"]}, ["yes", "no"]),
        (data([0, 1], ["no", "yes"]), {"known": ["yes", "no"]}, ["yes", "no"]),
        (data(["no", "yes"]), {"known": ["yes", "no", "maybe"]}, ["no", "yes"]),
        (data(["no", "yes"]), {"known": ["yes", "no", "maybe"], "num_labels": 3}, ["yes", "no", "maybe"]),
        (data([0, 1]), {"known": ["yes", "no", "maybe"]}, ["0", "1"]),
        (data([0, 1]), {"known": ["yes", "no"]}, ["yes", "no"]),
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
    classes = LabelEncoder("", known=["x", "y", "z"])
    classes.fix_classes(trains=False)
    assert classes.display_names == ["x", "y", "z"]
    classes = LabelEncoder("")
    classes.fix_classes(trains=False)
    assert classes.count == 2


@pytest.mark.parametrize(
    ("steps", "options", "message"),
    [
        ([("train", data(["x", "w"]))], {"asked": ["z", "x"]}, "train.jsonl:2: 'y' has the label 'w'; expected one of"),
        ([("train", data([0, 2]))], {"asked": ["z", "x"]}, "train.jsonl:2: 'y' has the label 2; expected 0 to 1"),
        ([("train", data([0, 1], ["x", "w"]))], {"asked": ["z", "x"]}, "has the classes x, w; expected z, x"),
        ([("train", data([0, 1, 2], ["x", "y", "z"]))], {"num_labels": 2}, "--num_labels 2: 'y' has 3 .*x, y, z"),
        ([("train", data([0, None]))], {}, "train.jsonl:2: 'y' has no label \\(null\\)"),
        ([("train", data([0.5, 1.0]))], {}, "train.jsonl:1: 'y' has the label 0.5"),
        ([("train", data([0, 3]))], {"num_labels": 3}, "train.jsonl:2: .* 3; expected 0 to 2"),
        ([("train", data([0, -1]))], {}, "--predict_dataset"),
        ([("train", data([0, 1])), ("valid", data([0, 2]))], {}, "valid.jsonl:2: .* 2; expected 0 to 1"),
        ([("train", data(["a", "b"])), ("valid", data(["b", "c"]))], {}, "valid.jsonl:2: .* 'c'; expected one of a, b"),
        ([("train", data(["a", "b", "c"]))], {"num_labels": 2}, "--num_labels 2: 'y' has 3 classes"),
        ([("test", data([0, 3]))], {"known": ["x", "y", "z"]}, "test.jsonl:2: .* 3; expected 0 to 2"),
        ([("test", data(["x", "w"]))], {"known": ["x", "y"]}, "test.jsonl:2: .* 'w'; expected one of x, y"),
        (
            [("train", data([0, 1], ["neg", "pos"])), ("valid", data([0, 1], ["pos", "bad"]))], {},
            "valid.jsonl has the classes pos, bad; expected neg, pos",
        ),
        ([("train", data([0, 1])), ("valid", data(["0", "x"]))], {}, "valid.jsonl:2: .*'x'; expected a whole number"),
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


@pytest.mark.parametrize("names", [["pos", "neg"], ["neg", "pos"]])
def test_labels_of_a_column_are_matched_by_name(names: list[str]) -> None:
    pos, neg = names.index("pos"), names.index("neg")
    for known in (None, ["neg", "pos"]):
        steps: Any = [("train", data([0, 1], ["neg", "pos"]))] if known is None else []
        classes = found(*steps, ("test", data([pos, neg], names)), known=known)
        assert classes.display_names == ["neg", "pos"]
        assert classes.numbers([pos, neg, -100], "test").tolist() == [1, 0, -100]
    assert found(("train", data([0, 1], names)), known=["neg", "pos"]).numbers([pos], "train").tolist() == [1]


@pytest.mark.parametrize(
    ("dataset", "options", "keeps"),
    [
        (data(["a", "b"]), {"known": ["b", "a"]}, True),
        (data(["a", "c"]), {"known": ["a", "b"]}, False),
        (data(["a", "b"]), {"known": ["0", "1"]}, True),  # names for classes that had none
        (data([0, 1]), {"known": ["a", "b"]}, True),
        (data([0, 1]), {"known": ["a", "b", "c"]}, False),
        (data([0, 1]), {"known": ["0", "1"], "known_as_texts": True}, True),
        (data([0, 1]), {"known": ["a", "b"], "asked": ["c", "d"]}, False),
        (data([0, 1]), {"known": ["a", "b"], "asked": ["a", "b"]}, True),
    ],
)
def test_other_classes_take_another_output_layer(
    dataset: Dataset, options: dict[str, Any], keeps: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="transformers_framework")
    assert found(("train", dataset), **options).keeps_head is keeps
    assert ("newly initialized" in caplog.text) is not keeps


def test_texts_that_look_like_numbers_stay_texts() -> None:
    made = found(("train", data(["1", "0"])))
    assert made.are_texts
    again = found(("test", data(["1", "0"])), known=made.names, known_as_texts=True)
    assert again.names == ["0", "1"]
    assert again.numbers(["1", "0"]).tolist() == [1, 0]
    unnamed = found(("test", data(["1", "0"])), known=["0", "1"])
    assert unnamed.names is None
    assert unnamed.numbers(["1", "0", "1.0"]).tolist() == [1, 0, 1]


def test_names_that_transformers_would_give_are_texts_too() -> None:
    assert found(("train", data(["LABEL_0", "LABEL_1"]))).are_texts
    assert not found(("train", data(["no", "yes"]))).are_texts


STARS = ["1", "2", "3", "4", "5"]
DIGITS = [str(number) for number in range(11)]


@pytest.mark.parametrize("names", [STARS, ["01", "02", "03"], ["2", "1"], sorted(DIGITS), ["-1", "0", "1"]])
def test_whole_numbers_stand_for_the_classes_of_that_name(names: list[str]) -> None:
    """Files without types turn "1" to "5" into numbers: 1 is the class "1" then, and not the second one."""
    numbers, order = [int(name) for name in names], list(range(len(names)))
    for stage in ("test", "train"):
        classes = found((stage, data(numbers)), known=names, known_as_texts=True)
        assert (classes.display_names, classes.keeps_head) == (names, True)
        assert classes.numbers([*numbers, -100], stage).tolist() == [*order, -100]
    both = found(("train", data(names)), ("valid", data(numbers[1:])))
    assert [both.display_names[number] for number in both.numbers(numbers)] == names
    assert found(("train", data(numbers)), asked=names).numbers(numbers).tolist() == order
    with pytest.raises(DataError, match=f"test.jsonl:2: 'y' has the label 12; expected one of {names[0]}, {names[1]}"):
        found(("test", data([numbers[0], 12])), known=names, known_as_texts=True)


def test_other_whole_numbers_than_those_of_the_names_are_other_classes() -> None:
    fewer = found(("train", data([1, 2, 3, 4])), known=STARS)
    assert (fewer.display_names, fewer.keeps_head) == (STARS[:4], False), "as of texts"
    assert fewer.numbers([1, 4]).tolist() == [0, 3]
    assert found(("train", data([0, 1, 2])), known=STARS).display_names == ["0", "1", "2"]
    with pytest.raises(DataError, match=r"train.jsonl:1: 'y' has the label 0; expected one of 1, 2, 3, 4, 5"):
        found(("train", data([0, 1, 2, 3, 4])), known=STARS)


def test_decimals_are_numbers() -> None:
    assert found(("train", data([Decimal("0.0"), Decimal("1.0")]))).numbers([Decimal("1.0")]).tolist() == [1]
    with pytest.raises(DataError, match=r"train.jsonl:2: 'y' has the label 0.50; expected a whole number or a name"):
        found(("train", data([Decimal("1.00"), Decimal("0.50")])))
    with pytest.raises(DataError, match=r"the label 0.5; expected a whole number or a name"):
        found(("train", data([[Decimal("0.5")], [Decimal("1.0")]])), in_lists=True)


@pytest.mark.parametrize("value", [0.5, Decimal("0.5")])
def test_fractions_in_rows_that_were_not_looked_at_are_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"0.5.* in a row that was not checked before"):
        found(("train", data([0, 1]))).numbers([value])


@pytest.mark.parametrize(
    ("value", "name"), [(b"a", "binary"), (date(2020, 1, 1), "date32"), ([b"a"], "lists of binary")]
)
def test_types_that_no_label_has(value: Any, name: str) -> None:
    with pytest.raises(DataError, match=f"'y' of train.jsonl holds {name}; expected a"):
        found(("train", data([value])), in_lists=isinstance(value, list))


@pytest.mark.parametrize(
    ("text", "is_list"),
    [
        *((text, True) for text in ("(0, 1)", "{0, 1}", "{1}", "(0,)", "{'a': 1}", '{"a":1}', "()", "[None]", "[nan]")),
        *((text, True) for text in ("tensor([0, 1], device='cuda:0')", "array(['a'], dtype=object)", "[1e-05, -2.]")),
        *(
            (text, True)
            for text in ("[np.int64(0), np.str_('a')]", "['a', 1]", "[[0, 1]]", "frozenset({'a'})", "[b'a']")
        ),
        *((text, False) for text in ("(1)", "[MASK]", "{name}", "(0, 10]", "[10, 20)", "(a, b)", "[12:30]", "foo()")),
        *((text, False) for text in ("(n, ni)", "[nanny]", "C++ (11)", "(-)", "nan")),
    ],
)
def test_lists_that_were_written_as_texts(text: str, is_list: bool) -> None:
    assert is_written_list(text) is is_list


def test_words_for_yes_and_no() -> None:
    trained = found(
        ("train", data(["TRUE", "FALSE"])), ("valid", data(["true", "False"])), ("test", data([True, False]))
    )
    assert trained.names == ["FALSE", "TRUE"]
    assert trained.numbers(["True", "FALSE"], "valid").tolist() == [1, 0]
    assert trained.numbers([True, False], "test").tolist() == [1, 0]
    assert found(("train", data([True, False]))).numbers(["TRUE", "no"]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("dataset", "values"),
    [
        (data(["TRUE", "FALSE"]), ["TRUE", "FALSE"]),
        (data(["Yes", "no"]), ["Yes", "no"]),
        (data(["1", "0.0"]), ["1", "0.0"]),
        (data([1.0, 0.0]), [1.0, 0.0]),
        (data([0, 1], ["yes", "no"]), [0, 1]),
        (data([0, 1], ["1", "0"]), [0, 1]),
        (data([1, 0], ["wrong", "right"]), [1, 0]),
    ],
)
def test_binary_labels(dataset: Dataset, values: list[Any]) -> None:
    classes = found(("train", dataset), is_binary=True, num_labels=2)
    assert classes.numbers(values, "train").tolist() == [1, 0]
    with pytest.raises(DataError, match=r"train.jsonl:2: 'y' has the label 'b'; expected 1 .relevant candidate."):
        found(("train", data(["yes", "b"])), is_binary=True, num_labels=2)
