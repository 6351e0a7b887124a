"""The wheel: what it contains, and whether a user who has nothing else can train."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests import wheel
from tests.runs import ROOT

PACKAGE = ROOT / "transformers_framework"


@pytest.mark.slow
@pytest.mark.needs("build", "twine")
def test_the_wheel_is_installed_and_used_outside_the_repository(tmp_path: Path) -> None:
    """With the dependencies of this environment, and without the repository; ``make test-wheel`` installs them too."""
    source, built = wheel.build(tmp_path / "dist", "--no-isolation")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", source, built], check=True)

    with zipfile.ZipFile(built) as archive:
        names = set(archive.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")}
    files = [path for path in (ROOT / "examples").rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    examples = {path.relative_to(ROOT / "examples").as_posix() for path in files}
    examples = {f"{PACKAGE.name}/example_files/{name}" for name in examples}
    others = {f"{PACKAGE.name}/py.typed", f"{PACKAGE.name}/pipelines/README.md"}
    assert {name for name in names if ".dist-info/" not in name} == modules | examples | others
    assert {name.rpartition(".dist-info/")[2] for name in names if ".dist-info/" in name} >= {
        "METADATA", "entry_points.txt", "licenses/LICENSE"
    }  # fmt: skip
    with tarfile.open(source) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "constraints.txt", "examples/demo.sh"} <= sources

    folder = tmp_path / "folder"
    folder.mkdir()
    wheel.use(wheel.install(built, tmp_path / "environment", borrowed=True), folder)
