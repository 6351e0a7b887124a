"""Encoder-decoders as users run them: they learn, generate, are scored, and the numbers are those of the files."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from tests import runs, tiny
from tests.tolerances import approx

SCITLDR = Path(__file__).parents[3] / "shared" / "data" / "scitldr"
SPLITS = {"train": "train", "valid": "dev", "test": "test"}
CYCLE = tuple(word for words in tiny.TOPICS.values() for word in words)


def cycles(n: int, seed: int = 0, length: int = 24) -> Iterator[dict[str, Any]]:
    """Yield texts in which every word tells the next one, and none is more frequent than others."""
    draw = random.Random(seed)
    for _ in range(n):
        start = draw.randrange(len(CYCLE))
        yield {"text": " ".join(CYCLE[(start + step) % len(CYCLE)] for step in range(length))}


def unigram_entropy(texts: list[str], family: str) -> float:
    """Return the cross-entropy of a model that knows only how frequent tokens are, in nats."""
    counts = Counter(token for ids in tiny.tokenizer_for(family)(texts)["input_ids"] for token in ids)
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values())


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_tiny_model_learns_to_denoise(tmp_path: Path, family: str) -> None:
    rows = list(cycles(200))
    data = {
        "train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", rows),
        "test_dataset": tiny.write_jsonl(tmp_path / "test.jsonl", cycles(40, seed=1)),
    }
    style = {"additional_config_kwargs": "dropout_rate=0.0"}
    if family == "bart":
        style = {"additional_config_kwargs": "dropout=0.0", "shuffle_sentences": "false"}
    done = runs.run(
        tmp_path, pipeline="denoising", model=family, **data, **style, batch_size=16, max_sequence_length=64,
        max_steps=300, learning_rate=1e-2, adamw_epsilon=1e-8, num_warmup_steps=30,
        no_epoch_checkpointing=True, log_every_n_steps=50,
    )  # fmt: skip
    knows_frequencies = unigram_entropy([row["text"] for row in rows], family)
    assert runs.metrics(done, "test")["test/denoising/loss"] < knows_frequencies / 3


def copies(n: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield documents whose summary is their first two words."""
    draw = random.Random(seed)
    for _ in range(n):
        words = draw.choices(CYCLE[:12], k=draw.randint(3, 6))
        yield {"text": " ".join(words), "summary": " ".join(words[:2])}


def test_a_tiny_model_learns_to_summarize_by_copying(tmp_path: Path) -> None:
    """What it generates, not what it would have said behind a right beginning."""
    data = {
        "train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", copies(400)),
        "test_dataset": tiny.write_jsonl(tmp_path / "test.jsonl", copies(50, seed=1)),
    }
    done = runs.run(
        tmp_path, pipeline="summarization", model="bart", **data, batch_size=32, max_sequence_length=[32, 12],
        max_steps=400, learning_rate=5e-3, num_warmup_steps=40, no_epoch_checkpointing=True, log_every_n_steps=50,
        additional_config_kwargs="dropout=0.0", generation_num_beams=2, generation_no_repeat_ngram_size=3,
    )  # fmt: skip
    metrics = runs.metrics(done, "test")
    right = [row["prediction"] == row["summary"] for row in runs.predictions(done)]
    assert metrics["test/summarization/rouge2_fmeasure"] > 0.8
    assert sum(right) / len(right) > 0.8
    assert generated_by(done.pre_trained_models / "final", [row["text"] for row in runs.predictions(done)]) == [
        row["prediction"] for row in runs.predictions(done)
    ]


def generated_by(checkpoint: Path, texts: list[str]) -> list[str]:
    """Return what an export writes by itself, with nothing but transformers and no argument."""
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    ids = [model.generate(**tokenizer(text, return_tensors="pt"))[0] for text in texts]
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def test_sampled_texts_are_the_same_again_and_leave_training_alone(tmp_path: Path) -> None:
    sizes = {
        stage: tiny.write_jsonl(tmp_path / f"{stage}.jsonl", tiny.summaries(n))
        for stage, n in (("train", 24), ("test", 9))
    }
    data: dict[str, Any] = {"pipeline": "summarization", "model": "bart", "test_dataset": sizes["test"]}
    trains = {"train_dataset": sizes["train"], "valid_dataset": sizes["test"], "max_epochs": 2}
    sampled = runs.run(tmp_path, name="sampled", **data, **trains, generation_do_sample=True)
    greedy = runs.run(tmp_path, name="greedy", **data, **trains)
    runs.assert_weights_are_close(*(run.pre_trained_models / "final" for run in (sampled, greedy)), atol=0)
    alone = runs.run(tmp_path, name="alone", **data, ckpt_path=sampled.last, generation_do_sample=True)
    assert runs.predictions(alone) == runs.predictions(sampled) != runs.predictions(greedy)


@pytest.mark.parametrize(("family", "separates"), [("t5", False), ("bart", True)])
def test_windows_of_t5_have_no_end_of_a_text_inside(tmp_path: Path, family: str, separates: bool) -> None:
    """It would be hidden, and what is written behind ``</s>`` is never generated."""
    experiment = runs.build(runs.command(tmp_path, pipeline="denoising", model=family, packing="full"))
    rows, end = experiment.data.datasets["train"][:]["input_ids"], experiment.tokenizer.eos_token_id
    assert all(row[-1] == end for row in rows)
    assert any(end in row[:-1] for row in rows) == separates


@pytest.mark.skipif(not SCITLDR.exists(), reason="no data set")
def test_scores_of_real_summaries_are_those_of_the_predictions_file(tmp_path: Path) -> None:
    """Several references a document; recomputed with rouge_score and sacrebleu from what was written."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import corpus_bleu

    data = {f"{stage}_dataset": SCITLDR / f"{split}.jsonl" for stage, split in SPLITS.items()}
    done = runs.run(
        tmp_path, pipeline="summarization", model="t5", **data, document_column="document", summary_column="summary",
        additional_summaries_column="summaries", prefix="summarize: ", max_sequence_length=[96, 24], batch_size=16,
        train_shard_dataset=20, valid_shard_dataset=20, test_shard_dataset=5, generation_num_beams=2,
        monitor="valid/summarization/rougeL_fmeasure",
    )  # fmt: skip
    rows, logged = runs.predictions(done), done.read_results()["test"]
    assert logged == runs.metrics(done, "test")
    assert len(rows) == 50
    assert max(len(row["summaries"]) for row in rows) > 1
    kinds = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    scorer = RougeScorer(kinds, use_stemmer=True)
    scores = [scorer.score_multi(row["summaries"], row["prediction"]) for row in rows]
    for kind in kinds:
        for part in ("fmeasure", "precision", "recall"):
            mean = sum(getattr(score[kind], part) for score in scores) / len(scores)
            assert logged[f"test/summarization/{kind}_{part}"] == approx(mean)
    most = max(len(row["summaries"]) for row in rows)
    columns = [[([*row["summaries"], *[None] * most])[i] for row in rows] for i in range(most)]
    bleu = corpus_bleu([row["prediction"] for row in rows], columns).score
    assert logged["test/summarization/bleu"] == approx(bleu)


def test_two_processes_generate_and_score_what_one_does(tmp_path: Path) -> None:
    rows = tiny.summaries(19)
    data = {
        "test_dataset": tiny.write_jsonl(tmp_path / "test.jsonl", rows),
        "predict_dataset": tiny.write_jsonl(tmp_path / "predict.jsonl", [{"text": row["text"]} for row in rows]),
        "pipeline": "summarization",
        "model": "bart",
        "generation_num_beams": 3,
    }
    one = runs.run(tmp_path, name="one", batch_size=8, **data)
    two, _ = runs.spawn(tmp_path, name="two", batch_size=4, devices=2, strategy="ddp", **data)
    assert runs.metrics(two, "test") == approx(runs.metrics(one, "test"))
    for stage in ("test", "predict"):
        assert runs.predictions(two, stage) == runs.predictions(one, stage)
