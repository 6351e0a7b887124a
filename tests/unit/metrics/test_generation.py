"""Metrics of generated texts: equal to the packages that the field compares by, over any batches and processes."""

from __future__ import annotations

import pickle
import random
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch
from rouge_score import rouge_scorer
from torch import distributed, multiprocessing
from torch.nn.functional import cosine_similarity

from tests import tiny
from tests.tolerances import approx
from transformers_framework.exceptions import ConfigurationError, MissingDependencyError
from transformers_framework.metrics.bleu import Bleu
from transformers_framework.metrics.generation import GenerationMetrics, RowScores
from transformers_framework.metrics.learned import BertScore, Bleurt
from transformers_framework.metrics.rouge import Rouge

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")

TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
NAMES = [f"{kind}_{part}" for kind in TYPES for part in ("precision", "recall", "fmeasure")]


def texts(n: int = 61, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Return texts of several lines, and one to four references for each that share words with it."""
    draw = random.Random(seed)
    words = [word for topic in tiny.TOPICS.values() for word in topic] + list(tiny.FILLERS)
    preds, references = [], []
    for _ in range(n):
        base = draw.choices(words, k=draw.randint(4, 14))
        variants = []
        for _ in range(draw.randint(2, 5)):
            changed = [draw.choice(words) if draw.random() < 0.3 else word for word in base]
            cut = draw.randint(1, len(changed))
            variants.append(" ".join(changed[:cut]) + ".\n" + " ".join(changed[cut:]))
        preds.append(variants[0])
        references.append(variants[1:])
    preds[3], preds[4] = "", "!?"
    return preds, references


def metric() -> GenerationMetrics:
    return GenerationMetrics([Rouge("a test"), Bleu("a test")])


def batches(size: int = 8) -> list[dict[str, Any]]:
    preds, references = texts()
    starts = range(0, len(preds), size)
    return [
        {
            "preds": preds[start : start + size],
            "references": references[start : start + size],
            "counted": torch.ones(len(preds[start : start + size]), dtype=torch.bool),
        }
        for start in starts
    ]


def computed(parts: list[dict[str, Any]]) -> dict[str, float]:
    made = metric()
    for part in parts:
        made.update(**part)
    return made.compute()


def test_rouge_is_that_of_rouge_score_with_its_stemmer() -> None:
    preds, references = texts()
    scorer = rouge_scorer.RougeScorer(TYPES, use_stemmer=True)
    found = [scorer.score_multi(rights, pred) for pred, rights in zip(preds, references, strict=True)]
    values = computed(batches())
    for kind in TYPES:
        for part in ("precision", "recall", "fmeasure"):
            expected = np.mean([getattr(row[kind], part) for row in found])
            assert values[f"{kind}_{part}"] == pytest.approx(expected, abs=1e-11)
    assert 0.1 < values["rouge2_fmeasure"] < values["rougeL_fmeasure"] < values["rouge1_fmeasure"] < 1
    plain = rouge_scorer.RougeScorer(["rouge1"], use_stemmer=False).score("running drums", "run drum")["rouge1"]
    assert plain.fmeasure == 0
    assert Rouge("a test").scores(["run drum"], [["running drums"]])[0].min() == 1


def test_the_reference_of_the_highest_f_measure_is_taken_by_each_type() -> None:
    rouge = Rouge("a test")
    references = ["the old violin", "storm", "old the"]
    row = dict(zip(rouge.names, rouge.scores(["the old"], [references])[0], strict=True))
    assert (row["rouge1_fmeasure"], row["rouge1_precision"]) == (1, 1), "of the last reference, the same words"
    assert row["rouge2_fmeasure"] == pytest.approx(2 / 3), "of the first, which has the words in this order"
    assert row["rouge2_recall"] == 0.5


def test_scores_that_are_known_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rouge = Rouge("a test")
    made, again = (GenerationMetrics([rouge, Bleu("a test")]) for _ in range(2))
    (batch,) = batches(61)
    first = rouge.scores(batch["preds"], batch["references"])
    assert rouge.scores(batch["preds"][:4], batch["references"][:4]).tolist() == first[:4].tolist()
    assert rouge.scores(batch["preds"], [["other"], *batch["references"][1:]]).tolist() != first.tolist()
    again.update(**batch)
    monkeypatch.setattr(rouge, "scores", None)
    made.update(**batch, known={rouge: rouge.rounded(first)})
    assert made.compute() == again.compute() == computed([batch])


def test_bleu_is_that_of_sacrebleu_whatever_the_number_of_references() -> None:
    preds, references = texts()
    streams = [list(stream) for stream in zip_longest(*references)]  # none where a row has no more references
    expected = sacrebleu.corpus_bleu(preds, streams).score
    assert computed(batches())["bleu"] == expected
    assert 10 < expected < 100
    one = [[rights[0]] for rights in references]
    made = GenerationMetrics([Bleu("a test")])
    made.update(preds, one, torch.ones(len(preds), dtype=torch.bool))
    assert made.compute() == {"bleu": sacrebleu.corpus_bleu(preds, [[right for (right,) in one]]).score}


def test_bleu_without_a_match_is_zero() -> None:
    made = GenerationMetrics([Bleu("a test")])
    made.update(["", "rain"], [["snow"], ["storm", "wind"]], torch.tensor([True, True]))
    assert made.compute() == {"bleu": 0.0}


CHINESE = ["今天天气很好，我们去北京。", "他去上海看书。"]


@pytest.mark.parametrize("tokenizer", ["zh", "char"])
def test_tokenizers_of_other_scripts(tokenizer: Any) -> None:
    from sacrebleu.metrics.bleu import BLEU

    preds, references = ["今天很好，我们去北京!", CHINESE[1]], [[text] for text in CHINESE]
    assert Rouge("a test").scores(preds, references).max() == 0
    rouge = pickle.loads(pickle.dumps(Rouge("a test", tokenizer)))
    found = dict(zip(rouge.names, rouge.scores(preds, references)[0], strict=True))
    # 9 of the 11 characters, in their order; punctuation is left out
    assert (found["rouge1_precision"], found["rougeL_recall"]) == (1, pytest.approx(9 / 11))
    bleu = pickle.loads(pickle.dumps(Bleu("a test", tokenizer)))
    values = bleu.values(bleu(preds, references).sum(axis=0).tolist(), len(preds))
    assert values["bleu"] == pytest.approx(BLEU(tokenize=tokenizer).corpus_score(preds, [CHINESE]).score)
    assert values["bleu"] > 50


def test_a_tokenizer_whose_package_is_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    with pytest.raises(ConfigurationError, match=r"--summary_tokenizer ja-mecab: .*pip install 'sacrebleu\[ja\]'"):
        Rouge("a test", "ja-mecab")


@pytest.mark.parametrize("size", [1, 7, 61])
def test_batches_change_nothing(size: int) -> None:
    assert computed(batches(size)) == computed(list(reversed(batches(8))))


def test_rows_that_even_out_processes_do_not_count() -> None:
    parts = batches()
    for part in parts:
        part["preds"] = [*part["preds"], "rain"]
        part["references"] = [*part["references"], ["rain"]]
        part["counted"] = torch.cat([part["counted"], torch.tensor([False])])
    assert computed(parts) == computed(batches())
    nothing = computed([{**parts[0], "counted": torch.zeros(9, dtype=torch.bool)}])
    assert list(nothing) == [*NAMES, "bleu"]
    assert all(np.isnan(value) for value in nothing.values())


def test_names_and_reset() -> None:
    made = metric()
    assert made.names == [*NAMES, "bleu"]
    made.update(**batches()[0])
    made.reset()
    assert all(np.isnan(value) for value in made.compute().values())
    with torch.inference_mode():
        made.update(**batches()[1])
    made.update(**batches()[2])
    assert made.compute() == computed(batches()[1:3])


def run_rank(rank: int, world_size: int, rendezvous: Path, results: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    torch.save(computed(batches()[rank::world_size]), f"{results}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    multiprocessing.spawn(run_rank, (2, tmp_path / "rendezvous", tmp_path), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == computed(batches()), "to the last bit"


@pytest.mark.parametrize(("family", "package"), [(Rouge, "rouge_score"), (Bleu, "sacrebleu")])
def test_an_absent_package_is_named_with_its_extra(family: Any, package: str, monkeypatch: Any) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package] + [package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=rf"--pipeline x needs the package '{package}'.*\[metrics\]"):
        family("--pipeline x")


# ---------------------------------------------------------------- metrics that are models


class Lengths(RowScores):
    """A metric that stands for a model: negative scores, and one that is given back."""

    names = ("bert_score_f1", "bleurt")
    released = 0

    def scores(self, preds: Any, references: Any) -> Any:
        return np.array([[len(pred) / 3, -len(rights[0]) / 7] for pred, rights in zip(preds, references, strict=True)])

    def release(self) -> None:
        self.released += 1


def test_other_metrics_stand_beside_rouge_and_bleu() -> None:
    stand_in = Lengths()
    made = GenerationMetrics([Rouge("a test"), stand_in, Bleu("a test")])
    preds, references = texts()
    made.update(preds, references, torch.ones(len(preds), dtype=torch.bool))
    values = made.compute()
    assert {name: values[name] for name in [*NAMES, "bleu"]} == computed(batches())
    assert values["bert_score_f1"] == pytest.approx(np.mean([len(pred) / 3 for pred in preds]), abs=1e-11)
    assert values["bleurt"] == pytest.approx(-np.mean([len(rights[0]) / 7 for rights in references]), abs=1e-11)
    made.reset()
    assert stand_in.released == 1


def bert_score_by_hand(folder: Path, pred: str, reference: str, layer: int) -> list[float]:
    """Match tokens one by one, as the paper says it."""
    from transformers import AutoModel

    tokenizer, model = tiny.tokenizer_for("bert"), AutoModel.from_pretrained(folder)
    sides = []
    for text in (pred, reference):
        encoded = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = model(**encoded, output_hidden_states=True).hidden_states[layer][0]
        sides.append((states, range(1, len(states) - 1)))  # [CLS] and [SEP] may be matched and are not counted

    def best(one: Any, other: Any) -> float:
        (states, counted), (others, _) = one, other
        found = [max(float(cosine_similarity(states[i], o, dim=0)) for o in others) for i in counted]
        return sum(found) / len(found) if found else 0.0

    precision, recall = best(*sides), best(*reversed(sides))
    if not pred or not reference:
        return [0.0, 0.0, 0.0]
    return [precision, recall, 2 * precision * recall / (precision + recall)]


@pytest.mark.parametrize("layer", [None, 1])
def test_bert_score_is_that_of_the_paper(tmp_path: Path, layer: int | None) -> None:
    folder = tiny.save_checkpoint("bert", tmp_path / "bert", initializer_range=0.5)
    preds = ["the rain and the storm", "", "a violin"]
    references = [["snow after the rain", "rain"], ["every spoon"], ["this old violin of the concert"]]
    found = BertScore(str(folder), layer).scores(preds, references)
    for row, (pred, rights) in enumerate(zip(preds, references, strict=True)):
        by_hand = [bert_score_by_hand(folder, pred, right, layer or 2) for right in rights]
        assert found[row] == approx(np.max(by_hand, axis=0))
    assert len(set(np.round(found.flatten(), 4))) > 5
    with pytest.raises(ConfigurationError, match=r"--bert_score_num_layers 3: .* has 2 layers"):
        BertScore(str(folder), 3)


def test_bleurt_is_what_its_model_says_of_the_reference_and_the_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoModelForSequenceClassification

    head = AutoModelForSequenceClassification
    folder = tiny.save_checkpoint("bert", tmp_path / "one", head, num_labels=1, initializer_range=0.5)
    tokenizer, model = tiny.tokenizer_for("bert"), head.from_pretrained(folder).eval()
    preds, references = ["the rain", ""], [["old snow", "rain"], ["every spoon near the oven"]]
    caplog.set_level("INFO", logger="transformers_framework")
    metric = Bleurt(str(folder))
    assert f"Bleurt: the checkpoint {folder} (--bleurt_model)" in caplog.text
    found = metric.scores(preds, references)
    for row, (pred, rights) in enumerate(zip(preds, references, strict=True)):
        with torch.no_grad():
            pairs = [float(model(**tokenizer([right], [pred], return_tensors="pt")).logits) for right in rights]
        assert found[row, 0] == approx(max(pairs))
    assert metric._model is not None
    assert pickle.loads(pickle.dumps(metric))._model is None, "a loader's worker needs no model"
    metric.release()
    assert metric._model is None
    assert metric.scores(preds, references) == pytest.approx(found)


def test_models_that_do_not_fit_are_refused_before_training(tmp_path: Path) -> None:
    folder = str(tiny.save_checkpoint("bert", tmp_path / "bert"))
    with pytest.raises(ConfigurationError, match=r"--bert_score_model .*nowhere: no model could be loaded"):
        BertScore(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match=r"--bleurt_model .*bert: the checkpoint has no weights for class"):
        Bleurt(folder)
    two = tiny.save_checkpoint("bert", tmp_path / "two", "AutoModelForSequenceClassification", num_labels=2)
    with pytest.raises(ConfigurationError, match=r"--bleurt_model .*: its head has 2 outputs"):
        Bleurt(str(two))
