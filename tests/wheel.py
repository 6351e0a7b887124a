"""Install the wheel of ``dist`` in a new environment and use it there: ``make test-wheel``."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import Any
from unittest import mock

from tests.runs import ROOT

TINY = (
    "--max_steps",
    "2",
    "--num_warmup_steps",
    "0",
    "--limit_val_batches",
    "1",
    "--batch_size",
    "8",
    "--accelerator",
    "cpu",
)


def metadata() -> dict[str, Any]:
    """Return the arguments of ``setup`` in ``setup.py``."""
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    return dict(setup.call_args.kwargs)


def build(folder: Path, *options: str) -> list[Path]:
    """Build the source distribution, and the wheel from it; return both."""
    command = [sys.executable, "-m", "build", "--outdir", folder, *options, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(folder.glob("*.tar.gz")) + sorted(folder.glob("*.whl"))


def install(wheel: Path, environment: Path, *, borrowed: bool = False) -> Path:
    """Install a wheel in a new environment; return its folder of programs.

    Args:
        wheel: The wheel.
        environment: Folder of the environment.
        borrowed: Use the dependencies of the environment of this process, instead of installing them.
    """
    venv.create(environment, with_pip=True)
    paths = {"base": str(environment), "platbase": str(environment)}
    programs = Path(sysconfig.get_path("scripts", "venv", vars=paths))
    options = ["-c", ROOT / "constraints.txt"]
    if borrowed:
        site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
        borrowed_from = [path for path in sys.path if Path(path).name.endswith("-packages")]
        (site / "borrowed.pth").write_text("\n".join(borrowed_from), encoding="utf-8")
        options = ["--no-deps", "--no-index"]
    command = [programs / "python", "-m", "pip", "install", "--quiet", *options, wheel]
    subprocess.run(command, check=True, timeout=1800, env=_alone(programs))
    return programs


def use(programs: Path, folder: Path) -> None:
    """Copy the examples, train, predict and compare in a folder, as a user of the wheel does.

    Args:
        programs: Folder of the programs of the environment in which the wheel is installed.
        folder: An empty folder outside the repository.
    """

    def run(*words: str) -> str:
        command = [programs / words[0], *words[1:]]
        done = subprocess.run(
            command, cwd=folder, env=_alone(programs), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def module(name: str, *words: str) -> str:
        return run("python", "-m", f"transformers_framework{name}", *words)

    place = Path(run("python", "-c", "import transformers_framework as package; print(package.__file__)").strip())
    assert programs.parent in place.parents, f"{place} is not in the environment"
    assert run("transformers_framework", "--help") == module("", "--help")
    assert "--max_steps" in module("", "--print_completion", "bash")

    module(".examples")
    examples = {path.name for path in (ROOT / "examples").iterdir() if path.is_file()}
    assert {path.name for path in (folder / "examples").iterdir()} == examples
    run("python", "examples/demo_data.py", "outputs/demo/data", "--limit", "16")
    for name in ("first", "second"):
        run("transformers_framework", "--config", "examples/answer_selection.yaml", "--name", name, *TINY)
    model, data = "outputs/pre_trained_models/first/final", "outputs/demo/data/answer_selection/test.jsonl"
    module(".predict", "--model", model, "--input", data, "--device", "cpu", "--num_workers", "0")
    rows = (folder / "predictions.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == len((folder / data).read_text("utf-8").splitlines())
    assert all("scores" in json.loads(row) for row in rows)
    assert "accuracy" in module(".compare", "first", "second")


def _alone(programs: Path) -> dict[str, str]:
    """Return the environment variables of this process, without those that lead Python to the repository."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**variables, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}


def main() -> None:
    """Install the wheel of ``dist`` with its dependencies, in the tested versions, and use it."""
    (wheel,) = (ROOT / "dist").glob("*.whl")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "folder")
        folder.mkdir()
        use(install(wheel, Path(name, "environment")), folder)
    print(f"{wheel.name}: installed in a new environment; the examples, training, predict and compare work there.")


if __name__ == "__main__":
    main()
