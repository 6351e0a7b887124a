"""Masked language modelling: real tokens per second and peak memory, beside ``run_mlm.py``'s recipe and ``Trainer``.

Full windows of 128 tokens, 32 a batch; and short texts, one a row, at most 256 tokens: the peer pads each batch to its
longest row, at random or grouped by length, we pack rows that do not see each other. Every run is a process of its own;
both prepare batches in the training process, and the tokenization of full windows counts for neither.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from benchmarks.material import BATCH_SIZE, MAX_LENGTH, Texts
from benchmarks.training import GROUPED_PEER, OWN_ALLOCATOR, PEER, table_of_runs

SKIPPED_STEPS = 3
SHORT_LIMIT = 256
GROUPED_TOGETHER = 50  # batches, as the peer has it


def run(texts: Texts, rounds: int, precision: str, threads: int) -> str:
    """Return a table of both kinds of texts in one precision.

    Args:
        texts: Running texts and short ones, a model.
        rounds: Runs of every contender.
        precision: ``32`` or ``bf16``.
        threads: Threads of every run.
    """
    bf16 = ["--bf16"] if precision == "bf16" else []
    tables = []
    for shape, steps in (("full windows", 30), ("short texts", 24)):
        short = shape == "short texts"
        limit, file = (SHORT_LIMIT, texts.short) if short else (MAX_LENGTH, texts.running)
        clock = (str(SKIPPED_STEPS), str(steps))
        shared = [*("--data", file), *("--model", texts.model), *("--scratch", texts.scratch)]
        peer = [sys.executable, "-m", "benchmarks.peer_mlm", *map(str, shared), "--max_length", str(limit)]
        peer += [*bf16, *(["--line_by_line"] if short else [])]
        ours = [sys.executable, "-m", "benchmarks.ours", *clock]
        ours += ["--pipeline", "masked_lm", "--model", "bert", "--name", "masked_lm", "--overwrite"]
        ours += ["--output_dir", str(texts.scratch / "outputs"), "--cache_dir", str(texts.scratch / "cache")]
        ours += ["--pre_trained_config", str(texts.model), "--train_dataset", str(file), "--input_columns", "text"]
        ours += ["--batch_size", str(BATCH_SIZE), "--max_sequence_length", str(limit), "--num_workers", "0"]
        ours += ["--learning_rate", "5e-5", "--gradient_clip_val", "1.0", "--accelerator", "cpu"]
        ours += ["--max_steps", str(steps), "--no_epoch_checkpointing", "--precision", precision]
        ours += ["--packing", "isolated" if short else "full"]
        commands: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {PEER: (_until(peer, *clock), {})}
        if short:  # the longest come first among 50 batches, so all 50 count
            window = (str(SKIPPED_STEPS), str(SKIPPED_STEPS + GROUPED_TOGETHER))
            commands[GROUPED_PEER] = (_until([*peer, "--sampling", "group_by_length"], *window), {})
        commands["ours"] = (ours, {})
        commands["ours, allocator as the peer's"] = (ours, {OWN_ALLOCATOR: "1"})
        peers = [name for name in (PEER, GROUPED_PEER) if name in commands]
        tables.append(table_of_runs(f"{shape}, {precision}", commands, peers, rounds, threads))
    return "\n\n".join(tables)


def _until(peer: Sequence[str], skip: str, stop: str) -> list[str]:
    return [*peer, "--clock", skip, stop, "--max_steps", stop]
