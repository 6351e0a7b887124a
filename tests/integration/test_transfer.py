"""Transfer then adapt: two example runs, the second one of which starts from what the first one exports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import runs
from transformers_framework.cli.main import main

TINY = ["--max_epochs", "1", "--limit_train_batches", "4", "--num_warmup_steps", "1", "--figures", "false"]


def test_the_second_example_adapts_the_model_of_the_first(tmp_path: Path, monkeypatch) -> None:
    demo = [sys.executable, runs.ROOT / "examples" / "demo_data.py", "outputs/demo/data", "--limit", "40"]
    subprocess.run(demo, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    monkeypatch.chdir(tmp_path)
    for name in ("transfer", "adapt"):
        words = ["--config", str(runs.ROOT / "examples" / f"answer_selection_{name}.yaml"), "--cache_dir", "cache"]
        assert main([*words, *TINY]) == 0
    first, second = (Path("outputs/pre_trained_models") / f"answer_selection_{name}" for name in ("transfer", "adapt"))
    assert runs.weights(first / "best").keys() == runs.weights(second / "final").keys()
    log = Path("outputs/checkpoints/answer_selection_adapt/train.log").read_text("utf-8")
    assert "newly initialized" not in log, "the head is that of the first run"
    assert "test/answer_selection/ndcg@3" in Path("outputs/checkpoints/answer_selection_adapt/results.json").read_text()
