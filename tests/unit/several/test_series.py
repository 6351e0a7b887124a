"""``--seeds`` and ``--sweep``: the planned runs, what is skipped, and the results, without training."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import runs
from transformers_framework.cli import parser
from transformers_framework.cli.given import gather
from transformers_framework.cli.main import main
from transformers_framework.cli.several import run_series, series_of
from transformers_framework.cli.sweep_files import read_sweep
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.several import series as module
from transformers_framework.several.grid import Choices, Interval, sampled_settings, suffixes
from transformers_framework.several.series import PlannedRun, Series, check_machine, run_all
from transformers_framework.several.summaries import report


def words(tmp_path: Path, **flags: Any) -> list[str]:
    made = {"train_dataset": "train.jsonl", "pre_trained_model": "model", "output_dir": tmp_path / "out"}
    return runs.command(tmp_path, pipeline="seq_class", **{**made, **flags})


def planned(argv: list[str]) -> Series:
    found = series_of(argv, gather(argv))
    assert found is not None
    return found[0]


def results(value: float, seed: int, **changes: Any) -> dict[str, Any]:
    best = {"monitor": "valid/seq_class/accuracy", "direction": "max", "value": value, "step": 3, "epoch": 0}
    best["metrics"] = {"valid/seq_class/accuracy": value}
    data = {"train": {"source": "train.jsonl", "rows": 3, "fingerprint": "a"}}
    return {"seed": seed, "best": best, "test": {"test/seq_class/accuracy": value - 0.1}, "data": data, **changes}


def finish(run: PlannedRun, value: float, **changes: Any) -> None:
    """Write the files of a finished run."""
    run.folders.checkpoints.mkdir(parents=True)
    (run.folders.checkpoints / "config.yaml").write_text(run.config_yaml)
    found = results(value, run.seed, name=run.folders.name, **changes)
    (run.folders.checkpoints / "results.json").write_text(json.dumps(found))


def test_the_runs_of_seeds(tmp_path):
    argv = words(tmp_path, seeds=[1, 2], sweep="none")
    series = planned(argv)
    assert [run.folders.name for run in series.runs] == ["run-seed1", "run-seed2"]
    for run in series.runs:
        # the command of a run is one without --seeds, whatever files say
        given = gather(run.words)
        assert series_of(run.words, given) is None
        assert (given["name"].words, given["seed"].words) == ((run.folders.name,), (str(run.seed),))
        flags = yaml.safe_load(run.config_yaml)
        assert (flags["name"], flags["seed"]) == (run.folders.name, run.seed)
        assert not flags.keys() & {"seeds", "sweep"}
    assert series.commands == [f"python -m transformers_framework {' '.join(without(argv))} --name run --seeds 1 2"]


def without(argv: list[str]) -> list[str]:
    """Leave out name, seeds and sweep."""
    found, skip = [], False
    for word in argv:
        skip = word in ("--name", "--seeds", "--sweep") if word.startswith("--") else skip
        found += [] if skip else [word]
    return found


def test_seeds_of_the_command_line_are_before_the_seed_of_a_file(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 7\nweight_decay: 0.5\n")
    series = planned(words(tmp_path, seeds=[1, 2], config=tmp_path / "c.yaml"))
    assert [(run.seed, run.options["weight_decay"]) for run in series.runs] == [(1, 0.5), (2, 0.5)]


def test_printed_flags_give_the_same_series(tmp_path, capsys):
    assert main([*words(tmp_path, seeds=[1, 2]), "--print_config"]) == 0
    (tmp_path / "c.yaml").write_text(capsys.readouterr().out)
    series = planned(["--config", str(tmp_path / "c.yaml")])
    assert [run.folders.name for run in series.runs] == ["run-seed1", "run-seed2"]
    assert series.runs[0].config_yaml == planned(words(tmp_path, seeds=[1, 2])).runs[0].config_yaml


def test_the_runs_of_a_sweep(tmp_path):
    (tmp_path / "grid.yaml").write_text("learning_rate: [1e-5, 3e-5]\nmax_sequence_length: [[64, 8], 32]\n")
    flags = {"sweep": tmp_path / "grid.yaml", "learning_rate": None, "max_sequence_length": None}
    series = planned(words(tmp_path, seeds=[1, 2], **flags))
    names = ["run-lr1e-5-msl64+8", "run-lr1e-5-msl32", "run-lr3e-5-msl64+8", "run-lr3e-5-msl32"]
    assert [run.folders.name for run in series.runs] == [f"{name}-seed{seed}" for name in names for seed in (1, 2)]
    first, *_, last = series.runs
    assert (first.options["learning_rate"], first.options["max_sequence_length"]) == (1e-5, [64, 8])
    assert (last.options["learning_rate"], last.options["max_sequence_length"]) == (3e-5, [32])
    assert series.commands[0].endswith(
        "--learning_rate 1e-5 --max_sequence_length 64 8 --name run-lr1e-5-msl64+8 --seeds 1 2"
    )
    # the command of a run has exactly its flags
    alone = series_of(first.words, gather(first.words))
    assert alone is None


def test_flags_that_belong_to_another_flag_can_be_varied_with_it(tmp_path):
    (tmp_path / "grid.yaml").write_text("optimizer: [adamw, adafactor]\nmodel: [bert]\n")
    argv = words(tmp_path, sweep=tmp_path / "grid.yaml", adamw_epsilon=None)
    at = argv.index("--model")
    series = planned(argv[:at] + argv[at + 2 :])
    assert [run.options["optimizer"] for run in series.runs] == ["adamw", "adafactor"]
    assert "adafactor_beta1" in series.runs[1].options


def test_an_empty_list_is_a_value(tmp_path):
    (tmp_path / "grid.yaml").write_text("callbacks: [[], [x:y]]\n")
    series = planned(words(tmp_path, sweep=tmp_path / "grid.yaml"))
    assert [run.folders.name for run in series.runs] == ["run-callbacks_none", "run-callbacks_x_y"]
    (tmp_path / "c.yaml").write_text("callbacks: [a:b]\n")
    with pytest.raises(ConfigurationError, match=r"c.yaml:1: callbacks: this flag is varied at .*grid.yaml:1"):
        planned(words(tmp_path, sweep=tmp_path / "grid.yaml", config=tmp_path / "c.yaml"))
    given = gather(series.runs[0].words)
    assert parser.parse(given, parser.groups_of(parser.select(given)))[0] == series.runs[0].options


def test_random_sweeps(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "method: random\nnum_runs: 30\nseed: 3\nlearning_rate: {min: 1e-6, max: 1e-3, log: true}\nbatch_size: [8, 16]\n"
        "num_warmup_steps: {min: 0, max: 5}\n"
    )
    sweep = read_sweep(str(tmp_path / "r.yaml"))
    rates = [float(setting["learning_rate"][0]) for setting in sweep.settings]
    assert len(set(rates)) == 30
    assert all(1e-6 <= rate <= 1e-3 for rate in rates)
    assert 8 <= sum(rate < 3e-5 for rate in rates) <= 22  # the middle of the logarithms
    assert {setting["num_warmup_steps"][0] for setting in sweep.settings} == set("012345")
    # more runs are added to those of a smaller sweep
    (tmp_path / "r.yaml").write_text((tmp_path / "r.yaml").read_text().replace("30", "4"))
    assert read_sweep(str(tmp_path / "r.yaml")).settings == sweep.settings[:4]


def test_whole_numbers_have_equal_shares_of_the_logarithm():
    draws, generator = Interval(1, 4, log=True, whole=True), random.Random(0)
    found = [int(draws.sample(generator)[0]) for _ in range(4000)]
    assert set(found) == {1, 2, 3, 4}
    assert found.count(1) > found.count(2) > found.count(3) > found.count(4) > 200


def test_names_are_short_and_different():
    assert suffixes([{"a_b": ("x",), "a_c": ("1",)}]) == ["ab_x-ac1"]
    assert suffixes([{"a_b": ("x",), "axe_bar": ("1",)}]) == ["a_b_x-axe_bar1"]
    same = suffixes([{"model": ("x/bert",)}, {"model": ("y/bert",)}])
    assert len(set(same)) == 2
    assert all(name.startswith("model_bert-") for name in same)
    assert len(suffixes([{"column": ("x" * 300,)}])[0]) < 100
    choices = {"k": Choices((("1",), (None,), ("true",)))}
    assert suffixes(sampled_settings(choices, 3, 0)) == [f"k{v}" for v in sorted_as_sampled(choices)]


def sorted_as_sampled(choices: dict[str, Choices]) -> list[str]:
    texts = {"1": "1", None: "_none", "true": "_true"}
    return [texts[setting["k"][0]] for setting in sampled_settings(choices, 3, 0)]


# --- repetition -------------------------------------------------------------------------------------------------------


def test_finished_runs_are_skipped_and_started_ones_continued(tmp_path, monkeypatch, caplog):
    first, second, third = planned(words(tmp_path, seeds=[1, 2, 3])).runs
    finish(first, 0.8)
    second.folders.checkpoints.mkdir(parents=True)
    second.folders.last.touch()
    started = []
    monkeypatch.setattr(module, "_run", lambda run: (started.append((run, run.continues)), (0, 0))[1])
    monkeypatch.setattr(logging.getLogger("transformers_framework"), "propagate", True)
    with caplog.at_level("INFO", "transformers_framework"):
        assert run_all([first, second, third], goes_on=False) == (0, [])
    assert started == [(second, True), (third, False)]
    assert "Run 'run-seed1' is finished, skipping it (1 of 3)" in caplog.text


def test_other_flags_than_those_of_finished_runs_are_refused(tmp_path):
    finish(planned(words(tmp_path, seeds=[1, 2])).runs[0], 0.8)
    assert planned(words(tmp_path, seeds=[1, 2, 3], num_workers=2)), "it is not what a run learns"
    with pytest.raises(
        ConfigurationError, match=r"(?s)'run-seed1' .* finished .*--weight_decay was 0.0 and is 0.3"
    ) as error:
        planned(words(tmp_path, seeds=[1, 2], weight_decay=0.3))
    assert "run-seed2" not in str(error.value)
    assert planned(words(tmp_path, seeds=[1, 2], weight_decay=0.3, overwrite=True)).runs[0].is_finished is False


def test_a_series_goes_on_where_the_direction_of_no_metric_is_given(tmp_path):
    argv = words(tmp_path, seeds=[1, 2], monitor_direction="max")
    first = planned(argv).runs[0]
    finish(first, 0.5)
    path = first.folders.config  # as a run without validation data writes it
    path.write_text(path.read_text().replace("monitor_direction: max", "monitor_direction: auto"))
    assert planned(argv).runs[0].is_finished


def test_a_run_that_fails_ends_seeds_but_not_a_sweep(tmp_path, monkeypatch):
    every = planned(words(tmp_path, seeds=[1, 2, 3])).runs
    started: list[PlannedRun] = []
    monkeypatch.setattr(module, "_run", lambda run: (started.append(run), (int(run.seed == 2), 0))[1])
    assert run_all(every, goes_on=True) == (1, [every[1]])
    assert started == every
    assert run_all(every, goes_on=False) == (1, None)
    monkeypatch.setattr(module, "_run", lambda run: (143, signal.SIGTERM))
    assert run_all(every, goes_on=True) == (143, None)
    monkeypatch.setattr(module, "_run", lambda run: (0, signal.SIGTERM))
    assert run_all(every, goes_on=True) == (143, None)


@pytest.mark.parametrize(("status", "received"), [(1, 0), (143, signal.SIGTERM), (1, signal.SIGTERM)])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_series_that_ended_early_has_no_means(status, received, overwrite, tmp_path, monkeypatch, capsys):
    """Not even if the last run ended it, or the runs that are to be overwritten still have their results."""
    argv = words(tmp_path, seeds=[1, 2], overwrite=overwrite)
    series = planned(argv)
    for run in series.runs if overwrite else series.runs[:1]:
        finish(run, 0.8)
    monkeypatch.setattr(module, "_run", lambda run: (status, received))
    assert run_series(series, argv) == status
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out" / "checkpoints" / "run-seeds").exists()


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_are_passed_on(signum, status, tmp_path):
    """The child has its own session; it receives the signal once, and its status is that of the series."""
    program = tmp_path / "series.py"
    program.write_text(
        "import sys\nfrom types import SimpleNamespace\nfrom transformers_framework.several import series\n"
        f"code = '''import signal, sys, time\nseen = []\ndef note(number, frame): seen.append(number)\n"
        f"signal.signal({int(signum)}, note)\nprint('ready', flush=True)\n"
        "while not seen: time.sleep(0.02)\ntime.sleep(0.3)\nsys.exit(128 + seen[0] if len(seen) == 1 else 9)'''\n"
        "series.PROGRAM = (sys.executable, '-c', code)\n"
        "folders = SimpleNamespace(name='run')\n"
        "run = SimpleNamespace(words=[], continues=False, is_finished=False, folders=folders)\n"
        "print(series.run_all([run, run], goes_on=True)[0], flush=True)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(runs.ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True, env=env, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signum)  # as a terminal does
    assert process.communicate(timeout=60)[0] == f"{status}\n"


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "2"}, {"TORCHELASTIC_RUN_ID": "x"}, {"SLURM_NTASKS": "4"}])
def test_launchers_of_several_processes_are_refused(variables):
    with pytest.raises(ConfigurationError, match="start each run by itself: --seed 1 --name NAME-seed1"):
        check_machine(variables, 1)
    check_machine({"SLURM_NTASKS": "1"}, 1)
    with pytest.raises(ConfigurationError, match="on a single node"):
        check_machine({}, 2)


# --- results ----------------------------------------------------------------------------------------------------------


def test_results_of_seeds(tmp_path):
    series = planned(words(tmp_path, seeds=[1, 2, 3]))
    of_seed_3 = {"test": ["Test: each of the 24 rows is predicted as 0."]}
    for run, value in zip(series.runs, (0.85, 0.9, 0.8), strict=True):
        finish(run, value, warnings=of_seed_3 if run.seed == 3 else {})
    text = report(series)
    assert text.count("WARNING") == 1
    assert "\n\nWARNING: run 'run-seed3': Test: each of the 24 rows is predicted as 0.\n\nResults: " in text
    assert "test/seq_class/accuracy   75.0 ± 5.0  70.0  80.0" in text
    assert "Best run: run-seed2 (valid/seq_class/accuracy 90.0)" in text
    found = json.loads((tmp_path / "out" / "checkpoints" / "run-seeds" / "results.json").read_text())
    summary = found["metrics"]["valid/seq_class/accuracy"]
    assert summary.pop("values") == [0.85, 0.9, 0.8]
    assert found["warnings"] == {"run-seed3": of_seed_3["test"]}
    assert summary == pytest.approx({"mean": 0.85, "sd": 0.05, "min": 0.8, "max": 0.9})
    assert (found["seeds"], found["runs"], found["best"]["run"]) == (
        [1, 2, 3],
        ["run-seed1", "run-seed2", "run-seed3"],
        "run-seed2",
    )


def test_runs_on_other_data_have_no_mean(tmp_path):
    series = planned(words(tmp_path, seeds=[1, 2]))
    finish(series.runs[0], 0.8)
    finish(series.runs[1], 0.8, data={"train": {"source": "other.jsonl", "fingerprint": "b"}})
    with pytest.raises(ConfigurationError, match=r"different train data \(train.jsonl, other.jsonl\)"):
        report(series)


def test_results_of_a_sweep(tmp_path):
    (tmp_path / "grid.yaml").write_text("learning_rate: [1e-5, 3e-5, 1]\n")
    series = planned(words(tmp_path, sweep=tmp_path / "grid.yaml", learning_rate=None))
    for run, value in zip(series.runs, (0.85, 0.9), strict=False):
        finish(run, value, warnings={"test": ["Test: all equal."]} if value == 0.85 else {})
    text = report(series, [series.runs[2]])
    lines = text.splitlines()
    assert [line for line in lines if "WARNING" in line] == ["WARNING: run 'run-lr1e-5': Test: all equal."]
    assert [line.split() for line in lines[:4]] == [
        ["learning_rate", "valid/seq_class/accuracy", "test/seq_class/accuracy"],
        ["1", "3e-5", "90.0", "80.0"],
        ["2", "1e-5", "85.0", "75.0"],
        ["3", "1", "failed", "–"],
    ]
    assert lines[5].startswith("Best: python -m transformers_framework --pipeline seq_class")
    assert lines[5].endswith("--learning_rate 3e-5 --name run-lr3e-5")
    found = json.loads((tmp_path / "out" / "checkpoints" / "run-sweep" / "results.json").read_text())
    assert found["best"]["flags"] == {"learning_rate": "3e-5"}
    assert [entry["failed"] for entry in found["settings"]] == [False, False, True]


def test_a_loss_is_best_when_it_is_smallest_and_nothing_is_best_without_a_monitor(tmp_path):
    (tmp_path / "grid.yaml").write_text("learning_rate: [1e-5, 3e-5]\n")
    series = planned(words(tmp_path, sweep=tmp_path / "grid.yaml", learning_rate=None, seeds=[1, 2]))
    for run, value in zip(series.runs, (2.0, 4.0, 1.0, 3.0), strict=True):
        best = {"monitor": "valid/loss", "direction": "min", "value": value, "metrics": {"valid/loss": value}}
        finish(run, 1, best=best, test={})
    assert [line.split() for line in report(series).splitlines()[1:3]] == [
        ["1", "3e-5", "2.000", "±", "1.414"],
        ["2", "1e-5", "3.000", "±", "1.414"],
    ]
    for run in series.runs:
        path = run.folders.checkpoints / "results.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"best": None}))
    assert "No metric was monitored" in report(series)
    assert (tmp_path / "out" / "checkpoints" / "run-lr3e-5-seeds" / "results.json").exists()


def test_python_runs_one_at_a_time():
    from transformers_framework import run

    with pytest.raises(ConfigurationError, match=r"run\(seeds=…\): from Python, each call is one run"):
        run(pipeline="seq_class", model="bert", name="x", seeds=[1, 2])
