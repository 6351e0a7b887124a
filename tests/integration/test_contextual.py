"""Answer selection with context: three and more segments, token types of their own, the column language."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from tests import runs, tiny
from tests.tolerances import approx, assert_close
from transformers_framework.models.segments import families_with_types

FAMILIES = [
    pytest.param(family, marks=() if family in ("bert", "roberta", "deberta_v2") else pytest.mark.slow)
    for family in families_with_types()
]
TYPES = "token_type_embeddings.weight"
COLUMNS = ["question", "answer", "before", "after"]


def in_context(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of answer selection whose candidates stand between two sentences, of which some are empty or absent."""
    draw, made = random.Random(seed), tiny.pairs(n, seed)
    for i, row in enumerate(made):
        row["before"] = made[i - 1]["answer"] if draw.random() < 0.6 and i else ""
        row["after"] = made[(i + 1) % n]["answer"] if draw.random() < 0.6 else None
    made[0]["before"], made[0]["after"] = made[3]["answer"], made[2]["answer"]
    return made


def logits_of(checkpoint: Path, texts: list[list[str]], types: list[int]) -> torch.Tensor:
    """What a checkpoint says about rows of segments, joined by hand as its tokenizer joins two."""
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    between = 2 if tokenizer.sep_token == "</s>" else 1
    logits = []
    for segments in texts:
        ids, type_ids = [tokenizer.cls_token_id], [types[0]]
        for number, text in enumerate(segments):
            last = number == len(segments) - 1
            part = tokenizer(text, add_special_tokens=False)["input_ids"]
            part += [tokenizer.sep_token_id] * (1 if last else between)
            ids += part
            type_ids += [types[min(number, len(types) - 1)]] * len(part)
        with torch.no_grad():
            logits.append(model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([type_ids])).logits[0])
    return torch.stack(logits)


def scores_of(checkpoint: Path, rows: list[dict[str, Any]], columns: list[str], types: list[int]) -> torch.Tensor:
    logits = logits_of(checkpoint, [[row[column] or "" for column in columns] for row in rows], types)
    return logits[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_more_types_than_the_model_had(family: str, tmp_path: Path) -> None:
    columns, types = COLUMNS[:3], [0, 1, 2]
    rows = in_context(24)
    flags: dict[str, Any] = {
        "model": family,
        "train_dataset": tiny.write_jsonl(tmp_path / "train.jsonl", rows),
        "test_dataset": tmp_path / "train.jsonl",
        "input_columns": columns,
        "extended_token_type_ids": types,
        "max_sequence_length": 80,
    }
    before = runs.weights(tiny.save_checkpoint(family, tmp_path / f"checkpoint-{family}", **runs.LIVELY))
    key = next((key for key in before if key.endswith(TYPES)), TYPES)
    known = before.get(key, torch.zeros(0))  # DeBERTa's checkpoints have none
    module = runs.build(runs.command(tmp_path, **flags)).module
    start = next(value.detach() for name, value in module.named_parameters() if name.endswith(key))
    assert not len(known) or torch.equal(start[: len(known)], known), "rows that the checkpoint had are kept"
    assert start.shape[0] == max(3, len(known))

    with runs.watched() as seen:
        done = runs.run(tmp_path, **flags)
    final = done.pre_trained_models / "final"
    assert AutoConfig.from_pretrained(final).type_vocab_size == start.shape[0]
    trained = next(value for name, value in seen.experiment.module.named_parameters() if name.endswith(key))
    assert not torch.equal(trained[2], start[2]), "the new row learns"
    found = torch.tensor(runs.scores(done))
    assert_close(scores_of(final, rows, columns, types), found)
    assert not torch.allclose(scores_of(final, rows, columns, [0, 1, 1]), found, atol=1e-3), "types matter"

    # the export starts another run as it is, without growing again
    again = runs.run(tmp_path, **(flags | {"name": "again", "pre_trained_model": final, "train_dataset": None}))
    assert runs.scores(again) == approx(found.tolist())


def test_the_last_type_repeats(tmp_path: Path) -> None:
    rows = in_context(24)
    done = runs.run(
        tmp_path,
        train_dataset=tiny.write_jsonl(tmp_path / "train.jsonl", rows),
        predict_dataset=tmp_path / "train.jsonl",
        input_columns=COLUMNS,
        extended_token_type_ids=[0, 1],
        max_sequence_length=100,
    )
    final = done.pre_trained_models / "final"
    found = torch.tensor(runs.scores(done, "predict"))
    assert_close(scores_of(final, rows, COLUMNS, [0, 1, 1, 1]), found)


def test_column_language(tmp_path: Path) -> None:
    """Columns that are joined by the program are as columns that were joined before."""
    draw = random.Random(1)
    marked, plain = [], []
    for row in tiny.pairs(24):
        context = [[], ["one."], ["first.", "second sentence."]][draw.randrange(3)]
        words, title = row["answer"].split(), draw.choice(["a title", "the"])
        marked.append(row | {"title": title, "words": words, "context": context})
        plain.append(
            {"label": row["label"], "key": row["key"], "q": f"{title} {row['question']}", "a": " ".join(words)}
            | {"context": context}
        )
    both = []
    for name, rows, columns in (
        ("marked", marked, ["title:question", "+words", "*context"]),
        ("plain", plain, ["q", "a", "*context"]),
    ):
        source = tiny.write_jsonl(tmp_path / f"{name}.jsonl", rows)
        done = runs.run(tmp_path, name=name, train_dataset=source, test_dataset=source, input_columns=columns)
        both.append(runs.scores(done))
    assert both[0] == approx(both[1])  # to the float, but rows are batched by other lengths
    texts = [[row["q"], row["a"], *row["context"]] for row in plain]  # two, three or four segments a row
    logits = logits_of(done.pre_trained_models / "final", texts, [0, 1])
    assert_close(logits[:, 0], torch.tensor(both[1]))


def test_needed_texts_may_not_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = in_context(24)
    rows[5]["answer"] = "  "
    source = tiny.write_jsonl(tmp_path / "train.jsonl", rows)
    runs.run(tmp_path, status=2, train_dataset=source, input_columns=COLUMNS)
    assert "train.jsonl:6" in capsys.readouterr().err


def test_a_family_without_types_refuses_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tiny.write_jsonl(tmp_path / "train.jsonl", in_context(24))
    flags = {"input_columns": COLUMNS, "extended_token_type_ids": [0, 1, 2]}
    runs.run(tmp_path, status=2, model="distilbert", train_dataset=source, **flags)
    assert "--extended_token_type_ids" in capsys.readouterr().err
