"""Several classes a row, numbers, thousands of classes: labels, losses, what is written, what is refused."""

from __future__ import annotations

import logging
import time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from torch.nn import functional

from tests import tiny
from tests.tolerances import assert_close
from transformers_framework.data.collator import Collator
from transformers_framework.data.sampler import BatchRequest
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.text import TextInputs
from transformers_framework.objectives.answer_selection import AnswerSelection
from transformers_framework.objectives.objective import Context, Setup, metric_names
from transformers_framework.objectives.seq_class import SequenceClassification, known_problem_type
from transformers_framework.sources.columns import DatasetSource

TOPICS = [["rain", "snow"], [], ["wind"], ["snow", "rain", "wind"]]
NUMBERS = [0.5, -100.0, 3.25, 4.0]
FEATURES = Features({"y": List(Value("string"))})


def source(stage: Any = "train") -> DatasetSource:
    return DatasetSource(stage, f"{stage}.jsonl", lambda row: f"{stage}.jsonl:{row + 1}")


def objective(labels: Any, setup: Setup | None = None, features: Features | None = None, **flags: Any) -> Any:
    made = SequenceClassification(setup or Setup(), label_column="y", **flags)
    made.pre_process(Dataset.from_dict({"y": labels}, features=features), source())
    return made


def labels_of(made: Any, values: Any) -> np.ndarray:
    found: np.ndarray = made.post_process({"y": values}, {}, Context("train", 1, 0, np.arange(len(values))))["labels"]
    return found


def loss_of(made: Any, logits: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
    total = made.evaluate(SimpleNamespace(logits=logits), {"labels": torch.from_numpy(labels)}).loss
    mean: torch.Tensor = total / made.num_items({"labels": labels})
    return mean


def decoded(made: Any, logits: torch.Tensor) -> list[dict[str, Any]]:
    found = {key: value.tolist() for key, value in made.predictions(SimpleNamespace(logits=logits), {}).items()}
    return [made.decode({key: column[row] for key, column in found.items()}) for row in range(len(logits))]


# --- what labels are --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "flags", "problem_type"),
    [
        ([0, 1], {}, "single_label_classification"),
        (["a", "b"], {}, "single_label_classification"),
        (TOPICS, {}, "multi_label_classification"),
        ([[0], [1, 2]], {}, "multi_label_classification"),
        (TOPICS, {"problem_type": "multi_label"}, "multi_label_classification"),
        (NUMBERS, {"problem_type": "regression"}, "regression"),
        ([1, 5], {"problem_type": "regression"}, "regression"),
    ],
)
def test_lists_are_several_classes_and_numbers_are_asked_for(labels: Any, flags: Any, problem_type: str) -> None:
    assert objective(labels, **flags).head_config["problem_type"] == problem_type


def test_what_was_found_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "transformers_framework"):
        logging.getLogger("transformers_framework").propagate = True
        objective(TOPICS)
    assert "'y' holds lists, so a row can have several classes: using --problem_type multi_label." in caplog.text


@pytest.mark.parametrize(
    ("architecture", "changes", "found"),
    [
        ("BertForMaskedLM", {"problem_type": "regression", "num_labels": 1}, None),
        ("BertForSequenceClassification", {"num_labels": 3}, None),
        ("BertForSequenceClassification", {"num_labels": 1}, "regression"),
        ("BertForSequenceClassification", {"problem_type": "regression", "num_labels": 1}, "regression"),
        ("BertForSequenceClassification", {"problem_type": "multi_label_classification"}, "multi_label"),
        ("BertForSequenceClassification", {"problem_type": "single_label_classification"}, "single_label"),
    ],
)
def test_a_checkpoint_says_what_it_was_fine_tuned_for(architecture: str, changes: Any, found: Any) -> None:
    config = tiny.config_for("bert", architectures=[architecture], **changes)
    assert known_problem_type(config) == found
    made = SequenceClassification(Setup(config=config), label_column="y")
    made.pre_process(Dataset.from_dict({"text": ["a"]}), source("predict"))
    written = {None: "single_label_classification", "regression": "regression"}.get(found, f"{found}_classification")
    assert made.head_config["problem_type"] == written
    # what is trained, the data decide
    made = objective([0, 1], Setup(config=config))
    assert made.head_config["problem_type"] == "single_label_classification"


ONE_OUTPUT = {"architectures": ["BertForSequenceClassification"], "num_labels": 1}


def test_a_checkpoint_of_one_output_predicts_numbers_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "transformers_framework")
    setup = Setup(config=tiny.config_for("bert", **ONE_OUTPUT))
    SequenceClassification(setup, label_column="y").pre_process(Dataset.from_dict({"y": [0, 1]}), source("test"))
    assert "one output, so labels and predictions are numbers: using --problem_type regression" in caplog.text
    with pytest.raises(DataError, match=r"holds bool; regression needs a number.* --pipeline answer_selection"):
        SequenceClassification(setup, label_column="y").pre_process(Dataset.from_dict({"y": [True]}), source("test"))


def test_an_output_layer_that_is_lost_is_named(caplog: pytest.LogCaptureFixture) -> None:
    one = tiny.config_for("bert", **ONE_OUTPUT)
    objective(NUMBERS, Setup(config=one), problem_type="regression")
    ranked = AnswerSelection(Setup(config=one), label_column="y")
    ranked.pre_process(Dataset.from_dict({"y": [1, 0]}), source())
    assert caplog.text == ""
    objective(["a", "b", "c"], Setup(config=one))
    assert "The checkpoint has one output, " in caplog.text
    assert "this run has 3 classes: the output layer is newly initialized" in caplog.text
    objective(NUMBERS, Setup(class_names=["a", "b"]), problem_type="regression")
    assert "has 2 classes, but this run learns a number: the output layer is newly initialized" in caplog.text


def test_several_numbers_are_refused() -> None:
    config = tiny.config_for(
        "bert", architectures=["BertForSequenceClassification"], problem_type="regression", num_labels=3
    )
    made = SequenceClassification(Setup(config=config), label_column="y")
    with pytest.raises(ConfigurationError, match="it predicts 3 numbers per row"):
        made.pre_process(Dataset.from_dict({"y": [0.5]}), source("test"))


# --- several classes --------------------------------------------------------------------------------------------------


def test_labels_of_several_classes() -> None:
    made = objective(TOPICS)
    found = labels_of(made, TOPICS)
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 1, 1]]
    assert found.dtype == np.int8
    assert made.head_config["id2label"] == {0: "rain", 1: "snow", 2: "wind"}
    assert [made.describe({"labels": found}, row) for row in (0, 1)] == ["labels rain, snow", "none of the classes"]
    declared = Features({"y": List(ClassLabel(names=["no", "yes", "maybe"]))})
    assert objective([[0], []], features=declared).classes.names == ["no", "yes", "maybe"]


@pytest.mark.parametrize("weights", [None, [1.0, 5.0, 0.0]])
def test_loss_of_several_classes_is_torchs_and_that_of_transformers(weights: Any) -> None:
    made = objective(TOPICS, label_weights=weights)
    labels = labels_of(made, TOPICS)
    model = tiny.model_for("bert", "AutoModelForSequenceClassification", **made.head_config)
    batch = dict(
        tiny.tokenizer_for("bert")(["the rain", "a dog", "wind", "snow and rain"], padding=True, return_tensors="pt")
    )
    output = model(**batch, labels=torch.from_numpy(labels).float())
    padded = torch.cat([output.logits, torch.full((1, 3), 9.0)])
    found = loss_of(made, padded, np.concatenate([labels, np.full((1, 3), -100, np.int8)]))
    if weights is None:
        assert_close(found, output.loss)
    target = torch.from_numpy(labels).float()
    of_positives = None if weights is None else torch.tensor(weights)
    expected = functional.binary_cross_entropy_with_logits(output.logits, target, pos_weight=of_positives)
    assert_close(found, expected)


def test_padding_rows_of_a_batch_weigh_nothing() -> None:
    tokenizer = tiny.tokenizer_for("bert")
    inputs = TextInputs(tokenizer, 2, input_columns=["text"], max_sequence_length=[16])
    for labels, flags in ((TOPICS, {}), (NUMBERS, {"problem_type": "regression"})):
        made = objective(labels, **flags)
        columns = {"text": ["rain"] * 4, "y": labels}
        batch = Collator(inputs, [made], "valid", 1)((BatchRequest(0, (0, 1, -3, -4)), columns))
        assert batch["row_ids"].tolist()[2:] == [-1, -1]
        logits = torch.randn(4, made.head_config["num_labels"])
        found = made.evaluate(SimpleNamespace(logits=logits), {**batch, **batch["seq_class"]})
        total, updates = found.loss, found.metric_inputs
        alone = loss_of(made, logits[:2], labels_of(made, labels[:2]))
        assert_close(total / batch["num_items"]["seq_class"], alone)
        ((name, update),) = updates.items()
        metric, first = made.metrics("valid")[name], made.metrics("valid")[name]
        metric.update(**update)
        first.update(**{key: value[:2] for key, value in update.items()})
        assert metric.compute() == pytest.approx(first.compute(), nan_ok=True)


def test_predictions_of_several_classes() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.1], [-1.0, -2.0, 0.0]])
    first, second = decoded(objective(TOPICS), logits)
    assert first["prediction"] == ["rain", "wind"]
    assert second["prediction"] == [], "a probability of one half is not enough"
    assert first["scores"] == pytest.approx(
        dict(zip(["rain", "snow", "wind"], logits[0].sigmoid().tolist(), strict=True))
    )
    assert decoded(objective([[0], [1, 2]]), logits)[0]["prediction"] == [0, 2], "comparable with the labels"


@pytest.mark.parametrize(
    ("labels", "flags", "message"),
    [
        ([["a"], None, ["b"]], {}, r"train.jsonl:2: 'y' has no labels \(null\); expected a list, empty where"),
        ([["a", "b"], ["b", None]], {}, r"train.jsonl:2: 'y' has no label \(null\)"),
        ([["a", "b"], ["b", ""]], {}, r"train.jsonl:2: 'y' has an empty label"),
        ([["a", "b"], ["b", "a", "b"]], {}, r"train.jsonl:2: 'y' has the label 'b' twice"),
        ([[1, 0, 0], [0, 0, 1]], {}, r"train.jsonl:1: 'y' has the label 0 twice.* zeros and ones to"),
        ([[1, 0], [0, 1]], {}, r"every row of train.jsonl has all classes in 'y', such as \[1, 0\]"),
        ([[0, 1], [0, 1]], {}, "every row of train.jsonl has all classes"),
        ([["0", "1"], ["1", "0"]], {}, "every row of train.jsonl has all classes"),
        ([[True, False], [False, True]], {}, "holds lists of bool; expected lists of classes.* zeros and ones"),
        ([[0, 1], [-100]], {}, r"train.jsonl:2: 'y' has the label -100; expected classes only, and an empty list"),
        ([[0, 1], [2]], {"num_labels": 2}, r"train.jsonl:2: 'y' has the label 2; expected 0 to 1"),
        ([[0, 3]], {}, "no row has class 1, 2"),
        ([[1.0, 0.0], [0.0, 1.0]], {}, "holds lists of float64; expected lists of classes.* zeros and ones"),
        ([["a"], ["a"]], {}, "every label of 'y' is 'a'"),
        (["a", "b"], {"problem_type": "multi_label"}, "holds string; expected a list of whole numbers or names"),
        ([["a"], ["b"]], {"problem_type": "single_label"}, "holds lists of string; .* --problem_type multi_label"),
        ([0.5, 1.0], {}, r"train.jsonl:1: 'y' has the label 0.5; .*--problem_type regression"),
        ([0.0, None, 1.0], {}, r"train.jsonl:2: 'y' has no label \(null\); expected a label"),
        ([0.0, float("nan"), 1.0], {}, r"train.jsonl:2: 'y' has no label \(nan\); expected a label"),
        (["['a']", "['a', 'b']"], {}, "train.jsonl:1: .*this is a list in the form of a string.* JSON lines"),
        ([0.5, None], {"problem_type": "regression"}, r"train.jsonl:2: 'y' has no label \(null\); expected a finite"),
        ([0.5, float("nan")], {"problem_type": "regression"}, r"train.jsonl:2: 'y' has the label nan; expected"),
        ([0.5, float("inf")], {"problem_type": "regression"}, r"train.jsonl:2: 'y' has the label inf"),
        ([0.5, 1e39], {"problem_type": "regression"}, r"train.jsonl:2: 'y' has the label 1e\+39; expected a finite"),
        (["0.5", "1"], {"problem_type": "regression"}, "regression needs a number in each row.$"),
        ([[0.5], [1.0]], {"problem_type": "regression"}, "regression needs a number in each row.$"),
    ],
)  # fmt: skip
def test_wrong_labels(labels: Any, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        objective(labels, **flags)


def test_lists_without_any_label() -> None:
    with pytest.raises(DataError, match=r"no row of train\.jsonl has any label in 'y'"):
        objective([[], []], features=FEATURES, num_labels=2)


@pytest.mark.parametrize("flags", [{"label_weights": [1.0]}, {"label_smoothing": 0.1}, {"num_labels": 3}])
def test_flags_of_classes_mean_nothing_to_numbers(flags: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"--{next(iter(flags))}: regression has no classes"):
        SequenceClassification(Setup(), label_column="y", problem_type="regression", **flags)


def test_one_class_is_none() -> None:
    with pytest.raises(ConfigurationError, match="--num_labels 1: classification needs at least 2 classes"):
        objective([0, 0], num_labels=1)


def test_rows_of_a_stream_are_checked_when_they_are_read() -> None:
    topics, numbers = objective(TOPICS), objective(NUMBERS, problem_type="regression")
    assert labels_of(topics, [["rain"], None]).tolist() == [[1, 0, 0], [-100] * 3]
    with pytest.raises(DataError, match="'y' has the label 'hail' in a row that was not checked before"):
        labels_of(topics, [["hail"]])
    with pytest.raises(DataError, match="'y' has a list with a missing class"):
        labels_of(topics, [["rain", None]])
    assert labels_of(numbers, [1.0, None]).tolist()[1] == -100
    with pytest.raises(DataError, match="'y' has the label nan in a row that was not checked before"):
        labels_of(numbers, [1.0, float("nan")])


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_travel_as_the_bits_of_floats() -> None:
    """No strategy in half precision rounds them, -100 is a number like others, and the ignored label is none."""
    made = objective(NUMBERS, problem_type="regression")
    found = labels_of(made, NUMBERS)
    assert found.dtype == np.int32
    assert found.view(np.float32).tolist() == NUMBERS
    assert np.isnan(np.array([-100], dtype=np.int32).view(np.float32)).all()
    assert made.num_items({"labels": found}) == 4
    assert [made.describe({"labels": found}, row) for row in (0, 1)] == ["number 0.5", "number -100"]
    third = float(np.float32(1) / 3)
    assert labels_of(made, [third]).view(np.float32)[0] == third


def test_decimals_are_numbers() -> None:
    made = objective([Decimal("0.50"), Decimal("2.00")], problem_type="regression")
    assert labels_of(made, [Decimal("0.50")]).view(np.float32).tolist() == [0.5]
    with pytest.raises(DataError, match=r"train.jsonl:2: 'y' has no label \(null\); expected a finite number"):
        objective([Decimal("0.50"), None], problem_type="regression")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_of_numbers_is_that_of_transformers(dtype: torch.dtype) -> None:
    made = objective(NUMBERS, problem_type="regression")
    logits = torch.randn(5, 1).to(dtype)
    labels = np.append(labels_of(made, NUMBERS), np.int32(-100))
    expected = functional.mse_loss(logits[:4, 0].float(), torch.tensor(NUMBERS))
    assert_close(loss_of(made, logits, labels), expected)
    model = tiny.model_for("bert", "AutoModelForSequenceClassification", **made.head_config)
    batch = dict(tiny.tokenizer_for("bert")(["a", "b", "c", "d"], return_tensors="pt"))
    output = model(**batch, labels=torch.tensor(NUMBERS))
    assert_close(loss_of(made, output.logits, labels[:4]), output.loss)


def test_head_and_predictions_of_numbers() -> None:
    made = objective(NUMBERS, problem_type="regression", num_labels=1)
    assert made.head_config == {
        "num_labels": 1, "id2label": {0: "y"}, "label2id": {"y": 0}, "problem_type": "regression",
    }  # fmt: skip
    assert decoded(made, torch.tensor([[0.5], [-2.0]])) == [{"prediction": 0.5}, {"prediction": -2.0}]
    names = ["pearson", "spearman", "mean_squared_error", "mean_absolute_error"]
    assert metric_names(made, "train") == metric_names(made, "valid") == names


def test_a_checkpoint_of_classes_predicts_no_number() -> None:
    setup = Setup(class_names=["a", "b", "c"])
    made = SequenceClassification(setup, label_column="y", problem_type="regression")
    with pytest.raises(ConfigurationError, match="it was fine-tuned for 3 classes, not for regression"):
        made.pre_process(Dataset.from_dict({"y": [0.5]}), source("test"))
    made = objective(NUMBERS, setup, problem_type="regression")
    made.pre_process(Dataset.from_dict({"y": [0.5]}), source("test"))  # it was trained for numbers now


# --- smoothing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, [1.0, 4.0, 0.5]])
def test_smoothed_loss_is_torchs_mean(weights: Any) -> None:
    made = objective([0, 1, 2], label_weights=weights, label_smoothing=0.3)
    logits, labels = torch.randn(6, 3), np.array([0, 2, -100, 1, 1, 2])
    assert_close(
        loss_of(made, logits, labels),
        functional.cross_entropy(
            logits, torch.from_numpy(labels), None if weights is None else torch.tensor(weights), label_smoothing=0.3
        ),
    )


# --- thousands of classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_thousands_of_classes(several: bool) -> None:
    names = [f"class {number:04}" for number in range(5000)]
    labels = [[name] for name in names] if several else names
    start = time.perf_counter()
    made = objective(labels)
    found = labels_of(made, labels[:64])
    assert time.perf_counter() - start < 3  # 0.15 s measured
    assert found.shape == ((64, 5000) if several else (64,))
    assert metric_names(made, "valid") == ["accuracy", "f1", *(["micro_f1"] if several else [])]
    logits = torch.full((2, 5000), -5.0)
    logits[0, 7:20] = torch.arange(13.0) + 1
    logits[1, 3] = -1.0
    first, second = decoded(made, logits)
    scores = logits.sigmoid() if several else logits.softmax(-1)
    if several:
        assert first["prediction"] == names[7:20][::-1], "the likeliest first; none is left out"
        assert second["prediction"] == []
    else:
        assert (first["prediction"], second["prediction"]) == (names[19], names[3])
    assert list(first["scores"])[:10] == names[10:20][::-1]
    assert len(first["scores"]) == (13 if several else 10)
    assert second["scores"][names[3]] == pytest.approx(float(scores[1, 3]))


def test_of_fifty_classes_all_scores_are_written() -> None:
    first = decoded(objective(list(range(50))), torch.randn(1, 50))[0]
    assert isinstance(first["scores"], list)
    assert len(first["scores"]) == 50
