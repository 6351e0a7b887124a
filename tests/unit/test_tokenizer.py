"""The command that trains tokenizers: from any source of texts, written whole or not at all, a message a mistake."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests import tiny
from transformers_framework import tokenizer as command


@pytest.fixture(autouse=True)
def messages_go_to_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler keeps the stream that was there when it was made, and each test has another."""
    package = logging.getLogger("transformers_framework")
    for name, value in {"handlers": [], "propagate": True}.items():
        monkeypatch.setattr(package, name, value)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i, part in enumerate((tiny.TEXT[:40], tiny.TEXT[40:])):
        (folder / f"{i}.txt").write_text("\n\n".join(part), encoding="utf-8")
    return folder


def words(folder: Path, **flags: Any) -> list[str]:
    given = {"input": folder / "texts", "output": folder / "out", "vocab_size": 300, "cache_dir": folder / "c", **flags}
    return [
        word
        for name, value in given.items()
        for word in (f"--{name}", *map(str, value if isinstance(value, list) else [value]))
    ]


def test_every_source_of_the_same_texts_makes_the_same_tokenizer(tmp_path: Path, texts: Path, capsys: Any) -> None:
    rows = [{"body": text, "words": text.split(), "n": 1} for text in tiny.TEXT]
    tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "rows.json").write_text(json.dumps({"data": rows}), encoding="utf-8")
    (tmp_path / "rows.csv").write_text("text\n" + "\n".join(json.dumps(text) for text in ("a b", "b c")), "utf-8")
    sources: dict[str, dict[str, Any]] = {
        "folder": {},
        "glob": {"input": texts / "*.txt", "text_unit": "paragraph"},
        "files": {"input": [texts / "1.txt", texts / "0.txt"], "text_unit": "file"},
        "jsonl": {"input": tmp_path / "rows.jsonl", "input_columns": "body"},
        "lists": {"input": tmp_path / "rows.jsonl", "input_columns": "+words"},
        "lists by name": {"input": tmp_path / "rows.jsonl", "input_columns": "words"},
        "json": {"input": tmp_path / "rows.json", "input_columns": "body", "input_field": "data"},
    }
    made = {}
    for name, flags in sources.items():
        assert command.main(words(tmp_path, output=tmp_path / name, **flags)) == 0, capsys.readouterr().err
        made[name] = (tmp_path / name / "tokenizer.json").read_bytes()
    assert len(set(made.values())) == 1, {name: len(text) for name, text in made.items()}
    told = capsys.readouterr()
    assert "300 tokens. To train a model from scratch with it: --model bert --pre_trained_config bert:tiny" in told.out
    assert "longer than" not in told.err
    assert "tokens per word, 0.00 % of them unknown, in the first" in told.err
    assert len(AutoTokenizer.from_pretrained(tmp_path / "json")) == 300
    assert command.main(words(tmp_path, input=tmp_path / "rows.jsonl", output=tmp_path / "b", input_columns="bdy")) == 2
    assert "--input_columns: the input" in (said := capsys.readouterr().err)
    assert "Did you mean 'body'? It has: body, words, n." in said


def test_a_vocabulary_that_the_texts_do_not_fill_is_reported(tmp_path: Path, texts: Path, capsys: Any) -> None:
    assert command.main(words(tmp_path, vocab_size=32_000, model="t5", model_max_length=99)) == 0
    made = AutoTokenizer.from_pretrained(tmp_path / "out")
    told = capsys.readouterr().err
    assert f"asked for 32,000 tokens, the texts yield {len(made):,}: no further pieces occur twice" in told
    assert (type(made).__name__, made.model_max_length) == ("T5Tokenizer", 99)


@pytest.mark.parametrize(
    ("type", "model", "length"), [("bpe", "roberta", 512), ("unigram", "xlm-roberta", 512), (None, "bert", 512)]
)
def test_a_type_has_a_family_and_a_family_its_length(type, model, length, tmp_path, texts) -> None:
    made = command.train_tokenizer(
        input=[str(texts)], output=str(tmp_path / "out"), type=type, vocab_size=400, cache_dir=str(tmp_path / "c")
    )
    assert (made.model_max_length, made.all_special_tokens) == (
        length,
        tiny_special(model),
    )


def tiny_special(model: str) -> list[str]:
    return tiny.tokenizer_for(model).all_special_tokens


def test_a_tokenizer_is_replaced_only_when_asked_and_other_files_never(
    tmp_path: Path, texts: Path, capsys: Any
) -> None:
    assert command.main(words(tmp_path)) == 0
    before = (tmp_path / "out" / "tokenizer.json").read_bytes()
    assert command.main(words(tmp_path, vocab_size=200)) == 2
    assert "this tokenizer exists. Add --overwrite to replace it" in capsys.readouterr().err
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == before
    assert command.main([*words(tmp_path, vocab_size=200), "--overwrite"]) == 0
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 200
    assert command.main([*words(tmp_path, output=texts), "--overwrite"]) == 2
    assert "this folder has other files, such as 0.txt" in capsys.readouterr().err
    assert sorted(path.name for path in texts.iterdir()) == ["0.txt", "1.txt"]


def test_a_failure_leaves_no_folder(tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers_framework.models.new_tokenizer.save_tokenizer", full)
    assert command.main(words(tmp_path)) == 2
    assert "it cannot be written (No space left on device)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "texts"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vocab_size": 40}, "tokens. Give more, or less --character_coverage, or --type bpe"),
        ({"vocab_size": 200, "type": "bpe"}, "special tokens and the 256 bytes alone are 261 tokens. Give more.\n"),
        ({"vocab_size": 0}, "--vocab_size: found '0', expected an integer at least 1."),
        ({"model": "brt"}, "--model: unknown model 'brt'. Did you mean 'bert'? Known: "),
        ({"model": "luke"}, "--model luke: no tokenizer can be trained: its entities have a vocabulary of their own"),
        ({"model": "auto"}, "--model auto: no tokenizer can be trained: it is the family that a checkpoint names."),
        ({"type": "words"}, "expected one of wordpiece, bpe, unigram"),
        ({"input": "./nowhere"}, "--input ./nowhere: "),
        ({"input": "{tmp}/empty"}, "--input {tmp}/empty: no row has a visible character in text. Give texts."),
        ({"input": "{tmp}/none"}, "--input {tmp}/none: the folder has no saved data set and no data files"),
        ({"input_field": "rows"}, "--input_field rows: only JSON files have keys of rows"),
        ({"input_columns": "body"}, "--input_columns: the input ({tmp}/texts) has no column 'body'. It has: text."),
        ({"character_coverage": 0}, "--character_coverage: found '0'"),
        ({"vocab": 40}, "Did you mean '--vocab_size'?"),
        ({"output": "{tmp}/texts/0.txt"}, "this is a file. Give a folder."),
        ({"output": "{tmp}/texts/0.txt/new"}, "nothing can be written to {tmp}/texts/0.txt"),
    ],
)
def test_a_mistake_is_one_message(tmp_path: Path, texts: Path, capsys: Any, changes: Any, says: str) -> None:
    (tmp_path / "none").mkdir()
    tiny.write_jsonl((tmp_path / "empty.jsonl"), [{"text": " "}, {"text": None}])
    if changes.get("input") == "{tmp}/empty":
        changes, says = {"input": "{tmp}/empty.jsonl"}, says.replace("empty", "empty.jsonl")
    changed = {name: str(value).format(tmp=tmp_path) for name, value in changes.items()}
    assert command.main(words(tmp_path, **changed)) == 2
    said = capsys.readouterr().err
    assert says.format(tmp=tmp_path) in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_the_help(capsys: Any) -> None:
    assert command.main(["--vocab_size", "9"]) == 2
    assert "Missing: --input, --output." in capsys.readouterr().err
    assert command.main([]) == 2
    assert command.main(["--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: {command.USAGE}")
    assert "--type {wordpiece,bpe,unigram}" in told
