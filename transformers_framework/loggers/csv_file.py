"""``metrics.csv``: one row per logged moment, one column per name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pytorch_lightning.utilities import rank_zero_only

from transformers_framework.loggers.interface import Continues, NeverFails, WritesFile
from transformers_framework.storage.appending import append, flushed_size
from transformers_framework.storage.atomic import atomic_file, remove
from transformers_framework.storage.run_folders import RunFolders

FILE = "metrics.csv"


class CSV(WritesFile, NeverFails, Continues):
    """Log to a CSV file, which is written whole when a name is new, and grows by rows otherwise.

    Rows are kept in memory until the first checkpoint if they replace the file of an earlier run.

    Args:
        folders: Folders of the run.
    """

    state_key: ClassVar[str] = "csv"
    title, remedy = "CSV", "Free some space; rows are kept and written later."

    def __init__(self, folders: RunFolders) -> None:
        super().__init__()
        self.folders, self.path = folders, folders.output_dir / "csv" / folders.name / FILE
        self.columns = ["step", "epoch"]
        self.num_rows = 0  # that are in the file
        self.rows: list[Mapping[str, Any]] = []  # that are not yet

    @property
    def save_dir(self) -> str:
        """The folder of the file."""
        return str(self.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row."""
        self.write_metrics(metrics, step or 0)

    def write_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a row."""
        self.rows.append({"step": step, **metrics})

    def write_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Do nothing: ``config.yaml`` has the flags."""

    @rank_zero_only
    def save(self) -> None:
        """Write the rows that are not in the file."""
        if self.rows and not self.folders.replaces_earlier:
            self.attempt(self._write)

    def _write(self) -> None:
        rows = self.rows
        new = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in self.columns]
        if new or not self.num_rows:
            columns = [*self.columns, *new]
            earlier = read_rows(self.path)[: self.num_rows] if self.num_rows else []
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path) as aside:
                aside.write_text(_lines(columns, [dict(zip(columns, columns, strict=True)), *earlier, *rows]), "utf-8")
            self.columns = columns
        else:
            append(self.path, _lines(self.columns, rows))
        self.num_rows, self.rows = self.num_rows + len(rows), []

    def end(self, *, failed: bool) -> None:
        """Write the rows that are not in the file."""
        self.save()

    def state(self) -> dict[str, Any]:
        """Return the number of rows and the names of the columns, all of which are on the disk then."""
        self.save()
        flushed_size(self.path)
        return {"rows": self.num_rows, "columns": list(self.columns)}

    def restore(self, state: Any, step: int) -> None:
        """Remove the rows and columns that were logged after a checkpoint."""
        if state is None:
            remove(self.path)
            return
        rows = read_rows(self.path)[: state["rows"]]
        self.columns, self.num_rows, self.rows = list(state["columns"]), 0, [*rows]
        self.attempt(self._write)


def csv_file(folders: RunFolders) -> CSV:
    """Log to the file csv/NAME/metrics.csv of --output_dir."""
    return CSV(folders)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, by the names of its columns; empty if there is none."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _lines(columns: list[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n").writerows(rows)
    return text.getvalue()
