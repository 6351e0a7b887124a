"""The documents say what is true: tables, flags, commands, links, and the examples that readers copy."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import runs, tiny
from tests.outside import package  # noqa: F401
from tests.tolerances import BACKWARD, approx
from transformers_framework import registry
from transformers_framework.cli import parser
from transformers_framework.cli.given import gather
from transformers_framework.cli.main import main
from transformers_framework.cli.tool import groups_of_tool
from transformers_framework.compare import main as compare_main
from transformers_framework.families import FAMILIES
from transformers_framework.objectives.objective import Setup, metric_names
from transformers_framework.predict import main as predict_main
from transformers_framework.registry import LOGGERS, OPTIMIZERS, PIPELINES, SCHEDULERS, resolve
from transformers_framework.special_tokens import SpecialTokens
from transformers_framework.storage.run_folders import RunFolders
from transformers_framework.tokenizer import main as tokenizer_main
from transformers_framework.tokenizer import train_tokenizer

ROOT = runs.ROOT
README, PIPELINES_README = ROOT / "README.md", ROOT / "transformers_framework" / "pipelines" / "README.md"
DOCS = ROOT / "docs"
DOCUMENTS = [README, PIPELINES_README, *sorted(DOCS.rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
PROGRAM = ["python", "-m", "transformers_framework"]
NO_DROPOUT = ["hidden_dropout_prob=0.0", "attention_probs_dropout_prob=0.0"]
OTHERS = {
    "backend",
    "build",
    "confidence",
    "device",
    "dtype",
    "entrypoint",
    "format",
    "gpus",
    "input",
    "ipc",
    "limit",
    "logdir",
    "metric",
    "num_clusters",
    "num_resamples",
    "output",
    "rm",
    "shm",
    "stage",
    "user",
}  # flags of other programs


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def marked(mark: str) -> str:
    """Return the block after ``<!-- test: MARK -->``, which one of the documents has."""
    pattern = rf"^<!-- test: {re.escape(mark)} -->\n```\w*\n(.*?)^```$"
    texts = [path.read_text("utf-8") for path in DOCUMENTS]
    found = [block for text in texts for block in re.findall(pattern, text, re.MULTILINE | re.DOTALL)]
    assert len(found) == 1, f"one block is marked '{mark}'"
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
        for rows in [*chosen, {"k": "5"}, {"loggers": " ".join(LOGGERS)}]:
            groups = parser.groups_of({"pipeline": pipeline, "model": "auto", **rows})
            known |= {name for members in groups.values() for name in members}
    return known | {name for members in groups_of_tool("tokenizer", train_tokenizer).values() for name in members}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_flags_exist(path, flags):
    later = blocks(path, "text")  # a command that is still to come is shown as text
    text = path.read_text("utf-8")
    for block in later:
        text = text.replace(block, "")
    named = set(re.findall(r"(?<![\w-])--([A-Za-z]\w*)", text))
    assert sorted(named - flags - OTHERS) == []


@pytest.mark.parametrize(
    "words",
    [words for path in DOCUMENTS for words in commands(path) if "…" not in words],
    ids=lambda words: " ".join(words)[:60],
)
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
    assert options["name"] == path.stem
    assert path.stem.startswith(options["pipeline"])
    assert f"--config {name_of(path)}\n" in path.read_text("utf-8"), "its first lines say how to run it"


def test_every_pipeline_has_an_example_and_every_example_a_script_and_a_row():
    names, scripts = {path.stem for path in EXAMPLES}, {path.stem for path in (ROOT / "tests" / "scripts").glob("*.sh")}
    assert set(PIPELINES) <= names == scripts
    assert names - set(PIPELINES) == set(table(DOCS / "first_run.md", "more examples"))


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
    assert list(table(DOCS / "optimization.md", "optimizer")) == list(OPTIMIZERS)
    assert list(table(DOCS / "optimization.md", "schedule")) == list(SCHEDULERS)


@pytest.mark.parametrize("place", sorted({place for spec in PIPELINES.values() for place in spec.objectives}))
def test_the_table_of_metrics_is_what_is_logged(place, tmp_path):
    rows = table(DOCS / "metrics.md", "objective")
    cells = {name.strip(" `"): found for key, found in rows.items() for name in key.split(",")}
    objective = make(resolve(place), tmp_path)
    in_training, outside = (metric_names(objective, stage) for stage in ("train", "valid"))
    listed = [{text for cell in column.split(",") if (text := cell.strip(" `"))} for column in cells[objective.name]]
    assert listed[0] == {re.sub(r"f1_class_.*", "f1_class_{name}", metric) for metric in ("loss", *in_training)}
    if place.endswith(":StructuralPretraining"):  # without -k there is nothing to rank
        assert set(outside) == set(in_training)
        return
    assert listed[1] == set(outside) - set(in_training)


def make(family: Any, folder: Path) -> Any:
    """Return an objective of a small model, whose classes are known."""
    config = tiny.config_for("bert")
    (folder / "clusters.txt").write_text("".join(f"{token % 2}\n" for token in range(config.vocab_size)))
    options = {
        "input_columns": ["words"],
        "context_column": "context",
        "batch_size": 8,
        "clusters_filename": str(folder / "clusters.txt"),
    }
    options |= {"problem_type": "single_label"}  # metrics of other types are defined below the table
    options |= {"label_column": "label"} if family.name == "retrieval" else {}
    objective = family(
        Setup(tiny.tokenizer_for("bert"), config, max_sequence_length=[32, 16]), **registry.options_of(family, options)
    )
    if hasattr(objective, "classes") and not objective.is_ready:
        tags = ["B-a", "I-a", "O"] if objective.name == "token_class" else ["a", "b", "c"]
        objective.classes.fix_classes(tags, trains=True)
    return objective


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8"))
    for link in links:
        if "://" not in link:
            file, _, title = link.partition("#")
            target = path.parent / file if file else path
            assert target.exists(), link
            assert not title or title in titles(target), link


def titles(path: Path) -> set[str]:
    """Return the titles of a document's sections as links name them."""
    lines = [line.lstrip("# ") for line in path.read_text("utf-8").splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines}


def test_the_readme_is_read_in_minutes_and_links_every_document():
    text = README.read_text("utf-8")
    assert len(text.encode()) <= 10_240
    linked = {(ROOT / link).resolve() for link in re.findall(r"\]\((docs/[^)#\s]+)", text)}
    pipelines = DOCS / "pipelines" / "README.md"  # links the pages of pipelines
    assert linked == {pipelines, *(path for path in DOCUMENTS if path.parent == DOCS)}


def write_files(mark: str, folder: Path) -> None:
    """Write the files that the documents show: blocks marked with a mark and a name."""
    text = "".join(path.read_text("utf-8") for path in DOCUMENTS)
    for name in re.findall(rf"<!-- test: {mark} (\S+\.\w+) -->", text):
        for stage in ("train", "valid", "test") if name.startswith("train.") else (name,):  # as the document says
            file = folder / name.replace("train.", f"{stage}.")
            file.write_text(marked(f"{mark} {name}"), encoding="utf-8")


@pytest.mark.parametrize(("mark", "pipeline"), [("rank", "answer_selection"), ("classify", "seq_class")])
def test_the_first_example_runs_as_it_is_shown(mark, pipeline, tmp_path, monkeypatch, capsys):
    """Files and commands are the documents'; only the checkpoint is a small one, since the hub is out of reach."""
    monkeypatch.chdir(tmp_path)
    write_files(mark, tmp_path)
    shown = shlex.split(marked(f"{mark} command").replace("\\\n", " "))
    assert shown[:3] == PROGRAM
    words = [word for word in shown[3:] if word != "--check"]
    checkpoint = tiny.save_checkpoint("bert", tmp_path / "checkpoint")
    words[words.index("--pre_trained_model") + 1] = str(checkpoint)
    small = ["--num_workers", "0", "--accelerator", "cpu", "--cache_dir", str(tmp_path / "cache")]
    assert main([*words, *small, "--check"]) == 0, capsys.readouterr()
    report = capsys.readouterr().out
    shape = r"^(train|valid|test|steps|model):"
    assert re.findall(shape, marked("check"), re.MULTILINE) == ["train", "valid", "test", "steps", "model"]
    assert re.findall(shape, report, re.MULTILINE) == ["train", "valid", "test", "steps", "model"]
    assert main([*words, *small]) == 0, capsys.readouterr()
    name = words[words.index("--name") + 1]
    folders = RunFolders("outputs", name)
    assert f"test/{pipeline}/accuracy" in runs.metrics(folders, "test")
    if mark == "rank":
        tree = {part for line in marked("folders").splitlines() for part in re.findall(r"[\w.]+", line[:34])}
        made = {
            path.name for path in Path("outputs").rglob("*") if not path.name.startswith(".") and path.suffix != ".png"
        }
        shown = {
            re.sub(r"_\d+_step_\d+", "_E_step_S", re.sub(r"events\..*", "events", made_name)) for made_name in made
        }
        assert tree - {"outputs"} == shown - EXPORT | {"predict.jsonl"}, "the documents show every file of a run"
        # and what was trained is used as the README says
        predict = shlex.split(marked("predict").replace("\\\n", " "))[3:]
        write_files("predict", tmp_path)
        assert main([*predict, *small]) == 0
        found = runs.predictions(RunFolders("outputs", predict[predict.index("--name") + 1]), "predict")
        assert all({"id", "scores", "prediction"} <= row.keys() for row in found)
        use = shlex.split(marked("use"))
        assert use[:3] == [*PROGRAM[:2], "transformers_framework.predict"]
        assert predict_main([*use[3:], "--num_workers", "0"]) == 0
        assert len(Path("predictions.jsonl").read_text("utf-8").splitlines()) == 2
        code = marked("load")
        exec(compile(code, "first_run.md", "exec"), {})


@pytest.mark.parametrize("seeds", [[], pytest.param(["--seeds", "1", "2"], marks=pytest.mark.slow)])
def test_a_model_is_pre_trained_from_scratch_as_it_is_shown(seeds, tmp_path, monkeypatch, capsys):
    """Texts are few and steps are two; by default without several seeds, which start processes."""
    monkeypatch.chdir(tmp_path)
    for folder in ("texts", "held-out"):
        Path(folder).mkdir()
        for i in range(3):
            Path(folder, f"{i}.txt").write_text("\n\n".join(tiny.TEXT[i::3]), encoding="utf-8")
    for stage in ("train", "valid", "test"):
        tiny.write_jsonl(tmp_path / f"{stage}.jsonl", tiny.classes(16, len(stage), num_labels=2, names=("a", "b")))
    cache = ["--cache_dir", str(tmp_path / "cache")]
    parts = ("tokenizer", "run", "tune", "random")
    shown = [shlex.split(marked(f"scratch {part}").replace("\\\n", " ")) for part in parts]
    assert shown[0][:3] == [*PROGRAM[:2], "transformers_framework.tokenizer"]
    assert tokenizer_main([*shown[0][3:], *cache]) == 0
    output = capsys.readouterr()
    pattern = r"Training a wordpiece tokenizer|Learning word pieces|tokens per word|is read as \[CLS\]|To train a model"
    assert re.findall(pattern, output.err + output.out) == re.findall(pattern, marked("scratch tokenizer output"))
    small = ["--num_workers", "0", "--accelerator", "cpu", *cache]
    words = shown[1][3 : shown[1].index("--seeds")]
    words[words.index("--name") + 1] += "" if seeds else "-seed1"
    assert main([*words, *seeds, "--max_steps", "2", "--num_warmup_steps", "0", *small]) == 0, capsys.readouterr()
    for words in shown[2:]:  # the pre-trained model, and the same size with random weights
        start = words[3 : words.index("--seeds")]
        assert main([*start, "--max_epochs", "1", *small]) == 0, capsys.readouterr()
    assert compare_main(["random", "tuned", "--num_resamples", "50"]) == 0


def test_the_tables_of_sizes_and_of_special_tokens_are_the_families():
    def shape(size: Mapping[str, Any]) -> str:
        one = next((size[name] for name in ("num_hidden_layers", "n_layers") if name in size), None)
        both = [
            size[name]
            for name in ("encoder_layers", "decoder_layers", "num_layers", "num_decoder_layers")
            if name in size
        ]
        hidden = next(size[name] for name in ("hidden_size", "dim", "d_model") if name in size)
        return f"{one if one else ' + '.join(map(str, both))} × {hidden}"

    sizes: dict[str, list[str]] = {}
    tokens: dict[tuple[str, ...], list[str]] = {}
    for name, family in FAMILIES.items():
        if not isinstance(family.sizes, str):
            cell = ", ".join(f"{size} {shape(settings)}" for size, settings in family.sizes.items())
            sizes.setdefault(cell, []).append(f"`{name}`")
        if isinstance(family.tokens, SpecialTokens):
            pair = re.sub(r"\$|:1", "", family.tokens.pair)
            row = " ".join((*family.tokens.first, *(("…", "<extra_id_0>") if family.tokens.sentinels else ())))
            tokens.setdefault((f"`{family.tokens.type}`", f"`{row}`", f"`{pair}`"), []).append(f"`{name}`")
    page = (DOCS / "pretrain_from_scratch.md").read_text("utf-8")
    rows = [[", ".join(names), cell] for cell, names in sizes.items()]
    rows += [[", ".join(names), *cells] for cells, names in tokens.items()]
    assert [line for line in (f"| {' | '.join(row)} |" for row in rows) if line not in page.splitlines()] == []
    listed = re.findall(r"^\| (`\w+`.*?) \| (?:tiny|`(?:bpe|wordpiece|unigram)`)", page, re.MULTILINE)
    assert sorted(listed) == sorted(row[0] for row in rows)


# files of a checkpoint of transformers; which there are depends on the tokenizer
EXPORT = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "transformers_framework.json",
    "special_tokens_map.json",
    "vocab.txt",
    "README.md",
}


def similarity(folder: Path, write: Callable[[Mapping[str, str]], Path], **flags: Any) -> tuple[list[str], list[Any]]:
    """Write the package of the worked example; return the words of a command that uses it, and its rows."""
    names = ("my_package/similarity.py", "my_package/__init__.py")
    write({name: marked(name) for name in names})
    rows = [{"a": pair["question"], "b": pair["answer"], "score": i % 5 / 4} for i, pair in enumerate(tiny.pairs(45))]
    data = tiny.write_jsonl(folder / "train.jsonl", rows)
    given = {"import": "my_package", "input_columns": ["a", "b"], "label_column": "score", "learning_rate": 3e-3}
    given |= {f"{stage}_dataset": data for stage in runs.STAGES}
    given |= {"monitor": "valid/similarity/squared_error", "monitor_direction": "min", "name": "s"}
    given["pre_trained_model"] = tiny.save_checkpoint("bert", folder / "bert")
    return runs.command(folder, pipeline="similarity", **{**given, "max_epochs": 3, **flags}), rows


def test_a_new_objective_is_a_file_and_a_row(tmp_path, package, capsys):  # noqa: F811
    """The worked example of the pipelines' README, executed from the document, outside the tree."""
    words, rows = similarity(tmp_path, package)
    assert main([*words, "--check"]) == 0, capsys.readouterr().out
    assert main(words) == 0
    folders = runs.folders_of(words)
    curve = [value for _, value in runs.scalars(folders)["valid/similarity/squared_error"]]
    assert min(curve[1:]) < curve[0], "it learns"
    found = runs.predictions(folders, "predict")
    error = sum((line["prediction"] - row["score"]) ** 2 for line, row in zip(found, rows, strict=True)) / len(rows)
    assert runs.metrics(folders, "test")["test/similarity/squared_error"] == approx(error)
    assert main(["--import", "my_package", "--pipeline", "similarity", "--model", "bert", "--help"]) == 0
    assert "Column with the number." in capsys.readouterr().out
    assert main(["--import", "my_package", "--help"]) == 0
    assert re.search(r"^  similarity +text columns,", capsys.readouterr().out, re.MULTILINE)
    assert main(["--config", str(folders.config), "--name", "again"]) == 0, "config.yaml repeats the run"
    again = RunFolders(folders.output_dir, "again")
    assert runs.weights_are_equal(folders.pre_trained_models / "best", again.pre_trained_models / "best")


def test_a_new_objective_resumes(tmp_path, package):  # noqa: F811
    words, _ = similarity(tmp_path, package, scheduler="constant")
    assert main(words) == 0
    part, _ = similarity(tmp_path, package, name="part", max_epochs=1, scheduler="constant")
    assert main(part) == 0
    resumed = [*part, "--max_epochs", "3", "--resume"]
    assert main(resumed) == 0
    whole, parts = runs.folders_of(words), runs.folders_of(part)
    assert runs.weights_are_equal(whole.pre_trained_models / "final", parts.pre_trained_models / "final")


@pytest.mark.slow
def test_a_new_objective_in_two_processes(tmp_path, package):  # noqa: F811
    one, _ = similarity(tmp_path, package, max_epochs=1, additional_config_kwargs=NO_DROPOUT)
    assert main(one) == 0
    flags = {"devices": 2, "strategy": "ddp", "batch_size": 4, "additional_config_kwargs": NO_DROPOUT}
    two, _ = similarity(tmp_path, package, max_epochs=1, name="two", **flags)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "transformers_framework", *two], env=env, check=False, timeout=300)
    assert done.returncode == 0
    found, expected = (runs.metrics(runs.folders_of(words), "test") for words in (two, one))
    assert found == approx(expected, BACKWARD)


def test_the_run_from_python_is_as_it_is_shown(tmp_path, monkeypatch, capsys):
    """Only the checkpoint is another, since the hub is out of reach."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny.save_checkpoint("bert", tmp_path / "bert-base-uncased")
    for stage in ("train", "valid", "test"):
        tiny.write_jsonl(tmp_path / f"{stage}.jsonl", tiny.classes(16, len(stage), num_labels=2, names=("a", "b")))
    names: dict[str, Any] = {}
    exec(compile(marked("python"), "python.md", "exec"), names)
    *_, accuracy, prediction, _ = capsys.readouterr().out.splitlines()
    assert float(accuracy) == names["result"].metrics["test/seq_class/accuracy"]
    assert prediction in ("a", "b")
    shown = {name.strip("` ") for key in table(DOCS / "python.md", "attribute") for name in key.split(",")}
    assert shown == {"metrics", "results", "folders", "checkpoint", "model", "tokenizer", "predictions"}
    assert all(hasattr(names["result"], name) for name in shown)


def test_a_trained_model_is_used_as_it_is_shown(tmp_path, monkeypatch, capsys):
    from transformers_framework import predict

    monkeypatch.chdir(tmp_path)
    rows = {
        "seq_class": tiny.classes(16, num_labels=2, names=["pets", "food"]),
        "retrieval": runs.rows_for("retrieval", 16),
    }
    for pipeline, name in (("seq_class", "films"), ("retrieval", "retriever")):
        data = tiny.write_jsonl(tmp_path / f"{pipeline}.jsonl", rows[pipeline])
        runs.run(tmp_path, pipeline=pipeline, name=name, train_dataset=data, output_dir="outputs")
        (tmp_path / "outputs" / "pre_trained_models" / name / "final").rename(
            tmp_path / "outputs" / "pre_trained_models" / name / "best"
        )
    capsys.readouterr()
    exec(compile(marked("load rows"), "serving.md", "exec"), {})
    assert [line.split()[-3] in ("pets", "food") for line in capsys.readouterr().out.splitlines()] == [True] * 2
    words = f"--model outputs/pre_trained_models/retriever/best --input {tmp_path / 'retrieval.jsonl'} --device cpu"
    done = predict.main([*words.split(), "--input_columns", "answer", "--output", "corpus.npy", "--batch_size", "5"])
    assert done == 0
    exec(compile(marked("search"), "serving.md", "exec"), found := {})
    scores = found["scores"]
    assert (
        sorted(scores[found["best"]], reverse=True) == sorted(scores, reverse=True)[:5] == list(scores[found["best"]])
    )
    assert [place for place, _ in ast.literal_eval(capsys.readouterr().out)] == found["best"].tolist()


def test_python_in_the_documents_is_python():
    for path in DOCUMENTS:
        for block in blocks(path, "python"):
            ast.parse(block if not block.startswith('"') or block.startswith('"""') else "{" + block + "}")
