"""Candidates a second of joint re-ranking and of ranking one by one, by the same backbone and our own program.

Both have the same candidates in as large steps; every question has whole groups of them. Testing is the model's forward
pass over batches sorted by length, training forward and backward in batches of similar length; tokenization counts in
both, optimizers in neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.material import COLUMNS, Material, our_command
from benchmarks.parts import parts_of
from benchmarks.rounds import alternate, median, median_ratio, table

K = 5
GROUPS = 8  # of a step
LONGEST = 512  # tokens of a group: no text is cut on either side


def run(material: Material, rounds: int, threads: int, clock: Callable[[], float]) -> str:
    """Return a table of candidates per second.

    Args:
        material: Data and model.
        rounds: Runs of every contender.
        threads: Threads of torch.
        clock: Tells the time.
    """
    import torch

    torch.set_num_threads(threads)
    rows = whole_groups(material.train)
    data = material.scratch / f"groups_{material.train.name}"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    sizes = {"one by one": ("--batch_size", K * GROUPS), f"joint, k = {K}": ("-k", K, "--batch_size", GROUPS)}
    experiments: dict[str, Any] = {}
    for name, flags in sizes.items():
        words = our_command(material, "joint", "--max_epochs", "1", *map(str, flags))
        words += ["--train_dataset", str(data), "--test_dataset", str(data), "--index_column", "key"]
        words += ["--max_sequence_length", str(LONGEST)]
        experiments[name] = parts_of(words, 1)[0]

    def test(experiment: Any) -> None:
        with torch.inference_mode():
            for batch in experiment.data.loader("test"):
                experiment.module.forward_heads(batch, "test")

    def train(experiment: Any) -> None:
        from transformers_framework.pipelines.steps import own_view

        module, name = experiment.module, "answer_selection"
        for batch in experiment.data.loader("train"):
            output = module.forward_heads(batch, "train")[name]
            module.objectives[name].evaluate(output, own_view(batch, name)).loss.backward()
            module.zero_grad(set_to_none=True)

    tables = []
    for title, work in (("testing", test), ("training", train)):

        def rate(experiment: Any, title: str = title, work: Callable[[Any], None] = work) -> Callable[[], float]:
            def timed() -> float:
                experiment.module.train(title == "training")
                start = clock()
                work(experiment)
                return len(rows) / (clock() - start)

            return timed

        values = alternate({name: rate(experiment) for name, experiment in experiments.items()}, rounds)
        peer = next(iter(values))
        lines = [(n, f"{median(rates):,.0f}", f"{median_ratio(values, n, peer):.2f}") for n, rates in values.items()]
        tables.append(table((f"ranking, {title}", "candidates/s", "to one by one"), lines))
    return "\n\n".join(tables)


def whole_groups(source: Path) -> list[dict[str, Any]]:
    """Return the candidates of questions that have K or more, a multiple of K of each."""
    rows = sorted(map(json.loads, source.read_text("utf-8").splitlines()), key=lambda row: row["key"])
    found: list[dict[str, Any]] = []
    for _, group in groupby(rows, key=lambda row: row["key"]):
        candidates = [{name: row[name] for name in (*COLUMNS, "label", "key")} for row in group]
        found += candidates[: len(candidates) // K * K]
    return found
