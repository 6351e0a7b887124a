"""What fine-tuning is measured on: questions about texts, tagged words, pairs of texts; a model of MiniLM's size."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.material import prepare, save_model

READING, TAGGING, PAIRS = NAMES = ("squad", "wnut17", "snli")
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
LONGEST_INPUT = 512
QUESTIONS, SENTENCES = 5, (3, 14)  # of a context
TAGS = 13


class Tasks(NamedTuple):
    """Files that the programs under test read.

    Args:
        files: JSON lines by the task's name: ``squad`` with ``id``, ``question``, ``context`` and ``answers``,
            ``wnut17`` with ``tokens`` and ``labels``, ``snli`` with ``premise``, ``hypothesis`` and ``label``.
        model: Folder with a tokenizer and a ``config.json``; weights are not read.
        scratch: Folder for everything that a run writes.
        name: What the data is, for the report.
    """

    files: dict[str, Path]
    model: Path
    scratch: Path
    name: str

    def first(self, task: str, rows: int) -> Path:
        """Return a file of the first rows of a task: as many, or fewer where there are fewer."""
        lines = self.files[task].read_text("utf-8").splitlines()[:rows]
        file = self.scratch / f"{task}_{self.name}_{len(lines)}.jsonl"
        file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return file


def prepare_tasks(scratch: Path, source: Path | None = None, model: Path | None = None) -> Tasks:
    """Return the material, of which what is not given is made.

    Args:
        scratch: Folder to write to.
        source: Folder with a ``train.jsonl`` in a folder of each task's name; none: all is made from the documentation
            inside this Python, with answers and tags at random.
        model: Folder with a tokenizer and a BERT's configuration; none: 6 layers of 384, and WordPiece of the texts.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    if source is None:
        lines = prepare(scratch).train.read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        made = {READING: _questions(rows), TAGGING: _tagged(rows), PAIRS: _pairs(rows)}
        files = {task: scratch / f"{task}.jsonl" for task in NAMES}
        for task, rows_of_task in made.items():
            files[task].write_text("".join(json.dumps(row) + "\n" for row in rows_of_task), "utf-8")
    else:
        files = {task: source / task / "train.jsonl" for task in NAMES}
    name = source.name if source else "documentation"
    if model is None and not (model := scratch / f"minilm_of_{name}").exists():
        texts = [json.loads(line)["context"] for line in files[READING].read_text("utf-8").splitlines()]
        save_model(model, sorted(set(texts)), max_length=LONGEST_INPUT, sizes=MINILM)
    return Tasks(files, model, scratch, name)


def _questions(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield questions about contexts of several sentences, each with some of their words as its answer."""
    draw = random.Random(17)
    sentences = list(dict.fromkeys(row["answer"] for row in rows))
    questions = [row["question"] for row in rows]
    number = 0
    while len(sentences) >= (size := draw.randint(*SENTENCES)):
        context = " ".join(sentences.pop() for _ in range(size))
        for _ in range(QUESTIONS):
            words = context.split(" ")
            first = draw.randrange(len(words))
            text = " ".join(words[first : first + draw.randint(1, 4)])
            answers = {"text": [text], "answer_start": [len(" ".join(words[:first])) + bool(first)]}
            yield {"id": str(number), "question": draw.choice(questions), "context": context, "answers": answers}
            number += 1


def _tagged(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    draw = random.Random(17)
    for row in rows:
        tokens = row["answer"].split()
        yield {"tokens": tokens, "labels": [draw.randrange(TAGS) for _ in tokens]}


def _pairs(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {"premise": row["answer"], "hypothesis": row["question"], "label": row["label"]}
