"""``--check`` shows how often each label occurs, in each stage."""

from __future__ import annotations

from typing import Any

import pytest

from tests import runs, tiny
from transformers_framework.cli.main import main

TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-MISC", "I-MISC", "B-EVE", "B-LOK"]


def words(tags: list[str]) -> dict[str, Any]:
    return {"words": ["a"] * len(tags), "labels": tags}


CASES: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "names": ("seq_class", [{"text": "a", "label": n} for n in ("no", "yes", "no")], "label: 2 × no, 1 × yes"),
    "numbers": ("seq_class", [{"text": "a", "label": n} for n in (1, 0, 1)], "label: 2 × 1, 1 × 0"),
    "lists": ("seq_class", [{"text": "a", "label": n} for n in (["x"], [], ["y", "x"])], "label: 2 × x, 1 × y"),
    "tags": ("token_class", [words(TAGS[:3]), words(["O"])], "labels: 2 × O, 1 × B-LOC, 1 × I-LOC"),
    "typo": (
        "named_entity_recognition",
        [words(TAGS), words(TAGS[:-1])],
        "2 × O, 1 other class, the rarest 1 × B-LOK",
    ),
    "answers": (
        "question_answering",
        [
            {"question": "a?", "context": "a b", "answers": {"text": texts, "answer_start": [0] * len(texts)}}
            for texts in (["a"], [], ["a"])
        ],
        "answers: 2 with an answer, 1 without",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_distribution_of_labels_is_shown(case: str, tmp_path, capsys) -> None:
    pipeline, rows, expected = CASES[case]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    main([*runs.command(tmp_path, pipeline=pipeline, model="bert", train_dataset=file), "--check"])
    assert f"{expected}\n" in capsys.readouterr().out
