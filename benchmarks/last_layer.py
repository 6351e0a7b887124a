"""A training step with the last layer at the positions that heads read, beside one with the whole layer.

Forward, losses, backward, clipping, fused AdamW over the same batches in one process; for each batch both take turns.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks.masked_lm import SHORT_LIMIT
from benchmarks.material import BATCH_SIZE, MAX_LENGTH, Texts, environment
from benchmarks.rounds import last_json, median, table
from benchmarks.tasks import PAIRS, Tasks

STEPS, SKIPPED = 24, 4
WHOLE, SOME = "whole last layer", "positions that are read"


def run(texts: Texts, tasks: Tasks, rounds: int, precision: str, threads: int, busy: bool) -> str:
    """Return a table of the time of a step in one precision.

    Args:
        texts: Running texts and short ones, a model.
        tasks: Pairs of texts, a model of MiniLM's size.
        rounds: Processes of each training.
        precision: ``32`` or ``bf16``.
        threads: Threads of every process.
        busy: Count processor time instead of the wall clock's.
    """
    masked = ["--pipeline", "masked_lm", "--input_columns", "text", "--pre_trained_config", str(texts.model)]
    full = ["--max_sequence_length", str(MAX_LENGTH), "--packing", "full", "--train_dataset", str(texts.running)]
    short = ["--max_sequence_length", str(SHORT_LIMIT), "--packing", "isolated", "--train_dataset", str(texts.short)]
    pairs = ["--pipeline", "seq_class", "--input_columns", "premise", "hypothesis", "--label_column", "label"]
    pairs += ["--pre_trained_config", str(tasks.model), "--max_sequence_length", str(MAX_LENGTH)]
    pairs += ["--train_dataset", str(tasks.files[PAIRS])]
    rows = []
    for title, words in (
        ("masked LM, 4 layers, full windows", masked + full),
        ("masked LM, 4 layers, short texts packed", masked + short),
        ("pairs, 6 layers", pairs),
    ):
        command = [sys.executable, "-m", "benchmarks.last_layer", str(int(busy)), precision, *words]
        command += ["--output_dir", str(texts.scratch / "outputs"), "--cache_dir", str(texts.scratch / "cache")]
        command += ["--model", "bert", "--name", "last_layer", "--batch_size", str(BATCH_SIZE), "--num_workers", "0"]
        command += ["--accelerator", "cpu", "--max_epochs", "1"]
        results = [last_json(command, environment(threads)) for _ in range(rounds)]
        whole, some = (1000 * median(result[name] for result in results) for name in (WHOLE, SOME))
        gain = median(result["ratio"] for result in results)
        rows.append((title, precision, f"{whole:.0f}", f"{some:.0f}", f"{gain:.2f}"))
    return table(("training", "precision", f"{WHOLE}, ms a step", f"{SOME}, ms a step", "ratio"), rows)


def main(clock: Callable[[], float], precision: str, words: Sequence[str]) -> None:
    """Train on some batches in both ways, and write the medians of their steps and of the ratio."""
    import torch

    from benchmarks.parts import parts_of

    experiment, batches = parts_of(words, STEPS + SKIPPED)
    module, model = experiment.module, experiment.module.model
    last_layer = model._last_layer
    assert last_layer is not None
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)
    spent: dict[str, list[float]] = {WHOLE: [], SOME: []}
    for number, batch in enumerate(batches):
        for name in (WHOLE, SOME) if number % 2 else (SOME, WHOLE):
            model._last_layer = last_layer if name == SOME else None
            start = clock()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                totals = module._stage_step(batch, "train").losses
            sum(total / batch["group_num_items"][name] for name, total in totals.items()).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            spent[name].append(clock() - start)
    measured = {name: times[SKIPPED:] for name, times in spent.items()}
    ratio = median(whole / some for whole, some in zip(measured[WHOLE], measured[SOME], strict=True))
    sys.stdout.write(json.dumps({name: median(times) for name, times in measured.items()} | {"ratio": ratio}) + "\n")


if __name__ == "__main__":
    main(time.process_time if int(sys.argv[1]) else time.perf_counter, sys.argv[2], sys.argv[3:])
