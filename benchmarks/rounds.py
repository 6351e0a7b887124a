"""Contenders take turns, so that what else the machine does meets all of them; medians are reported."""

from __future__ import annotations

import json
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

Values = dict[str, list[float]]
median = statistics.median


def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int) -> Values:
    """Call every contender once a round, each round beginning with another one; return their values."""
    values: Values = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            values[name].append(contenders[name]())
            sys.stderr.write(f"  round {turn + 1}: {name} {values[name][-1]:.4g}\n")
    return values


def median_ratio(values: Values, name: str, peer: str) -> float:
    """Return the median over the rounds of one contender's value over another's in the same round."""
    return statistics.median(ours / theirs for ours, theirs in zip(values[name], values[peer], strict=True))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine(threads: int) -> str:
    """Return what figures depend on: processor, threads, versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*: (.+)", info.read_text("utf-8"))):
        cpu = found[1]
    packages = ("torch", "pytorch-lightning", "transformers", "tokenizers")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    return f"{cpu}, {threads} threads, {platform.system()}, Python {platform.python_version()}, {versions}"


def last_json(command: Sequence[str], env: Mapping[str, str]) -> dict:
    """Run a program and return the last line of JSON that it wrote."""
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"')]
    if done.returncode or not lines:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(lines[-1])
