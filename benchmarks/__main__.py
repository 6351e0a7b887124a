"""``python -m benchmarks [NAME …]``: run the benchmarks and print their tables in Markdown."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import (
    answer_selection,
    collation,
    denoising,
    electra,
    fine_tuning,
    generation,
    joint,
    last_layer,
    masked_lm,
    masking,
    metrics,
    multi_token,
    overhead,
    reading,
    retrieval,
    scale,
    seq_to_seq,
    startup,
    training,
)
from benchmarks.material import ROOT, THREADS, Material, prepare, prepare_texts
from benchmarks.rounds import machine
from benchmarks.tasks import prepare_tasks

OF_TEXTS = ("masked_lm", "electra", "denoising", "seq_to_seq", "retrieval", "metrics", "last_layer")
OF_TASKS = ("reading", "fine_tuning")
OF_PAIRS = ("collation", "masking", "training", "overhead", "startup", "joint")
NAMES = (*OF_PAIRS, *OF_TEXTS, "generation", "multi_token", *OF_TASKS, "scale")
ON_REQUEST = ("answer_selection",)  # needs real data and a checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory against peers.")
    names = f"what to run: {', '.join(NAMES)}; all by default. Or {', '.join(ON_REQUEST)}, which is not part of it"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("BENCHMARK_DATA"),
        help="folder with a train.jsonl of question, answer, label, key (or BENCHMARK_DATA); "
        "without it, the documentation inside this Python",
    )
    parser.add_argument("--texts", type=Path, help="JSON lines with a text each, for pre-training; else as --data")
    parser.add_argument(
        "--summaries", type=Path, help="folder with a test.jsonl of document, summary; without it, as --data"
    )
    parser.add_argument(
        "--tasks", type=Path, help="folder of folders squad, wnut17 and snli, a train.jsonl in each; else as --data"
    )
    parser.add_argument(
        "--model",
        type=Path,
        help="tokenizer and configuration of a BERT for these; without it, 6 layers of 384. For answer_selection, the "
        "checkpoint from which all start",
    )
    parser.add_argument(
        "--documents", type=Path, help="folder with train.jsonl and dev.jsonl of whole texts, for answer_selection"
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds of answer_selection")
    parser.add_argument("--steps", type=int, default=1000, help="steps of pre-training of answer_selection")
    parser.add_argument("--rows", type=int, default=2048, help="rows to train on, in whole batches of 32")
    parser.add_argument("--rounds", type=int, default=5, help="runs of every contender; medians are reported")
    parser.add_argument(
        "--largest", type=int, default=1_000_000, help="most rows of `scale`, which are 10,000 and all powers up to it"
    )
    parser.add_argument("--precision", nargs="+", default=["32", "bf16"], choices=["32", "bf16"])
    parser.add_argument("--threads", type=int, default=THREADS, help="threads of every run")
    parser.add_argument("--scratch", type=Path, default=ROOT / "outputs" / "benchmarks", help="folder for all files")
    parser.add_argument(
        "--busy", action="store_true", help="count processor time of one thread: for a machine that is not idle"
    )
    args = parser.parse_args()
    if unknown := set(args.names) - {*NAMES, *ON_REQUEST}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join((*NAMES, *ON_REQUEST))}")
    if "answer_selection" in args.names and not (args.data and args.documents and args.model):
        parser.error("answer_selection needs --data, --documents and --model")

    threads = 1 if args.busy else args.threads
    material = prepare(args.scratch.resolve(), args.data, args.rows)
    say(
        f"{datetime.datetime.now(tz=datetime.timezone.utc):%Y-%m-%d}, `python -m benchmarks {shlex.join(sys.argv[1:])}`"
    )
    say(f"{machine(threads)}; load {os.getloadavg()[0]:.1f}{', processor time' if args.busy else ''}")
    say(f"data: {material.name}\n")
    for name in args.names or NAMES:
        for text in tables(name, args, material, threads):
            say(text)


def tables(name: str, args: argparse.Namespace, material: Material, threads: int) -> Iterator[str]:
    """Run a benchmark and yield its tables."""
    rounds, busy, clock = args.rounds, args.busy, time.process_time if args.busy else time.perf_counter
    once: dict[str, Callable[[], str]] = {
        "answer_selection": lambda: answer_selection.run(
            answer_selection.Setting(
                *(args.data, args.documents, args.model, material.scratch / "answer_selection"),
                *(args.steps, args.seeds, args.precision[-1], threads),
            )
        ),
        "collation": lambda: collation.run(material, rounds, clock),
        "generation": lambda: generation.run(material.scratch, args.summaries, rounds, args.precision, threads, busy),
        "joint": lambda: joint.run(material, rounds, threads, clock),
        "masking": lambda: masking.run(material, rounds, clock),
        "multi_token": lambda: multi_token.run(rounds, threads, clock),
        "overhead": lambda: overhead.run(material, rounds, threads, busy),
        "scale": lambda: scale.run(material.scratch, args.largest, threads, busy),
        "startup": lambda: startup.run(material, rounds, threads, busy),
    }
    each: dict[str, Callable[[str], str]] = {
        "training": lambda precision: training.run(material, rounds, precision, threads, busy),
    }
    if name in OF_TEXTS:
        texts = prepare_texts(material.scratch, args.texts)
        yield f"texts: {texts.name}\n"
        once |= {
            "denoising": lambda: denoising.run(texts, rounds, clock),
            "metrics": lambda: metrics.run(texts, rounds, threads, busy),
            "retrieval": lambda: retrieval.run(texts, rounds, threads, clock),
            "seq_to_seq": lambda: seq_to_seq.run(texts, rounds, args.precision, threads, busy),
        }
        each |= {
            "electra": lambda precision: electra.run(texts, rounds, precision, threads),
            "last_layer": lambda precision: last_layer.run(
                texts, prepare_tasks(material.scratch, args.tasks, args.model), rounds, precision, threads, busy
            ),
            "masked_lm": lambda precision: masked_lm.run(texts, rounds, precision, threads),
        }
    if name in OF_TASKS:
        tasks = prepare_tasks(material.scratch, args.tasks, args.model)
        yield f"tasks: {tasks.name}\n"
        once["reading"] = lambda: reading.run(tasks, rounds, threads, clock)
        each["fine_tuning"] = lambda precision: fine_tuning.run(tasks, rounds, precision, threads, busy)
    if name in once:
        yield once[name]()
    else:
        yield from (each[name](precision) for precision in args.precision)


def say(text: str) -> None:
    sys.stdout.write(text + "\n" + ("\n" if "|" in text else ""))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
