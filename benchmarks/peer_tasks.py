"""The peers of fine-tuning: the recipes of transformers' ``run_qa.py``, ``run_ner.py`` and ``run_glue.py``."""

from __future__ import annotations

from itertools import chain
from typing import Any

from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    set_seed,
)

from benchmarks.peer import load_rows, shared_arguments, train
from benchmarks.peer_reading import training_features
from benchmarks.tasks import NAMES, PAIRS, READING

HEADS = dict(
    zip(
        NAMES,
        (AutoModelForQuestionAnswering, AutoModelForTokenClassification, AutoModelForSequenceClassification),
        strict=True,
    )
)


def features(task: str, rows: Dataset, tokenizer: Any, max_length: int, doc_stride: int) -> Dataset:
    """Return rows as a recipe makes them before training."""
    if task == READING:
        return training_features(rows, tokenizer, max_length=max_length, stride=doc_stride)

    def pairs(rows: dict) -> dict:
        encoded = tokenizer(rows["premise"], rows["hypothesis"], truncation=True, max_length=max_length)
        return {**encoded, "labels": rows["label"]}

    def words(rows: dict) -> dict:
        encoded = tokenizer(rows["tokens"], is_split_into_words=True, truncation=True, max_length=max_length)
        encoded["labels"] = []
        for number, labels in enumerate(rows["labels"]):
            of_tokens, words = [], encoded.word_ids(number)
            for before, word in zip([None, *words], words, strict=False):
                of_tokens.append(-100 if word is None or word == before else labels[word])
            encoded["labels"].append(of_tokens)
        return encoded

    return rows.map(pairs if task == PAIRS else words, batched=True, remove_columns=rows.column_names)


def main() -> None:
    parser = shared_arguments(__doc__)
    parser.add_argument("--task", choices=NAMES, required=True)
    parser.add_argument("--doc_stride", type=int, default=128)
    args = parser.parse_args()

    set_seed(1337)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    rows = load_rows(args)
    options = {}
    if args.task != READING:
        labels = rows["label"] if args.task == PAIRS else chain.from_iterable(rows["labels"])
        options = {"num_labels": max(labels) + 1}
    model = HEADS[args.task].from_config(AutoConfig.from_pretrained(args.model, **options))
    dataset = features(args.task, rows, tokenizer, args.max_length, args.doc_stride)
    is_tagging = HEADS[args.task] is AutoModelForTokenClassification
    collator = (DataCollatorForTokenClassification if is_tagging else DataCollatorWithPadding)(tokenizer)
    train(args, model, tokenizer, dataset, collator, num_train_epochs=1)


if __name__ == "__main__":
    main()
