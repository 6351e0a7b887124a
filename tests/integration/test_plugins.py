"""What is added from outside the tree, without a line of it: an optimizer, a schedule, a logger, a callback."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests import runs, tiny
from tests.outside import forgotten, package  # noqa: F401
from tests.tolerances import approx
from transformers_framework.cli.main import main

OPTIMIZER = '''
"""SGD of the signs of gradients."""
import torch

class Sign(torch.optim.Optimizer):
    def __init__(self, groups, lr, scale):
        super().__init__(groups, {"lr": lr, "scale": scale})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad.sign(), alpha=-group["lr"] * group["scale"])
        return loss

def sign(groups, *, learning_rate: float = 1e-4, sign_scale: float = 1.0):
    """Step by the signs of gradients.

    Args:
        groups: Groups of parameters.
        learning_rate: The learning rate.
        sign_scale: Multiplies each step.
    """
    return Sign(groups, learning_rate, sign_scale)
'''
SCHEDULE = '''
def halving(step: int, total_steps: int, *, halving_steps: int = 2) -> float:
    """Halve the learning rate.

    Args:
        step: Steps done so far.
        total_steps: Steps of the whole run.
        halving_steps: Steps after which the learning rate is halved.
    """
    return 0.5 ** (step // halving_steps)
'''
LOGGER = '''
import json
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

class Lines(Logger):
    name, version = "lines", ""

    def __init__(self, path):
        super().__init__()
        self.path = path

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\\n")

    @rank_zero_only
    def log_hyperparams(self, params, *args, **kwargs):
        pass

def lines(folders, *, lines_file: str = "lines.jsonl"):
    """Log to a file of lines.

    Args:
        folders: Folders of the run.
        lines_file: Name of the file.
    """
    return Lines(folders.output_dir / lines_file)
'''
CALLBACK = """
import pytorch_lightning as pl

class Count(pl.Callback):
    def __init__(self, path: str = "", every: int = 1, factor: float = 1.0):
        self.path, self.every, self.factor, self.seen = path, every, factor, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen += 1

    def on_train_end(self, trainer, pl_module):
        with open(self.path, "a") as file:
            file.write(f"{trainer.global_rank} {self.seen // self.every} {self.factor}\\n")

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]
"""
METRICS = '''
import torch
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

class ShareOfClass(Metric):
    """How many rows are predicted to be of a class."""

    higher_is_better = None

    def __init__(self, number: int = 0):
        super().__init__()
        self.number = number
        self.add_state("found", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("rows", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds, target):
        assert (target >= 0).all(), "padding rows are none"
        self.found += (preds == self.number).sum()
        self.rows += len(target)

    def compute(self):
        return self.found / self.rows

class FirstIsRight(Metric):
    """Over queries."""

    names = ("first_is_right", "queries")

    def __init__(self):
        super().__init__()
        for name in ("scores", "labels", "queries"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, preds, target, indexes):
        self.scores.append(preds)
        self.labels.append(target)
        self.queries.append(indexes)

    def compute(self):
        scores, labels, queries = map(dim_zero_cat, (self.scores, self.labels, self.queries))
        each = [(labels[queries == q], scores[queries == q]) for q in queries.unique()]
        right = [labels[scores.argmax()] == 1 for labels, scores in each if labels.any()]
        return {"first_is_right": sum(right) / max(1, len(right)), "queries": len(each)}

class Pairs(Metric):
    def update(self, preds, target, weights_of_rows):
        pass

    def compute(self):
        return 0.0

class Accuracy(ShareOfClass):
    pass

class Vector(ShareOfClass):
    def compute(self):
        return torch.zeros(3)
'''
REGISTER = """
from transformers_framework.registration import register_logger, register_optimizer, register_scheduler

register_optimizer("sign", "added.sign:sign")
register_scheduler("halving", "added.halving:halving")
register_logger("lines", "added.lines:lines")
"""
FILES = {
    "added/__init__.py": REGISTER,
    "added/sign.py": OPTIMIZER,
    "added/halving.py": SCHEDULE,
    "added/lines.py": LOGGER,
    "added/count.py": CALLBACK,
    "added/metrics.py": METRICS,
}
ADDED = {"import": "added", "optimizer": "sign", "scheduler": "halving", "loggers": ["tensorboard", "lines"]}


def test_an_optimizer_a_schedule_and_a_logger_of_ones_own(tmp_path, package, capsys):  # noqa: F811
    package(FILES)
    flags = {"pipeline": "seq_class", "halving_steps": 3, "sign_scale": 2.0, "lines_file": "own.jsonl", **ADDED}
    words = runs.command(tmp_path, **flags)
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    for help_of in ("Multiplies each step.", "Steps after which the learning rate is halved.", "Name of the file."):
        assert help_of in shown
    assert main([*words, "--check"]) == 0, capsys.readouterr().out
    with runs.watched() as seen:
        folders = runs.run(tmp_path, **flags)
    assert {group["scale"] for group in seen.experiment.trainer.optimizers[0].param_groups} == {2.0}
    rates = [value for _, value in runs.scalars(folders)["train/learning_rate"]]
    assert rates == approx([1e-3 * 0.5 ** (step // 3) for step in range(len(rates))])
    lines = [json.loads(line) for line in (folders.output_dir / "own.jsonl").read_text().splitlines()]
    theirs = {line["step"]: line["valid/loss"] for line in lines if "valid/loss" in line}
    assert theirs == approx(dict(runs.scalars(folders)["valid/loss"]))
    config = yaml.safe_load(folders.config.read_text())
    assert {name: config[name] for name in ("import", "loggers")} == {
        "import": ["added"],
        "loggers": ["tensorboard", "lines"],
    }


def test_events_are_rewound_wherever_tensorboard_is_among_loggers(tmp_path, package):  # noqa: F811
    package(FILES)
    data = runs.datasets(tmp_path / "data", "seq_class")
    flags = {"pipeline": "seq_class", "import": "added", "loggers": ["lines", "tensorboard"], "scheduler": "constant"}
    whole = runs.run(tmp_path, name="whole", max_steps=6, **flags, **data)
    runs.run(tmp_path, name="part", max_steps=4, **flags, **data)
    part = runs.run(tmp_path, name="part", max_steps=6, resume=True, **flags, **data)
    assert runs.scalars(part)["train/loss"] == runs.scalars(whole)["train/loss"]


def test_a_callback_of_ones_own_with_arguments(tmp_path, package):  # noqa: F811
    package(FILES)
    counts = tmp_path / "counts"
    config = tmp_path / "c.yaml"
    entry = {"class_path": "added.count:Count", "init_args": {"path": str(counts), "every": 2, "factor": 1e-4}}
    config.write_text(yaml.safe_dump({"callbacks": [entry, "LearningRateMonitor"]}).replace("0.0001", "1e-4"))
    flags = {"pipeline": "seq_class", **runs.datasets(tmp_path / "data", "seq_class"), "config": config}
    folders = runs.run(tmp_path, max_steps=4, **flags)
    assert counts.read_text() == "0 2 0.0001\n"
    assert "lr-Sign" not in runs.scalars(folders)
    assert any(name.startswith("lr-") for name in runs.scalars(folders)), "Lightning's own are known by name"
    written = yaml.safe_load(folders.config.read_text())["callbacks"]
    assert written == [entry, "LearningRateMonitor"]
    again = flags | {"config": folders.config, "resume": True}
    runs.run(tmp_path, max_steps=8, **again)
    assert counts.read_text() == "0 2 0.0001\n0 4 0.0001\n", "its state is in checkpoints"


def test_a_callback_that_acts_at_the_end_of_the_run(tmp_path, package):  # noqa: F811
    package(
        {
            "added/end.py": """
import pytorch_lightning as pl
from transformers_framework.run_parts import EndsRun

class Note(pl.Callback, EndsRun):
    def __init__(self, path):
        self.path = path

    def on_run_end(self, run):
        made = [path.name for path in sorted(run.folders.predictions.iterdir())]
        print(run.seed, made, sorted(name for name in run.metrics if name.endswith("/loss")), file=open(self.path, "a"))
"""
        }
    )
    entry = {"class_path": "added.end:Note", "init_args": {"path": str(tmp_path / "note")}}
    runs.run(tmp_path, pipeline="seq_class", callbacks=json.dumps(entry), max_steps=2)
    assert (tmp_path / "note").read_text() == (
        "1337 ['errors.md', 'predict.jsonl', 'test.jsonl'] "
        "['test/loss', 'test/seq_class/loss', 'train/loss', 'train/seq_class/loss']\n"
    )


def test_metrics_of_ones_own_beside_those_of_a_pipeline(tmp_path, package):  # noqa: F811
    package(FILES)
    config = tmp_path / "c.yaml"
    entries = [
        {"class_path": "added.metrics:ShareOfClass", "init_args": {"number": 1}},
        {"class_path": "MulticlassCohenKappa", "init_args": {"num_classes": 3}},
    ]
    config.write_text(yaml.safe_dump({"metrics": entries}))
    kappa = "valid/seq_class/multiclass_cohen_kappa"
    folders = runs.run(tmp_path, pipeline="seq_class", config=config, monitor=kappa, max_epochs=2)
    found = runs.metrics(folders, "test")
    predicted = [row["prediction"] for row in runs.predictions(folders)]
    share = sum(name == runs.CLASSES[1] for name in predicted) / len(predicted)
    assert found["test/seq_class/share_of_class"] == approx(share)
    curve = [value for _, value in runs.scalars(folders)[kappa]]
    best = torch.load(folders.best, weights_only=True)["callbacks"]["Checkpoints"]
    assert best["monitor"] == kappa
    assert best["best_value"] == approx(max(curve))
    assert {"train/seq_class/share_of_class", "train/seq_class/accuracy"} <= runs.metrics(folders, "train").keys()


def test_a_metric_over_queries_gets_their_ids(tmp_path, package):  # noqa: F811
    package(FILES)
    folders = runs.run(tmp_path, metrics=["added.metrics:FirstIsRight", "added.metrics:ShareOfClass"])
    found = {name.rpartition("/")[2]: value for name, value in runs.metrics(folders, "test").items()}
    assert found["first_is_right"] == approx(found["precision@1"])
    assert found["queries"] == len({row["key"] for row in tiny.pairs(27, 2)})


def test_a_metric_goes_to_the_objectives_that_have_what_it_needs(tmp_path, package):  # noqa: F811
    package(FILES)
    data = runs.datasets(tmp_path / "data", "seq_class", (16, 8, 8, 8))
    metric = "added.metrics:ShareOfClass"
    folders = runs.run(tmp_path, pipeline="masked_lm_and_seq_class", metrics=metric, **data)
    names = [name for name in runs.scalars(folders) if name.endswith("share_of_class")]
    assert sorted(names) == [f"{stage}/seq_class/share_of_class" for stage in ("test", "train", "valid")]


@pytest.mark.slow
def test_two_processes_import_what_one_does(tmp_path, package):  # noqa: F811
    site = package(FILES)
    counts = tmp_path / "counts"
    entry = json.dumps({"class_path": "added.count:Count", "init_args": {"path": str(counts)}})
    path = f"{site}:{runs.ROOT}"
    metrics = ["added.metrics:FirstIsRight", "added.metrics:ShareOfClass"]
    data = runs.datasets(tmp_path / "data", "answer_selection", (40, 1, 27, 3))  # the second process validates nothing
    flags = {"callbacks": entry, "metrics": metrics, **data, **ADDED, "devices": 2, "strategy": "ddp"}
    folders, _ = runs.spawn(tmp_path, env={"PYTHONPATH": path}, **flags)
    assert {line.split()[0] for line in counts.read_text().splitlines()} == {"0", "1"}
    found = {name.rpartition("/")[2]: value for name, value in runs.metrics(folders, "test").items()}
    assert found["first_is_right"] == approx(found["precision@1"])
    assert found["share_of_class"] == approx(sum(not row["prediction"] for row in runs.predictions(folders)) / 27)
    assert runs.metrics(folders, "valid")["valid/answer_selection/queries"] == 1


# fmt: off  a table: one row a line
# ruff: noqa: E501
MISTAKES = [
    ({"import": "nope_nope"}, "--import nope_nope: there is no module 'nope_nope'. Install it, or give its folder in"),
    ({"import": "broken"}, r"--import broken: importing 'broken' fails at .*broken\.py:2: ZeroDivisionError: "),
    ({"import": "grammar"}, r"--import grammar: importing 'grammar' fails at .*grammar\.py:1: SyntaxError: "),
    ({"import": "needing"}, "--import needing: importing 'needing' fails at .*No module named 'absent_package'"),
    ({"import": "./added"}, "--import: found './added', expected the name of a package"),
    ({"import": "added.cuont"}, "--import added.cuont: there is no module 'added.cuont'. Did you mean 'added.count'?"),
    ({"import": "taking"}, "register_optimizer: taking registers 'adamw', which transformers_framework has already"),
    ({"import": ["added", "clashing"]}, "register_logger: clashing registers 'lines', which added has already"),
    (
        {"callbacks": "added.count:Cuont"},
        "--callbacks added.count:Cuont: the module 'added.count' has no 'Cuont'. Did you mean 'Count'?",
    ),
    (
        {"callbacks": "added.cuont:Count"},
        "--callbacks added.cuont:Count: there is no module 'added.cuont'. Did you mean 'added.count'?",
    ),
    ({"callbacks": "LearningRateMonitr"}, "has no 'LearningRateMonitr'. Did you mean 'LearningRateMonitor'?"),
    (
        {"callbacks": "added.sign:Sign"},
        "--callbacks added.sign:Sign: calling it with no arguments fails: TypeError: .*Arguments: groups, lr, scale",
    ),
    (
        {"callbacks": "collections:Counter"},
        "--callbacks collections:Counter: found a Counter, expected a subclass of pytorch_lightning.Callback",
    ),
    (
        {"callbacks": '{"class_path": "added.count:Count", "init_args": {"k": 1}}'},
        "calling it with k=1 fails: TypeError: .*unexpected keyword argument 'k'",
    ),
    ({"callbacks": '{"class": "x"}'}, "--callbacks: unknown key 'class'. Known: class_path, init_args."),
    ({"callbacks": '{"class_path": '}, "this is not JSON"),
    ({"metrics": "added.metrics:ShareOfClas"}, "has no 'ShareOfClas'. Did you mean 'ShareOfClass'?"),
    (
        {"metrics": "added.count:Count"},
        "--metrics added.count:Count: found a Count, expected a subclass of torchmetrics.Metric",
    ),
    (
        {"metrics": "added.metrics:Accuracy"},
        "--metrics: objective 'seq_class' logs 'accuracy' already. Give Accuracy another name",
    ),
    ({"metrics": ["added.metrics:ShareOfClass"] * 2}, "--metrics: objective 'seq_class' logs 'share_of_class' already"),
    (
        {"metrics": "added.metrics:Pairs"},
        r"--metrics added.metrics:Pairs: it is updated with preds, target, weights_of_rows, which nothing here has: objective 'seq_class' has \(preds, target\)\.",
    ),
    (
        {"metrics": "added.metrics:Vector"},
        r"The metric 'vector' \(Vector\) computes a tensor of shape \(3,\); expected a single number",
    ),
    (
        {"metrics": "added.metrics:ShareOfClass", "pipeline": "masked_lm", "label_column": None},
        r"it is updated with preds, target, which nothing here has: objective 'masked_lm' has \(losses_sum, correct, labels\)",
    ),
    (
        {"metrics": "added.metrics:ShareOfClass", "monitor": "valid/seq_class/share_of_clas"},
        "Did you mean 'valid/seq_class/share_of_class'",
    ),
    ({"loggers": "tensorbord"}, "--loggers: unknown logger 'tensorbord'. Did you mean 'tensorboard'?"),
    (
        {"import": "added", "loggers": "lines", "lines_fil": "x"},
        "--lines_fil: unknown flag. Did you mean '--lines_file'?",
    ),
    (
        {"import": "added", "lines_file": "x"},
        "--lines_file: this run has no such flag; it belongs to --loggers lines.",
    ),
    (
        {"import": "no_logger", "loggers": "none_at_all"},
        "--loggers none_at_all: make returned 3, expected a pytorch_lightning Logger",
    ),
    ({"import": "bad_flags", "optimizer": "no_type"}, "error: no_type: rate has a type that no flag can have"),
    (
        {"import": "bad_flags", "optimizer": "not_called"},
        "error: bad_flags:three: found 3, expected a class or a function",
    ),
    ({"import": "bad_flags", "scheduler": "other_seed"}, "disagree on --seed"),
    (
        {"import": "bad_flags", "scheduler": "other_total"},
        "--scheduler other_total: calling it at step 0 fails: TypeError: .*unexpected keyword argument",
    ),
    ({"import": "bad_flags", "scheduler": "no_factor"}, "--scheduler no_factor: it returned None at step 0. Expected"),
    ({"import": "transformers_framework.nope"}, "there is no module 'transformers_framework.nope'"),
]
# fmt: on
BAD = {
    "broken.py": "x = 1\n1 / 0\n",
    "grammar.py": "def\n",
    "needing.py": "import absent_package\n",
    "taking.py": "from transformers_framework.registration import register_optimizer\nregister_optimizer('adamw', 'a:b')\n",
    "clashing.py": "from transformers_framework.registration import register_logger\nregister_logger('lines', 'a:b')\n",
    "no_logger.py": "from transformers_framework.registration import register_logger\n"
    "def make(folders):\n    return 3\nregister_logger('none_at_all', 'no_logger:make')\n",
    "bad_flags.py": "from transformers_framework.registration import register_optimizer, register_scheduler\n"
    "def no_type(groups, *, rate: dict[str, int]): ...\ndef other_seed(step, total, *, seed: int = 5): ...\nthree = 3\n"
    "def other_total(step, total): return 1.0\ndef no_factor(step, total_steps): ...\n"
    "register_scheduler('other_total', 'bad_flags:other_total')\nregister_scheduler('no_factor', 'bad_flags:no_factor')\n"
    "register_optimizer('no_type', 'bad_flags:no_type')\nregister_optimizer('not_called', 'bad_flags:three')\n"
    "register_scheduler('other_seed', 'bad_flags:other_seed')\n",
}


@pytest.mark.parametrize(("flags", "message"), MISTAKES, ids=lambda value: str(value)[:60])
def test_mistakes_have_one_message(flags, message, tmp_path, package, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(logging.getLogger("transformers_framework"), "handlers", [])  # of the stream of an earlier test
    package(FILES | BAD)
    words = runs.command(tmp_path, **{"pipeline": "seq_class", **flags})
    assert main(words) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert "Traceback" not in said


def test_nothing_is_imported_from_the_folder_of_a_checkpoint(tmp_path, package, capsys):  # noqa: F811
    """Neither modules that lie in one, nor those that its config or its flags name."""
    package(FILES)
    done = runs.run(tmp_path, pipeline="seq_class", **{"import": "added"})
    checkpoint = done.pre_trained_models / "final"
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForSequenceClassification": "evil.Evil", "AutoConfig": "evil.Evil"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    folders = (checkpoint, done.checkpoints)
    for folder in folders:
        for name in ("evil.py", "added_to_it/__init__.py", "sitecustomize.py"):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write(__name__)\n")
    saved = torch.load(done.last, weights_only=True)
    assert "import: [added]" in str(saved["callbacks"]["Provenance"]["flags"])
    del sys.modules["added"]
    data = runs.datasets(tmp_path / "data", "seq_class")
    runs.run(tmp_path, pipeline="seq_class", name="other", pre_trained_model=checkpoint, **data)
    tested = {"pre_trained_model": checkpoint, "ckpt_path": done.last, "test_dataset": data["test_dataset"]}
    runs.run(tmp_path, pipeline="seq_class", name="tested", **tested)
    assert "added" not in sys.modules, "the flags of a checkpoint import nothing"
    refused = runs.command(tmp_path, pipeline="seq_class", name="third", **tested, **{"import": "evil"})
    assert main(refused) == 2
    assert "--import evil: there is no module 'evil'" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()
    assert Path(checkpoint / "evil.py").exists()


def test_installed_plug_ins_are_imported_when_a_name_asks_for_them(tmp_path, package, capsys):  # noqa: F811
    site = package(FILES | {"added/__init__.py": "open(__file__ + '.imported', 'a').close()\n" + REGISTER})
    imported = site / "added" / "__init__.py.imported"
    package(
        {
            "added-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: added\nVersion: 1.0\n",
            "added-1.0.dist-info/entry_points.txt": "[transformers_framework.plugins]\nadded = added\n",
        }
    )
    assert main(["--help"]) == 0
    assert "plug-ins\n  added" in capsys.readouterr().out
    data = {"pipeline": "seq_class", **runs.datasets(tmp_path / "data", "seq_class", (16, 8, 8, 8))}
    runs.run(tmp_path, **data)
    assert not imported.exists(), "a run that needs none imports none"
    words = runs.command(tmp_path, name="other", **data)
    assert main([*words, "--optimizer", "sgin"]) == 2
    assert "unknown optimizer 'sgin'. Did you mean 'sign'?" in capsys.readouterr().err
    assert imported.exists()
    runs.run(tmp_path, name="other", optimizer="sign", **data)


def test_a_checkpoint_of_an_installed_family_needs_no_name(tmp_path, package):  # noqa: F811
    row = "Family('pocket-model', module='tests.pocket', document_mask='none')"
    package(
        {
            "pockets.py": f"from transformers_framework import Family, register_model\nregister_model({row})\n",
            "pockets.dist-info/METADATA": "Metadata-Version: 2.1\nName: pockets\nVersion: 1.0\n",
        }
    )
    data = runs.datasets(tmp_path / "data", "seq_class", (16, 8, 8, 8))
    with forgotten():
        __import__("pockets")
        checkpoint = tiny.save_checkpoint("pocket_model", tmp_path / "checkpoint")
    flags = {"pipeline": "seq_class", "model": "auto", "pre_trained_model": checkpoint, **data}
    runs.run(tmp_path, name="unknown", status=2, **flags)
    package({"pockets.dist-info/entry_points.txt": "[transformers_framework.plugins]\npockets = pockets\n"})
    importlib.invalidate_caches()
    folders = runs.run(tmp_path, **flags)
    assert (
        json.loads((folders.pre_trained_models / "final" / "config.json").read_text())["model_type"] == "pocket-model"
    )


def test_the_help_of_a_run_has_what_installed_plug_ins_add(package, capsys):  # noqa: F811
    package(FILES | {"added.dist-info/METADATA": "Metadata-Version: 2.1\nName: added\nVersion: 1.0\n"})
    package({"added.dist-info/entry_points.txt": "[transformers_framework.plugins]\nadded = added\n"})
    assert main(["--pipeline", "seq_class", "--help"]) == 0
    assert "adamw8bit, sign" in capsys.readouterr().out.replace("\n", " ").replace("  ", "")


def test_the_console_script_finds_packages_where_it_is_started(tmp_path):
    """As `python -m` does; the script itself lies in another folder."""
    (tmp_path / "here.py").write_text(
        "from transformers_framework import PipelineSpec, register_pipeline\n"
        "register_pipeline('here', PipelineSpec('a text', 'nothing much', 'inputs.text:TextInputs', ()))\n"
    )
    script = tmp_path / "bin" / "transformers_framework"
    script.parent.mkdir()
    script.write_text("import sys\nfrom transformers_framework.cli.main import main\nsys.exit(main())\n")
    env = {**os.environ, "PYTHONPATH": str(runs.ROOT)}
    words = [sys.executable, script, "--import", "here", "--help"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing much" in done.stdout


def test_config_files_import_too(tmp_path, package, capsys):  # noqa: F811
    package(FILES | BAD)
    data = runs.datasets(tmp_path / "data", "seq_class", (16, 8, 8, 8))
    (tmp_path / "c.yaml").write_text("import: [added]\noptimizer: sign\n")
    runs.run(tmp_path, pipeline="seq_class", config=tmp_path / "c.yaml", **data)
    (tmp_path / "c.yaml").write_text("optimizer: sign\nimport: broken\n")
    assert main(runs.command(tmp_path, pipeline="seq_class", config=tmp_path / "c.yaml", **data)) == 2
    assert "c.yaml:2: import broken: importing 'broken' fails at" in capsys.readouterr().err
