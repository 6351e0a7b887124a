"""Execute the notebooks, and store them with their outputs: ``make notebooks``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.runs import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TIMEOUT = 600  # seconds for a cell


def read(path: Path) -> Any:
    """Return a notebook."""
    import nbformat

    return nbformat.read(path, as_version=4)


def execute(path: Path, folder: Path) -> Any:
    """Return a notebook with the outputs of its cells.

    Args:
        path: The notebook.
        folder: Working folder of the first cell.

    Raises:
        CellExecutionError: When a cell fails.
    """
    from nbclient import NotebookClient

    notebook = read(path)
    variables = {"HF_HUB_OFFLINE": "1", "TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    client = NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": folder}})
    client.execute(env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(paths)})
    return notebook


def without_times(notebook: Any) -> Any:
    """Remove what differs between two executions; join the parts of an output."""
    for cell in notebook.cells:
        cell.metadata = {}
        joined: list[Any] = []
        for output in cell.get("outputs", ()):
            if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
                joined[-1].text += output.text
            else:
                joined.append(output)
        if "outputs" in cell:
            cell.outputs = joined
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> None:
    """Execute every notebook whose name is given, all by default."""
    import tempfile

    import nbformat

    for path in NOTEBOOKS:
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            with tempfile.TemporaryDirectory() as folder:
                nbformat.write(without_times(execute(path, Path(folder))), path)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
