"""What every benchmark stands on: texts, a tokenizer and the configuration of a small BERT."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BATCH_SIZE, MAX_LENGTH, VOCABULARY = 32, 128, 30522
COLUMNS = ("question", "answer")
SMALL_BERT = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
MIN_SENTENCE = 20  # characters
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Material(NamedTuple):
    """Files that the programs under test read.

    Args:
        train: JSON lines with ``question``, ``answer``, ``label``, ``key``.
        model: Folder with a tokenizer and a ``config.json``, but no weights.
        scratch: Folder for everything that a run writes.
        name: What the data is, for the report.
    """

    train: Path
    model: Path
    scratch: Path
    name: str


def prepare(scratch: Path, data: Path | None = None, rows: int | None = None) -> Material:
    """Write a training file of rows in random order, a WordPiece tokenizer trained on it and a model configuration.

    Args:
        scratch: Folder to write to.
        data: Folder with a ``train.jsonl``; none: the demo's data, from the documentation inside this Python.
        rows: How many rows to keep; none: whole batches of all of them.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    source = data or scratch / "documentation" / "answer_selection"
    if data is None and not source.exists():
        build = [sys.executable, ROOT / "examples" / "demo_data.py", scratch / "documentation", "--candidates", "8"]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    lines = (source / "train.jsonl").read_text("utf-8").splitlines()
    random.Random(17).shuffle(lines)
    size = min(rows or len(lines), len(lines)) // BATCH_SIZE * BATCH_SIZE
    train, model = scratch / f"train_{source.name}_{size}.jsonl", scratch / f"model_{source.name}"
    train.write_text("\n".join(lines[:size]) + "\n", "utf-8")
    if not (model / "config.json").exists():
        save_model(model, [text for line in lines for text in _texts(json.loads(line))])
    return Material(train, model, scratch, f"{data.name if data else 'documentation'}, {size} rows")


def _texts(row: Mapping[str, Any]) -> list[str]:
    return [row[column] for column in COLUMNS]


def read_pairs(material: Material) -> tuple[list[str], list[str]]:
    """Return the questions and the answers of the training file."""
    rows = [json.loads(line) for line in material.train.read_text("utf-8").splitlines()]
    first, second = zip(*map(_texts, rows), strict=True)
    return list(first), list(second)


def save_model(
    folder: Path, texts: Sequence[str], *, max_length: int = MAX_LENGTH, sizes: Mapping[str, int] = SMALL_BERT
) -> None:
    """Save the configuration of a BERT with 30522 embeddings, 11 M parameters by default, and a tokenizer for it."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertTokenizerFast

    wordpiece = BertWordPieceTokenizer(lowercase=True)
    wordpiece.train_from_iterator(texts, vocab_size=VOCABULARY, min_frequency=2, show_progress=False)
    BertTokenizerFast(tokenizer_object=wordpiece._tokenizer, model_max_length=max_length).save_pretrained(folder)
    BertConfig(vocab_size=VOCABULARY, **sizes).save_pretrained(folder)


def our_command(material: Material, name: str, *extra: str) -> list[str]:
    """Return the words of a training run without evaluation, as a user types them."""
    return [
        *("--pipeline", "answer_selection", "--model", "bert", "--name", name, "--overwrite"),
        *("--output_dir", str(material.scratch / "outputs"), "--cache_dir", str(material.scratch / "cache")),
        *("--pre_trained_config", str(material.model), "--pre_trained_tokenizer", str(material.model)),
        *("--train_dataset", str(material.train), "--input_columns", *COLUMNS, "--label_column", "label"),
        *("--batch_size", str(BATCH_SIZE), "--max_sequence_length", str(MAX_LENGTH), "--num_workers", "0"),
        *("--learning_rate", "5e-5", "--gradient_clip_val", "1.0", "--accelerator", "cpu", "--no_epoch_checkpointing"),
        *extra,
    ]


def peer_command(material: Material, *extra: str) -> list[str]:
    """Return the words of the same run for the peer's script."""
    folders = ("--data", material.train, "--model", material.model, "--scratch", material.scratch)
    return [*map(str, folders), "--batch_size", str(BATCH_SIZE), "--max_length", str(MAX_LENGTH), *extra]


def environment(threads: int, **changes: str) -> dict[str, str]:
    """Return an environment for a program under test: no hub, equal threads, the package on the path."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path, **changes}


class Texts(NamedTuple):
    """Files for pre-training.

    Args:
        running: JSON lines with a ``text`` each, of any length, to be cut into full windows.
        short: JSON lines with one sentence each.
        model: Folder with a tokenizer and a ``config.json``, but no weights.
        scratch: Folder for everything that a run writes.
        name: What the texts are, for the report.
    """

    running: Path
    short: Path
    model: Path
    scratch: Path
    name: str


def prepare_texts(scratch: Path, source: Path | None = None) -> Texts:
    """Write running texts and their sentences in random order, a tokenizer trained on them and a configuration.

    Args:
        scratch: Folder to write to.
        source: JSON lines with ``text``; none: the answers of the demo's data, from the documentation of this Python.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    if source is None:
        rows = map(json.loads, prepare(scratch).train.read_text("utf-8").splitlines())
        texts = list(dict.fromkeys(row["answer"] for row in rows))
    else:
        texts = [json.loads(line)["text"] for line in source.read_text("utf-8").splitlines()]
    name = source.parent.name if source else "documentation"
    running, short = scratch / f"running_{name}.jsonl", scratch / f"short_{name}.jsonl"
    sentences = [
        part for text in texts for part in re.split(r"(?<=[.!?]) +(?=[A-Z])", text) if len(part) > MIN_SENTENCE
    ]
    random.Random(17).shuffle(sentences)
    for file, found in ((running, texts), (short, sentences)):
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in found), "utf-8")
    model = scratch / f"model_of_{name}"
    if not (model / "config.json").exists():
        save_model(model, texts)
    return Texts(running, short, model, scratch, f"{name}, {len(texts)} texts, {len(sentences)} sentences")
