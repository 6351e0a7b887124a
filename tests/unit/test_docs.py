"""The documents say what is true: tables, flags, commands, links, and the examples that readers copy."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import runs, tiny
from tests.tolerances import approx
from transformers_framework import registry
from transformers_framework.cli import parser
from transformers_framework.cli.given import gather
from transformers_framework.cli.main import main
from transformers_framework.objectives.objective import Setup, metric_names
from transformers_framework.registry import OPTIMIZERS, PIPELINES, SCHEDULERS, PipelineSpec, resolve
from transformers_framework.storage.run_folders import RunFolders

ROOT = runs.ROOT
README, PIPELINES_README = ROOT / "README.md", ROOT / "transformers_framework" / "pipelines" / "README.md"
DOCUMENTS = [README, PIPELINES_README, *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
PROGRAM = ["python", "-m", "transformers_framework"]
OTHERS = {"logdir", "num_clusters", "output"}  # flags of other programs


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def marked(path: Path, mark: str) -> str:
    """Return the block behind ``<!-- test: MARK -->``."""
    found = re.findall(
        rf"^<!-- test: {re.escape(mark)} -->\n```\w*\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(found) == 1, f"{name_of(path)}: one block is marked '{mark}'"
    return found[0]


def commands(path: Path) -> list[list[str]]:
    """Return the words of every command of the program in the shell blocks of a document."""
    lines = [line for block in blocks(path, "bash") for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    starts = [(line, next((i for i in range(len(line)) if line[i : i + 3] == PROGRAM), None)) for line in words]
    return [line[start + 3 :] for line, start in starts if start is not None]


def table(path: Path, first: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first column has this title, by their first cell."""
    text = path.read_text("utf-8")
    found = re.search(rf"^\| {re.escape(first)} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, f"{name_of(path)}: a table that begins with '{first}'"
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]
    return {row[0].strip("` "): [cell.strip("| ") for cell in row[1:]] for row in rows}


@pytest.fixture(scope="module")
def flags() -> set[str]:
    """Every flag of any run."""
    known: set[str] = set(parser.ALIASES)
    for pipeline in PIPELINES:
        chosen = [{"optimizer": name} for name in OPTIMIZERS] + [{"scheduler": name} for name in SCHEDULERS]
        for rows in [*chosen, {"k": "5"}]:
            groups = parser.groups_of({"pipeline": pipeline, "model": "auto", **rows})
            known |= {name for members in groups.values() for name in members}
    return known


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_flags_exist(path, flags):
    later = blocks(path, "text")  # a command that is still to come is shown as text
    text = path.read_text("utf-8")
    for block in later:
        text = text.replace(block, "")
    named = set(re.findall(r"(?<![\w-])--([A-Za-z]\w*)", text))
    assert named
    assert sorted(named - flags - OTHERS) == []


@pytest.mark.parametrize("words", commands(README), ids=lambda words: " ".join(words)[:60])
def test_commands_parse(words, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    given = gather(words)
    if "pipeline" in given:
        groups = parser.groups_of(parser.select(given))
        if "help" not in given:
            parser.parse(given, groups)
    else:
        assert given.keys() <= {"help", "version"}


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_examples_parse(path):
    given = gather(["--config", str(path)])
    options, _ = parser.parse(given, parser.groups_of(parser.select(given)))
    assert options["name"] == options["pipeline"] == path.stem


def test_every_pipeline_has_an_example_and_a_script():
    scripts = {path.stem for path in (ROOT / "tests" / "scripts").glob("*.sh")}
    assert {path.stem for path in EXAMPLES} == set(PIPELINES) == scripts


def test_the_table_of_pipelines_is_the_registry():
    rows = {}
    for name, spec in PIPELINES.items():
        objectives = [resolve(place) for place in spec.objectives]
        rows[name] = [
            spec.needs,
            spec.learns,
            f"`{resolve(spec.inputs).__name__}`",
            ", ".join(f"`{objective.__name__}`" for objective in objectives),
            ", ".join(f"`{objective.head}`" for objective in objectives),
        ]
    assert table(PIPELINES_README, "pipeline") == rows
    assert {name: cells[:2] for name, cells in table(README, "pipeline").items()} == {
        name: cells[:2] for name, cells in rows.items()
    }


def test_the_tables_of_optimizers_and_schedules_are_the_registry():
    assert list(table(README, "optimizer")) == list(OPTIMIZERS)
    assert list(table(README, "schedule")) == list(SCHEDULERS)


@pytest.mark.parametrize("place", sorted({place for spec in PIPELINES.values() for place in spec.objectives}))
def test_the_table_of_metrics_is_what_is_logged(place, tmp_path):
    rows = table(README, "objective")
    cells = {name.strip(" `"): found for key, found in rows.items() for name in key.split(",")}
    objective = make(resolve(place), tmp_path)
    in_training, outside = (metric_names(objective, stage) for stage in ("train", "valid"))
    told = [{text for cell in column.split(",") if (text := cell.strip(" `"))} for column in cells[objective.name]]
    assert told[0] == {re.sub(r"f1_class_.*", "f1_class_{name}", metric) for metric in ("loss", *in_training)}
    assert told[1] == set(outside) - set(in_training)


def make(family: Any, folder: Path) -> Any:
    """Return an objective of a small model, its classes settled."""
    config = tiny.config_for("bert")
    (folder / "clusters.txt").write_text("".join(f"{token % 2}\n" for token in range(config.vocab_size)))
    options = {
        "input_columns": ["words"],
        "context_column": "context",
        "batch_size": 8,
        "clusters_filename": str(folder / "clusters.txt"),
    }
    options |= {"problem_type": "single_label"}  # what others log is told below the table
    options |= {"label_column": "label"} if family.name == "retrieval" else {}
    objective = family(
        Setup(tiny.tokenizer_for("bert"), config, max_sequence_length=[32, 16]), **registry.options_of(family, options)
    )
    if hasattr(objective, "classes") and not objective.is_ready:
        tags = ["B-a", "I-a", "O"] if objective.name == "token_class" else ["a", "b", "c"]
        objective.classes.settle(tags, trains=True)
    return objective


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8"))
    assert links
    titles = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in path.read_text("utf-8").splitlines() if line.startswith("#")}  # fmt: skip  # noqa: E501
    for link in links:
        if link.startswith("#"):
            assert link[1:] in titles, link
        elif "://" not in link:
            assert (path.parent / link.partition("#")[0]).exists(), link


def write_files(path: Path, mark: str, folder: Path) -> None:
    """Write the files that a document shows: blocks marked with a mark and a name."""
    for name in re.findall(rf"<!-- test: {mark} (\S+\.\w+) -->", path.read_text("utf-8")):
        for stage in ("train", "valid", "test") if name.startswith("train.") else (name,):  # as the document says
            file = folder / name.replace("train.", f"{stage}.")
            file.write_text(marked(path, f"{mark} {name}"), encoding="utf-8")


@pytest.mark.parametrize(("mark", "pipeline"), [("rank", "answer_selection"), ("classify", "seq_class")])
def test_the_first_example_runs_as_it_is_shown(mark, pipeline, tmp_path, monkeypatch, capsys):
    """Files and command are the README's; only the checkpoint is a small one, since the hub is out of reach."""
    monkeypatch.chdir(tmp_path)
    write_files(README, mark, tmp_path)
    shown = shlex.split(marked(README, f"{mark} command").replace("\\\n", " "))
    assert shown[:3] == PROGRAM
    words = shown[3:]
    checkpoint = tiny.save_checkpoint("bert", tmp_path / "checkpoint")
    words[words.index("--pre_trained_model") + 1] = str(checkpoint)
    small = ["--num_workers", "0", "--accelerator", "cpu", "--cache_dir", str(tmp_path / "cache")]
    assert main([*words, *small, "--check"]) == 0, capsys.readouterr()
    report = capsys.readouterr().out
    shape = r"^(train|valid|test|steps|model):"
    assert re.findall(shape, marked(README, "check"), re.MULTILINE) == ["train", "valid", "test", "steps", "model"]
    assert re.findall(shape, report, re.MULTILINE) == ["train", "valid", "test", "steps", "model"]
    assert main([*words, *small]) == 0, capsys.readouterr()
    name = words[words.index("--name") + 1]
    folders = RunFolders("outputs", name)
    assert f"test/{pipeline}/accuracy" in runs.metrics(folders, "test")
    if mark == "rank":
        tree = {part for line in marked(README, "folders").splitlines() for part in re.findall(r"[\w.]+", line[:34])}
        made = {path.name for path in Path("outputs").rglob("*") if not path.name.startswith(".")}
        shown = {
            re.sub(r"_\d+_step_\d+", "_E_step_S", re.sub(r"events\..*", "events", made_name)) for made_name in made
        }
        assert tree - {"outputs"} == shown - EXPORT | {"predict.jsonl"}, "the README shows every file of a run"
        # and what was trained is used as the README says
        predict = shlex.split(marked(README, "predict").replace("\\\n", " "))[3:]
        write_files(README, "predict", tmp_path)
        assert main([*predict, *small]) == 0
        found = runs.predictions(RunFolders("outputs", predict[predict.index("--name") + 1]), "predict")
        assert all({"id", "scores", "prediction"} <= row.keys() for row in found)
        code = marked(README, "load")
        exec(compile(code, "README.md", "exec"), {})


# files of a checkpoint of transformers; which there are depends on the tokenizer
EXPORT = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "README.md",
}


def test_a_new_objective_is_a_file_and_a_row(tmp_path, monkeypatch, capsys):
    """The worked example of the pipelines' README, executed from the document."""
    module = ModuleType("transformers_framework.objectives.similarity")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(marked(PIPELINES_README, "objectives/similarity.py"), "similarity.py", "exec"), vars(module))
    row: dict[str, Any] = eval("{" + marked(PIPELINES_README, "row") + "}", {"PipelineSpec": PipelineSpec})
    for name, spec in row.items():
        monkeypatch.setitem(registry.PIPELINES, name, spec)
    rows = [{"a": pair["question"], "b": pair["answer"], "score": i % 5 / 4} for i, pair in enumerate(tiny.pairs(45))]
    train = tiny.write_jsonl(tmp_path / "train.jsonl", rows)
    checkpoint = tiny.save_checkpoint("bert", tmp_path / "bert")
    words = shlex.split(
        f"--pipeline similarity --model bert --name s --output_dir {tmp_path} --cache_dir {tmp_path / 'cache'} "
        f"--pre_trained_model {checkpoint} --train_dataset {train} --valid_dataset {train} --test_dataset {train} "
        f"--predict_dataset {train} --input_columns a b --label_column score --batch_size 8 --max_sequence_length 48 "
        "--learning_rate 3e-3 --max_epochs 3 --num_workers 0 --accelerator cpu --devices 1 --monitor_direction min "
        "--monitor valid/similarity/squared_error --enable_model_summary false"
    )
    assert main([*words, "--check"]) == 0, capsys.readouterr().out
    assert main(words) == 0
    folders = RunFolders(tmp_path, "s")
    curve = [value for _, value in runs.scalars(folders)["valid/similarity/squared_error"]]
    assert min(curve[1:]) < curve[0], "it learns"
    found = runs.predictions(folders, "predict")
    error = sum((line["prediction"] - row["score"]) ** 2 for line, row in zip(found, rows, strict=True)) / len(rows)
    assert runs.metrics(folders, "test")["test/similarity/squared_error"] == approx(error)
    assert main([*words[:2], "--model", "bert", "--help"]) == 0
    assert "Column with the number." in capsys.readouterr().out


def test_python_in_the_documents_is_python():
    for path in DOCUMENTS:
        for block in blocks(path, "python"):
            ast.parse(block if not block.startswith('"') or block.startswith('"""') else "{" + block + "}")
