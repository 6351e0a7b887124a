"""Masking of token batches: ours beside ``DataCollatorForLanguageModeling``, by tokens and by whole words.

Rows are running text of nearly 128 tokens, tokenized and padded beforehand, the same for all. What is measured goes
from them to corrupted ids and labels; the peer's rows are lists with special tokens already marked, as ``run_mlm.py``
gives them. Then from texts: tokenizing and masking, as a share of the tokenizer's own rate. One process and thread, as
in a loader's worker.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from benchmarks.material import BATCH_SIZE, COLUMNS, MAX_LENGTH, Material, read_pairs
from benchmarks.rounds import Values, alternate, median, median_ratio, table

if TYPE_CHECKING:
    import numpy as np

PASSES = 5  # over all texts, for one value of the quick ones
PROBABILITY = 0.15
TOKENS_A_WORD = 1.2


def run(material: Material, rounds: int, clock: Callable[[], float]) -> str:
    """Return a table of rows per second."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    warnings.filterwarnings("ignore", message="Random token replacement")
    import numpy as np
    import torch
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    from transformers_framework.inputs.inputs import InputNeeds
    from transformers_framework.inputs.text import TextInputs
    from transformers_framework.processing.masking import (
        Vocabulary,
        labels_of,
        mask_tokens,
        select_tokens,
        select_words,
        sparse_labels,
    )
    from transformers_framework.processing.random import keys

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(material.model)
    vocabulary = Vocabulary.of(tokenizer, len(tokenizer))
    texts = full_windows(" ".join(text for pair in zip(*read_pairs(material), strict=True) for text in pair))
    slices = [slice(start, start + BATCH_SIZE) for start in range(0, len(texts), BATCH_SIZE)]
    columns = [{COLUMNS[0]: texts[part]} for part in slices]
    inputs = TextInputs(tokenizer, 0, input_columns=[COLUMNS[0]], max_sequence_length=[MAX_LENGTH])
    plain = [inputs.post_process(rows) for rows in columns]
    needs = InputNeeds(word_ids=True)
    of_words = TextInputs(tokenizer, 0, needs, input_columns=[COLUMNS[0]], max_sequence_length=[MAX_LENGTH])
    with_words = [of_words.post_process(rows) for rows in columns]

    def corrupt(batch: dict[str, np.ndarray], part: slice) -> object:
        ids, rows = batch["input_ids"], np.arange(part.start, part.start + len(batch["input_ids"]))
        select, change = (keys(1337, 0, rows, purpose) for purpose in ("select", "change"))
        eligible = vocabulary.eligible(ids)
        if "word_ids" in batch:
            selected = select_words(batch["word_ids"], eligible, PROBABILITY, select)
        else:
            selected = select_tokens(eligible, PROBABILITY, select)
        return mask_tokens(ids, selected, vocabulary, change), sparse_labels(labels_of(ids, selected))

    def timed(work: Callable[[slice, int], object], passes: int) -> Callable[[], float]:
        def rate() -> float:
            start = clock()
            for _ in range(passes):
                for number, part in enumerate(slices):
                    work(part, number)
            return passes * len(texts) / (clock() - start)

        return rate

    def collate(whole_words: bool) -> Callable[[slice, int], object]:
        peer = DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=PROBABILITY, whole_word_mask=whole_words, seed=1337
        )
        options = {"truncation": True, "max_length": MAX_LENGTH, "padding": True, "return_special_tokens_mask": True}
        batches = []
        for part in slices:
            # their words need the offsets of tokens in the text
            encoded = tokenizer(texts[part], return_offsets_mapping=whole_words, **options)
            count = len(encoded["input_ids"])
            batches.append([{name: values[i] for name, values in encoded.items()} for i in range(count)])
        return lambda _, number: peer([dict(row) for row in batches[number]])

    peer = "`DataCollatorForLanguageModeling`"
    tokens = {
        f"tokens: {peer}": timed(collate(False), 1),
        "tokens: transformers_framework": timed(lambda part, number: corrupt(plain[number], part), PASSES),
    }
    words = {
        f"whole words: {peer}": timed(collate(True), 1),
        "whole words: transformers_framework": timed(lambda part, number: corrupt(with_words[number], part), PASSES),
    }
    raw = {
        "limit: `encode_batch_fast`": timed(lambda part, _: inputs.backend.encode_batch_fast(texts[part]), 1),
        "texts to masked tokens": timed(lambda part, number: corrupt(inputs.post_process(columns[number]), part), 1),
        "texts to masked words": timed(lambda part, number: corrupt(of_words.post_process(columns[number]), part), 1),
    }
    return rates_table("masking", [alternate(group, rounds) for group in (tokens, words, raw)])


def full_windows(text: str, max_length: int = MAX_LENGTH) -> list[str]:
    """Return running text in pieces that have about as many tokens as an input, as pre-training reads them."""
    words = text.split(" ")
    size = int(max_length / TOKENS_A_WORD)
    return [" ".join(words[start : start + size]) for start in range(0, len(words), size)]


def rates_table(title: str, groups: Iterable[Values]) -> str:
    """Return a table of rows per second; each group has ratios to its first contender."""
    rows = []
    for values in groups:
        peer = next(iter(values))
        for name, rates in values.items():
            rows.append((name, f"{median(rates):,.0f}", f"{median_ratio(values, name, peer):.2f}"))
    return table((title, "rows/s", "ratio"), rows)
