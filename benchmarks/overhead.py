"""What a step costs beyond the bare loop: our command, with a twin of its model trained on the same batches in between.

After each block of steps the run stops for a moment and a bare PyTorch loop does as many steps with the very batches of
the block, already collated: forward, cross-entropy, backward, clipping, fused AdamW, schedule. One process, blocks
alternate, so both meet the same machine, allocator and thermal state. Ours pays for reading rows, tokenizing, padding,
metrics, guards, progress and TensorBoard besides. Fine-tuning a BERT, or pre-training a T5, whose bare loop has logits
at every place of the decoder and torch's loss.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.material import Material, environment, our_command
from benchmarks.parts import dense_labels
from benchmarks.rounds import last_json, median, table

BLOCK = 10


def run(material: Material, rounds: int, threads: int, busy: bool) -> str:
    """Return a table of milliseconds a step; ``rounds`` blocks of each are measured, after one that is not."""
    return compare("overhead", our_command(material, "overhead"), rounds, threads, busy)


def compare(title: str, words: Sequence[str], rounds: int, threads: int, busy: bool) -> str:
    """Return the table of one training.

    Args:
        title: Of the table.
        words: Our command.
        rounds: Blocks of steps.
        threads: Threads of the process.
        busy: Count processor time instead of the wall clock's.
    """
    command = [sys.executable, "-m", "benchmarks.overhead", str(int(busy)), *words]
    command += ["--max_steps", str(BLOCK * (rounds + 1))]
    result = last_json(command, environment(threads, TOKENIZERS_PARALLELISM="false"))
    ours, bare = ([1000 * seconds / BLOCK for seconds in result[name][1:]] for name in ("ours", "bare"))
    extra = median(mine / limit for mine, limit in zip(ours, bare, strict=True)) - 1
    return table(
        (title, "ms a step", "more than the bare loop"),
        [
            ("bare loop, batches already collated", f"{median(bare):.1f}", "0"),
            ("transformers_framework", f"{median(ours):.1f}", f"{extra:.1%}"),
        ],
    )


def with_twin(clock: Callable[[], float]) -> None:
    """Give every experiment of this process a callback that trains a twin of its model in a bare loop."""
    import pytorch_lightning as pl

    from transformers_framework import experiment

    class Twin(pl.Callback):
        def __init__(self) -> None:
            self.batches: list = []
            self.seconds: dict[str, list[float]] = {"ours": [], "bare": []}

        def on_train_start(self, trainer, module) -> None:
            import torch

            self.model = copy.deepcopy(next(iter(module.model.heads.values())))
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-5, weight_decay=0.0, fused=True)
            self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 / (1 + step))
            self.started = clock()

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            self.batches.append(bare_batch(module, batch))
            if len(self.batches) == BLOCK:
                self.seconds["ours"].append(clock() - self.started)
                self.bare_loop()
                self.batches.clear()
                self.started = clock()

        def bare_loop(self) -> None:
            import torch
            from torch.nn.functional import cross_entropy

            start = clock()
            for batch in self.batches:
                self.optimizer.zero_grad()
                inputs = {key: tensor for key, tensor in batch.items() if key != "labels"}
                logits, labels = self.model(**inputs).logits, batch["labels"]
                loss = cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.schedule.step()
            self.seconds["bare"].append(clock() - start)

        def on_train_end(self, trainer, module) -> None:
            sys.stdout.write(json.dumps(self.seconds) + "\n")

    callbacks = experiment.run_callbacks
    experiment.run_callbacks = lambda run: [*callbacks(run), Twin()]


def bare_batch(module: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model of transformers needs of one of our batches, and its ``labels`` where they are dense."""
    (name,) = module.objectives
    own = batch[name]
    found = {key: batch[key] for key in module.input_keys if key in batch} | {"labels": own["labels"]}
    if "decoder_input_ids" in own:
        decoded = own["decoder_input_ids"]
        found |= {"decoder_input_ids": decoded, "labels": dense_labels(own, decoded.shape), "use_cache": False}
    return found


if __name__ == "__main__":
    import time

    from transformers_framework.cli.main import main

    with_twin(time.process_time if int(sys.argv[1]) else time.perf_counter)
    sys.exit(main(sys.argv[2:]))
