"""Token classification by whole runs: real treebank and tweets, long rows, several processes, masking beside it."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value

from tests import runs, tiny
from tests.tolerances import FORWARD, approx, assert_close
from transformers_framework import load
from transformers_framework.cli.main import main
from transformers_framework.objectives import token_class

SHARED = runs.ROOT.parent / "shared" / "data"


def real(name: str, split: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of a data set of real text, and the names of its classes."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"no {SHARED / name}")
    rows = [json.loads(line) for line in (SHARED / name / f"{split}.jsonl").read_text("utf-8").splitlines()]
    return rows, json.loads((SHARED / name / "labels.json").read_text("utf-8"))["tag_names"]


def scores_of(line: dict[str, Any]) -> list[float]:
    """Take the scores of words and entities out of a line of predictions."""
    return [*line.pop("scores"), *(entity.pop("score") for entity in line["entities"])]


def model_for(folder: Path, rows: list[dict[str, Any]], vocabulary: int = 2000) -> dict[str, Path]:
    """A small BERT from scratch, and a tokenizer trained on the words of these rows."""
    place = runs.ROOT / "examples" / "demo_data.py"
    spec = importlib.util.spec_from_file_location("demo_data", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.save_model(folder, [" ".join(row["tokens"]) for row in rows], vocabulary)
    return {"pre_trained_config": folder, "pre_trained_tokenizer": folder}


def counted(lines: list[dict[str, Any]], labels: str) -> tuple[float, float]:
    """Accuracy and macro F1 over all words that have a prediction, written out."""
    pairs = Counter(
        (predicted, wanted)
        for line in lines
        for predicted, wanted in zip(line["prediction"], line[labels], strict=True)
        if predicted is not None
    )
    right = {tag: count for (tag, wanted), count in pairs.items() if tag == wanted}
    f1 = []
    for tag in {tag for pair in pairs for tag in pair}:
        either = sum(count * ((found == tag) + (wanted == tag)) for (found, wanted), count in pairs.items())
        f1.append(2 * right.get(tag, 0) / either)
    return sum(right.values()) / sum(pairs.values()), sum(f1) / len(f1)


def test_parts_of_speech_of_a_treebank(tmp_path: Path) -> None:
    data = {split: real("ud_ewt", split)[0] for split in ("train", "dev", "test")}
    files = {split: tiny.write_jsonl(tmp_path / f"{split}.jsonl", rows) for split, rows in data.items()}
    folders = runs.run(
        tmp_path,
        pipeline="pos_tagging",
        model="bert",
        **model_for(tmp_path / "model", data["train"], 1000),
        train_dataset=files["train"],
        valid_dataset=files["dev"],
        test_dataset=files["test"],
        input_columns="tokens",
        label_column="pos",
        train_shard_dataset=2,
        valid_shard_dataset=4,
        max_sequence_length=48,
        batch_size=32,
        eval_batch_size=128,
        learning_rate=3e-3,
        length_bucketing=True,
        max_epochs=3,
        log_every_n_steps=50,
        monitor="valid/token_class/accuracy",
    )
    lines, logged = runs.predictions(folders), runs.metrics(folders, "test")
    accuracy, f1 = counted(lines, "pos")
    assert logged["test/token_class/accuracy"] == approx(accuracy)
    assert logged["test/token_class/f1"] == approx(f1)
    tags = Counter(tag for row in data["test"] for tag in row["pos"])
    majority = max(tags.values()) / tags.total()
    print(f"parts of speech: accuracy {accuracy:.3f}, macro F1 {f1:.3f}; the most frequent one: {majority:.3f}")
    assert accuracy > 3 * majority
    assert not [name for name in logged if "entity" in name]
    assert not any(None in line["prediction"] for line in lines), "words beyond 48 tokens have a window of their own"


def test_entities_of_tweets_are_counted_as_seqeval_counts(tmp_path: Path) -> None:
    rows, names = real("wnut17", "train")
    rows = [row for row in rows if sum(row["labels"])][:160]
    features = Features({"tokens": List(Value("string")), "labels": List(ClassLabel(names=names))})
    Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "rows")
    folders = runs.run(
        tmp_path,
        pipeline="named_entity_recognition",
        model="bert",
        **model_for(tmp_path / "model", rows),
        train_dataset=tmp_path / "rows",
        test_dataset=tmp_path / "rows",
        input_columns="tokens",
        label_column="labels",
        max_sequence_length=24,
        doc_stride=8,
        batch_size=16,
        learning_rate=3e-3,
        label_weights=[0.5] + [2.0] * (len(names) - 1),
        max_epochs=7,
        log_every_n_steps=50,
    )
    lines, logged = runs.predictions(folders), runs.metrics(folders, "test")
    found = [line["prediction"] for line in lines]
    wanted = [[names[label] for label in line["labels"]] for line in lines]
    assert max(map(len, found)) > 22, "some tweets have several windows"
    assert 0.1 < logged["test/token_class/entity_f1"] < 1, "it has learned some of what it saw"
    from seqeval import metrics as seqeval

    for name in ("f1", "precision", "recall"):
        expected = getattr(seqeval, f"{name}_score")(wanted, found)
        assert logged[f"test/token_class/entity_{name}"] == approx(expected)
    from seqeval.metrics.sequence_labeling import get_entities

    for line in lines:
        spans = [(each["type"], each["start"], each["end"] - 1) for each in line["entities"]]
        assert spans == get_entities(line["prediction"])
        for each in line["entities"]:
            words, scores = (line[name][each["start"] : each["end"]] for name in ("tokens", "scores"))
            assert each["text"] == " ".join(words) == " ".join(line["tokens"])[each["start_char"] : each["end_char"]]
            assert each["score"] == approx(sum(scores) / len(scores))
    model = load(str(folders.export))
    shown = model.predict([{"tokens": line["tokens"]} for line in lines[:40]])
    assert [spans["entities"] for spans in shown] == [
        [{**each, "score": approx(each["score"], FORWARD)} for each in line["entities"]] for line in lines[:40]
    ]


@pytest.mark.parametrize("streams", [False, True])
def test_words_without_a_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: bool) -> None:
    """Those that the tokenizer makes nothing of; of a stream, which has no windows, also those beyond the input."""
    said: list[str] = []
    monkeypatch.setattr(token_class.logger, "warning", lambda text, *values: said.append(text % values))
    rows = tiny.tagged(24)
    rows[3] = {"words": ["rain"] * 40, "labels": ["O"] * 40}
    rows[5]["words"][0] = "\u200d"
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    files = {
        "train_dataset": file,
        "test_dataset": file,
        "max_sequence_length": 24,
        "iterable": True if streams else None,
    }
    folders = runs.run(tmp_path, pipeline="token_class", model="bert", **files)
    lines = runs.predictions(folders)
    for number, line in enumerate(lines):
        assert len(line["prediction"]) == len(line["scores"]) == len(rows[number]["words"])
        absent = [word for word, tag in enumerate(line["prediction"]) if tag is None]
        assert absent == {3: list(range(22, 40)) if streams else [], 5: [0]}.get(number, [])
        assert [word for word, score in enumerate(line["scores"]) if score is None] == absent
    assert [text[:14] for text in said] == ["test: 19 of 19" if streams else "test: 1 of 194"]


def long_rows(seed: int, lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of so many words, of which some are entities of one or several words."""
    pieces = iter(tiny.tagged(2000, seed))
    rows = []
    for length in lengths:
        row: dict[str, Any] = {"words": [], "labels": []}
        while len(row["words"]) < length:
            piece = next(pieces)
            row = {key: row[key] + piece[key] for key in row}
        rows.append({key: values[:length] for key, values in row.items()})
    return rows


@torch.no_grad()
def classes_of(checkpoint: Path, words: list[str], length: int, stride: int) -> list[str]:
    """Classes of the words of a long row: windows written out, each word from the one where it has most context."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = AutoModelForTokenClassification.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    sizes = [len(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in words]
    best: dict[int, tuple[int, str]] = {}
    start = 0
    while True:
        end = start
        while end < len(words) and sum(sizes[start : end + 1]) <= length - 2:
            end += 1
        encoded = tokenizer(words[start:end], is_split_into_words=True, return_tensors="pt")
        numbers, tags = encoded.word_ids(), model(**encoded).logits[0].argmax(dim=-1).tolist()
        for word in range(start, end):
            context = min(sum(sizes[start:word]), sum(sizes[word + 1 : end]))
            if word not in best or context > best[word][0]:
                best[word] = context, model.config.id2label[tags[numbers.index(word - start)]]
        if end == len(words):
            return [best[word][1] for word in range(len(words))]
        following = next(word for word in range(start + 1, end + 1) if sum(sizes[word:end]) <= stride)
        start = max(following, next(word for word in range(end + 1) if sum(sizes[word : end + 1]) <= length - 2))


def test_a_document_of_3000_words_has_3000_labels(tmp_path: Path) -> None:
    """Trained and tested by windows, by one process and by two; entities are counted over whole documents."""
    train = tiny.write_jsonl(tmp_path / "train.jsonl", long_rows(0, [10, 200, 40, 5, 90, 30] * 8))
    rows = long_rows(1, [3, 3000, 60, 1, 150, 20, 47])
    test = tiny.write_jsonl(tmp_path / "test.jsonl", rows)
    flags: dict[str, Any] = {"pipeline": "token_class", "max_sequence_length": 32, "doc_stride": 8}
    trained = runs.run(tmp_path, name="trained", max_epochs=8, learning_rate=2e-3, train_dataset=train, **flags)
    best = trained.pre_trained_models / "final"
    one = runs.run(tmp_path, name="one", pre_trained_model=best, test_dataset=test, **flags)
    lines, logged = runs.predictions(one), runs.metrics(one, "test")
    assert [line["words"] for line in lines] == [row["words"] for row in rows], "a line a row, with its columns"
    assert [len(line["prediction"]) for line in lines] == [len(row["words"]) for row in rows]
    assert not any(None in line["prediction"] for line in lines)
    for number in (0, 2, 4, 5):
        assert lines[number]["prediction"] == classes_of(best, rows[number]["words"], 32, 8)
    accuracy, f1 = counted(lines, "labels")
    assert logged["test/token_class/accuracy"] == approx(accuracy), "each word counts once"
    assert logged["test/token_class/f1"] == approx(f1)
    from seqeval import metrics as seqeval

    found, wanted = ([line[key] for line in lines] for key in ("prediction", "labels"))
    assert 0.2 < logged["test/token_class/entity_f1"] < 1
    for name in ("f1", "precision", "recall"):
        expected = getattr(seqeval, f"{name}_score")(wanted, found)
        assert logged[f"test/token_class/entity_{name}"] == approx(expected)
    two, _ = runs.spawn(
        tmp_path,
        name="two",
        pre_trained_model=best,
        test_dataset=test,
        devices=2,
        strategy="ddp",
        batch_size=3,
        **flags,
    )
    assert runs.metrics(two, "test") == approx(logged)
    for ours, theirs in zip(runs.predictions(two), lines, strict=True):
        assert scores_of(ours) == approx(scores_of(theirs))
        assert ours == theirs


def test_two_processes_count_what_one_counts(tmp_path: Path) -> None:
    flags = runs.datasets(tmp_path / "data", "token_class", (40, 23, 27, 9))
    trained = runs.run(
        tmp_path,
        pipeline="token_class",
        model="bert",
        max_epochs=16,
        learning_rate=5e-3,
        train_dataset=flags["train_dataset"],
    )
    alone = {stage: flags[stage] for stage in ("valid_dataset", "test_dataset")}
    one = runs.run(tmp_path, pipeline="token_class", name="one", ckpt_path=trained.last, **alone)
    two, _ = runs.spawn(
        tmp_path, pipeline="token_class", name="two", ckpt_path=trained.last, devices=2, strategy="ddp", batch_size=3,
        **alone,
    )  # fmt: skip
    for stage in ("valid", "test"):
        expected = runs.metrics(one, stage)
        assert 0 < expected[f"{stage}/token_class/entity_f1"] < 1
        assert runs.metrics(two, stage) == approx(expected)
    ours, theirs = runs.predictions(two), runs.predictions(one)
    for line, expected in zip(ours, theirs, strict=True):
        assert scores_of(line) == approx(scores_of(expected))
    assert ours == theirs


def test_masking_and_tags_on_one_backbone(tmp_path: Path) -> None:
    flags = {
        "model": "roberta",
        "whole_word_masking": True,
        "token_class_weight": 2,
        "max_epochs": 2,
        **runs.datasets(tmp_path / "data", "token_class"),
    }
    both = runs.run(tmp_path, pipeline="masked_lm_and_token_class", name="both", **flags)
    logged = runs.scalars(both)
    names = {name.split("/")[1] for name in runs.metric_names(both) if name.startswith("train/")}
    assert names == {"loss", "masked_lm", "token_class"}
    assert not [name for name in logged if name.startswith(("valid/masked_lm", "test/masked_lm"))]
    for step, value in logged["train/loss"]:
        parts = {name: dict(logged[f"train/{name}/loss"])[step] for name in ("masked_lm", "token_class")}
        assert value == approx(parts["masked_lm"] + 2 * parts["token_class"])
    scores = runs.word_scores_of(
        both.pre_trained_models / "final" / "token_class", [row["words"] for row in runs.predictions(both)]
    )
    written = torch.cat([torch.tensor(line["scores"]) for line in runs.predictions(both)])
    assert_close(scores, written)
    composed = runs.run(tmp_path, pipeline="masked_lm+token_class", name="composed", **flags)
    for head in ("masked_lm", "token_class"):
        ours, theirs = (runs.weights(run.pre_trained_models / "final" / head) for run in (composed, both))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_stream_and_workers_give_the_same_as_tables(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", "token_class")
    plain = runs.run(tmp_path, pipeline="token_class", name="plain", length_bucketing=False, **data)
    streamed = runs.run(tmp_path, pipeline="token_class", name="streamed", iterable=True, num_workers=2, **data)
    for ours, theirs in zip(runs.predictions(streamed), runs.predictions(plain), strict=True):
        assert scores_of(ours) == approx(scores_of(theirs)), "batches hold other rows"
        assert ours == theirs
    assert runs.scalars(streamed)["train/loss"] == runs.scalars(plain)["train/loss"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["O"]}, r"train.jsonl:3: 'labels' has 1 labels and 'words' has \d+ words"),
        ({"words": None}, r"train.jsonl:3: 'words' is null or has no words"),
        ({"words": ["a", None], "labels": ["O", "O"]}, r"train.jsonl:3: word 1 of 'words' is null"),
    ],
)
def test_mistakes_have_a_place(
    change: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tiny.tagged(12)
    rows[2] |= change
    file = tiny.write_jsonl(tmp_path / "train.jsonl", rows)
    assert main(runs.command(tmp_path, pipeline="token_class", train_dataset=file, check=True)) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.out + printed.err)
    assert "Traceback" not in printed.out + printed.err


def test_check_shows_words_and_their_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(runs.command(tmp_path, pipeline="token_class", check=True)) == 0
    printed = capsys.readouterr().out
    assert "B-animals" in printed
    assert "No problems found." in printed


def test_a_detector_of_replaced_tokens_learns_tags(tmp_path: Path) -> None:
    """It was exported as a token classifier of one class, which says nothing about the tags."""
    texts = tiny.write_jsonl(tmp_path / "texts.jsonl", tiny.classes(24))
    detector = runs.run(tmp_path, pipeline="random_token_detection", name="detector", train_dataset=texts)
    names = sorted({tag for row in tiny.tagged(60) for tag in row["labels"]})
    rows = [{**row, "labels": [names.index(tag) for tag in row["labels"]]} for row in tiny.tagged(60)]
    train = tiny.write_jsonl(tmp_path / "tags.jsonl", rows)
    start = detector.pre_trained_models / "final"
    runs.run(tmp_path, pipeline="token_class", name="tagger", train_dataset=train, pre_trained_model=start)


def test_numbers_are_tags_when_they_are_named(tmp_path: Path) -> None:
    """Entities need names, which JSON lines with numbers have not; the export has them, and a test without the flag."""
    names = ["O", "I-topic", "B-topic", "B-none"]
    rows = [{"words": ["rain", "snow", "cup"], "labels": [2, 1, 0]}, {"words": ["cup"], "labels": [0]}] * 8
    data = {f"{stage}_dataset": tiny.write_jsonl(tmp_path / "rows.jsonl", rows) for stage in ("train", "test")}
    folders = runs.run(tmp_path, pipeline="token_class", labels=names, learning_rate=1e-2, max_epochs=8, **data)
    best = folders.pre_trained_models / "final"
    numbers = json.loads((best / "config.json").read_text("utf-8"))["label2id"]
    assert sorted(numbers, key=numbers.__getitem__) == names
    assert runs.metrics(folders, "test")["test/token_class/entity_f1"] == 1
    assert [line["prediction"] for line in runs.predictions(folders)][:2] == [["B-topic", "I-topic", "O"], ["O"]]
    again = runs.run(
        tmp_path, name="again", pipeline="token_class", pre_trained_model=best, test_dataset=data["test_dataset"]
    )
    assert runs.metrics(again, "test") == approx(runs.metrics(folders, "test"))
