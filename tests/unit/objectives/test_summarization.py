"""Summarization: targets as the tokenizer makes them, what is generated against all references, what is written."""

from __future__ import annotations

import pickle
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from rouge_score import rouge_scorer
from transformers import PreTrainedTokenizerFast

from tests import tiny
from transformers_framework.exceptions import ConfigurationError, DataError, MissingDependencyError
from transformers_framework.objectives.objective import Context, Setup, metric_names
from transformers_framework.objectives.summarization import Summarization
from transformers_framework.sources.columns import DatasetSource

FAMILIES = ("t5", "bart", "pegasus", "mbart")
SUMMARIES = ["the old storm.", "x", "every spoon near the kettle " * 4]
TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def objective(family: str = "bart", lengths: Any = (40, 12), config: Any = None, **flags: Any) -> Summarization:
    config = config or tiny.config_for(family)
    setup = Setup(tiny.tokenizer_for(family), config, max_sequence_length=lengths)
    return Summarization(setup, **{"summary_column": "s", **flags})


def context(stage: Any = "train", n: int = 3) -> Context:
    return Context(stage, 1, 0, np.arange(n))


def batch_of(made: Summarization, rows: dict[str, list[Any]], stage: Any = "train") -> dict[str, Any]:
    num_rows = len(next(iter(rows.values())))
    shared = {"truncated": np.zeros(num_rows, dtype=bool)}
    return made.post_process(rows, shared, context(stage, num_rows))


def source(stage: Any) -> DatasetSource:
    return DatasetSource(stage, f"{stage}.jsonl", lambda row: f"{stage}.jsonl:{row + 1}")


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_targets_are_those_of_the_tokenizer(family: str, side: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(PreTrainedTokenizerFast, "truncation_side", side)
    tokenizer = tiny.tokenizer_for(family)
    entries = batch_of(objective(family), {"s": SUMMARIES})
    expected = tokenizer(text_target=SUMMARIES, truncation=True, max_length=12)["input_ids"]
    assert entries["labels"].shape == (3, 12)
    for row, ids in enumerate(expected):
        assert entries["labels"][row].tolist() == ids + [-100] * (12 - len(ids))
    assert entries["truncated"].tolist() == [len(ids) > 12 for ids in tokenizer(SUMMARIES)["input_ids"]]
    assert entries["truncated"].tolist() == [False, False, True]
    assert "references" not in entries


@pytest.mark.parametrize("family", FAMILIES)
def test_the_decoder_reads_the_start_token_and_then_the_target(family: str) -> None:
    made = objective(family)
    entries, start = batch_of(made, {"s": SUMMARIES}), made.setup.config.decoder_start_token_id
    assert start is not None
    for labels, inputs in zip(entries["labels"].tolist(), entries["decoder_input_ids"].tolist(), strict=True):
        count = 12 - labels.count(-100)
        assert inputs[:count] == [start, *labels[: count - 1]]
        assert inputs[count:] == [made.setup.tokenizer.pad_token_id] * (12 - count)


def test_without_a_start_token_the_language_of_the_target_is_first() -> None:
    made = objective("mbart", config=tiny.config_for("mbart", decoder_start_token_id=None))
    tokenizer = made.setup.tokenizer
    code = tokenizer.convert_tokens_to_ids("en_XX")
    entries = batch_of(made, {"s": SUMMARIES})
    assert entries["decoder_input_ids"][:, 0].tolist() == [code] * 3
    assert [row[row != -100][-1] for row in entries["labels"]] == [code] * 3, "it ends so too"


def test_targets_have_special_tokens_of_their_own() -> None:
    class Translator:
        """Puts another language's code behind targets, as mBART does."""

        def __init__(self) -> None:
            self.wrapped = tiny.tokenizer_for("mbart")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.wrapped, name)

        def __call__(self, text: Any = None, text_target: Any = None, **options: Any) -> Any:
            encoding = self.wrapped(text or text_target, **options)
            if text_target is not None:
                encoding["input_ids"][-1] = 77
            return encoding

    setup = Setup(Translator(), tiny.config_for("mbart"), max_sequence_length=(40, 12))
    labels = batch_of(Summarization(setup, summary_column="s"), {"s": SUMMARIES})["labels"]
    assert [row[row != -100][-1] for row in labels] == [77] * 3


def test_a_document_that_was_cut_stays_marked() -> None:
    shared = {"truncated": np.array([True, False])}
    entries = objective().post_process({"s": ["a", "b"]}, shared, context(n=2))
    assert entries["truncated"].tolist() == [True, False]


def test_rows_to_predict_need_no_summary() -> None:
    made = objective()
    assert made.post_process({}, {}, context("predict")) == {}
    assert made.label_columns("predict") == ()
    dataset = Dataset.from_dict({"d": ["x"]})
    assert made.pre_process(dataset, source("predict")) is dataset
    assert objective(summary_column=None).pre_process(dataset, source("predict")) is dataset


# ---------------------------------------------------------------- references


def test_a_list_column_holds_a_target_and_further_references() -> None:
    made = objective()
    rows = {"s": [["rain", "the rain", "rain"], ["snow"]]}
    assert np.array_equal(batch_of(made, rows)["labels"], batch_of(made, {"s": ["rain", "snow"]})["labels"])
    assert batch_of(made, rows, "test")["references"] == [["rain", "the rain"], ["snow"]]


@pytest.mark.parametrize("stage", ["valid", "test"])
def test_additional_summaries_are_references_and_no_targets(stage: Any) -> None:
    made = objective(additional_summaries_column="more")
    assert made.label_columns("train") == ("s",)
    assert made.label_columns(stage) == ("s", "more")
    rows = {"s": ["rain", "snow", "wind"], "more": [["the rain", "rain"], [], None]}
    entries = batch_of(made, rows, stage)
    assert entries["references"] == [["rain", "the rain"], ["snow"], ["wind"]]
    assert np.array_equal(entries["labels"], batch_of(objective(), {"s": rows["s"]})["labels"])


def test_a_summary_that_a_stream_lacks_is_named() -> None:
    for empty in (None, " \n", [], [None]):
        with pytest.raises(DataError, match="row 1 of the train data: the summary in 's' is null or empty"):
            batch_of(objective(), {"s": ["rain", empty]})


# ---------------------------------------------------------------- evaluation


class Output:
    """What an encoder-decoder says: a fixed loss, and texts."""

    def __init__(self, made: Summarization, texts: list[list[str]] | None) -> None:
        tokenizer, self.generated = made.setup.tokenizer, None
        if texts is not None:
            start = made.setup.config.decoder_start_token_id
            ids = [[[start, *tokenizer(text)["input_ids"]] for text in row] for row in texts]
            longest = max(len(text) for row in ids for text in row)
            pad = tokenizer.pad_token_id
            self.generated = torch.tensor([[text + [pad] * (longest - len(text)) for text in row] for row in ids])

    def cross_entropy(self, labels: torch.Tensor) -> Any:
        return torch.tensor(2.5), labels == 1


GENERATED = [["the rain and wind", "snow"], ["a violin", "the piano"], ["spoon", "storm"]]
REFERENCES = [["the rain", "rain and the wind"], ["old violin"], ["other"]]


def evaluated(made: Summarization, texts: Any = GENERATED, row_ids: Any = (5, 2, -1)) -> Any:
    batch = {"labels": torch.tensor([3, 4, 1]), "row_ids": torch.tensor(row_ids), "references": REFERENCES}
    return made.evaluate(Output(made, texts), batch)


def rouge(pred: str, references: list[str]) -> dict[str, Any]:
    return dict(rouge_scorer.RougeScorer(TYPES, use_stemmer=True).score_multi(references, pred))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_text_of_each_row_is_compared_with_its_references(family: str) -> None:
    made = objective(family)
    found = evaluated(made)
    loss, inputs = found.loss, found.metric_inputs
    assert float(loss) == 2.5
    assert inputs["texts"]["preds"] == [row[0] for row in GENERATED]
    (name, metric), *others = made.metrics("test").items()
    assert (name, others) == ("texts", [])
    metric.update(**inputs["texts"])
    values = metric.compute()
    rows = [rouge(row[0], references) for row, references in zip(GENERATED[:2], REFERENCES[:2], strict=True)]
    for kind in TYPES:
        expected = np.mean([row[kind].fmeasure for row in rows])
        assert values[f"{kind}_fmeasure"] == pytest.approx(expected, abs=1e-11), "the padded row does not count"
    assert list(values) == metric_names(made, "test") == metric_names(made, "valid")
    assert len(values) == 13


def test_training_logs_its_loss_alone() -> None:
    made = objective()
    assert (made.metrics("train"), metric_names(made, "train")) == ({}, [])
    assert [made.generates(stage) for stage in ("train", "valid", "test", "predict")] == [False, True, True, True]
    found = made.evaluate(Output(made, None), {"labels": torch.tensor([3])})
    loss, inputs = found.loss, found.metric_inputs
    assert (float(loss), inputs) == (2.5, {})


def test_predictions_are_texts_beside_their_rouge() -> None:
    made = objective()
    found = made.predictions(Output(made, GENERATED), evaluated(made).for_predictions)
    assert found["generated"].shape[:2] == (3, 2)
    padded = {**found, "generated": torch.nn.functional.pad(found["generated"], (0, 3), value=-1)}
    for row in range(3):
        line = made.decode({name: values[row].tolist() for name, values in padded.items()})
        scores = rouge(GENERATED[row][0], REFERENCES[row])
        assert line.pop("prediction") == GENERATED[row][0]
        assert line.pop("predictions") == GENERATED[row]
        assert line == {f"{kind}_fmeasure": scores[kind].fmeasure for kind in TYPES}


def test_one_text_a_row_is_written_once_and_without_scores_where_nothing_is_right() -> None:
    made = objective()
    found = made.predictions(Output(made, [["the rain"], [""]]), {})
    assert list(found) == ["generated"]
    assert [made.decode({"generated": ids}) for ids in found["generated"].tolist()] == [
        {"prediction": "the rain"}, {"prediction": ""},
    ]  # fmt: skip


def test_rouge_of_a_batch_is_computed_once(monkeypatch: Any) -> None:
    made, calls = objective(), []
    score = made.rouge.scorer.score_multi
    monkeypatch.setattr(made.rouge.scorer, "score_multi", lambda *texts: calls.append(texts) or score(*texts))
    found = evaluated(made)
    made.metrics("test")["texts"].update(**found.metric_inputs["texts"])
    made.predictions(Output(made, GENERATED), {"references": REFERENCES, **found.for_predictions})
    assert len(calls) == 3


def test_what_is_to_be_written_is_told() -> None:
    made = objective()
    entries = batch_of(made, {"s": SUMMARIES})
    assert made.describe(entries, 1) == "write '<s> x</s>'"
    assert made.describe({}, 0) == "no summary"


def test_it_can_be_sent_to_a_worker() -> None:
    made = pickle.loads(pickle.dumps(objective()))
    assert np.array_equal(batch_of(made, {"s": SUMMARIES})["labels"], batch_of(objective(), {"s": SUMMARIES})["labels"])


# ---------------------------------------------------------------- learned metrics


def fake_learned(monkeypatch: Any) -> list[tuple[Any, ...]]:
    from transformers_framework.metrics.generation import RowScores

    built: list[tuple[Any, ...]] = []

    def family(kind: str, *names: str) -> Any:
        class Fake(RowScores):
            def __init__(self, *model: Any) -> None:
                built.append((kind, *model))
                self.names = names

            def scores(self, preds: Any, references: Any) -> Any:
                return np.full((len(preds), len(self.names)), 0.5)

        return Fake

    stand_in = SimpleNamespace(
        BertScore=family("bert_score", "bert_score_precision", "bert_score_recall", "bert_score_f1"),
        Bleurt=family("bleurt", "bleurt"),
    )
    monkeypatch.setitem(sys.modules, "transformers_framework.metrics.learned", stand_in)
    return built


@pytest.mark.parametrize(
    ("flags", "built", "valid", "test"),
    [
        ({}, [], 0, 0),
        ({"valid_bert_score": True}, [("bert_score", "roberta-large", None)], 3, 0),
        (
            {"test_bert_score": True, "test_bleurt_score": True, "bert_score_model": "m", "bert_score_num_layers": 4},
            [("bert_score", "m", 4), ("bleurt", "Elron/bleurt-base-512")],
            0,
            4,
        ),
        ({"valid_bleurt_score": True, "test_bleurt_score": True, "bleurt_model": "b"}, [("bleurt", "b")], 1, 1),
    ],
)
def test_learned_metrics_are_there_where_they_were_asked_for(
    flags: dict[str, Any], built: Any, valid: int, test: int, monkeypatch: Any
) -> None:
    found = fake_learned(monkeypatch)
    made = objective(**flags)
    assert found == built, "before training, and once for all stages"
    assert [len(metric_names(made, stage)) - 13 for stage in ("valid", "test")] == [valid, test]
    inputs = evaluated(made).metric_inputs
    metric = made.metrics("test")["texts"]
    metric.update(**inputs["texts"])
    learned = list(metric.compute().values())[13:]
    assert learned == [0.5] * test


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("flags", "values", "message"),
    [
        (
            {"summary_column": "sumary"},
            {"summary": ["x"]},
            "--summary_column: .* no column 'sumary'. Did you mean 'sum",
        ),
        ({}, {"s": [b"x"]}, "--summary_column: 's' of valid.jsonl holds .*, not text"),
        ({}, {"s": ["x", None]}, "valid.jsonl:2: the summary in 's' is null or empty. Remove the row or fill it in"),
        ({}, {"s": ["x", "y", " \n"]}, "valid.jsonl:3: the summary in 's' is null or empty"),
        ({}, {"s": [["x"], []]}, "valid.jsonl:2: the summary in 's' is null or empty"),
        ({}, {"s": [["x"], ["y", ""]]}, "valid.jsonl:2: summary 1 of 's' is null or empty"),
        ({}, {"s": [["x"], [None]]}, "valid.jsonl:2: summary 0 of 's' is null or empty"),
        ({"additional_summaries_column": "t"}, {"s": ["x"]}, "--additional_summaries_column: .* no column 't'"),
        ({"additional_summaries_column": "t"}, {"s": ["x"], "t": [["y", " "]]}, "valid.jsonl:1: summary 1 of 't'"),
        ({"additional_summaries_column": "t"}, {"s": ["x"], "t": [[b"y"]]}, "--additional_summaries_column: 't'"),
    ],
)
def test_columns_are_checked(flags: dict[str, Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        objective(**flags).pre_process(Dataset.from_dict(values), source("valid"))


def test_what_may_be_there() -> None:
    made = objective(additional_summaries_column="t")
    for values in ({"s": [7], "t": [None]}, {"s": [["x", "y"]], "t": ["z"]}, {"s": ["x", "y"], "t": [[], ["z"]]}):
        dataset = Dataset.from_dict(values)
        assert made.pre_process(dataset, source("test")) is dataset
    assert made.pre_process(Dataset.from_dict({"s": ["x"]}), source("train")) is not None, "targets only"


def test_the_column_is_needed_where_summaries_are() -> None:
    with pytest.raises(ConfigurationError, match=r"--summary_column is needed for the valid data set.*: d, s"):
        objective(summary_column=None).pre_process(Dataset.from_dict({"d": ["x"], "s": ["y"]}), source("valid"))


@pytest.mark.parametrize(
    ("family", "lengths", "message"),
    [
        ("bart", (40,), "two lengths are needed"),
        ("bart", (40, 2), "the second length, 2, is too short for a summary, which has 2 special tokens. Use 3"),
        ("bart", (40, 129), "the second length, 129, is longer than the decoder's 128 positions"),
        ("pegasus", (40, 129), "the second length, 129, is longer than the decoder's 128 positions"),
    ],
)
def test_lengths_are_checked(family: str, lengths: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--max_sequence_length: {message}"):
        objective(family, lengths)


def test_lengths_that_are_right() -> None:
    assert objective("t5", (40, 999)).max_length == 999, "only distances count"
    assert objective("bart", (40, 128)).max_length == 128


@pytest.mark.parametrize("package", ["rouge_score", "sacrebleu"])
def test_packages_are_looked_for_before_training(package: str, monkeypatch: Any) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package] + [package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=rf"--pipeline summarization needs .*'{package}'.*\[metrics\]"):
        objective()


@pytest.mark.parametrize(
    ("summaries", "flags", "warned"),
    [
        (["天气很好", "RNN 很好"], {}, True),
        ([["Сегодня хорошо"], ["Yes"]], {}, True),
        (["天气很好", "天气"], {"summary_tokenizer": "zh"}, False),
        (["Il fait beau, été comme hiver", "Der Himmel über Köln"], {}, False),
        (["1998", "..."], {}, False),
    ],
)
def test_scripts_that_rouge_does_not_see_are_told(
    summaries: list[Any], flags: dict[str, Any], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made, data = objective(FAMILIES[0], **flags), Dataset.from_dict({"s": summaries})
    made.pre_process(data, source("train"))
    assert not caplog.text, "training does not generate"
    made.pre_process(data, source("valid"))
    assert ("are not a-z: ROUGE" in caplog.text) is warned
