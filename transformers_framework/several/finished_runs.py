"""Finished runs that are compared: their files, and how they are found by name or folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from transformers_framework.exceptions import ConfigurationError, did_you_mean
from transformers_framework.several.results import SEEDS, read_results
from transformers_framework.storage.run_folders import RESULTS, RunFolders, flags_in_config


class Ranking(NamedTuple):
    """The ranking metrics of a run that are compared with those of another objective.

    Args:
        objective: The objective of the run.
        names: Names of the metrics.
    """

    objective: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """A finished run.

    Args:
        folders: Its folders.
        ranking: Its ranking metrics, if these alone are compared.
    """

    folders: RunFolders
    ranking: Ranking | None = None

    @cached_property
    def results(self) -> dict[str, Any]:
        """Its ``results.json``."""
        return read_results(self.folders.results)

    @cached_property
    def flags(self) -> Mapping[str, Any]:
        """Its flags."""
        path = self.folders.config
        return flags_in_config(path.read_text("utf-8")) if path.exists() else {}

    @property
    def name(self) -> str:
        """Its name."""
        return self.folders.name

    def values(self, stage: str) -> dict[str, float | None]:
        """Return the metrics of a stage by their names in logs, or the ranking metrics that are compared."""
        values = self._logged(stage)
        if self.ranking is None:
            return values
        objective, names = self.ranking
        return {name: values[f"{stage}/{objective}/{name.rpartition('/')[2]}"] for name in names}

    def _logged(self, stage: str) -> dict[str, float | None]:
        if stage == "valid":
            best: Mapping[str, Any] = (self.results.get("best") or {}).get("metrics") or {}
            return {**(self.results.get("valid") or {}), **best}
        return dict(self.results.get(stage) or {})

    def predictions(self, stage: str, name: str, *, further: bool = False) -> Path | None:
        """Return a file of predictions, if there is one.

        Args:
            stage: The stage.
            name: Name of an objective, which is not in the name of the file if there is a single one.
            further: It is not an objective's own file.
        """
        name = self.ranking.objective if self.ranking else name
        names = (f"{stage}.{name}", *(() if further else (stage,)))
        paths = (self.folders.predictions / f"{name}.jsonl" for name in names)
        return next((path for path in paths if path.exists()), None)

    def classes(self, objective: str) -> tuple[list[str] | None, bool]:
        """Return the classes of the exported model, and whether they are texts that look like numbers."""
        from transformers_framework.constants import ARE_TEXTS

        top = self.folders.pre_trained_models
        folders = (top / kind / part for kind in ("best", "final") for part in ("", objective))
        path = next((path for folder in folders if (path := folder / "config.json").exists()), None)
        config = json.loads(path.read_text("utf-8")) if path else {}
        names = [name for _, name in sorted((config.get("id2label") or {}).items(), key=lambda item: int(item[0]))]
        if len(names) < 2:  # a number, or a re-ranker with one output
            return None, False
        are_texts = bool(config.get(ARE_TEXTS))
        unnamed = all(name == f"LABEL_{number}" for number, name in enumerate(names)) and not are_texts
        return [str(number) for number in range(len(names))] if unnamed else names, are_texts

    def curves(self) -> Iterator[dict[str, Any]]:
        """Yield the logged metrics, one entry for each line of ``metrics.jsonl``."""
        path = self.folders.metrics
        if path.exists():
            with path.open(encoding="utf-8", errors="replace") as lines:  # splitlines would split names of classes, too
                for line in lines:
                    with contextlib.suppress(ValueError):  # the run was killed while it wrote it
                        yield json.loads(line)


@dataclass(frozen=True)
class Compared:
    """One column of a comparison: a run, or the runs of several seeds.

    Args:
        name: Its name.
        members: The runs.
    """

    name: str
    members: Sequence[Member]


def find_run(name: str, output_dir: Path) -> Compared:
    """Return a run, or the runs of a series of seeds.

    Args:
        name: Name of the run, or a folder of it.
        output_dir: Folder of all runs.

    Raises:
        ConfigurationError: When there is no such run, or it is not finished.
    """
    path = Path(name)
    if path.is_dir() and path.resolve().parent.parent.is_dir() and len(path.parts) > 1:
        path = path.resolve()
        output_dir, name = path.parent.parent, path.name
    top = output_dir / "checkpoints"
    folder = top / name
    if not (folder / RESULTS).exists():
        if folder.is_dir():
            raise ConfigurationError(
                f"{name}: the run has no results yet, as it is not finished: there is no {folder / RESULTS}. Wait for "
                "its end, or continue it: --resume."
            )
        every = sorted(found.name for found in top.glob("*") if found.is_dir() and not found.name.startswith("."))
        finished = [each for each in every if (top / each / RESULTS).exists()]
        unfinished = [each for each in every if each not in finished]
        known = f" Finished runs: {', '.join(finished)}." if finished else ""
        known += f" Without results yet: {', '.join(unfinished)}." if unfinished else ""
        raise ConfigurationError(
            f"{name}: there is no such run in {top}.{did_you_mean(name, every)}{known or ' There are none.'}"
        )
    found = read_results(folder / RESULTS)
    if "settings" in found:
        raise ConfigurationError(
            f"{name}: this is a sweep. Give the runs to compare, such as {found['settings'][0]['runs'][0]}."
        )
    if name.endswith(SEEDS) and isinstance(found.get("runs"), list):
        members = [Member(RunFolders(output_dir, str(run))) for run in found["runs"]]
        if missing := [member.name for member in members if not member.folders.results.exists()]:
            raise ConfigurationError(f"{name}: its run {missing[0]} is not in {top}. Repeat the command with --seeds.")
        return Compared(name.removesuffix(SEEDS), members)
    return Compared(name, [Member(RunFolders(output_dir, folder.name))])
