"""Token classification: labels stand at first pieces, through cuts and masks; loss, metrics, what is written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List
from torch.nn.functional import cross_entropy

from tests import tiny
from tests.tolerances import approx, assert_close
from transformers_framework.data.collator import Collator
from transformers_framework.data.sampler import BatchRequest
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.inputs.words import WordInputs
from transformers_framework.objectives import token_class
from transformers_framework.objectives.capabilities import PredictedPart
from transformers_framework.objectives.masked_lm import MaskedLM
from transformers_framework.objectives.objective import Context, Setup, metric_names
from transformers_framework.objectives.token_class import TokenClassification
from transformers_framework.sources.columns import DatasetSource

ROWS: dict[str, list[list[str]]] = {
    "words": [["unbelievable", "", "foxes", "jump"], ["the"], ["\u200d", "rain", "is", "learning", "slowly"]],
    "tags": [["B-x", "O", "I-x", "O"], ["O"], ["O", "B-y", "O", "B-x", "I-x"]],
}
NAMES = ["B-x", "B-y", "I-x", "O"]


def source(stage: Any = "train") -> DatasetSource:
    return DatasetSource(stage, f"{stage}.jsonl", lambda row: f"{stage}.jsonl:{row + 1}")


def objective(labels: Any = None, *, setup: Setup | None = None, **flags: Any) -> TokenClassification:
    made = TokenClassification(
        setup or Setup(tiny.tokenizer_for("bert")), input_columns=["words"], label_column="tags", **flags
    )
    rows = ROWS if labels is None else {"words": [["w"] * len(row) for row in labels], "tags": labels}
    made.pre_process(Dataset.from_dict(rows), source())
    return made


def batch_of(stage: Any = "train", length: int = 40, rows: Any = ROWS, **flags: Any) -> tuple[Any, Any]:
    made = objective(**flags)
    inputs = WordInputs(made.setup.tokenizer, 2, input_columns=["words"], max_sequence_length=[length])
    batch = inputs.post_process(rows)
    return batch, made.post_process(rows, batch, Context(stage, 1, 0, np.arange(len(rows["words"]))))


def labels_of_words(batch: Any, own: Any) -> list[dict[int, str]]:
    """Class of each labelled word of a row, read off the pieces; each must be the first piece of its word."""
    found = []
    for words, labels in zip(batch["word_ids"], own["labels"], strict=True):
        places = np.flatnonzero(labels != -100)
        assert all(words[place] >= 0 and words[place] not in words[:place] for place in places)
        found.append({int(words[place]): NAMES[labels[place]] for place in places})
    return found


def test_labels_stand_at_the_first_pieces_of_words() -> None:
    batch, own = batch_of()
    assert labels_of_words(batch, own) == [
        {0: "B-x", 2: "I-x", 3: "O"},  # the empty word has no piece, and those behind it keep their labels
        {0: "O"},
        {1: "B-y", 2: "O", 3: "B-x", 4: "I-x"},
    ]
    assert own["labels"].dtype == np.int64
    assert own["labels"].shape == batch["input_ids"].shape
    assert (own["word_starts"][0] >= 0).tolist() == [True, False, True, True, False]
    assert set(own) == {"labels", "word_starts"}


def test_words_beyond_the_input_have_no_label() -> None:
    batch, own = batch_of(length=5)
    assert labels_of_words(batch, own)[0] == {0: "B-x"}, "the word that was cut keeps its label"
    assert batch["truncated"].tolist() == [True, False, True]
    assert max(map(len, labels_of_words(batch, own)[1:])) <= 3


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm_roberta"])
@pytest.mark.parametrize("whole_words", [False, True])
def test_words_and_tags_stay_aligned_when_words_are_masked(kind: str, whole_words: bool) -> None:
    setup = Setup(tiny.tokenizer_for(kind), tiny.config_for(kind))
    rows = tiny.tagged(60)
    columns = {"words": [row["words"] for row in rows], "tags": [row["labels"] for row in rows]}
    tags = objective(columns["tags"], setup=setup)
    masked = MaskedLM(setup, probability=0.4, whole_word_masking=whole_words)
    inputs = WordInputs(setup.tokenizer, 2, input_columns=["words"], max_sequence_length=[16])
    request = (BatchRequest(0, tuple(range(60))), columns)
    plain, alone = Collator(inputs, [tags], "train", 1).arrays(request)
    batch, both = Collator(inputs, [masked, tags], "train", 1).arrays(request)
    assert not np.array_equal(batch["input_ids"], plain["input_ids"])
    for name in ("labels", "word_starts"):
        assert np.array_equal(both["token_class"][name], alone["token_class"][name])
    words = inputs.post_process(columns)["word_ids"]
    for row, labels in enumerate(both["token_class"]["labels"]):
        places = np.flatnonzero(labels != -100)
        assert words[row, places].tolist() == sorted(set(words[row][words[row] >= 0]))
        assert [tags.classes.names[label] for label in labels[places]] == columns["tags"][row][: len(places)]
        if whole_words:
            hidden = both["masked_lm"]["labels"][row] != -100
            assert not set(words[row, hidden]) & set(words[row, ~hidden]) - {-1}, "all pieces of a word or none"
    evaluated, own = Collator(inputs, [masked, tags], "valid", 1).arrays(request)
    assert np.array_equal(evaluated["input_ids"], plain["input_ids"]), "evaluation sees clean text"
    assert set(own) == {"token_class"}


@pytest.mark.parametrize("weights", [None, [1.0, 4.0, 0.5, 2.0]])
def test_loss_is_the_mean_over_labelled_pieces(weights: list[float] | None) -> None:
    batch, own = batch_of(label_weights=weights)
    made = objective(label_weights=weights)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(*batch["input_ids"].shape, 4, generator=generator, requires_grad=True)
    tensors = {key: torch.from_numpy(value) for key, value in own.items()}
    found = made.evaluate(SimpleNamespace(logits=logits), tensors)
    total, inputs = found.loss, found.metric_inputs
    loss = total / made.num_items(own)
    expected = cross_entropy(
        logits.flatten(0, 1),
        tensors["labels"].flatten(),
        None if weights is None else torch.tensor(weights),
        ignore_index=-100,
    )
    assert_close(loss, expected)
    (gradient,), (dense,) = torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits)
    assert_close(gradient, dense)
    counted = inputs["classes"]["target"] >= 0
    right = tensors["labels"] >= 0
    assert inputs["classes"]["target"][counted].tolist() == tensors["labels"][right].tolist()
    assert inputs["classes"]["preds"][counted].tolist() == logits.argmax(-1)[right].tolist()
    assert set(inputs) == {"classes"}, "no entities are counted in training"


def test_a_batch_of_nothing_but_padding_weighs_nothing() -> None:
    batch, own = batch_of()
    own["labels"][:] = -100
    logits = torch.randn(*batch["input_ids"].shape, 4, requires_grad=True)
    total = (
        objective()
        .evaluate(
            SimpleNamespace(logits=logits.bfloat16()), {key: torch.from_numpy(value) for key, value in own.items()}
        )
        .loss
    )
    assert (total.item(), objective().num_items(own), total.dtype) == (0, 0, torch.float32)
    total.backward()
    assert not logits.grad.any()


def test_metrics_of_entities_outside_training() -> None:
    made = objective()
    words = ["accuracy", "f1", *(f"f1_class_{name}" for name in NAMES)]
    assert metric_names(made, "train") == words
    assert (
        metric_names(made, "valid")
        == metric_names(made, "test")
        == [*words, "entity_f1", "entity_precision", "entity_recall"]
    )
    assert metric_names(objective([["NOUN", "VERB"]]), "valid") == ["accuracy", "f1", "f1_class_NOUN", "f1_class_VERB"]
    _, own = batch_of("valid")
    logits = torch.nn.functional.one_hot(torch.from_numpy(own["labels"]).clamp(min=0), 4).float()
    inputs = made.evaluate(
        SimpleNamespace(logits=logits), {key: torch.from_numpy(value) for key, value in own.items()}
    ).metric_inputs
    metrics = made.metrics("valid")
    values: dict[str, float] = {}
    for name, arguments in inputs.items():
        metrics[name].update(**arguments)
        values |= metrics[name].compute()
    assert values["accuracy"] == values["entity_f1"] == 1
    # B-x | I-x beside an O that has no piece is one entity, and so is B-y; B-x I-x
    assert metrics["entities"].counts.tolist() == [3, 3, 3]


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_a_prediction_for_each_word_of_a_row(stage: Any) -> None:
    rows = ROWS if stage == "test" else {"words": ROWS["words"]}
    batch, own = batch_of(stage, length=6, rows=rows)
    assert ("labels" in own) is (stage == "test")
    logits = torch.randn(*batch["input_ids"].shape, 4)
    made = objective()
    found = made.predictions(
        SimpleNamespace(logits=logits), {key: torch.from_numpy(value) for key, value in own.items()}
    )
    lines = [made.decode({key: value[row].tolist() for key, value in found.items()}) for row in range(3)]
    assert [len(line["prediction"]) for line in lines] == [4, 1, 5], "as many as words, whatever the others have"
    for row, line in enumerate(lines):
        for word, (name, score) in enumerate(zip(line["prediction"], line["scores"], strict=True)):
            places = np.flatnonzero(batch["word_ids"][row] == word)
            if len(places):
                probabilities = logits[row, places[0]].softmax(-1)
                assert name == NAMES[int(probabilities.argmax())]
                assert score == approx(float(probabilities.max()))
            else:
                assert name is score is None
    assert lines[2]["prediction"][0] is None, "a word of nothing"
    assert lines[0]["prediction"][3] is None, "a word beyond the input"


def test_words_without_a_prediction_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(token_class.logger, "warning", lambda text, *values: said.append(text % values))
    columns = {"num_words": np.array([3, 1]), "prediction": np.array([[0, -1, -1], [2, -1, -1]])}
    assert not list(objective().prediction_files("test", [PredictedPart(columns, {})]))
    assert not list(objective().prediction_files("test", [PredictedPart({**columns, "num_words": np.array([1, 1])}, {})]))  # fmt: skip  # noqa: E501
    assert [text[:14] for text in said] == ["test: 2 of 4 w"]


def test_a_check_shows_words_and_classes() -> None:
    batch, own = batch_of()
    merged = {**batch, **own}
    assert objective().describe(merged, 1) == "the/O"
    assert objective().describe({key: value for key, value in merged.items() if key != "labels"}, 1) == "no labels"
    merged["labels"] = np.full_like(merged["labels"], -100)
    assert objective().describe(merged, 1) == "the/no label"


def test_a_check_shows_whole_words() -> None:
    made = objective()
    ids = made.setup.tokenizer(["unbelievable", "weather"], is_split_into_words=True, return_tensors="np")
    words = ids.word_ids()
    starts = [words.index(0), words.index(1)]
    assert starts[1] > 2, "the first word has several pieces"
    labels = np.full((1, len(words)), -100)
    labels[0, starts] = [1, 0]
    word_ids = np.array([[-1 if word is None else word for word in words]])
    batch = {**ids, "labels": labels, "word_starts": np.array([[*starts, -1]]), "word_ids": word_ids}
    assert made.describe(batch, 0) == f"unbelievable/{NAMES[1]} weather/{NAMES[0]}"


def test_head_knows_the_classes() -> None:
    assert objective().head_config == {
        "num_labels": 4,
        "id2label": dict(enumerate(NAMES)),
        "label2id": {name: number for number, name in enumerate(NAMES)},
    }


def test_classes_of_lists() -> None:
    declared = Features({"words": List(tiny_text()), "tags": List(ClassLabel(names=["no", "yes", "maybe"]))})
    made = objective([[0, 1]])
    assert (made.classes.names, made.classes.count) == (None, 2)
    assert objective([[0, -100], [3, 1]], num_labels=5).classes.count == 5
    made = TokenClassification(Setup(), input_columns=["+words"], label_column="tags")
    made.pre_process(Dataset.from_dict({"words": [["a", "b"]], "tags": [[0, 1]]}, features=declared), source())
    assert made.classes.names == ["no", "yes", "maybe"]


def tiny_text() -> Any:
    from datasets import Value

    return Value("string")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"words": [["a"], ["b", "c"]], "tags": [["x"], ["y"]]},
            r"train.jsonl:2: 'tags' has 1 labels and 'words' has 2",
        ),
        (
            {"words": [["a"], ["b"]], "tags": [["x"], ["y", "y"]]},
            r"train.jsonl:2: 'tags' has 2 labels and 'words' has 1",
        ),
        ({"words": [["a"], ["b"]], "tags": [["x", "y"], None]}, r"train.jsonl:1"),
        ({"words": [["a"], ["b", "c"]], "tags": [["x"], ["y", None]]}, r"train.jsonl:2: 'tags' has no label \(null\)"),
        ({"words": [["a"], ["b", "c"]], "tags": [["x"], ["y", ""]]}, r"train.jsonl:2: 'tags' has an empty label"),
        ({"words": [["a"], ["b"]], "tags": ["x", "y"]}, "holds string; expected a list of whole numbers or names"),
        ({"words": [["a"], ["b", "c"]], "tags": [[0], [0.5, 1.0]]}, r"train.jsonl:2: 'tags' has the label 0.5"),
        ({"words": [["a"], ["b", "c"]], "tags": [[0], [0, 3]]}, "no row has class 1, 2"),
        ({"words": [["a"]]}, "no column 'tags'"),
    ],
)
def test_labels_are_checked(rows: dict[str, Any], message: str) -> None:
    made = TokenClassification(Setup(), input_columns=["words"], label_column="tags")
    with pytest.raises(DataError, match=message):
        made.pre_process(Dataset.from_dict(rows), source())


def test_labels_of_other_stages_are_those_of_training() -> None:
    made = objective()
    with pytest.raises(DataError, match=r"valid.jsonl:3: 'tags' has the label 'B-z'; expected one of B-x, B-y"):
        made.pre_process(
            Dataset.from_dict({"words": [["a"], ["b"], ["c", "d"]], "tags": [["O"], ["O"], ["O", "B-z"]]}),
            source("valid"),
        )
    made.pre_process(Dataset.from_dict({"words": [["a"]]}), source("predict"))


def test_a_stream_is_checked_row_by_row() -> None:
    rows = {"words": [["a", "b"]], "tags": [["O"]]}
    with pytest.raises(DataError, match="'tags' has 1 labels and 'words' has 2 words"):
        batch_of(rows=rows)
    with pytest.raises(DataError, match="'tags' has the label 'B-q'"):
        batch_of(rows={"words": [["a"]], "tags": [["B-q"]]})


@pytest.mark.parametrize("stage", ["train", "valid", "predict"])
def test_each_word_is_learned_in_one_window(stage: Any) -> None:
    import pyarrow as pa

    rows = [{"words": ["the", "unbelievable", "", "rain"] * 12, "tags": ["O", "B-x", "O", "B-y"] * 12}]
    rows += [{"words": words, "tags": tags} for words, tags in zip(ROWS["words"], ROWS["tags"], strict=True)]
    made = TokenClassification(Setup(tiny.tokenizer_for("bert")), input_columns=["words"], label_column="tags")
    dataset = Dataset.from_list(rows)
    for seen in dict.fromkeys(("train", stage)):
        made.pre_process(dataset, source(seen))
    inputs = WordInputs(made.setup.tokenizer, 2, input_columns=["words"], max_sequence_length=[12], doc_stride=4)
    windows = Dataset(pa.concat_tables(list(inputs.rewrite(dataset, source(stage), batch_size=3))))[:]
    assert windows["source_row"].count(0) > 3
    order = np.random.default_rng(0).permutation(len(windows["source_row"]))
    windows = {name: [values[place] for place in order] for name, values in windows.items()}
    batch, own = Collator(inputs, [made], stage, 1).arrays((BatchRequest(0, tuple(range(len(order)))), windows))
    words = inputs.post_process(windows)["word_ids"]
    if stage != "predict":
        found = []
        for window, labels in enumerate(own["token_class"]["labels"]):
            for place in np.flatnonzero(labels != -100):
                word = windows["first_word"][window] + int(words[window, place])
                found.append((windows["source_row"][window], word, made.classes.names[labels[place]]))
        tokens = {word: len(made.setup.tokenizer(word, add_special_tokens=False)["input_ids"]) for row in rows for word in row["words"]}  # fmt: skip  # noqa: E501
        assert sorted(found) == [
            (number, word, tag)
            for number, row in enumerate(rows)
            for word, (text, tag) in enumerate(zip(row["words"], row["tags"], strict=True))
            if tokens[text]
        ]
    if stage == "train":
        assert set(own["token_class"]) == {"labels", "word_starts"}
        return
    sources = windows["source_row"]
    assert own["token_class"]["documents"].tolist() == [row if sources.count(row) > 1 else -1 for row in sources]
    logits = torch.randn(*batch["input_ids"].shape, 4)
    tensors = {key: torch.from_numpy(value) for key, value in own["token_class"].items()}
    columns = {key: value.numpy() for key, value in made.predictions(SimpleNamespace(logits=logits), tensors).items()}
    whole = made.whole_rows(stage, {**columns, "row_ids": np.arange(len(order))})
    assert whole is not None
    assert whole[0]["row_ids"].tolist() == [0, 1, 2, 3]
    assert whole[1] is dataset
    for number, row in enumerate(rows):
        line = made.decode({key: whole[0][key].tolist()[number] for key in ("num_words", "prediction", "scores")})
        assert len(line["prediction"]) == len(row["words"])
        assert [tag is None for tag in line["prediction"]] == [word in ("", "\u200d") for word in row["words"]]


def test_words_that_are_their_own_labels() -> None:
    with pytest.raises(ConfigurationError, match="--label_column: 'words' is also --input_columns"):
        TokenClassification(Setup(), input_columns=["words"], label_column="words")


@pytest.mark.parametrize(
    ("pipeline", "names", "said"),
    [
        ("named_entity_recognition", ["O", "U-x"], None),
        ("named_entity_recognition", [0, 1], "classes are numbers. Name them with --labels"),
        ("named_entity_recognition", ["person", "other"], "'other' is not a tag such as O, B-person"),
        ("token_class", ["O", "B_x"], "'B_x' is not a tag"),
        ("token_class", ["x-B", "x-I"], "'x-B' is not a tag"),
        ("token_class", ["b-x", "i-x"], "'b-x' is not a tag"),
        ("token_class", ["up", "down"], None),
        ("pos_tagging", ["NOUN", "VERB"], None),
        ("pos_tagging", [0, 1], None),
    ],
)
def test_why_there_are_no_metrics_of_entities_is_said(
    pipeline: str, names: list[Any], said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    objective = TokenClassification(Setup(pipeline=pipeline), input_columns=["words"], label_column="tags")
    objective.pre_process(Dataset.from_dict({"words": [["a", "b"]], "tags": [names]}), source("train"))
    found = [record.getMessage() for record in caplog.records if "metrics of entities" in record.getMessage()]
    assert [said in message for message in found] == ([] if said is None else [True])
