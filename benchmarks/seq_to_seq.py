"""Steps of encoder-decoders: what our loop costs beyond a bare one, and our loss beside transformers' own.

T5, 4 + 4 layers of width 256, vocabulary 32128, windows of 512: see :mod:`benchmarks.overhead`. BART of the same size,
vocabulary 50265, denoising: forward, loss, backward, fused AdamW on batches that are collated beforehand and equal.
Every contender is a process of its own, the peer's without a line of ours; memory is its largest resident set.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.clock import peak_mib
from benchmarks.encoder_decoder import denoising_command, read, save_bart, save_t5
from benchmarks.material import Texts, environment
from benchmarks.overhead import compare
from benchmarks.rounds import alternate, last_json, median, median_ratio, table
from benchmarks.training import OWN_ALLOCATOR

T5_BATCH, T5_LENGTH = 8, 512
BART_SHAPES = ((32, 128), (16, 512))
STEPS, SKIPPED = 6, 2
PEER, OURS = "transformers' `model(labels=…)`", "ours"


def run(texts: Texts, rounds: int, precisions: Sequence[str], threads: int, busy: bool) -> str:
    """Return the tables of T5's loop, in 32-bit, and of BART's step in some precisions."""
    corpus = read(texts.running, "text")
    model = save_t5(texts.scratch / f"t5_of_{texts.running.stem}", corpus)
    words = denoising_command("t5", texts.running, model, texts.scratch, batch_size=T5_BATCH, max_length=T5_LENGTH)
    tables = [compare(f"T5 overhead, {T5_BATCH} × {T5_LENGTH}", words, rounds, threads, busy)]
    model = save_bart(texts.scratch / f"bart_of_{texts.running.stem}", corpus)
    for precision in precisions:
        tables += [_bart(texts, model, shape, rounds, precision, threads, busy) for shape in BART_SHAPES]
    return "\n\n".join(tables)


def _bart(
    texts: Texts, model: Path, shape: tuple[int, int], rounds: int, precision: str, threads: int, busy: bool
) -> str:
    batch_size, max_length = shape
    words = denoising_command("bart", texts.running, model, texts.scratch, batch_size=batch_size, max_length=max_length)
    file = str(texts.scratch / f"bart_batches_{batch_size}_{max_length}.pt")
    last_json([sys.executable, "-m", "benchmarks.seq_to_seq", "save", file, *words], environment(threads))
    ours = [sys.executable, "-m", "benchmarks.seq_to_seq", "ours", precision, *words]
    commands: dict[str, tuple[list[str], Mapping[str, str]]] = {
        PEER: ([sys.executable, "-m", "benchmarks.peer_bart", str(model), file, precision], {}),
        OURS: (ours, {}),
        "ours, allocator as the peer's": (ours, {OWN_ALLOCATOR: "1"}),
    }
    memory: dict[str, list[float]] = {name: [] for name in commands}

    def measured(name: str) -> Callable[[], float]:
        command, changes = commands[name]

        def measure() -> float:
            result = last_json(command, environment(threads, **changes))
            memory[name].append(result["peak_mib"])
            return 1 / result["cpu_seconds" if busy else "seconds"]

        return measure

    values = alternate({name: measured(name) for name in commands}, rounds)
    rows = []
    for name, rates in values.items():
        peak = median(memory[name])
        speed, share = median_ratio(values, name, PEER), peak / median(memory[PEER])
        rows.append((name, f"{1000 / median(rates):,.0f}", f"{speed:.2f}", f"{peak:,.0f}", f"{share:.2f}"))
    title = f"BART step, {batch_size} × {max_length}, {precision}"
    return table((title, "ms a step", "speed to the peer", "peak MiB", "of the peer's"), rows)


def timed_steps(step: Callable[[Any], None], batches: list[Any]) -> None:
    """Take a step with each batch and write the medians of their seconds, the first ones apart, and the memory."""
    seconds, cpu_seconds = [], []
    for batch in batches:
        start, cpu_start = time.perf_counter(), time.process_time()
        step(batch)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    result = {"seconds": seconds, "cpu_seconds": cpu_seconds}
    found = {name: median(values[SKIPPED:]) for name, values in result.items()}
    sys.stdout.write(json.dumps({**found, "peak_mib": peak_mib()}) + "\n")


def save(file: str, *words: str) -> None:
    """Write the batches of a command as transformers' models take them."""
    import torch

    from benchmarks.overhead import bare_batch
    from benchmarks.parts import parts_of

    experiment, batches = parts_of(words, STEPS)
    torch.save([bare_batch(experiment.module, batch) for batch in batches], file)
    sys.stdout.write(json.dumps({"batches": len(batches)}) + "\n")


def ours(precision: str, *words: str) -> None:
    """Time our steps."""
    import torch

    from benchmarks.parts import parts_of

    experiment, batches = parts_of(words, STEPS)
    module = experiment.module
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-5, fused=True)

    def step(batch: dict[str, Any]) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            totals = module._stage_step(batch, "train").losses
        loss = sum(total / batch["group_num_items"][name] for name, total in totals.items())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    timed_steps(step, batches)


if __name__ == "__main__":
    {"save": save, "ours": ours}[sys.argv[1]](*sys.argv[2:])
