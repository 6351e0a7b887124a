"""What the metrics of training cost: the share of a step that their updates, and those of the mean losses, take.

Model and batches as in ``masked_lm``: BERT, hidden 256, 4 layers, 32 full windows of 128 tokens. A step is forward,
losses, metrics, backward, clipping, fused AdamW. What is a few hundred microseconds of a step cannot be seen in the
difference of two steps, so the updates themselves are timed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.material import BATCH_SIZE, MAX_LENGTH, Texts, environment
from benchmarks.rounds import last_json, median, table

STEPS, SKIPPED = 8, 2
PIPELINES = ("masked_lm", "random_token_detection", "token_detection_and_masked_lm")


def run(texts: Texts, rounds: int, threads: int, busy: bool) -> str:
    """Return a table of the time of a step and of its metrics.

    Args:
        texts: Running texts and a model.
        rounds: Processes of each pipeline.
        threads: Threads of every process.
        busy: Count processor time instead of the wall clock's.
    """
    rows = []
    for pipeline in PIPELINES:
        command = [sys.executable, "-m", "benchmarks.metrics", str(int(busy)), *_command(texts, pipeline)]
        results = [last_json(command, environment(threads)) for _ in range(rounds)]
        step, metrics = (1000 * median(result[name] for result in results) for name in ("step", "metrics"))
        share = median(result["metrics"] / result["step"] for result in results)
        rows.append((pipeline, f"{step:.1f}", f"{metrics:.2f}", f"{share:.2%}"))
    return table(("metrics of training", "ms a step", "of these, metrics", "share"), rows)


def _command(texts: Texts, pipeline: str) -> list[str]:
    return [
        *("--pipeline", pipeline, "--model", "bert", "--name", "metrics", "--pre_trained_config", str(texts.model)),
        *("--output_dir", str(texts.scratch / "outputs"), "--cache_dir", str(texts.scratch / "cache")),
        *("--train_dataset", str(texts.running), "--input_columns", "text", "--packing", "full"),
        *("--batch_size", str(BATCH_SIZE), "--max_sequence_length", str(MAX_LENGTH), "--num_workers", "0"),
        *("--accelerator", "cpu"),
    ]


def main(clock: Callable[[], float], words: Sequence[str]) -> None:
    """Train some steps and write the median time of one and of its metrics."""
    import torch

    from benchmarks.parts import parts_of

    experiment, batches = parts_of(words, STEPS + SKIPPED)
    module, spent = experiment.module, [0.0]
    for group in (module.stage_losses, *module.stage_metrics.values()):
        for metric in group.values():
            metric.update = timed(metric.update, clock, spent)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    steps, metrics = [], []
    for batch in batches:
        start, spent[0] = clock(), 0.0
        totals = module._stage_step(batch, "train").losses
        sum(total / batch["group_num_items"][name] for name, total in totals.items()).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps.append(clock() - start)
        metrics.append(spent[0])
    result = {"step": median(steps[SKIPPED:]), "metrics": median(metrics[SKIPPED:])}
    sys.stdout.write(json.dumps(result) + "\n")


def timed(update: Callable[..., Any], clock: Callable[[], float], spent: list[float]) -> Callable[..., Any]:
    """Return a function that does the same and adds the time it takes to ``spent[0]``."""

    def update_and_count(*args: Any, **kwargs: Any) -> None:
        start = clock()
        update(*args, **kwargs)
        spent[0] += clock() - start

    return update_and_count


if __name__ == "__main__":
    main(time.process_time if int(sys.argv[1]) else time.perf_counter, sys.argv[2:])
