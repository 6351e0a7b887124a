"""Folders of texts, CoNLL files, SQuAD's own JSON, and JSON objects that have their rows under a key."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.sources.data_files import Reading
from transformers_framework.sources.loading import load_dataset, row_place

TEXT = "\ufeffFirst line,\nand its second.  \n\n \n\tÜmläute 漢字\n\nlast\n"
CONLL = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n# sent = 2\n# # # O\nPeter NNP B-NP B-PER\n"
CONLLU = (
    "# sent_id = 1\n# text = Vámonos al mar\n"
    "1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_\n1\tVamos\tir\tVERB\tv\t_\t0\troot\t_\t_\n2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_\n"
    "2.1\tmar\tmar\tNOUN\t_\t_\t_\t_\t_\t_\n\n"
    "1\t3 000\t3 000\tNUM\t_\t_\t0\troot\t_\t_\n"
)
SQUAD: dict[str, Any] = {
    "version": "v2.0",
    "data": [
        {
            "title": "Night Watch",
            "paragraphs": [
                {
                    "context": "Rembrandt painted it.",
                    "qas": [
                        {
                            "id": "a",
                            "question": "who?",
                            "is_impossible": False,
                            "answers": [{"text": "Rembrandt", "answer_start": 0}],
                        },
                        {"id": "b", "question": "when?", "is_impossible": True, "answers": [], "plausible_answers": []},
                    ],
                }
            ],
        }
    ],
}
ANSWERED = {"text": ["Rembrandt"], "answer_start": [0]}
ROWS = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    def loaded(source: Path | str, **reading: Any) -> list[dict[str, Any]]:
        stage, how = reading.get("stage", "train"), Reading(**reading)
        return load_dataset(str(source), cache_dir=tmp_path / "cache", stage=stage, reading=how).to_list()

    return loaded


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("unit", "texts", "lines"),
    [
        ("file", ["First line,\nand its second.  \n\n \n\tÜmläute 漢字\n\nlast"], [1]),
        ("paragraph", ["First line,\nand its second.", "Ümläute 漢字", "last"], [1, 5, 7]),
        ("line", ["First line,", "and its second.", "Ümläute 漢字", "last"], [1, 2, 5, 7]),
    ],
)
def test_rows_of_a_text(unit: str, texts: list[str], lines: list[int], tmp_path: Path, load: Any) -> None:
    path = written(tmp_path / "a.txt", TEXT)
    assert [row["text"] for row in load(path, text_unit=unit)] == texts
    which: dict[str, Any] = {"cache_dir": tmp_path / "cache", "reading": Reading(text_unit=unit)}
    assert [row_place(str(path), row, **which) for row in range(len(lines))] == [f"{path}:{line}" for line in lines]


def test_a_folder_of_texts_has_one_per_file_and_a_single_file_must_say_what_a_row_is(tmp_path: Path, load: Any) -> None:
    for name, text in (("b", "two"), ("a", "one"), (".hidden", "no"), ("c", "three\n\nfour")):
        written(tmp_path / f"texts/{name}.txt", text)
    assert [row["text"] for row in load(tmp_path / "texts")] == ["one", "two", "three\n\nfour"]
    assert [row["text"] for row in load(tmp_path / "texts/[ab].txt")] == ["one", "two"]
    assert [row["text"] for row in load(tmp_path / "texts", text_unit="paragraph")] == ["one", "two", "three", "four"]
    with pytest.raises(DataError, match=r"c\.txt: what is a row .* paragraph \(2 rows\), line \(2 rows\), file"):
        load(tmp_path / "texts/c.txt")
    with gzip.open(tmp_path / "d.txt.gz", "wt") as file:
        file.write("x\ny")
    assert load(tmp_path / "d.txt.gz", text_unit="line") == [{"text": "x"}, {"text": "y"}]


def test_texts_beside_other_data_are_no_data(tmp_path: Path, load: Any) -> None:
    written(tmp_path / "d/README.txt", "notes")
    written(tmp_path / "d/rows.jsonl", json.dumps(ROWS[0]))
    assert load(tmp_path / "d") == ROWS[:1]


def test_conll(tmp_path: Path, load: Any) -> None:
    path = written(tmp_path / "a.conll", CONLL)
    rows = load(path)
    assert rows == [
        {
            "words": ["EU", "rejects"],
            "pos": ["NNP", "VBZ"],
            "chunks": ["B-NP", "B-VP"],
            "labels": ["B-ORG", "O"],
        },
        {"words": ["#", "Peter"], "pos": ["#", "NNP"], "chunks": ["#", "B-NP"], "labels": ["O", "B-PER"]},
    ]
    assert [row_place(str(path), row, cache_dir=tmp_path / "cache") for row in (0, 1)] == [f"{path}:3", f"{path}:7"]
    assert load(written(tmp_path / "b.txt", "a\tB-x\nb\tI-x\n\n\n#c\tO\n#\tO\n"), text_unit="conll") == [
        {"words": ["a", "b"], "labels": ["B-x", "I-x"]},
        {"words": ["#c", "#"], "labels": ["O", "O"]},
    ]


@pytest.mark.parametrize("suffix", [".iob", ".IOB2", ".bio", ".bio.gz"])
def test_conll_by_other_names(suffix: str, tmp_path: Path, load: Any) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes((gzip.compress if suffix.endswith(".gz") else bytes)(b"Peter B-PER\nleft O\n"))
    assert load(path) == [{"words": ["Peter", "left"], "labels": ["B-PER", "O"]}]


def test_words_are_enough_to_predict(tmp_path: Path, load: Any) -> None:
    path = written(tmp_path / "a.conll", "EU\nrejects\n\nPeter\n")
    assert load(path, stage="predict") == [{"words": ["EU", "rejects"]}, {"words": ["Peter"]}]
    with pytest.raises(DataError, match="found 5 columns, expected 1 to 4"):
        load(written(tmp_path / "b.conll", "a b c d e\n"), stage="predict")


def test_conllu_has_the_words_of_the_syntax(tmp_path: Path, load: Any) -> None:
    assert load(written(tmp_path / "a.conllu", CONLLU)) == [
        {"words": ["Vamos", "nos"], "lemmas": ["ir", "nosotros"], "upos": ["VERB", "PRON"], "xpos": ["v", "_"]},
        {"words": ["3 000"], "lemmas": ["3 000"], "upos": ["NUM"], "xpos": ["_"]},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a O\nb\n", r"a\.conll:2: found 1 column, but the lines before have 2: 'b'"),
        ("word\n", r"a\.conll:1: found 1 column, expected 2 to 4, or the 10 of CoNLL-U: 'word'"),
        ("a b c d e\n", r"a\.conll:1: found 5 columns, expected 2 to 4"),
        ("a O\n\n\nb NN O\n", r"a\.conll:4: found 3 columns, but the lines before have 2"),
        ("\n# nothing here\n", "the data set has no rows"),
    ],
)
def test_broken_conll(text: str, message: str, tmp_path: Path, load: Any) -> None:
    with pytest.raises(DataError, match=message):
        load(written(tmp_path / "a.conll", text))


@pytest.mark.parametrize("indent", [None, 2])
def test_squad_as_it_is_published(indent: int | None, tmp_path: Path, load: Any) -> None:
    path = written(tmp_path / "dev-v2.0.json", json.dumps(SQUAD, indent=indent))
    shared = {"title": "Night Watch", "context": "Rembrandt painted it."}
    assert load(path) == [
        {"id": "a", **shared, "question": "who?", "answers": ANSWERED},
        {"id": "b", **shared, "question": "when?", "answers": {"text": [], "answer_start": []}},
    ]
    broken = json.loads(json.dumps(SQUAD))
    del broken["data"][0]["paragraphs"][0]["qas"][1]["question"]
    with pytest.raises(DataError, match=r"b\.json: this is not SQuAD's format: KeyError: 'question'"):
        load(written(tmp_path / "b.json", json.dumps(broken, indent=indent)))


@pytest.mark.parametrize("indent", [None, 1])
def test_rows_under_a_key(indent: int | None, tmp_path: Path, load: Any) -> None:
    path = written(tmp_path / "a.json", json.dumps({"about": "x", "rows": ROWS, "others": []}, indent=indent))
    assert load(path, field="rows") == ROWS
    with pytest.raises(
        DataError, match=r"a\.json: --valid_field row: no list has this key\. Lists in it: rows, others"
    ):
        load(path, field="row", stage="valid")
    if indent:
        with pytest.raises(
            DataError, match=r"one JSON object, not a list of rows .* --train_field\. Lists in it: rows"
        ):
            load(path)
    listed = written(tmp_path / "b.json", json.dumps(ROWS, indent=indent))
    assert load(listed) == ROWS
    with pytest.raises(DataError, match=r"a list of rows, which has no keys\. Leave --train_field rows out"):
        load(listed, field="rows")


def test_only_json_has_keys(tmp_path: Path, load: Any) -> None:
    for name in ("a.csv", "a.txt"):
        with pytest.raises(ConfigurationError, match=rf"--test_field rows: only JSON files have keys .*{name}"):
            load(written(tmp_path / name, "text\nx\n"), field="rows", stage="test")


def test_json_lines_stay_json_lines(tmp_path: Path, load: Any) -> None:
    assert load(written(tmp_path / "a.json", "\n".join(map(json.dumps, ROWS)))) == ROWS
    assert load(written(tmp_path / "b.json", json.dumps(ROWS[0]))) == ROWS[:1]
    about = {"text": "the key paragraphs", "paragraphs": ["x"]}
    assert load(written(tmp_path / "c.jsonl", json.dumps(about))) == [about]
    assert load(written(tmp_path / "d.json", f"{json.dumps(about)}\n{json.dumps(about)}\n")) == [about] * 2


def test_sheets_are_refused_with_the_remedy(tmp_path: Path, load: Any) -> None:
    with pytest.raises(DataError, match=r"cannot read 'a\.xlsx'.* Save the sheet as CSV"):
        load(written(tmp_path / "a.xlsx", "PK"))
