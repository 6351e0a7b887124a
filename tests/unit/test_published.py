"""Configs with the hyper-parameters of papers, and the benchmark that compares rankers with published figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.answer_selection import CONTENDERS, LAYOUT, Setting, commands, report
from tests.runs import ROOT
from transformers_framework.cli import parser
from transformers_framework.cli.given import gather

PAPERS = sorted((ROOT / "examples" / "papers").glob("*.yaml"))


def parsed(words: list[str]) -> dict[str, Any]:
    given = gather(words)
    return parser.parse(given, parser.groups_of(parser.select(given)))[0]


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_configs_of_papers_parse_and_say_how_to_run_them(path: Path) -> None:
    assert parsed(["--config", str(path)])["name"] == path.stem
    assert f"--config examples/papers/{path.name} " in path.read_text("utf-8")


def test_pre_training_and_fine_tuning_of_papers_have_the_same_layout() -> None:
    first, then = (
        parsed(["--config", str(ROOT / "examples" / "papers" / name)]) for name in ("mspp.yaml", "trecqa_joint.yaml")
    )
    for name in ("k", "classification_head_type", "separated", "max_sequence_length", "extended_token_type_ids"):
        assert first[name] == then[name]
    assert then["pre_trained_model"].startswith(f"outputs/pre_trained_models/{first['name']}/final")


def test_commands_of_the_benchmark_parse_and_need_each_other(tmp_path: Path) -> None:
    setting = Setting(Path("q"), Path("d"), Path("m"), tmp_path, steps=160, seeds=2, precision="bf16", threads=1)
    first, *rankers = map(parsed, commands(setting))
    assert first["num_warmup_steps"] == 10
    for contender, options in zip(CONTENDERS.values(), rankers, strict=True):
        start = tmp_path / "pre_trained_models" / first["name"] / "final" if contender.is_pre_trained else Path("m")
        assert Path(options["pre_trained_model"]) == start
        assert options["k"] in (None, first["k"])
    assert set(LAYOUT) <= set(CONTENDERS["joint, MSPP"].flags)


def test_the_report_has_means_deviations_and_published_figures(tmp_path: Path) -> None:
    maps = {"pairwise": (0.75, 0.77), "joint": (0.6, 0.62), "joint_mspp": (0.8, 0.82)}
    for name, values in maps.items():
        runs = []
        for seed, value in enumerate(values, 1):
            runs.append(f"{name}-seed{seed}")
            metrics = ("mean_average_precision", "mean_reciprocal_rank", "precision@1")
            write(tmp_path, runs[-1], {"test": {f"test/answer_selection/{metric}": value for metric in metrics}})
        write(tmp_path, f"{name}-seeds", {"runs": runs})
    found = report(tmp_path)
    assert "| one by one | 76.0 ± 1.4 | 76.0 ± 1.4 | 76.0 ± 1.4 |  | 89.3 / 93.1 / 87.9 |" in found
    assert "| joint, MSPP | 81.0 ± 1.4 |" in found
    assert "| +5.0 (p 0." in found
    assert "2 seeds" in found
    assert "'joint, MSPP' to 'joint, without pre-training', MAP: +20.0 (p 0." in found


def write(outputs: Path, name: str, results: dict[str, Any]) -> None:
    folder = outputs / "checkpoints" / name
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results), "utf-8")
