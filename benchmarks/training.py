"""Training: real tokens per second and peak memory, our command beside a script around transformers' ``Trainer``.

Every run is a process of its own. Same rows, batch size, model, dropout 0.1, clipping at norm 1, fused AdamW, linear
schedule, threads; both with their own progress and logging. One epoch, so that grouped runs see every length; the first
steps do not count; memory is the largest resident set until the last step. Both prepare batches in the training
process, the peer tokenizes before training (it does not count), we do it on the fly (it counts).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks.material import BATCH_SIZE, Material, environment, our_command, peer_command
from benchmarks.rounds import alternate, last_json, median, median_ratio, table

SKIPPED_STEPS = 4
OWN_ALLOCATOR = "TRANSFORMERS_FRAMEWORK_KEEP_ALLOCATOR"
PEER, GROUPED_PEER = "Trainer", "Trainer, `group_by_length`"

Commands = Mapping[str, tuple[Sequence[str], Mapping[str, str]]]


def run(material: Material, rounds: int, precision: str, threads: int, busy: bool) -> str:
    """Return a table of one precision.

    Args:
        material: Data and model.
        rounds: Runs of every contender.
        precision: ``32`` or ``bf16``.
        threads: Threads of every run.
        busy: Count processor time instead of the wall clock's.
    """
    steps = len(material.train.read_text("utf-8").splitlines()) // BATCH_SIZE
    clock = (str(SKIPPED_STEPS), str(steps))
    ours = [sys.executable, "-m", "benchmarks.ours", *clock, *our_command(material, "training", "--max_epochs", "1")]
    ours += ["--precision", precision]
    peer = [sys.executable, "-m", "benchmarks.peer", *peer_command(material, "--clock", *clock)]
    peer += ["--bf16"] if precision == "bf16" else []
    commands: Commands = {
        PEER: (peer, {}),
        GROUPED_PEER: ([*peer, "--sampling", "group_by_length"], {}),
        "ours": (ours, {}),
        "ours, allocator as the peer's": (ours, {OWN_ALLOCATOR: "1"}),
        "ours, `--length_bucketing false`": ([*ours, "--length_bucketing", "false"], {}),
    }
    return table_of_runs(f"training, {precision}", commands, (PEER, GROUPED_PEER), rounds, threads, busy)


def table_of_runs(
    title: str, commands: Commands, peers: Sequence[str], rounds: int, threads: int, busy: bool = False
) -> str:
    """Run training in turns; return a table of real tokens per second, padding and memory.

    Args:
        title: Of the table.
        commands: Programs that write the result of a :class:`~benchmarks.clock.Clock`, and what differs in their
            environment.
        peers: Those that all are compared with; in memory, with the first.
        rounds: Runs of every contender.
        threads: Threads of every run.
        busy: Count processor time instead of the wall clock's.
    """
    results: dict[str, list[dict]] = {}

    def measured(name: str, command: Sequence[str], changes: Mapping[str, str]) -> Callable[[], float]:
        def measure() -> float:
            result = last_json(command, environment(threads, **changes))
            results.setdefault(name, []).append(result)
            return result["tokens"] / result["cpu_seconds" if busy else "seconds"]

        return measure

    values = alternate({name: measured(name, *command) for name, command in commands.items()}, rounds)
    rows = []
    for name, rates in values.items():
        padding, memory = (median(result[key] for result in results[name]) for key in ("padding", "peak_mib"))
        share = memory / median(result["peak_mib"] for result in results[peers[0]])
        ratios = [f"{median_ratio(values, name, peer):.2f}" for peer in peers]
        rows.append((name, f"{median(rates):,.0f}", *ratios, f"{padding:.0%}", f"{memory:,.0f}", f"{share:.2f}"))
    heads = [f"to {peer}" for peer in peers]
    return table((title, "real tokens/s", *heads, "padding", "peak MiB", "of Trainer's"), rows)
