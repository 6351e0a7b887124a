"""The script for GPUs works: its commands run with tiny models on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.runs import ROOT


@pytest.mark.slow
def test_the_script_runs_on_a_cpu() -> None:
    env = {**os.environ, "TINY": "1", "PYTHON": sys.executable}
    script = ["bash", str(ROOT / "tests" / "gpu" / "check.sh")]
    done = subprocess.run(script, env=env, capture_output=True, text=True, timeout=1100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    speeds = ("BERT-base 512, bf16, eager", "BERT-base 512, bf16, compiled", "T5-base, bf16, eager")
    for row in (*speeds, "DDP: tokens_per_second", "loss scaling: tokens_per_second"):
        assert row in done.stdout
    assert ": ok" in done.stdout
