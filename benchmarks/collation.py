"""From texts to tensors: our collator beside transformers', as shares of what the fast tokenizer does alone.

With cached tokens (``--cache_tokens``, in epochs after the first), batches are read from memory-mapped files.

The limit is ``encode_batch_fast`` on the same pairs in the same batches: ids in Rust, without truncation, padding or
tensors. One process; ``TOKENIZERS_PARALLELISM=false`` as in a loader's worker.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

from benchmarks.material import BATCH_SIZE, COLUMNS, MAX_LENGTH, Material, read_pairs
from benchmarks.rounds import alternate, median, median_ratio, table

PASSES = 3  # over all texts, for one value


def run(material: Material, rounds: int, clock: Callable[[], float]) -> str:
    """Return a table of rows per second."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    from datasets import Dataset
    from transformers import AutoTokenizer, DataCollatorWithPadding

    from transformers_framework.data.collator import Collator
    from transformers_framework.data.loader import RowReader
    from transformers_framework.data.preparation import Preparation
    from transformers_framework.data.sampler import BatchRequest
    from transformers_framework.inputs.text import TextInputs
    from transformers_framework.objectives.answer_selection import AnswerSelection
    from transformers_framework.objectives.objective import Setup
    from transformers_framework.sources.columns import DatasetSource

    tokenizer = AutoTokenizer.from_pretrained(material.model)
    first, second = read_pairs(material)
    batches = [slice(start, start + BATCH_SIZE) for start in range(0, len(first), BATCH_SIZE)]
    columns = [
        {COLUMNS[0]: first[part], COLUMNS[1]: second[part], "label": [0, 1] * (BATCH_SIZE // 2)} for part in batches
    ]
    pairs = [list(zip(first[part], second[part], strict=True)) for part in batches]
    requests = [BatchRequest(0, tuple(range(part.start, part.stop))) for part in batches]

    objective = AnswerSelection(Setup(), label_column="label", index_column="key")
    objective.classes.fix_classes(trains=False)
    inputs = TextInputs(tokenizer, 2, input_columns=list(COLUMNS), max_sequence_length=[MAX_LENGTH])
    collator = Collator(inputs, [objective], "train", seed=1337)
    pad = DataCollatorWithPadding(tokenizer)
    texts = Dataset.from_dict({COLUMNS[0]: first, COLUMNS[1]: second, "label": [0, 1] * (len(first) // 2)})
    folder = tempfile.TemporaryDirectory()
    source = DatasetSource("train", "pairs", str)
    tokens = Preparation(cache_dir=folder.name).tokens(texts, inputs, COLUMNS, source, is_worth=True)
    assert tokens is not None
    size = sum(file.stat().st_size for file in tokens.folder.iterdir())
    reader = RowReader(texts, ("label",), tokens=tokens)
    limit = inputs.backend

    def tokenize_and_pad(rows: dict) -> object:
        encoded = tokenizer(rows[COLUMNS[0]], rows[COLUMNS[1]], truncation=True, max_length=MAX_LENGTH)
        return pad({**encoded, "labels": rows["label"]})

    contenders = {
        "limit: `encode_batch_fast`": lambda: [limit.encode_batch_fast(batch) for batch in pairs],
        "transformers_framework": lambda: [collator(batch) for batch in zip(requests, columns, strict=True)],
        "transformers_framework, cached tokens": lambda: [collator(reader[request]) for request in requests],
        "transformers: tokenizer, `DataCollatorWithPadding`": lambda: [tokenize_and_pad(rows) for rows in columns],
    }

    def rate(work: Callable[[], object]) -> Callable[[], float]:
        def timed() -> float:
            start = clock()
            for _ in range(PASSES):
                work()
            return PASSES * len(first) / (clock() - start)

        return timed

    for work in contenders.values():
        work()
    values = alternate({name: rate(work) for name, work in contenders.items()}, rounds)
    peer = next(iter(contenders))
    rows = [
        (name, f"{median(rates):,.0f}", f"{median_ratio(values, name, peer):.2f}") for name, rates in values.items()
    ]
    folder.cleanup()
    characters = sum(map(len, (*first, *second)))
    note = f"\n\nCached tokens: {size / len(first):.0f} bytes per row, for {characters / len(first):.0f} characters."
    return table(("collation", "rows/s", "share of the limit"), rows) + note
