"""Every pipeline for thousands of steps, killed at random and continued: ``python -m tests.soak --minutes 30``.

First a short run is interrupted at one moment after another (``tests/moments.py``), now and then more than once, and
resumed: it must leave what it leaves without. ``--moments 30 --minutes 0`` does only this, for half an hour. Then each
run is killed (one of its processes or all), told to leave or left alone, and started again with ``--resume`` until it
is done. A table says of each pipeline how often that was, how memory and open files grew once warm, and what was left
behind. The exit status is 1 when anything was wrong. Linux only.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import transformers

from tests import cases, moments
from tests.processes import Started

PAUSE = 0.5  # seconds between looks
WARM = 5.0  # seconds behind the first validation, when all that a run needs is there
MEMORY, FILES = 0.05, 8  # growth that is noise: a share of memory, and open files of a device, as of batches under way
ENDS = 90  # seconds behind an interruption in which a run ends
LOUDEST = 32 * 2**20  # bytes that are noise whatever the share
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
AGAIN = 0.25  # probability that a run is interrupted once more
WAYS = ("kill all", "kill one", "leave", "leave all")


def memory_and_files(pids: list[int]) -> tuple[int, int]:
    """Return the memory of some processes in bytes, and how many files they have open; shared memory counts once."""
    memory = files = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            memory += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024
            files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except (OSError, StopIteration):  # it has just ended
            continue
    return memory, files


def growth(samples: list[tuple[int, int]]) -> tuple[float, float]:
    """Return how many bytes and files more there are in the last third of the samples than in the first."""
    third = len(samples) // 3
    if not third:
        return 0.0, 0.0
    first, last = (
        [statistics.median(column) for column in zip(*part, strict=True)]
        for part in (samples[:third], samples[-third:])
    )
    return last[0] - first[0], last[1] - first[1]


def trouble(run: Started, way: str, chance: random.Random) -> None:
    """Do to a run what a machine may do."""
    members = run.members()
    if way == "kill all":
        run.kill()
    elif way == "kill one" and members:
        os.kill(chance.choice(members), signal.SIGKILL)
    elif way == "leave":
        run.process.terminate()
    else:
        os.killpg(run.process.pid, signal.SIGTERM)


def soak(pipeline: str, folder: Path, arguments: argparse.Namespace, chance: random.Random) -> list[str]:
    """Run a pipeline to its end however often it dies; return what was wrong."""
    case, problems, ends = cases.CASES[pipeline], [], []
    samples: list[tuple[int, int]] = []
    flags: dict[str, Any] = {**case.flags, "pipeline": pipeline, "model": case.family, "max_steps": arguments.steps}
    flags |= {"checkpoint_interval": 50, "val_check_interval": 200, "check_val_every_n_epoch": "none", "resume": True}
    flags |= {"no_val_checkpointing": True, "no_epoch_checkpointing": True, "num_workers": 1, "log_every_n_steps": 50}
    flags |= {"devices": arguments.devices, "strategy": "ddp" if arguments.devices > 1 else "auto"}
    end, best = time.monotonic() + arguments.limit, 0.0
    while True:
        run = Started(folder, **flags)
        warm, at = 0.0, time.monotonic() + 2 * WARM + chance.expovariate(1 / arguments.every)
        way = chance.choice(WAYS) if time.monotonic() < end else "nothing"
        measured: list[tuple[int, int]] = []
        while run.process.poll() is None:
            if way != "nothing" and time.monotonic() > at:
                trouble(run, way, chance)
                ends.append(way)
                way = "nothing"
                try:
                    run.process.wait(timeout=ENDS)
                except subprocess.TimeoutExpired:
                    problems.append(f"did not end {ENDS} s after '{ends[-1]}'. It had said: {run.said[-2000:]}")
                    run.kill()
            elif warm and time.monotonic() > warm:
                measured.append(memory_and_files(run.members()))
            elif not warm and "valid/loss" in run.said:
                warm = time.monotonic() + WARM
            time.sleep(PAUSE)
        samples = max(samples, measured, key=len)
        time.sleep(PAUSE)
        if left := [pid for pid in run.members() if run.lives_on(pid, seconds=60)]:
            problems.append(f"processes left behind: {left}")
            run.kill()
        if run.process.returncode == 0:
            break
        if run.process.returncode != 0 and not ends:
            problems.append(f"failed on its own, see {run.log}")
            break
        if len(ends) > arguments.most:
            end = 0.0
    memory, files = growth(samples)
    best = max((sample[0] for sample in samples), default=0.0)
    if memory > max(LOUDEST, MEMORY * best):
        problems.append(f"memory grew by {memory / 2**20:.0f} MiB")
    if files > FILES * arguments.devices:
        problems.append(f"open files grew by {files:.0f}")
    if asides := [path.name for path in run.folders.output_dir.rglob(".*.part")]:
        problems.append(f"files left aside: {asides}")
    sys.stdout.write(
        f"{pipeline:45} {len(ends):3} interruptions, {best / 2**20:6.0f} MiB, {memory / 2**20:+6.1f} MiB and "
        f"{files:+4.0f} files over {len(samples) * PAUSE:4.0f} s: {'; '.join(problems) or 'well'}\n"
    )
    sys.stdout.flush()
    return problems


def sweep(folder: Path, minutes: float, chance: random.Random) -> list[str]:
    """Interrupt a short run wherever it can be, by one signal or more; return what was wrong."""
    end, problems, done = time.monotonic() + 60 * minutes, [], 0
    short = moments.short_run(folder)
    for moment, occurrence in short.all_moments(chance):
        if time.monotonic() > end:
            break
        interruptions = [moments.Interruption(moment, occurrence, chance.choice(SIGNALS))]
        while chance.random() < AGAIN:
            again = chance.choice(short.moments)
            interruptions.append(moments.Interruption(again, chance.randint(1, 3), chance.choice(SIGNALS)))
        if found := short.problems(f"{done}", *interruptions):
            told = ", ".join(f"{signum.name} {moment} {number}" for moment, number, signum in interruptions)
            problems.append(f"{told}: {'; '.join(found)}")
            sys.stdout.write(f"{problems[-1]}\n")
            sys.stdout.flush()
        shutil.rmtree(folder / f"{done}", ignore_errors=True)
        done += 1
    sys.stdout.write(f"{done} of {len(short.moments)} moments, {len(problems)} with differences\n")
    sys.stdout.flush()
    return problems


def main() -> int:
    """Interrupt a short run everywhere, then run every pipeline in turn until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30, help="for the pipelines")
    parser.add_argument("--moments", type=float, default=15, help="minutes for interruptions of a short run")
    parser.add_argument("--steps", type=int, default=3000, help="steps of each run")
    parser.add_argument("--every", type=float, default=20, help="mean seconds between interruptions")
    parser.add_argument("--most", type=int, default=6, help="interruptions of a run, at most")
    parser.add_argument("--limit", type=float, default=90, help="seconds of a run after which it is left alone")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pipelines", nargs="+", default=list(cases.CASES))
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    chance, problems = random.Random(arguments.seed), []
    with tempfile.TemporaryDirectory() as folder:
        if arguments.moments:
            problems += sweep(Path(folder, "moments"), arguments.moments, chance)
        end = time.monotonic() + 60 * arguments.minutes
        while time.monotonic() < end:
            for number, pipeline in enumerate(arguments.pipelines):
                if time.monotonic() < end:
                    place = Path(folder, f"{int(time.monotonic())}-{number}")
                    place.mkdir()
                    problems += soak(pipeline, place, arguments, chance)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
