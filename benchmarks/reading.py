"""Machine reading before and after the model: ours beside what ``run_qa.py`` does, on the same rows, in one process.

Features: windows of at most 384 tokens that share 128, with the places of answers. The peer has them from
``datasets.map``, all of 384 tokens, which is its default, or without padding; ours counts all that our command does
before training, its checks and the file of windows too, and the search for the places of answers, which it does for
each batch. Both tokenize in as many threads as the run has, as they do by default.

Answers: from windows on disk and their logits to the 20 best answers of each question, with texts and probabilities.
Logits are noise around a place in each context, and a character's are the same in all of its windows, so that both
sides have the same best answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.masking import rates_table
from benchmarks.rounds import alternate
from benchmarks.tasks import READING, Tasks
from transformers_framework.constants import SOURCE_ROW
from transformers_framework.inputs.question_context import OFFSETS, POSITIONS

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor

MAX_LENGTH, DOC_STRIDE = 384, 128
ROWS, EVAL_BATCH_SIZE = 3000, 64
COLUMNS = ("id", "question", "context", "answers")
PADDINGS = {"max_length": "", "do_not_pad": ", no padding"}
SLOPE, DEEPEST = 0.08, 12.0  # logits fall so much a character, so far


def run(tasks: Tasks, rounds: int, threads: int, clock: Callable[[], float]) -> str:
    """Return a table of rows per second, and how many best answers are equal."""
    os.environ |= {"TOKENIZERS_PARALLELISM": str(threads > 1).lower(), "RAYON_NUM_THREADS": str(threads)}
    import datasets
    import torch
    from transformers import AutoTokenizer

    from benchmarks import peer_reading

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    datasets.disable_caching()
    file = tasks.first(READING, ROWS)
    rows = datasets.Dataset.from_json(str(file), cache_dir=str(tasks.scratch / "cache")).select_columns(list(COLUMNS))
    tokenizer = AutoTokenizer.from_pretrained(tasks.model)
    sizes = {"max_length": MAX_LENGTH, "stride": DOC_STRIDE}
    ours = Ours(tasks, file, rows)
    features = {
        padding: peer_reading.evaluation_features(rows, tokenizer, **sizes, padding=padding) for padding in PADDINGS
    }
    logits = _logits(rows, features["do_not_pad"])
    found: dict[str, list[str]] = {}

    def timed(work: Callable[[], Any]) -> Callable[[], float]:
        def rate() -> float:
            start = clock()
            work()
            return len(rows) / (clock() - start)

        work()
        return rate

    def features_of_peer(padding: str) -> Callable[[], float]:
        return timed(lambda: peer_reading.training_features(rows, tokenizer, **sizes, padding=padding))

    def answers_of_peer(padding: str) -> Callable[[], float]:
        def work() -> None:
            best, _ = peer_reading.best_answers(rows, features[padding], *logits)
            found["peer"] = [best[name][0]["text"] for name in rows["id"]]

        return timed(work)

    def our_answers() -> None:
        found["ours"] = [answers[0]["text"] for answers in ours.answers(*outputs)]

    ours.features()
    outputs = ours.outputs(features["do_not_pad"], *logits)
    groups = [
        {f"features: `datasets.map`{note}": features_of_peer(padding) for padding, note in PADDINGS.items()}
        | {"features: transformers_framework": timed(ours.features)},
        {f"best answers: `run_qa.py`{note}": answers_of_peer(padding) for padding, note in PADDINGS.items()}
        | {"best answers: transformers_framework": timed(our_answers)},
    ]
    report = rates_table("reading", [alternate(group, rounds) for group in groups])
    equal = sum(mine == other for mine, other in zip(found["ours"], found["peer"], strict=True))
    return f"{report}\n\n{equal} of {len(rows)} best answers are equal"


class Ours:
    """The parts of our command that are timed."""

    def __init__(self, tasks: Tasks, file: Path, rows: Dataset) -> None:
        from transformers_framework.cli.main import experiment_of

        words = [
            *("--pipeline", "question_answering", "--model", "bert", "--name", "reading", "--overwrite"),
            *("--output_dir", str(tasks.scratch / "outputs"), "--cache_dir", str(tasks.scratch / "cache")),
            *("--pre_trained_config", str(tasks.model), "--test_dataset", str(file), "--answers_column", "answers"),
            *("--query_column", "question", "--context_column", "context", "--batch_size", str(EVAL_BATCH_SIZE)),
            *("--max_sequence_length", str(MAX_LENGTH), "--doc_stride", str(DOC_STRIDE), "--prepare_data_workers", "1"),
            *("--accelerator", "cpu", "--prepare_data_do_not_use_cache"),
        ]
        self.data = experiment_of(words).data
        (self.objective,) = self.data.objectives
        self.rows = rows

    def read(self, columns: tuple[str, ...], size: int) -> Iterator[Mapping[str, Any]]:
        """Yield columns of windows, so many at a time."""
        from transformers_framework.data.loader import RowReader

        reader = RowReader(self.data.datasets["test"], columns, self.data.inputs.token_columns)
        for start in range(0, len(reader.dataset), size):
            table = reader.dataset[start : start + size]
            yield {name: reader._values(name, table.column(name)) for name in columns}

    def features(self) -> None:
        """Prepare the data and find the places of answers."""
        import numpy as np

        from transformers_framework.processing.reading import target_spans

        source = self.data._origin_of_texts("test")
        self.data.datasets["test"] = self.data._prepare(self.rows, source, None)
        for rows in self.read((*OFFSETS, "read_from", "read_to", SOURCE_ROW), self.data.preparation.batch_size):
            bounds = (np.asarray(rows[name]) for name in ("read_from", "read_to"))
            target_spans(*(rows[name] for name in OFFSETS), *bounds, self.objective.spans["test"][rows[SOURCE_ROW]])

    def answers(self, masks: Sequence[np.ndarray], *logits: Sequence[Tensor]) -> list[list[dict[str, Any]]]:
        """Return the best answers of all rows.

        Args:
            masks: The ``attention_mask`` of each batch, which the model needed before.
            *logits: Of starts and of ends of each batch.
        """
        import numpy as np

        from transformers_framework.objectives.objective import Context
        from transformers_framework.storage.sorted_columns import joined

        found, context = [], Context("predict", 0, 0, np.empty(0, np.int64))  # nothing is random
        batches = zip(self.read((*OFFSETS, *POSITIONS, SOURCE_ROW), EVAL_BATCH_SIZE), masks, *logits, strict=True)
        for rows, mask, start_logits, end_logits in batches:
            own = self.objective.post_process(rows, {"attention_mask": mask}, context)
            output = SimpleNamespace(start_logits=start_logits, end_logits=end_logits)
            found.append(self.objective.predictions(output, own))
        columns = {name: joined([batch[name].numpy() for batch in found]) for name in found[0]}
        written, _ = self.objective.whole_rows("test", columns)
        return written["n_best"].tolist()

    def outputs(self, features: Dataset, *logits: list[np.ndarray]) -> tuple[list[Any], ...]:
        """Return masks and logits of our batches, whose windows are the peer's."""
        import numpy as np
        import torch

        assert self.data.datasets["test"]["input_ids"][:] == features["input_ids"][:]
        parts = [slice(start, start + EVAL_BATCH_SIZE) for start in range(0, len(features), EVAL_BATCH_SIZE)]
        padded = [[_padded(values[part]) for part in parts] for values in logits]
        masks = [(values > -np.inf).astype(np.int64) for values in padded[0]]
        return masks, *([torch.from_numpy(batch) for batch in batches] for batches in padded)


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    import numpy as np

    width = max(map(len, rows))
    return np.stack([np.pad(row, (0, width - len(row)), constant_values=-np.inf) for row in rows])


def _logits(rows: Dataset, features: Dataset) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return logits of starts and ends of all windows, those of no answer far below all others ``(L,) float32``."""
    import numpy as np

    draw = np.random.default_rng(17)
    of_rows = {}
    for row in rows:
        size = len(row["context"]) + 1
        hill = np.minimum(SLOPE * np.abs(np.arange(size) - draw.integers(size)), DEEPEST)
        of_rows[row["id"]] = draw.normal(size=(2, size)) - hill
    starts: list[np.ndarray] = []
    ends: list[np.ndarray] = []
    for feature in features:
        for values, side, noise in zip((starts, ends), (0, 1), of_rows[feature["example_id"]], strict=True):
            places = [place[side] if place else -1 for place in feature["offset_mapping"]]
            values.append(np.where(np.array(places) < 0, -2 * DEEPEST, noise[places]).astype(np.float32))
    return starts, ends
