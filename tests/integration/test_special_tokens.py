"""No special token comes from a text, in any pipeline: a model reads those that stand around texts, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import runs, tiny
from tests.cases import CASES
from transformers_framework.data.unknown import clean_ids

TEXTS = ("what is near the sea", "the old storm", "a tiger and a spoon")


def rows_of(written: str) -> list[dict[str, Any]]:
    """Rows for every pipeline; what is written stands at the beginning, in the middle and at the end of all texts."""
    rows = []
    for number in range(8):
        question, answer, text = (f"{written} {part} {written} {part} {written}".strip() for part in TEXTS)
        words = [word for word in text.split() if word]
        rows.append({
            "question": f"{question} {number // 4}", "answer": f"{answer} {number}", "key": number // 4, "text": text,
            "label": number % 2, "words": words, "labels": ["B-x", *["O"] * (len(words) - 1)], "summary": answer,
            "context": f"{text} moon", "answers": {"text": ["moon"], "answer_start": [len(text) + 1]},
        })  # fmt: skip
    return rows


def counts_of(tmp_path: Path, pipeline: str, family: str, written: str) -> set[int]:
    """How many special tokens rows have before they are corrupted, each window of a long one too."""
    file = tiny.write_jsonl(tmp_path / f"{len(written)}.jsonl", rows_of(written))
    long = {} if pipeline == "summarization" else {"max_sequence_length": 120}
    data = runs.build(runs.command(tmp_path, pipeline=pipeline, model=family, train_dataset=file, **long)).data
    tokenizer = data.inputs.tokenizer
    special = [i for i in tokenizer.all_special_ids if i not in (tokenizer.unk_token_id, tokenizer.pad_token_id)]
    batches = list(clean_ids(data, "train"))
    assert not any((ids == tokenizer.pad_token_id).any() for ids in batches)
    return {int(count) for ids in batches for count in np.isin(ids, special).sum(axis=1)}


PAIRS = [*((pipeline, CASES[pipeline].family) for pipeline in sorted(CASES)), ("seq_class", "bart")]


@pytest.mark.parametrize(("pipeline", "family"), PAIRS)
def test_rows_have_the_special_tokens_of_texts_without_any(pipeline: str, family: str, tmp_path: Path) -> None:
    spelled = " ".join(tiny.tokenizer_for(family).all_special_tokens[:7])
    found = counts_of(tmp_path, pipeline, family, spelled)
    assert found == counts_of(tmp_path, pipeline, family, "")
    assert max(found) > 0
