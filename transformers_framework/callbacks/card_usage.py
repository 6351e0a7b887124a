"""How an export is used: its library and task on the hub, and a program that runs as it is in the model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers_framework.objectives.capabilities import hub_task
from transformers_framework.objectives.objective import active

if TYPE_CHECKING:
    from transformers_framework.objectives.objective import Objective

TRANSFORMERS, SENTENCE_TRANSFORMERS, OURS = "transformers", "sentence-transformers", "transformers-framework"

FOLDER = '"."  # this folder, or its name on the hub'
PIPELINE = """from transformers import pipeline

model = pipeline("{task}", model={folder}
print(model({example}))"""
TAG = """from transformers import pipeline

# as in training, the tag of a word is that of its first token
model = pipeline("token-classification", aggregation_strategy="first", model={folder}
print(model("Rembrandt painted it."))"""
RANK = """from sentence_transformers import CrossEncoder

model = CrossEncoder({folder}
print(model.rank("who painted it?", ["Rembrandt did.", "It is in Amsterdam."]))"""
EMBED = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer({folder}
queries = model.encode_query(["who painted it?"])
passages = model.encode_document(["Rembrandt did.", "It is in Amsterdam."])
print(model.similarity(queries, passages))"""
GENERATE = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

folder = {folder}
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
inputs = tokenizer({text}, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=32)[0], skip_special_tokens=True))"""
LOGITS = """from transformers import AutoTokenizer, {architecture}

folder = {folder}
tokenizer, model = AutoTokenizer.from_pretrained(folder), {architecture}.from_pretrained(folder)
print(model(**tokenizer("Rembrandt painted it.", return_tensors="pt")).logits)"""
LOAD = """from transformers_framework import load

model = load({folder}
print(model.predict({rows}))"""


@dataclass(frozen=True)
class Usage:
    """How an export is used.

    Args:
        library: The library that loads it, as the hub calls it.
        task: Its task, as the hub calls it; None if the hub has none.
        code: A program that uses it, to be run in its folder.
    """

    library: str
    task: str | None
    code: str


def usage_of(folder: Path, objectives: Sequence[Objective], options: Mapping[str, Any]) -> Usage:
    """Return how an export, or the folder of one of its heads, is used.

    Args:
        folder: The folder, with its configs.
        objectives: Objectives of the heads in the folder.
        options: Flags of the run.
    """
    import transformers

    first, *_ = active(objectives, "test")
    task, columns = hub_task(first), list(options.get("input_columns") or ())
    loaded = LOAD.format(folder=_call(), rows=json.dumps(_rows(options, first), ensure_ascii=False))
    if (folder / "modules.json").is_file():
        return Usage(SENTENCE_TRANSFORMERS, task, EMBED.format(folder=_call()))
    if not (folder / "config.json").is_file():
        return Usage(OURS, task, loaded)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    architecture = next(iter(config.get("architectures") or ()), "")
    if not hasattr(transformers, architecture):  # a class of our own
        return Usage(OURS, task, loaded)
    if task == "summarization" or architecture.endswith("ForConditionalGeneration"):
        text = json.dumps(f"{options.get('prefix') or ''}Rembrandt painted it in Amsterdam.", ensure_ascii=False)
        return Usage(TRANSFORMERS, task, GENERATE.format(folder=FOLDER, text=text))
    if task is None:
        return Usage(TRANSFORMERS, task, LOGITS.format(folder=FOLDER, architecture=architecture))
    if task == "text-ranking" and len(columns) == 2 and len(config.get("id2label") or "12") == 1:
        return Usage(TRANSFORMERS, task, RANK.format(folder=_call()))
    if task == "token-classification":
        return Usage(TRANSFORMERS, task, TAG.format(folder=_call()))
    pair = '{"text": "Rembrandt painted it.", "text_pair": "Who did?"}'
    text = pair if len(columns) == 2 else '"Rembrandt painted it."'
    examples = {
        "fill-mask": 'f"Rembrandt painted {model.tokenizer.mask_token}."',
        "text-classification": text if len(columns) <= 2 else None,
    }
    if (example := examples.get(task)) is None:
        return Usage(TRANSFORMERS, task, loaded)
    return Usage(TRANSFORMERS, task, PIPELINE.format(task=task, folder=_call(), example=example))


def _call() -> str:
    """Return the folder as the last argument of a call."""
    folder, comment = FOLDER.split("  #")
    return f"{folder})  #{comment}"


def _rows(options: Mapping[str, Any], objective: Objective) -> list[dict[str, Any]]:
    """Return rows with the columns that predictions need."""
    texts = ("who painted it?", "Rembrandt did.", "It is in Amsterdam.")
    names = [options.get(flag) for flag in ("query_column", "context_column", "document_column")]
    given = options.get("input_columns") or ()
    columns = [*([given] if isinstance(given, str) else given), *filter(None, names)]
    row: dict[str, Any] = {}
    for number, name in enumerate(name for column in columns for name in str(column).split(":")):
        text = texts[number % len(texts)]
        is_list = name[:1] in "+*" or hub_task(objective) == "token-classification"
        row[name.lstrip("+*")] = text.rstrip(".?").split() if is_list else text
    return [row]
