"""The notebooks run from the first cell to the last, without network, and what is stored is what they show."""

from __future__ import annotations

import re

import pytest

from tests import notebooks


@pytest.mark.slow
@pytest.mark.needs("nbclient", "ipykernel")
@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path, tmp_path):
    """Numbers may differ between processors, and log lines between environments; figures and tables are all there."""
    stored, executed = notebooks.read(path), notebooks.execute(path, tmp_path)
    assert [cell.source for cell in executed.cells] == [cell.source for cell in stored.cells]
    assert [kinds(cell) for cell in executed.cells] == [kinds(cell) for cell in stored.cells]
    texts = [output.get("text", "") for cell in stored.cells for output in cell.get("outputs", ())]
    assert not re.search(r"Warning|/tmp|Traceback", "".join(texts))


def kinds(cell):
    """Return the types of what a cell displays; text that it prints is one of them."""
    outputs = cell.get("outputs", ())
    printed = {"text" for output in outputs if output.get("name") == "stdout"}
    return sorted(printed), [sorted(output.data) for output in outputs if "data" in output]
