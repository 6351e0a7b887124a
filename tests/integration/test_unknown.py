"""Words that a tokenizer does not know are counted, and many of them are said loudly: nothing else would tell."""

from __future__ import annotations

import logging
from typing import Any
from unicodedata import normalize

import pytest
from tokenizers.normalizers import BertNormalizer

from tests import runs, tiny
from tests.cases import CASES
from transformers_framework.cli.main import main
from transformers_framework.data import unknown
from transformers_framework.data.unknown import MAX_SHARE, report_unknown, unknown_tokens
from transformers_framework.registry import PIPELINES

FOREIGN = "雨 ☃ № ж"


def foreign(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every second row begins with words that a tokenizer of English does not know."""
    return [{**row, "text": f"{FOREIGN} {row['text']}"} if i % 2 else row for i, row in enumerate(rows)]


def share_of(tokenizer: Any, rows: list[dict[str, Any]]) -> float:
    ids = [number for row in rows for number in tokenizer(row["text"], add_special_tokens=False)["input_ids"]]
    return ids.count(tokenizer.unk_token_id) / len(ids)


@pytest.mark.parametrize("family", ["bert", "albert"])
@pytest.mark.parametrize("rows", [tiny.classes(40, 0), foreign(tiny.classes(40, 0))], ids=["known", "foreign"])
def test_the_share_is_that_of_the_tokens(
    family: str, rows: list[dict[str, Any]], tmp_path, capsys, monkeypatch
) -> None:
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    expected = share_of(tiny.tokenizer_for(family), rows)
    words = runs.command(tmp_path, pipeline="seq_class", model=family, train_dataset=file)
    assert main([*words, "--check"]) == 0
    printed = capsys.readouterr().out
    assert f"{100 * expected:.1f} % of the tokens are unknown" in printed
    assert ("WARNING" in printed) == (expected > MAX_SHARE) == (rows[1]["text"].startswith(FOREIGN))
    levels: list[int] = []
    monkeypatch.setattr(unknown.logger, "log", lambda level, *_: levels.append(level))
    report_unknown(runs.build(words).data)
    assert levels == ([logging.WARNING if expected > MAX_SHARE else logging.INFO] if expected else [])


@pytest.mark.parametrize("pipeline", sorted(PIPELINES))
def test_every_pipeline_is_counted(pipeline: str, tmp_path) -> None:
    words = runs.command(tmp_path, pipeline=pipeline, model=CASES.get(pipeline, CASES["seq_class"]).family)
    data = runs.build(words).data
    for stage in data.sources:
        found = unknown_tokens(data, stage)
        assert not found.share
        assert not found.empty


def test_texts_of_which_nothing_is_left_are_said(tmp_path) -> None:
    """A byte-level vocabulary without the bytes of a script makes no token of it, not even an unknown one."""
    from tests.unit.processing.test_words import other_script

    folder = tmp_path / "model"
    tokenizer = other_script()
    tokenizer.save_pretrained(folder)
    tiny.config_for("roberta", vocab_size=len(tokenizer)).save_pretrained(folder)
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", [*tiny.classes(3, 0), {"text": "สวัสดี", "label": 0}])
    words = runs.command(tmp_path, pipeline="seq_class", model="roberta", pre_trained_config=folder, train_dataset=file)
    found = unknown_tokens(runs.build(words).data, "train")
    assert str(found).startswith("75.0 % of the texts have no token")
    assert found.is_much


@pytest.mark.parametrize("pipeline", ["seq_class", "token_class"])
def test_removed_vowel_signs_are_a_warning_and_accents_are_none(pipeline: str, tmp_path, capsys, monkeypatch) -> None:
    """Of words too, which are rewritten to windows before training."""
    folder = tmp_path / "model"
    tokenizer = tiny.tokenizer_for("bert")
    tokenizer.backend_tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.save_pretrained(folder)
    tiny.config_for("bert", vocab_size=len(tokenizer)).save_pretrained(folder)
    hindi, french = (
        {"text": text, "words": text.split(), "tags": ["O", "B-X"], "label": "x"} for text in ("पेशा क्या", "été é")
    )
    flags = {"input_columns": ["words"], "label_column": "tags"} if pipeline == "token_class" else {}
    warned: list[str] = []
    monkeypatch.setattr(unknown.logger, "warning", lambda text, *given: warned.append(text % given))
    for rows, is_lost in (([hindi] * 4, True), ([french] * 4, False)):
        if pipeline == "seq_class":
            rows = [{**row, "label": label} for row in rows for label in ("a", "b")]
        file = tiny.write_jsonl(tmp_path / f"{is_lost}.jsonl", rows)
        words = runs.command(
            tmp_path, pipeline=pipeline, model="bert", pre_trained_config=folder, train_dataset=file, **flags
        )
        main([*words, "--check"])
        printed = capsys.readouterr().out
        assert "per word" in printed
        said = "the tokenizer removes vowel signs and other marks, 22.2 % of the characters ('पेशा' is read as 'पशा')"
        assert (f"WARNING: {said}" in printed) == is_lost
        report_unknown(runs.build(words).data)
        assert [text.startswith(f"train: {said}") for text in warned] == [True]  # of Hindi only


def test_accents_as_separate_characters_are_named(tmp_path, capsys) -> None:
    """The tokenizer knows the letters with accents: a tokenizer of another language is not the remedy."""
    folder = tmp_path / "model"
    tokenizer = tiny.tokenizer_for("bert")
    tokenizer.backend_tokenizer.normalizer = BertNormalizer(lowercase=False)
    tokenizer.add_tokens(["ρέα", "λίγο"])
    tokenizer.save_pretrained(folder)
    tiny.config_for("bert", vocab_size=len(tokenizer)).save_pretrained(folder)
    for form, is_told in (("NFD", True), ("NFC", False)):
        rows = [{"text": normalize(form, f"the ρέα and λίγο {'rain' * label}"), "label": label} for label in (0, 1)]
        words = runs.command(
            tmp_path,
            pipeline="seq_class",
            model="bert",
            pre_trained_config=folder,
            train_dataset=tiny.write_jsonl(tmp_path / f"{form}.jsonl", rows),
        )
        assert main([*words, "--check"]) == 0
        printed = capsys.readouterr().out
        assert ("Convert the texts to Unicode form NFC" in printed) == is_told == ("WARNING" in printed)
        assert ("0.0 % are unknown then" in printed) == is_told
