"""Trained models as others use them: ``load(folder).predict(rows)`` and the command ``predict``.

That a loaded export of every pipeline predicts what the run wrote is in ``test_conformance.py``.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests import runs, tiny
from tests.tolerances import BACKWARD, FORWARD, approx, assert_close, assert_values_close
from transformers_framework import ConfigurationError, DataError, load, predict
from transformers_framework.export_description import FILE

PAIRS = [{key: row[key] for key in ("question", "answer", "key")} for row in tiny.pairs(9, 7)]


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the export of a model that ranks answers."""
    folder = tmp_path_factory.mktemp("ranker")
    data = {"train_dataset": tiny.write_jsonl(folder / "train.jsonl", tiny.pairs(16))}
    return runs.run(folder, **data).pre_trained_models / "final"


def joint(folder: Path, **flags: Any) -> Path:
    data = {"train_dataset": tiny.write_jsonl(folder / "train.jsonl", tiny.pairs(16))}
    run = {"k": 2, "pad_to_k": True, "classification_head_type": "RE_k", **flags}
    return runs.run(folder, **data, **run).pre_trained_models / "final"


def command(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> tuple[str, str]:
    found = predict.main([*map(str, words)])
    printed = capsys.readouterr()
    assert found == status, printed.err
    return printed.out, printed.err


# --- the description of an export ------------------------------------------------------------------------------------


def test_a_description_has_no_paths_and_names_nothing_to_import(ranker: Path) -> None:
    text = (ranker / FILE).read_text("utf-8")
    assert json.loads(text)["flags"] == {
        "input_columns": ["question", "answer"],
        "max_sequence_length": [48],
        "label_column": "label",
        "index_column": "key",
        "iterable": False,
        "loss_fn": "cross_entropy",
        "label_smoothing": 0.0,
        "metrics_empty_target_action": "skip",
        "seed": 1337,
    }
    assert str(ranker.parent.parent) not in text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"flags": {"callbacks": ["os:system"]}}, "'callbacks' is not a flag of the inputs or objectives"),
        (
            {"flags": {"input_columns": ["question", "answer"], "max_sequence_length": ["many"]}},
            "found the list 'many', expec",
        ),
        ({"pipeline": "os:system"}, "unknown pipeline 'os:system'"),
        ({"heads": {"answer_selection": "../other"}}, "names '../other', which is not in its folder"),
        ({"format": 99, "version": "9.0"}, "version 9.0 of transformers-framework wrote it"),
        ({"flags": []}, "it is damaged"),
    ],
)
def test_a_description_from_outside_is_refused(
    ranker: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    content = json.loads((ranker / FILE).read_text("utf-8")) | changed
    for path in ranker.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).write_text(json.dumps(content), "utf-8")
    with pytest.raises(ConfigurationError, match=message):
        load(str(tmp_path))


def test_a_checkpoint_without_description_is_loaded_with_flags(ranker: Path, tmp_path: Path) -> None:
    for path in ranker.iterdir():
        if path.name != FILE:
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(ConfigurationError, match=r"Give pipeline=…, one of answer_selection, .*seq_class"):
        load(str(tmp_path))
    with pytest.raises(ConfigurationError, match="it has no value of input_columns"):
        load(str(tmp_path), pipeline="answer_selection")
    model = load(str(tmp_path), pipeline="answer_selection", input_columns=["question", "answer"], device="cpu")
    assert model.predict(PAIRS[0]) == approx(load(str(ranker), device="cpu").predict(PAIRS[0]), BACKWARD)


# --- rows of Python --------------------------------------------------------------------------------------------------


def test_rows_may_be_one_a_list_or_a_table(ranker: Path) -> None:
    import datasets
    import pyarrow as pa

    model = load(str(ranker), device="cpu", batch_size=4)
    expected = model.predict(PAIRS)
    assert [set(line) for line in expected] == [{"scores", "prediction"}] * len(PAIRS)
    assert model.predict(PAIRS[3]) == approx(expected[3], BACKWARD)
    assert model.predict([]) == []
    tables = (pd.DataFrame(PAIRS), pa.Table.from_pylist(PAIRS), datasets.Dataset.from_list(PAIRS), iter(PAIRS))
    for table in tables:
        assert model.predict(table) == expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*PAIRS[:2], {"question": "a", "answer": None}], "row 2: the text in 'answer' is null or empty"),
        ([{"question": "a"}], "has no column 'answer'"),
        (["a text"], "row 0: found str 'a text', expected a dictionary with the columns question, answer\\."),
        ("a text", "row 0: found str 'a text', expected a dictionary with the columns question, answer\\."),
        (
            [{"query": "a"}, {"query": "b"}],
            "row 0: none of the columns question, answer is there. Found: query. Rename them, or give their names to",
        ),
        ({}, "row 0: none of the columns"),
        (pd.DataFrame({"query": ["a"]}), "row 0: none of the columns"),
        ([PAIRS[0], {"question": "\ud800", "answer": "b"}], "row 1: 'question' is no valid text"),
        ([PAIRS[0], {"question": "a", "answer": ["b"]}], "row 1: 'answer' is list \\['b'\\], expected values of one"),
    ],
)
def test_wrong_rows_are_named(ranker: Path, rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(str(ranker), device="cpu").predict(rows)


def test_a_column_may_be_called_id(ranker: Path) -> None:
    """Ids of queries are rarely those of rows."""
    model = load(str(ranker), device="cpu", index_column="id")
    expected = load(str(ranker), device="cpu").predict(PAIRS)
    for ids in (range(len(PAIRS))[::-1], [f"q{n // 2}" for n in range(len(PAIRS))]):
        assert model.predict([row | {"id": n} for row, n in zip(PAIRS, ids, strict=True)]) == expected


def test_wrong_arguments_are_refused(ranker: Path) -> None:
    with pytest.raises(ConfigurationError, match="batch_size=-1: expected an integer of 1 or more"):
        load(str(ranker), device="cpu").predict(PAIRS, batch_size=-1)
    for flags, message in (
        ({"batch_size": "3"}, "batch_size='3': expected an integer of 1 or more"),
        ({"device": "gpu7"}, "--device gpu7"),
        ({"dtype": "int8"}, "expected float32, bfloat16 or float16"),
        ({"learning_rate": 1}, "'learning_rate' is not a flag of the inputs"),
        ({"max_sequence_length": "long"}, "--max_sequence_length: found 'long'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            load(str(ranker), **flags)


def test_joint_candidates_are_grouped_by_query_or_by_question(tmp_path: Path) -> None:
    rows = [
        {"key": key, "question": f"what about {name}?", "answer": answer}
        for key, name in enumerate(("kitten", "butter"))
        for answer in ("the rain", "a tiger and the oven", "snow")
    ]
    mixed = [rows[place] for place in (0, 3, 1, 4, 2, 5)]
    model = load(str(joint(tmp_path)), device="cpu")
    expected = {row["answer"] + row["question"]: line for row, line in zip(rows, model.predict(rows), strict=True)}
    unnamed = [{key: row[key] for key in ("question", "answer")} for row in mixed]
    for found in (model.predict(mixed), model.predict(unnamed)):
        for row, line in zip(mixed, found, strict=True):
            assert line == approx(expected[row["answer"] + row["question"]], BACKWARD)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_reads_files_and_standard_input(
    ranker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(str(ranker), device="cpu").predict(PAIRS)
    pd.DataFrame(PAIRS).to_csv(tmp_path / "new.csv", index=False)
    output = tmp_path / "out.jsonl"
    words = ("--model", ranker, "--device", "cpu", "--cache_dir", tmp_path / "cache")
    command(capsys, *words, "--input", tmp_path / "new.csv", "--output", output)
    written = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert_values_close([{key: line[key] for key in ("scores", "prediction")} for line in written], expected)
    assert [{key: row[key] for key in PAIRS[0]} for row in written] == PAIRS
    assert len(output.with_suffix(".run").read_text().splitlines()) == len(PAIRS)

    lines = "".join(json.dumps(row) + "\n" for row in PAIRS)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines.encode())))
    printed, _ = command(capsys, *words, "--input", "-", "--output", "-")
    assert_values_close([json.loads(line) for line in printed.splitlines()], written)

    broken = json.dumps({**PAIRS[0], "answer": " "})
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((lines + broken).encode())))
    _, said = command(capsys, *words, "--input", "-", "--output", "-", status=2)
    assert said.startswith(f"error: standard input:{len(PAIRS) + 1}: the text in 'answer' is null or empty.")


def test_the_command_explains_mistakes(ranker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tiny.write_jsonl(tmp_path / "new.jsonl", PAIRS)
    texts, keyed = tmp_path / "new.txt", tmp_path / "new.json"
    texts.write_text("one\ntwo\n")
    keyed.write_text(json.dumps({"rows": PAIRS}))
    (tmp_path / "bm25.run").touch()
    words = ("--model", ranker, "--device", "cpu", "--output", tmp_path / "out.jsonl")
    for given, message in (
        (("--input", tmp_path / "none.csv"), "error: --input .*none.csv: .* does not exist"),
        (
            ("--input", data, "--input_columns", "question", "anser"),
            "no column 'anser'. Did you mean 'answer'.* all with --input_col",
        ),
        (("--input", texts), r"Give --text_unit paragraph \(1 row\), line \(2 rows\)"),
        (("--input", texts, "--text_unit", "line"), "the input .* has no column 'question'.* It has: text"),
        (("--input", keyed, "--input_field", "row"), "--input_field row: .*rows"),
        (("--input", data, "--output", tmp_path / "new.csv"), "JSON lines, not .csv. Give --output .*new.jsonl"),
        (("--input", data, "--output", data), "this file exists. Add --overwrite"),
        (("--input", data, "--output", tmp_path / "bm25.jsonl"), "--output .*bm25.run: this file exists"),
        (("--input", data, "--output", tmp_path / "new.run"), "another file gets this name. Give NAME.jsonl"),
        (("--input", data, "--output", data / "a.jsonl"), "nothing can be written to .*new.jsonl "),
        (("--input", data, "--learning_rate", "1"), "--learning_rate: this run has no such flag"),
        ((), "Missing: --input"),
    ):
        _, said = command(capsys, *words, *given, status=2)
        assert re.search(message, said), said
    printed, _ = command(capsys, *words[:-1], "-", "--input", keyed, "--input_field", "rows")
    assert len(printed.splitlines()) == len(PAIRS)
    printed, _ = command(capsys, "--model", ranker, "--help")
    assert "--input_columns" in printed
    assert "--max_sequence_length" in printed


# --- embeddings ------------------------------------------------------------------------------------------------------

TOWERS = {
    "separate_towers": True,
    "query_prefix": "a query",
    "passage_prefix": "the old rain",
    "max_sequence_length": [16, 24],
    "pooling": "cls",
    "embedding_size": 8,
}
PASSAGES = [{"docid": f"d{number}", "answer": row["answer"]} for number, row in enumerate(tiny.pairs(11, 3))]


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the export of two towers with prefixes and lengths of their own."""
    folder = tmp_path_factory.mktemp("retriever")
    data = {"train_dataset": tiny.write_jsonl(folder / "train.jsonl", runs.rows_for("retrieval", 16))}
    return runs.run(folder, pipeline="retrieval", **data, **TOWERS).pre_trained_models / "final"


def embeddings_of(top: Path) -> tuple[np.ndarray, list[Any]]:
    """Return the embeddings and the ids that were written."""
    ids = top.with_name(f"{top.name}.ids.jsonl").read_text("utf-8").splitlines()
    return np.load(top.with_name(f"{top.name}.embeddings.npy")), [json.loads(line) for line in ids]


def test_texts_alone_are_embedded(retriever: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, texts = tiny.write_jsonl(tmp_path / "passages.jsonl", PASSAGES), [row["answer"] for row in PASSAGES]
    model = load(str(retriever), device="cpu", batch_size=4)
    expected, queries = model.encode(texts), model.encode(texts, embed_as="query")
    assert expected.shape == (len(texts), 8)
    assert np.abs(expected - queries).max() > 0.1, "towers and prefixes differ"
    assert_close(model.encode(texts[2]), expected[2], BACKWARD)

    flags = {name: value for name, value in TOWERS.items() if name.startswith("max") or name.endswith("prefix")}
    run = {"pipeline": "retrieval", "pre_trained_model": retriever, "label_column": None, **flags}
    run |= {"predict_dataset": data, "input_columns": "answer", "index_column": "docid"}
    folders = runs.run(tmp_path, **run)
    found, ids = embeddings_of(folders.predictions / "predict")
    assert_close(found, expected, BACKWARD)
    assert found.dtype == np.float32
    assert ids == [row["docid"] for row in PASSAGES]
    assert {path.suffix for path in folders.predictions.iterdir()} == {".npy", ".jsonl"}

    words = ("--model", retriever, "--device", "cpu", "--input", data, "--output", tmp_path / "as_query.npy")
    command(capsys, *words, "--input_columns", "answer", "--embed_as", "query", "--embeddings_dtype", "float16")
    found, ids = embeddings_of(tmp_path / "as_query")
    assert_close(found, queries.astype(np.float16), FORWARD, torch.float16)
    assert found.dtype == np.float16
    assert ids == list(range(len(texts)))

    rows = load(str(retriever), device="cpu", embed_as="passage").predict(PASSAGES)
    assert_close(np.stack([row["embedding"] for row in rows]), expected, BACKWARD)


def test_only_texts_to_predict_are_embedded(retriever: Path, ranker: Path, tmp_path: Path) -> None:
    data = tiny.write_jsonl(tmp_path / "passages.jsonl", PASSAGES)
    for flags, message in (
        ({"train_dataset": data}, "names one column, and two are needed"),
        ({"predict_dataset": data, "corpus_dataset": data}, "names one column, and two are needed"),
        ({"predict_dataset": data, "corpus_dataset": data, "embed_as": "query"}, "Give one of the two flags"),
    ):
        words = {"pipeline": "retrieval", "pre_trained_model": retriever, "input_columns": "answer", **flags}
        with pytest.raises(ConfigurationError, match=message):
            assert runs.build(runs.command(tmp_path, **words, label_column=None, index_column=None)).data
    with pytest.raises(ConfigurationError, match="this is a model of pipeline answer_selection"):
        load(str(ranker), device="cpu").encode("a")
    with pytest.raises(DataError, match="text 1: found NoneType"):
        load(str(retriever), device="cpu").encode(["a", None])  # type: ignore[list-item]


def test_an_export_of_two_towers_is_loaded_from_an_address(retriever: Path, tmp_path: Path) -> None:
    import fsspec

    texts = [row["answer"] for row in PASSAGES]
    fsspec.filesystem("memory").put(str(retriever), "/exports/two_towers", recursive=True)
    model = load("memory://exports/two_towers", device="cpu", cache_dir=str(tmp_path / "cache"))
    assert_close(model.encode(texts), load(str(retriever), device="cpu").encode(texts), BACKWARD)


@pytest.mark.slow
def test_ranks_write_one_file_of_embeddings(retriever: Path, tmp_path: Path) -> None:
    data, texts = tiny.write_jsonl(tmp_path / "passages.jsonl", PASSAGES), [row["answer"] for row in PASSAGES]
    flags = {name: value for name, value in TOWERS.items() if name.startswith("max") or name.endswith("prefix")}
    run = {"pipeline": "retrieval", "pre_trained_model": retriever, "label_column": None, **flags, "index_column": None}
    run |= {"predict_dataset": data, "input_columns": "answer", "devices": 2, "strategy": "ddp", "batch_size": 3}
    folders, _ = runs.spawn(tmp_path, **run)
    found, ids = embeddings_of(folders.predictions / "predict")
    assert_close(found, load(str(retriever), device="cpu").encode(texts), BACKWARD)
    assert ids == list(range(len(texts)))


@pytest.mark.needs("sentence_transformers")
def test_embeddings_are_those_of_sentence_transformers(retriever: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts, model = [row["answer"] for row in PASSAGES], load(str(retriever), device="cpu")
    theirs = SentenceTransformer(str(retriever), device="cpu")
    assert_close(model.encode(texts), theirs.encode_document(texts), BACKWARD)
    assert_close(model.encode(texts, embed_as="query"), theirs.encode_query(texts), BACKWARD)
