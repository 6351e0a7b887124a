"""The peer of machine reading: what ``run_qa.py`` does before and after its model, from the description of its recipe.

Windows come from the tokenizer's ``return_overflowing_tokens`` through ``datasets.map``. Python looks for the answer of
each example, and for the best ones among the ``n_best_size`` most likely starts and ends of each window.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset

N_BEST_SIZE, MAX_ANSWER_LENGTH = 20, 30


def training_features(rows: Dataset, tokenizer: Any, **options: Any) -> Dataset:
    """Return windows with ``start_positions`` and ``end_positions``, the first token where they hold no answer.

    Args:
        rows: Rows with ``question``, ``context`` and ``answers``.
        tokenizer: A fast tokenizer that pads on the right.
        **options: ``max_length``, the longest window; ``stride``, what neighbours share; ``padding``, as the tokenizer
            has it, ``max_length`` by default of the script.
    """
    function = partial(_training_features, tokenizer=tokenizer, **options)
    return rows.map(function, batched=True, remove_columns=rows.column_names, desc="features")


def evaluation_features(rows: Dataset, tokenizer: Any, **options: Any) -> Dataset:
    """Return windows with ``example_id`` and ``offset_mapping``, which is nothing outside the context."""
    function = partial(_evaluation_features, tokenizer=tokenizer, **options)
    return rows.map(function, batched=True, remove_columns=rows.column_names, desc="features")


def _windows(rows: Mapping[str, list], tokenizer: Any, **options: Any) -> Any:
    return tokenizer(
        [question.lstrip() for question in rows["question"]],
        rows["context"],
        truncation="only_second",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        **options,
    )


def _training_features(rows: Mapping[str, list], tokenizer: Any, **options: Any) -> Any:
    features = _windows(rows, tokenizer, **options)
    examples, offsets = features.pop("overflow_to_sample_mapping"), features.pop("offset_mapping")
    features["start_positions"], features["end_positions"] = [], []
    for window, places in enumerate(offsets):
        null = features["input_ids"][window].index(tokenizer.cls_token_id)
        answers, sequences = rows["answers"][examples[window]], features.sequence_ids(window)
        start = end = null
        if answers["answer_start"]:
            begin = answers["answer_start"][0]
            stop = begin + len(answers["text"][0])
            first, last = 0, len(sequences) - 1
            while sequences[first] != 1:
                first += 1
            while sequences[last] != 1:
                last -= 1
            if places[first][0] <= begin and places[last][1] >= stop:
                while first < len(places) and places[first][0] <= begin:
                    first += 1
                while places[last][1] >= stop:
                    last -= 1
                start, end = first - 1, last + 1
        features["start_positions"].append(start)
        features["end_positions"].append(end)
    return features


def _evaluation_features(rows: Mapping[str, list], tokenizer: Any, **options: Any) -> Any:
    features = _windows(rows, tokenizer, **options)
    examples = features.pop("overflow_to_sample_mapping")
    features["example_id"] = [rows["id"][example] for example in examples]
    for window, places in enumerate(features["offset_mapping"]):
        sequences = features.sequence_ids(window)
        features["offset_mapping"][window] = [
            place if sequences[token] == 1 else None for token, place in enumerate(places)
        ]
    return features


def best_answers(
    examples: Dataset, features: Dataset, start_logits: Sequence, end_logits: Sequence, *, may_be_empty: bool = False
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, float]]:
    """Return the best answers of every example, best first, and by how much no answer exceeds them.

    Args:
        examples: Rows with ``id`` and ``context``.
        features: Windows of them.
        start_logits: Of each window ``(L,) float32``.
        end_logits: The same of ends.
        may_be_empty: Whether no answer is one of them.

    Returns:
        Answers with ``text``, ``score``, logits and ``probability``, by id; differences by id, where there may be none.
    """
    row_of = {name: row for row, name in enumerate(examples["id"])}
    of_example = collections.defaultdict(list)
    for window, feature in enumerate(features):
        of_example[row_of[feature["example_id"]]].append(window)
    answers: dict[str, list[dict[str, Any]]] = {}
    differences: dict[str, float] = {}
    for row, example in enumerate(examples):
        found: list[dict[str, Any]] = []
        null: dict[str, Any] = {"score": np.inf}
        for window in of_example[row]:
            starts, ends = start_logits[window], end_logits[window]
            places = features[window]["offset_mapping"]
            has_most_context = features[window].get("token_is_max_context")
            if (of_null := starts[0] + ends[0]) < null["score"]:
                null = {"place": (0, 0), "score": of_null, "start_logit": starts[0], "end_logit": ends[0]}
            best_starts = np.argsort(starts)[-1 : -N_BEST_SIZE - 1 : -1].tolist()
            best_ends = np.argsort(ends)[-1 : -N_BEST_SIZE - 1 : -1].tolist()
            for start in best_starts:
                for end in best_ends:
                    if start >= len(places) or end >= len(places) or not places[start] or not places[end]:
                        continue
                    if end < start or end - start + 1 > MAX_ANSWER_LENGTH:
                        continue
                    if has_most_context is not None and not has_most_context.get(str(start), False):
                        continue
                    found.append(
                        {
                            "place": (places[start][0], places[end][1]),
                            "score": starts[start] + ends[end],
                            "start_logit": starts[start],
                            "end_logit": ends[end],
                        }
                    )
        if may_be_empty:
            found.append(null)
        found = sorted(found, key=lambda answer: answer["score"], reverse=True)[:N_BEST_SIZE]
        for answer in found:
            begin, stop = answer.pop("place")
            answer["text"] = example["context"][begin:stop]
        if not found:
            found = [{"text": "empty", "score": 0.0, "start_logit": 0.0, "end_logit": 0.0}]
        scores = np.array([answer["score"] for answer in found])
        weights = np.exp(scores - scores.max())
        for answer, probability in zip(found, weights / weights.sum(), strict=True):
            answer["probability"] = probability
        if may_be_empty:
            best = next((answer["score"] for answer in found if answer["text"]), -np.inf)
            differences[example["id"]] = float(null["score"] - best)
        answers[example["id"]] = [
            {key: float(value) if isinstance(value, np.floating) else value for key, value in answer.items()}
            for answer in found
        ]
    return answers, differences
