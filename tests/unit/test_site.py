"""The pages of the site are complete and true: pipelines, metrics, messages, flags, words, navigation."""

from __future__ import annotations

import ast
import fnmatch
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests import tiny
from tests.unit.test_docs import DOCS, DOCUMENTS, PROGRAM, ROOT, marked, name_of, table, write_files
from transformers_framework.cli.main import main
from transformers_framework.registry import PIPELINES, resolve

PAGES = sorted((DOCS / "pipelines").glob("*.md"))
SECTIONS = ["Data", "Command", "Example without network", "Tests and references"]
# flags of a checkpoint, in whose place the test has a small one, since the hub is out of reach
CHECKPOINTS = (
    "--pre_trained_model",
    "--pre_trained_config",
    "--pre_trained_tokenizer",
    "--pre_trained_generator_model",
    "--pre_trained_generator_config",
)
# phrases that the documents avoid, since readers would have to learn them, as regular expressions; terms to use instead
NOT_SAID = {
    "right passages?": "positive",
    "wrong passages?": "negative",
    "(?:is|are|be|were) told": "reported, logged; or the condition itself",
    "drawn from": "sampled from",
    "newly drawn": "newly (randomly) initialized",
    "starts fresh": "is newly initialized",
    "ignored labels?": "ignore index",
    "lifelines?": "peer watchdog",
    "greetings?": "worker start-up",
    r"rehears\w*": "fast dev run",
    "loss normalizer": "loss denominator",
    r"settl\w*": "freeze, fix, determine",
    "nobody sees": "masked",
}


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    """The hook of MkDocs; nothing of MkDocs is imported before a site is built."""
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pipeline_has_a_page_with_every_section():
    assert {path.stem for path in PAGES} == {*PIPELINES, "README"}
    for name in PIPELINES:
        text = (DOCS / "pipelines" / f"{name}.md").read_text("utf-8")
        assert re.findall(r"^## (.*)", text, re.MULTILINE) == SECTIONS, name
        assert f"\n`--pipeline {name}`: " in text, "the words that people search for"
        rows = [line for line in text.partition("## Tests and references")[2].splitlines() if "](../../tests/" in line]
        assert rows, f"{name} names its tests"
    shown = {re.sub(r"\[(\w+)\]\(\w+\.md\)", r"\1", cells[0]) for cells in table(PAGES[0], "you want to").values()}
    assert shown == set(PIPELINES)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_command_of_a_page_fits_the_rows_of_the_page(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_files(name, tmp_path)
    shown = shlex.split(marked(f"{name} command").replace("\\\n", " "))
    assert shown[:3] == PROGRAM
    words = shown[3:]
    assert words[:2] == ["--pipeline", name]
    family = words[words.index("--model") + 1]
    checkpoint = tiny.save_checkpoint(family, tmp_path / "checkpoint", max_position_embeddings=1100)
    words = [
        str(checkpoint) if before in CHECKPOINTS else word for before, word in zip(["", *words], words, strict=False)
    ]
    if "clusters.txt" in words:
        Path("clusters.txt").write_text(
            "".join(f"{token % 2}\n" for token in range(tiny.config_for(family).vocab_size)), encoding="utf-8"
        )
    assert main([*words, "--accelerator", "cpu", "--cache_dir", str(tmp_path / "cache"), "--check"]) == 0, (
        capsys.readouterr()
    )
    assert "No problems found." in capsys.readouterr().out


def test_every_metric_is_defined():
    """Each name of the table of metrics has a row with its definition; names may have a ``*``."""
    path = DOCS / "metrics.md"
    logged = {
        name for cells in table(path, "objective").values() for cell in cells for name in re.findall(r"`(.+?)`", cell)
    }
    text = path.read_text("utf-8")
    defined = {
        name
        for row in re.findall(r"^\| (`[^|]*) \| [^|]+ \|[^|]*\|$", text, re.M)
        for name in re.findall(r"`(.+?)`", row)
    }
    assert logged
    assert [name for name in logged if not any(fnmatch.fnmatch(name, each) for each in defined)] == []


def test_messages_of_the_troubleshooting_are_those_of_the_program():
    """The parts of each message between the ``…`` stand in one string of the code."""
    strings: list[str] = []
    for path in (ROOT / "transformers_framework").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                strings.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.append(re.sub(r"%(?:\.\d+)?[sdrfg]|\{\d*\}", "…", node.value))
    texts = [path.read_text("utf-8") for path in DOCUMENTS]
    messages = [found for text in texts for found in re.findall(r"^- \*\*`(.+?)`\*\*", text, re.MULTILINE)]
    assert len(messages) > 30
    unknown = []
    for message in messages:
        parts = [part.strip() for part in message.split("…") if len(part.strip()) > 3]
        if not parts or not any(all(part in text for part in parts) for text in strings):
            unknown.append(message)
    assert unknown == []


def test_coding_assistants_get_every_pipeline_and_flag(pages):
    text = pages.llms_page(
        [("data/", "# Data\n\nThe first sentence. The second."), ("p/", "# P\n\n`--pipeline p`: q.\n\nGoal.")]
    )
    assert "- [Data](data/): The first sentence." in text
    assert "- [P](p/): Goal." in text
    for name in PIPELINES:
        assert f"\n### {name}\n" in text
        assert f"\npython -m transformers_framework --pipeline {name} --model " in text
        for flag in pages.own_flags(name).values():
            assert f"\n- {flag.dashed} (" in text
    tools = {
        path.stem for path in (ROOT / "transformers_framework").glob("*.py") if "\nUSAGE = " in path.read_text("utf-8")
    }
    assert tools == pages.TOOLS.keys()
    assert all(f"\n## python -m transformers_framework.{tool} " in text for tool in tools)
    for flags in pages.shared_flags().values():
        assert flags
        assert all(f"\n- {flag.dashed} (" in text for flag in flags)


def test_the_page_of_python_has_all_that_is_offered(pages):
    import transformers_framework

    text = pages.python_page()
    assert all(f"\n::: transformers_framework.{name}\n" in text for name in transformers_framework.__all__)
    assert all(resolve(":".join(path.rsplit(".", 1))).__doc__ for path in pages.INTERFACES)


def test_sections_of_a_pipeline_are_made_of_the_registry(pages):
    text = "\n".join(pages.pipeline_sections("masked_lm_and_token_class"))
    assert "- `{stage}/masked_lm/`: `loss`, `accuracy`, `perplexity`" in text
    assert "; in validation and test also `entity_f1`" in text
    assert "`bert`" in text
    assert "`t5`" not in text
    assert "| `--doc_stride` |" in text
    assert "pipeline: masked_lm_and_token_class\n" in text
    assert "| `-k` |" in "\n".join(pages.pipeline_sections("answer_selection"))
    assert all(
        pages.metrics_of(name).keys() == {resolve(path).name for path in spec.objectives}
        for name, spec in PIPELINES.items()
    )


def test_every_page_is_in_the_navigation(pages):
    class Loader(yaml.SafeLoader):
        """Reads the file of MkDocs, which may name functions of Python."""

    def leaves(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        return [leaf for each in (node.values() if isinstance(node, dict) else node) for leaf in leaves(each)]  # type: ignore[attr-defined]

    nav = leaves(yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader)["nav"])
    made = [page for page in pages.COPIED.values() if page.endswith(".md")] + [
        "reference/flags.md",
        "reference/python.md",
    ]
    assert sorted(nav) == sorted([*made, *(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))])


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_documents_use_the_words_of_the_field(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert {said: term for said, term in NOT_SAID.items() if re.search(rf"\b{said}\b", text, re.IGNORECASE)} == {}
