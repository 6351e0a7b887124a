"""Machine reading from end to end: long contexts, both forms of answers, the threshold, files, processes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import runs, tiny
from tests.tolerances import BACKWARD, approx
from tests.unit.processing.test_answers import DATA, official
from transformers_framework.data.sampler import BatchRequest
from transformers_framework.metrics.reading import ReadingMetrics
from transformers_framework.storage.run_folders import RunFolders

LONG = {"pipeline": "question_answering", "max_sequence_length": 32, "doc_stride": 6, "max_query_length": 8}
NAME = "question_answering"


def documents(folder: Path, **flags: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return rows with contexts of several windows, and the flags of a run that tests them."""
    rows = [{"id": f"q{i}", **row} for i, row in enumerate(tiny.questions(24, 5, longest=40))]
    return rows, {**LONG, "test_dataset": tiny.write_jsonl(folder / "test.jsonl", rows), **flags}


def official_file(folders: RunFolders, kind: str = "official") -> dict[str, Any]:
    """Return what an evaluation script reads."""
    return json.loads((folders.predictions / f"test.{kind}.json").read_text("utf-8"))


# --- scores and files -------------------------------------------------------------------------------------------------


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """What metrics return, before a log makes float32 of it."""
    found: list[dict[str, float]] = []
    compute = ReadingMetrics.compute

    def noted(self: ReadingMetrics) -> dict[str, float]:
        found.append(compute(self))
        return found[-1]

    monkeypatch.setattr(ReadingMetrics, "compute", noted)
    return found


@pytest.mark.parametrize(("name", "version"), [("squad", 1), ("squad_v2", 2)])
def test_scores_of_predictions_are_those_of_the_official_scripts(
    name: str, version: int, tmp_path: Path, computed: list[dict[str, float]]
) -> None:
    path = DATA / name / "dev.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()][::8]
    files = {stage: tiny.write_jsonl(tmp_path / f"{stage}.jsonl", rows) for stage in ("train", "test")}
    sizes = {"max_sequence_length": 96, "doc_stride": 32, "max_query_length": 24, "max_steps": 2}
    folders = runs.run(tmp_path, **LONG | sizes, **{f"{stage}_dataset": file for stage, file in files.items()})
    predicted, lines = official_file(folders), runs.predictions(folders)
    assert list(predicted) == [row["id"] for row in rows] == [line["id"] for line in lines]
    assert [line["prediction"] for line in lines] == list(predicted.values())
    assert all(line["prediction"] in line["context"] for line in lines)
    expected = official(list(predicted.values()), [row["answers"]["text"] for row in rows], version=version)
    assert expected["f1"] > 0
    assert computed[-1].keys() == expected.keys()
    for key, value in expected.items():
        assert computed[-1][key] == pytest.approx(value, abs=1e-9), key
    for row, line in zip(rows, lines, strict=True):
        assert {key: line[key] for key in row} == row
        scores = [answer["score"] for answer in line["n_best"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(answer["probability"] for answer in line["n_best"]) == pytest.approx(1)
        assert len(line["n_best"]) == 20 + (version == 2)
    odds = folders.predictions / "test.null_odds.json"
    assert odds.exists() == (version == 2)
    for line in lines if version == 2 else ():
        best = max(answer["score"] for answer in line["n_best"] if answer["text"])
        difference = official_file(folders, "null_odds")[line["id"]]
        assert difference == approx(line["null_score"] - best)
        assert (line["prediction"] == "") == (difference > 0)
        assert line["score"] == (line["null_score"] if difference > 0 else best)


def windows_of(tokenizer: Any, row: Mapping[str, Any], max_length: int, stride: int) -> list[tuple[Any, list[Any]]]:
    """Return the windows of a row as transformers cuts them, each with the characters of its context's tokens."""
    encoded = tokenizer(
        row["question"], row["context"], truncation="only_second", max_length=max_length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    found = []
    for number in range(len(encoded["input_ids"])):
        owner = encoded.sequence_ids(number)
        places = [place for place, sequence in enumerate(owner) if sequence == 1]
        inputs = {key: torch.tensor([encoded[key][number]]) for key in tokenizer.model_input_names}
        found.append((inputs, [(place, encoded["offset_mapping"][number][place]) for place in places]))
    return found


@torch.no_grad()
def spans_of(model: Any, tokenizer: Any, row: Mapping[str, Any], longest: int) -> tuple[dict[str, float], float]:
    """Return the score of every answer of a row in the window where it has most context, and that of none."""
    best: dict[tuple[int, int], tuple[int, float]] = {}
    nulls = []
    for inputs, tokens in windows_of(tokenizer, row, 32, 6):
        output = model(**inputs)
        start, end = output.start_logits[0], output.end_logits[0]
        nulls.append(float(start[0] + end[0]))
        for a, (first, (begin, _)) in enumerate(tokens):
            for b, (last, (_, stop)) in enumerate(tokens[a : a + longest], a):
                context = min(a, len(tokens) - 1 - b)
                if context > best.get((begin, stop), (-1, 0.0))[0]:
                    best[begin, stop] = (context, float(start[first] + end[last]))
    texts: dict[str, float] = {}
    for (begin, stop), (_, score) in best.items():
        text = row["context"][begin:stop]
        texts[text] = max(score, texts.get(text, -math.inf))
    return texts, min(nulls)


def test_predictions_are_what_the_export_says_with_nothing_but_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    rows, flags = documents(tmp_path, null_score_threshold=0.25, max_answer_length=4, n_best_size=5)
    checkpoint = tiny.save_checkpoint("bert", tmp_path / "reader", "AutoModelForQuestionAnswering", **runs.LIVELY)
    folders = runs.run(tmp_path, pre_trained_model=checkpoint, **flags)
    model = AutoModelForQuestionAnswering.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    cut = 0
    for row, line in zip(rows, runs.predictions(folders), strict=True):
        cut += len(windows_of(tokenizer, row, 32, 6)) > 1
        texts, null = spans_of(model, tokenizer, row, 4)
        assert line["null_score"] == approx(null)
        expected = sorted(texts.values(), reverse=True)
        written = [answer for answer in line["n_best"] if answer["text"]]
        assert len(written) == 5
        assert all(answer["score"] == approx(texts[answer["text"]]) for answer in written[:1])
        assert written[0]["score"] == approx(expected[0])
        answer = "" if null - expected[0] > 0.25 else max(texts, key=texts.__getitem__)
        assert line["prediction"] == answer
    assert cut > len(rows) / 2


# --- what is learned --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "distilbert", "t5"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_targets_decode_to_the_answer_and_the_rest_is_that_of_transformers(
    family: str, side: str, tmp_path: Path
) -> None:
    rows, flags = documents(tmp_path)
    checkpoint = tiny.save_checkpoint(family, tmp_path / family)
    experiment = runs.build(runs.command(tmp_path, model=family, pre_trained_model=checkpoint, **flags))
    tokenizer = experiment.tokenizer
    tokenizer.padding_side = side
    data = experiment.data
    dataset = data.datasets["test"]
    expected = [window for row in rows for window in windows_of(tokenizer, row, 32, 6)]
    assert len(dataset) == len(expected) > len(rows)
    numbers = list(range(len(dataset)))
    batch = data.collator("test")((BatchRequest(0, tuple(numbers)), dataset[numbers]))
    labels, held = batch[NAME]["labels"].tolist(), set()
    for number, (inputs, _) in enumerate(expected):
        there = batch["attention_mask"][number] > 0
        begin = int(there.int().argmax())
        assert begin == (0 if side == "right" else len(there) - int(there.sum()))
        for key, values in inputs.items():
            assert batch[key][number][there].tolist() == values[0].tolist(), key
        row, (first, last) = rows[dataset[number]["source_row"]], labels[number]
        if (first, last) == (begin, begin):
            continue
        held.add(row["id"])
        text = tokenizer.decode(batch["input_ids"][number][first : last + 1]).strip()
        assert text == row["answers"]["text"][0]
    assert held == {row["id"] for row in rows if row["answers"]["text"]}


@torch.no_grad()
def test_the_loss_is_that_of_transformers(tmp_path: Path) -> None:
    _, flags = documents(tmp_path, eval_batch_size=1)
    checkpoint = tiny.save_checkpoint("bert", tmp_path / "reader", "AutoModelForQuestionAnswering", **runs.LIVELY)
    with runs.watched() as seen:
        folders = runs.run(tmp_path, pre_trained_model=checkpoint, **flags)
    data, model = seen.experiment.data, seen.experiment.module.model.heads[NAME].eval()
    losses = []
    for number in range(len(data.datasets["test"])):
        batch = data.collator("test")((BatchRequest(0, (number,)), data.datasets["test"][[number]]))
        first, last = batch[NAME]["labels"].T
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids")}
        losses.append(float(model(**inputs, start_positions=first, end_positions=last).loss))
    assert runs.metrics(folders, "test")[f"test/{NAME}/loss"] == approx(np.mean(losses))


@pytest.mark.parametrize("form", ["pairs", "inclusive", "structs", "lists of structs"])
def test_texts_and_spans_are_the_same_as_answers_of_squad(form: str, tmp_path: Path) -> None:
    rows = tiny.questions(16, 3)

    def spans(answers: Mapping[str, Sequence[Any]]) -> Any:
        pairs = list(zip(answers["answer_start"], answers["text"], strict=True))
        if form == "pairs":
            return [[start, start + len(text)] for start, text in pairs]
        if form == "inclusive":
            return [[start, start + len(text) - 1] for start, text in pairs]
        if form == "structs":
            return [{"start": start, "end": start + len(text)} for start, text in pairs]
        return [{"start": [start], "end": [start + len(text) - 1]} for start, text in pairs]

    other = [{**row, "answers": row["answers"]["text"], "where": spans(row["answers"])} for row in rows]
    flags = {"pipeline": NAME, "max_epochs": 1}
    one = runs.run(tmp_path, name="one", train_dataset=tiny.write_jsonl(tmp_path / "one.jsonl", rows), **flags)
    two = runs.run(
        tmp_path,
        name="two",
        train_dataset=tiny.write_jsonl(tmp_path / "two.jsonl", other),
        label_column="where",
        **flags,
    )
    assert runs.weights_are_equal(*(folders.pre_trained_models / "final" for folders in (one, two)))


# --- the threshold ----------------------------------------------------------------------------------------------------


def test_a_threshold_is_found_on_the_validation_set_and_stays_with_the_model(tmp_path: Path) -> None:
    from transformers import AutoConfig

    data = runs.datasets(tmp_path / "data", NAME, (40, 24, 24, 12))
    flags: dict[str, Any] = {"pipeline": NAME, "learning_rate": 3e-3, "max_epochs": 3}
    found = runs.run(tmp_path, name="auto", null_score_threshold="auto", **flags, **data)
    best = runs.metrics(found, "valid")[f"valid/{NAME}/null_score_threshold"]
    export = found.pre_trained_models / "final"
    assert AutoConfig.from_pretrained(export).null_score_threshold == pytest.approx(best)
    assert "null_score_threshold" in (export / "README.md").read_text()

    # no other threshold is better on the validation set
    again = {"pipeline": NAME, "pre_trained_model": export, "valid_dataset": data["valid_dataset"]}
    scores = {
        threshold: runs.metrics(runs.run(tmp_path, name=f"t{number}", null_score_threshold=threshold, **again), "valid")
        for number, threshold in enumerate((best - 2, best - 0.3, best, best + 0.3, best + 2))
    }
    f1 = {threshold: values[f"valid/{NAME}/f1"] for threshold, values in scores.items()}
    assert f1[best] == max(f1.values()) == runs.metrics(found, "valid")[f"valid/{NAME}/f1"]
    assert len(set(f1.values())) > 1

    # the test of the same run had it, as do an export and a checkpoint that are tested later
    tested = {"pipeline": NAME, "test_dataset": data["test_dataset"]}
    later = runs.run(tmp_path, name="export", pre_trained_model=export, **tested)
    resumed = runs.run(tmp_path, name="checkpoint", ckpt_path=found.last, **tested)
    assert official_file(found) == official_file(later) == official_file(resumed)
    for line in runs.predictions(found):
        top = max(answer["score"] for answer in line["n_best"] if answer["text"])
        assert (line["prediction"] == "") == (line["null_score"] - top > best)


def test_questions_that_all_have_answers_get_one(tmp_path: Path) -> None:
    rows = [row for row in tiny.questions(24, 5) if row["answers"]["text"]]
    files = {f"{stage}_dataset": tiny.write_jsonl(tmp_path / f"{stage}.jsonl", rows) for stage in ("train", "test")}
    with runs.watched() as seen:
        folders = runs.run(tmp_path, pipeline=NAME, **files)
    lines = runs.predictions(folders)
    assert all(line["prediction"] and all(answer["text"] for answer in line["n_best"]) for line in lines)
    assert not hasattr(seen.experiment.module.model.heads[NAME].config, "null_score_threshold")
    assert not (folders.predictions / "test.null_odds.json").exists()
    assert list(official_file(folders)) == [str(row) for row in range(len(rows))], (
        "numbers of rows where there is no id"
    )


# --- the same by other ways -------------------------------------------------------------------------------------------


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    data = runs.datasets(tmp_path / "data", NAME, (40, 23, 27, 9))
    rows, flags = documents(tmp_path)
    flags |= {"train_dataset": data["train_dataset"], "valid_dataset": flags["test_dataset"], "max_epochs": 1}
    flags |= {"additional_config_kwargs": ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]}
    flags |= {
        "null_score_threshold": "auto",
        "pre_trained_model": tiny.save_checkpoint("bert", tmp_path / "b", **runs.LIVELY),
    }
    one = runs.run(tmp_path, name="one", batch_size=8, **flags)
    two, said = runs.spawn(tmp_path, name="two", batch_size=4, devices=2, strategy="ddp", num_workers=1, **flags)
    for stage in ("valid", "test"):
        first, second = runs.metrics(one, stage), runs.metrics(two, stage)
        assert first.keys() == second.keys()
        assert first == approx(second, BACKWARD), said
    assert official_file(one) == official_file(two)
    assert [line["id"] for line in runs.predictions(two)] == [row["id"] for row in rows]


def test_workers_and_chunks_change_no_window(tmp_path: Path) -> None:
    _, flags = documents(tmp_path)
    tables = []
    for name, more in {"one": {}, "two": {"prepare_data_workers": 2, "prepare_data_batch_size": 7}}.items():
        words = runs.command(tmp_path, **{**flags, "cache_dir": tmp_path / name, **more})
        tables.append(runs.build(words).data.datasets["test"].to_dict())
    assert tables[0] == tables[1]


def test_a_question_that_is_long_is_cut_and_counted(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    rows, flags = documents(tmp_path)
    rows[3]["question"] = "which " * 40 + "animals?"
    tiny.write_jsonl(tmp_path / "test.jsonl", rows)
    data = runs.build(runs.command(tmp_path, **flags)).data
    dataset = data.datasets["test"]
    is_cut = {row for row, cut in zip(dataset["source_row"], dataset["is_cut"], strict=True) if cut}
    assert is_cut == {3}
    numbers = tuple(range(len(dataset)))
    batch = data.collator("test")((BatchRequest(0, numbers), dataset[list(numbers)]))
    assert batch["num_truncated"] == (cut := dataset["source_row"][:].count(3)) > 1
    assert batch["input_ids"].shape[1] <= 32
    runs.run(tmp_path, **flags)
    assert f"test: {cut} of {len(dataset)} windows ({100 * cut / len(dataset):.1f} %) have a question that was cut to 8 tokens (--max_query_length" in said.text  # fmt: skip  # noqa: E501


def test_ids_that_are_not_different_are_told(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    rows, flags = documents(tmp_path)
    tiny.write_jsonl(tmp_path / "test.jsonl", [{**row, "id": f"q{number // 2}"} for number, row in enumerate(rows)])
    folders = runs.run(tmp_path, **flags)
    assert f"test: {len(rows)} questions have only {len(rows) // 2} different ids in 'id'" in said.text
    assert list(official_file(folders).values()) == [line["prediction"] for line in runs.predictions(folders)[1::2]]


def test_a_threshold_that_nothing_is_searched_on_is_told(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    """Testing alone keeps that of the checkpoint."""
    _, flags = documents(tmp_path, null_score_threshold="auto")
    checkpoint = tiny.save_checkpoint("bert", tmp_path / "reader", "AutoModelForQuestionAnswering", **runs.LIVELY)
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    (checkpoint / "config.json").write_text(json.dumps(config | {"null_score_threshold": -1e6}), "utf-8")
    folders = runs.run(tmp_path, pre_trained_model=checkpoint, **flags)
    assert "--null_score_threshold auto needs questions without an answer; --valid_dataset is not" in said.text
    assert not any(official_file(folders).values())


def test_masked_words_are_learned_beside_it(tmp_path: Path) -> None:
    folders = runs.run(tmp_path, pipeline=f"masked_lm+{NAME}", whole_word_masking=True)
    logged = runs.scalars(folders)
    assert {"train/masked_lm/loss", f"train/{NAME}/loss", f"valid/{NAME}/f1"} <= logged.keys()
    assert "valid/masked_lm/loss" not in logged
    assert len(runs.predictions(folders)) == 27
