"""``python -m benchmarks [NAME …]``: run the benchmarks and print their tables in Markdown."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import sys
import time
from pathlib import Path

from benchmarks import collation, electra, masked_lm, masking, overhead, startup, training
from benchmarks.material import ROOT, THREADS, prepare, prepare_texts
from benchmarks.rounds import machine

NAMES = ("collation", "masking", "training", "overhead", "startup", "masked_lm", "electra")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory against peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to run: {', '.join(NAMES)}; all by default")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("BENCHMARK_DATA"),
        help="folder with a train.jsonl of question, answer, label, key (or BENCHMARK_DATA); "
        "without it, the documentation inside this Python",
    )
    parser.add_argument("--texts", type=Path, help="JSON lines with a text each, for pre-training; else as --data")
    parser.add_argument("--rows", type=int, default=2048, help="rows to train on, in whole batches of 32")
    parser.add_argument("--rounds", type=int, default=5, help="runs of every contender; medians are reported")
    parser.add_argument("--precision", nargs="+", default=["32", "bf16"], choices=["32", "bf16"])
    parser.add_argument("--threads", type=int, default=THREADS, help="threads of every run")
    parser.add_argument("--scratch", type=Path, default=ROOT / "outputs" / "benchmarks", help="folder for all files")
    parser.add_argument(
        "--busy", action="store_true", help="count processor time of one thread: for a machine that is not idle"
    )
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")

    threads = 1 if args.busy else args.threads
    material = prepare(args.scratch.resolve(), args.data, args.rows)
    say(
        f"{datetime.datetime.now(tz=datetime.timezone.utc):%Y-%m-%d}, `python -m benchmarks {shlex.join(sys.argv[1:])}`"
    )
    say(f"{machine(threads)}; load {os.getloadavg()[0]:.1f}{', processor time' if args.busy else ''}")
    say(f"data: {material.name}\n")
    for name in args.names or NAMES:
        if name == "collation":
            say(collation.run(material, args.rounds, time.process_time if args.busy else time.perf_counter))
        elif name == "masking":
            say(masking.run(material, args.rounds, time.process_time if args.busy else time.perf_counter))
        elif name == "training":
            for precision in args.precision:
                say(training.run(material, args.rounds, precision, threads, args.busy))
        elif name == "overhead":
            say(overhead.run(material, args.rounds, threads, args.busy))
        elif name in ("masked_lm", "electra"):
            texts = prepare_texts(args.scratch.resolve(), args.texts)
            say(f"texts: {texts.name}\n")
            for precision in args.precision:
                say((masked_lm if name == "masked_lm" else electra).run(texts, args.rounds, precision, threads))
        else:
            say(startup.run(material, args.rounds, threads, args.busy))


def say(text: str) -> None:
    sys.stdout.write(text + "\n" + ("\n" if "|" in text else ""))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
