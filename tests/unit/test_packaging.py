"""Files that other programs read: the citation, workflows, the Dockerfile, and the metadata of the package."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import transformers_framework
from tests import notebooks, wheel
from tests.runs import ROOT

METADATA = wheel.metadata()
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read_yaml(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def test_every_requirement_is_pinned() -> None:
    extras = METADATA["extras_require"]
    requirements = [Requirement(line) for lines in [*extras.values(), METADATA["install_requires"]] for line in lines]
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()]
    pinned = {canonicalize_name(pin.name) for pin in pins if str(pin.specifier).startswith("==")}
    assert {canonicalize_name(requirement.name) for requirement in requirements} - pinned == set()
    assert {name for name, packages in extras.items() if not set(packages) <= set(extras["full"])} == set()


def test_the_citation_is_valid_and_of_this_version() -> None:
    """The keys are those that the Citation File Format 1.2.0 requires and allows."""
    citation = read_yaml(ROOT / "CITATION.cff")
    required = {"cff-version", "message", "title", "authors"}
    allowed = required | {
        "type",
        "abstract",
        "version",
        "license",
        "keywords",
        "repository-code",
        "url",
        "date-released",
    }
    assert required <= citation.keys() <= allowed
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["authors"]
    assert all(author.keys() <= {"name", "website"} and author["name"] for author in citation["authors"])
    assert citation["version"] == METADATA["version"] == transformers_framework.__version__
    assert citation["license"] == METADATA["license_expression"]
    assert [author["name"] for author in citation["authors"]] == [METADATA["author"]]
    assert len(set(citation["keywords"])) == len(citation["keywords"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_targets_of_make(path: Path) -> None:
    workflow = read_yaml(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        assert job.get("permissions", {}).keys() <= {"pages", "id-token"}
        for step in job["steps"]:
            if "run" in step:
                program, *targets = shlex.split(step["run"])
                assert program == "make"
                assert targets
                assert TARGETS.issuperset(targets)
            else:
                assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
        setup = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python")]
        assert all(options["cache"] == "pip" for options in setup)
        assert all((ROOT / options["cache-dependency-path"]).exists() for options in setup)


def test_the_workflows_test_every_python() -> None:
    versions = read_yaml(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert [f"Programming Language :: Python :: {version}" for version in versions] == [
        name for name in METADATA["classifiers"] if name.startswith("Programming Language :: Python :: 3.")
    ]
    deploy = read_yaml(ROOT / ".github" / "workflows" / "docs.yml")["jobs"]["deploy"]
    assert "github.ref == 'refs/heads/main'" in deploy["if"]
    assert deploy["needs"] == "build"


def test_the_image_is_built_from_what_exists() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    instructions = [line.partition(" ")[::2] for line in lines if line and not line.startswith("#")]
    copied = {
        name
        for instruction, words in instructions
        if instruction == "COPY" and "--from" not in words
        for name in words.split()[:-1]
    }
    ignored, *kept = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[0] != "#"]
    assert ignored == "*"
    assert {line.removeprefix("!") for line in kept if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)
    arguments = dict(words.split("=") for instruction, words in instructions if instruction == "ARG")
    assert f"Programming Language :: Python :: {arguments['PYTHON']}" in METADATA["classifiers"]
    assert METADATA["extras_require"].keys() >= set(arguments["EXTRAS"].split(","))
    assert "--constraint constraints.txt" in next(words for _, words in instructions if "pip install" in words)
    of_image = dict(instructions)
    program = METADATA["entry_points"]["console_scripts"][0].partition(" ")[0]
    assert of_image["ENTRYPOINT"] == f'["{program}"]'
    assert of_image["USER"].isdigit(), "not root"


def test_the_page_of_notebooks_lists_them() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text("utf-8")
    assert set(re.findall(r"\.\./notebooks/(\w+\.ipynb)", page)) == {path.name for path in notebooks.NOTEBOOKS}
