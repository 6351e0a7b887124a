"""Fine-tuning a model of MiniLM's size: real tokens per second and peak memory, beside the recipes around ``Trainer``.

Machine reading, tagging and pairs of texts. Every run is a process of its own: same rows, windows, batch sizes, model,
dropout 0.1, clipping at norm 1, fused AdamW, linear schedule, threads, all rows once; both group them by length. The
peer's features are made before training and do not count; nor do our windows of reading, but our tokenization of the
other tasks does, for it happens in training.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.tasks import PAIRS, READING, TAGGING, Tasks
from benchmarks.training import GROUPED_PEER, OWN_ALLOCATOR, SKIPPED_STEPS, Commands, table_of_runs

STEPS = 50  # batches that the peer groups together


class Task(NamedTuple):
    """What differs between tasks.

    Args:
        batch_size: Rows of a batch.
        max_length: Longest input in tokens.
        words: Flags of our command.
    """

    batch_size: int
    max_length: int
    words: Sequence[str]


TASKS = {
    READING: Task(
        16,
        384,
        [
            *("--pipeline", "question_answering", "--query_column", "question", "--context_column", "context"),
            *("--answers_column", "answers", "--doc_stride", "128"),
        ],
    ),
    TAGGING: Task(32, 128, ["--pipeline", "token_class", "--input_columns", "tokens", "--label_column", "labels"]),
    PAIRS: Task(
        32, 128, ["--pipeline", "seq_class", "--input_columns", "premise", "hypothesis", "--label_column", "label"]
    ),
}


def run(tasks: Tasks, rounds: int, precision: str, threads: int, busy: bool) -> str:
    """Return a table a task in one precision.

    Args:
        tasks: Data and model.
        rounds: Runs of every contender.
        precision: ``32`` or ``bf16``.
        threads: Threads of every run.
        busy: Count processor time instead of the wall clock's.
    """
    tables = [
        table_of_runs(f"{name}, {precision}", _commands(tasks, name, precision), [GROUPED_PEER], rounds, threads, busy)
        for name in TASKS
    ]
    return "\n\n".join(tables)


def _commands(tasks: Tasks, name: str, precision: str) -> Commands:
    task = TASKS[name]
    file = tasks.first(name, task.batch_size * STEPS)
    clock = (str(SKIPPED_STEPS), str(len(file.read_text("utf-8").splitlines()) // task.batch_size))
    sizes = ["--batch_size", str(task.batch_size), "--max_length", str(task.max_length)]
    folders = [*("--data", str(file)), *("--model", str(tasks.model)), *("--scratch", str(tasks.scratch))]
    peer = [sys.executable, "-m", "benchmarks.peer_tasks", "--task", name, *folders, *sizes, "--clock", *clock]
    peer += ["--sampling", "group_by_length", *(["--bf16"] if precision == "bf16" else [])]
    ours = [sys.executable, "-m", "benchmarks.ours", *clock, *task.words, "--model", "bert", "--name", name]
    ours += ["--overwrite", "--output_dir", str(tasks.scratch / "outputs"), "--cache_dir", str(tasks.scratch / "cache")]
    ours += ["--pre_trained_config", str(tasks.model), "--train_dataset", str(file), "--num_workers", "0"]
    ours += ["--batch_size", str(task.batch_size), "--max_sequence_length", str(task.max_length), "--max_epochs", "1"]
    ours += ["--learning_rate", "5e-5", "--gradient_clip_val", "1.0", "--accelerator", "cpu"]
    ours += ["--no_epoch_checkpointing", "--precision", precision]
    return {
        GROUPED_PEER: (peer, {}),
        "ours": (ours, {}),
        "ours, allocator as the peer's": (ours, {OWN_ALLOCATOR: "1"}),
    }
