"""Detection of replaced tokens: labels, draws, loss, metrics, what is written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests import tiny
from tests.tolerances import assert_close
from transformers_framework.objectives.masked_lm import MaskedLM
from transformers_framework.objectives.objective import Context, Setup, metric_names, num_items
from transformers_framework.objectives.token_detection import (
    Filled,
    GeneratorLM,
    RandomTokenDetection,
    TokenDetection,
    token_logits,
)
from transformers_framework.pipelines.generator_discriminator import put_samples

TEXTS = [text for text in tiny.TEXT if len(text) > 30][:8]
ROWS = np.arange(len(TEXTS)) + 100


def setup(model: str = "bert") -> Setup:
    return Setup(tiny.tokenizer_for(model), tiny.config_for(model))


def batch_of(model: str = "bert", *, side: str = "right") -> dict[str, np.ndarray]:
    return dict(tiny.tokenizer_for(model)(TEXTS, padding=True, padding_side=side, return_tensors="np"))


def context(stage: Any = "train", *, seed: int = 1, epoch: int = 0, rows: np.ndarray = ROWS) -> Context:
    return Context(stage, seed, epoch, rows)


def special(ids: np.ndarray) -> np.ndarray:
    return np.isin(ids, tiny.tokenizer_for("bert").all_special_ids)


# --- by a generator --------------------------------------------------------------------------------------------------


def test_before_sampling_nothing_is_replaced_and_padding_has_no_label() -> None:
    batch = batch_of()
    own = TokenDetection(setup()).post_process({}, batch, context())
    assert np.array_equal(own["labels"] == 0, batch["attention_mask"] == 1)
    assert np.array_equal(own["labels"] == -100, batch["attention_mask"] == 0)
    assert "input_ids" not in own
    assert num_items(TokenDetection(setup()), {**batch, **own}) == batch["attention_mask"].sum()


def test_draws_belong_to_seed_epoch_row_and_token() -> None:
    objective, batch = TokenDetection(setup()), batch_of()
    there = batch["attention_mask"] == 1

    def draws(batch: dict[str, np.ndarray] = batch, **of: Any) -> np.ndarray:
        return objective.post_process({}, batch, context(**of))["draws"]

    first = draws()
    assert first.dtype == np.int32, "strategies in half precision round what is a float"
    assert (first[there] > 0).all()
    assert len(np.unique(first[there])) == there.sum()
    assert np.array_equal(first, draws())
    for other in ({"seed": 2}, {"epoch": 1}, {"rows": ROWS + 1000}):
        assert not np.isin(draws(**other)[there], first[there]).any()
    assert np.array_equal(draws(rows=ROWS + 1)[:-1, :5], first[1:, :5]), "a row keeps its numbers beside other rows"
    left = batch_of(side="left")
    assert np.array_equal(draws(left)[left["attention_mask"] == 1], first[there]), "and with padding on its left"
    short = {key: values[:, :6] for key, values in batch.items()}
    assert np.array_equal(draws(short), first[:, :6])


def test_samples_are_labelled_where_they_differ_and_what_fills_up_changes_nothing() -> None:
    ids, labels = torch.tensor([[2, 4, 7], [4, 3, 0]]), torch.tensor([[0, 0, 0], [0, 0, -100]])
    positions, originals = torch.tensor([1, 3, 0, 0]), torch.tensor([9, 8, -100, -100])
    for nonsense in (0, 99):
        sampled = torch.tensor([9, 5, nonsense, nonsense])
        replaced, found = put_samples(ids, labels, positions, originals, sampled)
        assert replaced.tolist() == [[2, 9, 7], [5, 3, 0]]
        assert found.tolist() == [[0, 0, 0], [1, 0, -100]]
    assert ids.tolist() == [[2, 4, 7], [4, 3, 0]], "the batch stays as it is"
    nothing = torch.full((4,), -100)
    replaced, found = put_samples(ids, labels, torch.zeros(4, dtype=torch.long), nothing, sampled)
    assert torch.equal(replaced, ids)
    assert torch.equal(found, labels)


def test_the_generators_loss_is_that_of_masked_lm() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 400), torch.tensor([5, 9, -100, 3, 399, 0])
    found = MaskedLM(setup()).evaluate(SimpleNamespace(logits=logits), {"labels": labels})
    loss, metrics = found.loss, found.metric_inputs
    correct = labels == logits.argmax(1)
    ours = GeneratorLM(setup()).evaluate(Filled(logits, loss, correct), {"labels": labels})
    assert ours.loss is loss
    assert ours.metric_inputs["tokens"].keys() == metrics["tokens"].keys()
    for name, values in metrics["tokens"].items():
        assert torch.equal(ours.metric_inputs["tokens"][name], values), name


# --- by random tokens ------------------------------------------------------------------------------------------------


def test_random_replacements_are_others_and_labelled_and_never_special() -> None:
    batch = batch_of()
    objective = RandomTokenDetection(setup(), probability=0.5)
    own = objective.post_process({}, batch, context())
    changed = own["input_ids"] != batch["input_ids"]
    assert np.array_equal(own["labels"] == 1, changed)
    assert np.array_equal(own["labels"] == -100, batch["attention_mask"] == 0)
    assert changed.sum() > 20
    assert not special(own["input_ids"][changed]).any()
    assert np.array_equal(special(own["input_ids"]), special(batch["input_ids"]))
    assert own["labels"].dtype == np.int64
    again, later = (objective.post_process({}, batch, context(epoch=epoch)) for epoch in (0, 1))
    assert np.array_equal(own["input_ids"], again["input_ids"])
    assert not np.array_equal(own["labels"], later["labels"])


@pytest.mark.parametrize("probability", [0.0, 0.15, 1.0])
def test_share_of_random_replacements(probability: float) -> None:
    objective, batch = RandomTokenDetection(setup(), probability=probability), batch_of()
    found = [objective.post_process({}, batch, context(epoch=epoch))["labels"] for epoch in range(40)]
    replaced, eligible = sum((labels == 1).sum() for labels in found), 40 * (~special(batch["input_ids"])).sum()
    deviation = (eligible * probability * (1 - probability)) ** 0.5
    assert abs(replaced - eligible * probability) <= 3.3 * deviation  # of a right share, 999 of 1000 are within


def test_whole_words_are_replaced_as_a_whole() -> None:
    objective = RandomTokenDetection(setup(), probability=0.4, whole_word_detection=True)
    assert objective.needs_word_ids
    assert not RandomTokenDetection(setup()).needs_word_ids
    encoded, batch = tiny.tokenizer_for("bert")(TEXTS, padding=True), batch_of()
    batch["word_ids"] = np.array(
        [[-1 if word is None else word for word in encoded.word_ids(row)] for row in range(len(TEXTS))]
    )
    labels = objective.post_process({}, batch, context())["labels"]
    pieces = 0
    for row, words in enumerate(batch["word_ids"]):
        for word in set(words) - {-1}:
            assert len(set(labels[row][words == word])) == 1
            pieces += (words == word).sum() > 1
    assert pieces > 10


# --- both ------------------------------------------------------------------------------------------------------------


def test_heads() -> None:
    assert TokenDetection.head_for("electra") == "AutoModelForPreTraining"
    assert RandomTokenDetection.head_for("deberta-v2") == "AutoModelForTokenClassification"
    model = tiny.model_for("bert", TokenDetection.head, **TokenDetection(setup()).head_config)
    inputs = {key: torch.from_numpy(values) for key, values in batch_of().items()}
    shape = tuple(inputs["input_ids"].shape)
    assert tuple(token_logits(model(**inputs)).shape) == shape
    electra = tiny.model_for("electra", "AutoModelForPreTraining")
    assert tuple(token_logits(electra(**inputs)).shape) == shape
    assert token_logits(SimpleNamespace(logits=torch.zeros(1, 1, 1, dtype=torch.bfloat16))).dtype == torch.float32
    assert tuple(token_logits(SimpleNamespace(logits=torch.zeros(1, 1))).shape) == (1, 1), "one row of one token"


LABELS = torch.tensor([[0, 1, 0, 1], [0, 0, -100, -100]])
LOGITS = torch.tensor([[-2.0, 0.5, 0.1, -0.1], [0.0, -3.0, 50.0, float("nan")]])


def test_loss_counts_every_token_and_no_padding() -> None:
    logits = LOGITS.clone().nan_to_num(7.0).requires_grad_()
    found = TokenDetection(setup()).evaluate(SimpleNamespace(logits=logits[..., None]), {"labels": LABELS})
    loss, metrics = found.loss, found.metric_inputs
    there = LABELS >= 0
    expected = functional.binary_cross_entropy_with_logits(logits[there], LABELS[there].float(), reduction="sum")
    assert_close(loss, expected)
    loss.backward()
    assert logits.grad[~there].count_nonzero() == 0
    assert logits.grad[there].count_nonzero() == there.sum()
    assert metrics["tokens"]["preds"][there].tolist() == [False, True, True, False, False, False], "0 is the boundary"


def test_metrics_are_those_of_replaced_tokens() -> None:
    objective = RandomTokenDetection(setup())
    metric = objective.metrics("valid")["tokens"]
    metric.update(**objective.evaluate(SimpleNamespace(logits=LOGITS), {"labels": LABELS}).metric_inputs["tokens"])
    expected = {"accuracy": 4 / 6, "f1": 0.5, "precision": 0.5, "recall": 0.5, "replaced_ratio": 2 / 6}
    assert metric.compute() == pytest.approx(expected)
    assert metric_names(objective, "valid") == list(expected)


def test_what_is_written_of_a_row() -> None:
    objective, tokenizer = TokenDetection(setup()), tiny.tokenizer_for("bert")
    ids = torch.tensor(tokenizer(["rain the", "a"], padding="max_length", max_length=4)["input_ids"])
    batch = {"input_ids": ids, "labels": LABELS, "attention_mask": (ids != 0).long()}
    logits = LOGITS.nan_to_num(0.0)
    found = objective.predictions(SimpleNamespace(logits=logits), batch)
    rows = [objective.decode({name: values[row].tolist() for name, values in found.items()}) for row in (0, 1)]
    assert rows[0] == {
        "tokens": tokenizer.convert_ids_to_tokens(ids[0].tolist()),
        "scores": [0.1192, 0.6225, 0.525, 0.475],
        "prediction": [1, 2],
        "replaced": [1, 3],
    }
    assert len(rows[1]["tokens"]) == 2, "no padding"
    del batch["labels"]
    batch["attention_mask"] = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    found = objective.predictions(SimpleNamespace(logits=logits), batch)
    row = objective.decode({name: values[0].tolist() for name, values in found.items()})
    assert row.keys() == {"tokens", "scores", "prediction"}, "in prediction nobody knows"
    assert len(row["tokens"]) == 3


@pytest.mark.parametrize("objective", [TokenDetection, RandomTokenDetection])
def test_prediction_replaces_nothing(objective: Any) -> None:
    assert objective(setup()).post_process({}, batch_of(), context("predict")) == {}


def test_samples_for_people_name_the_replacements() -> None:
    objective, batch = RandomTokenDetection(setup(), probability=0.3), batch_of()
    own = objective.post_process({}, batch, context())
    told = objective.describe({**batch, **own}, 0)
    assert told.split()[0] == "detect"
    assert len(told.split()) - 1 == (own["labels"][0] == 1).sum() > 0
    assert "generator" in TokenDetection(setup()).describe(batch, 0)
