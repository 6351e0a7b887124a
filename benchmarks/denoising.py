"""Corruption of texts for T5 and BART: ours beside the collators of public recipes, and from raw texts.

First windows that are tokenized beforehand, of the length that leaves inputs of 512 tokens after T5's corruption, and
of 512 for BART: from arrays to inputs, labels and decoder inputs, ours with the places of the labels too. Then from
texts of about such a window each: tokenizing, corrupting, tensors, as a share of the tokenizer's own rate. One process
and thread, as in a loader's worker.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.encoder_decoder import denoising_command, read, save_bart, save_t5
from benchmarks.masking import full_windows, rates_table
from benchmarks.material import Texts
from benchmarks.rounds import Values, alternate

if TYPE_CHECKING:
    import numpy as np

LENGTH = 512
BATCH_SIZE = 128  # nanoT5's
NUM_WINDOWS = 4 * BATCH_SIZE
PASSES = 5  # over all windows, for one value of the quick ones
SENTENCE_END = re.compile(r"(?<=[.!?]) +(?=[A-Z])")
SEED = 1337


def run(texts: Texts, rounds: int, clock: Callable[[], float]) -> str:
    """Return a table of rows per second."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    import torch

    torch.set_num_threads(1)
    values = [values for family in ("t5", "bart") for values in _family(family, texts, rounds, clock)]
    return rates_table("denoising", values)


def _family(family: str, texts: Texts, rounds: int, clock: Callable[[], float]) -> list[Values]:
    from transformers_framework.cli.main import experiment_of
    from transformers_framework.data.collator import Collator
    from transformers_framework.data.sampler import BatchRequest
    from transformers_framework.objectives.objective import Context
    from transformers_framework.processing.masking import sparse_labels

    corpus = read(texts.running, "text")
    model = (save_t5 if family == "t5" else save_bart)(texts.scratch / f"{family}_of_{texts.running.stem}", corpus)
    words = denoising_command(
        family, texts.running, model, texts.scratch, batch_size=BATCH_SIZE, max_length=LENGTH, packing="none"
    )
    experiment = experiment_of(words)
    inputs, (objective,) = experiment.inputs, experiment.objectives
    slices = [slice(start, start + BATCH_SIZE) for start in range(0, NUM_WINDOWS, BATCH_SIZE)]
    requests = [BatchRequest(0, tuple(range(part.start, part.stop))) for part in slices]
    contexts = [Context("train", SEED, 0, request.row_ids) for request in requests]

    def timed(work: Callable[[int], object], passes: int) -> Callable[[], float]:
        def rate() -> float:
            start = clock()
            for _ in range(passes):
                for number in range(len(slices)):
                    work(number)
            return passes * NUM_WINDOWS / (clock() - start)

        work(0)
        return rate

    ours, theirs = windows(inputs, corpus), windows(inputs, corpus, separated=family == "bart")
    batches, arrays = [_batch(ours[part]) for part in slices], [theirs[part] for part in slices]
    peer = _peer(family, experiment)
    texts_of_windows = full_windows(" ".join(corpus), inputs.max_length)
    columns = [{"text": [texts_of_windows[i % len(texts_of_windows)] for i in request.row_ids]} for request in requests]
    collator = Collator(inputs, [objective], "train", SEED)

    def corrupt(number: int) -> object:
        entries = objective.post_process({}, batches[number], contexts[number])
        return entries, sparse_labels(entries["labels"])

    corruption = {
        f"{family}: collator of the Flax script": timed(lambda number: peer(arrays[number]), 1),
        f"{family}: transformers_framework": timed(corrupt, PASSES),
    }
    raw = {
        f"{family}, limit: `encode_batch_fast`": timed(
            lambda number: inputs.backend.encode_batch_fast(columns[number]["text"]), 1
        ),
        f"{family}: texts to corrupted tensors": timed(lambda number: collator((requests[number], columns[number])), 1),
    }
    return [alternate(group, rounds) for group in (corruption, raw)]


def windows(inputs: Any, texts: list[str], *, separated: bool = False) -> np.ndarray:
    """Return full windows of texts, special tokens included, ``(NUM_WINDOWS, L) int64``; repeated where they are few.

    Args:
        inputs: Inputs of a run.
        texts: Running texts.
        separated: Put a padding token behind each sentence, which is how the peer knows where it ends.
    """
    import numpy as np

    from transformers_framework.processing.encoding import tokenize
    from transformers_framework.processing.windows import Ragged, surrounded

    if separated:
        texts = [sentence for text in texts for sentence in SENTENCE_END.split(text)]
    ids, lengths = tokenize(inputs.backend, texts)
    if separated:
        ids = surrounded(Ragged(ids, lengths), [], [inputs.tokenizer.pad_token_id]).values
    prefix, suffix = (np.array(ends, dtype=np.int64) for ends in (inputs.template.prefix, inputs.template.suffix))
    size = inputs.max_length - len(prefix) - len(suffix)
    whole = np.resize(ids[: len(ids) // size * size], (NUM_WINDOWS, size))
    ends = (np.broadcast_to(end, (NUM_WINDOWS, len(end))) for end in (prefix, suffix))
    return np.concatenate([next(ends), whole, next(ends)], axis=1)


def _batch(input_ids: np.ndarray) -> Mapping[str, np.ndarray]:
    import numpy as np

    return {
        "input_ids": input_ids,
        "attention_mask": np.ones_like(input_ids),
        "truncated": np.zeros(len(input_ids), dtype=bool),
    }


def _peer(family: str, experiment: Any) -> Callable[[np.ndarray], object]:
    from benchmarks.peer_denoising import Infilling, SpanCorruption

    tokenizer, config = experiment.tokenizer, experiment.config
    if family == "bart":
        return Infilling(tokenizer, config.decoder_start_token_id)
    collator = SpanCorruption(config.vocab_size, config.pad_token_id, config.eos_token_id)
    return lambda rows: collator(rows[:, :-1])  # it puts the end there itself
