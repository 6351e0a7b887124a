"""Weights & Biases, online or offline."""

from __future__ import annotations

import html
import logging
import netrc
import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple
from urllib.parse import urlsplit

from pytorch_lightning.utilities import rank_zero_only

from transformers_framework.compat.wandb import num_rows
from transformers_framework.loggers.interface import StartsRun, TakesMedia
from transformers_framework.optional_packages import require_packages
from transformers_framework.storage.run_folders import RunFolders

CREDENTIALS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
UNWRITTEN, MOST_RECENT = 60.0, 1000  # seconds after which wandb has written a row; most rows in a checkpoint
SYNC = "Upload it later: wandb sync %s/wandb/offline-run-*"

logger = logging.getLogger(__name__)


class Recent(NamedTuple):
    """A row of metrics that wandb may not have written yet.

    Args:
        time: ``time.monotonic()`` when it was logged.
        number: Its number.
        values: Metrics by name.
        step: The trainer's step.
    """

    time: float
    number: int
    values: Mapping[str, float]
    step: int


class WeightsAndBiases(StartsRun, TakesMedia):
    """Log to a run of Weights & Biases, which a resumed run continues; offline where the server does not answer.

    Rows are numbered in the order in which they are logged, also over the processes of a run: those that were logged
    after the checkpoint of a resumed run are not logged again. wandb writes some seconds later, and a process that is
    killed loses these rows: checkpoints hold the last rows, and a resumed run logs the missing ones.

    Args:
        folders: Folders of the run.
        **options: Arguments of ``wandb.init``.
    """

    state_key: ClassVar[str] = "wandb"
    title, remedy = "Weights & Biases", "What was logged before is in the folder wandb of --output_dir."

    def __init__(self, folders: RunFolders, **options: Any) -> None:
        super().__init__(folders)
        self.options = options
        self.writer: Any = None
        self.rows: int | None = 0  # logged up to now; unknown after a checkpoint of an earlier version
        self.rows_there = 0  # of the run, when this process started
        self.recent: deque[Recent] = deque(maxlen=MOST_RECENT)

    def state(self) -> dict[str, Any]:
        """Return the id of the run, the number of its rows and the last ones."""
        recent = [(row.number, row.values, row.step) for row in self.recent if row.time > time.monotonic() - UNWRITTEN]
        return super().state() | {"rows": self.rows, "recent": recent}

    def restore(self, state: Any, step: int) -> None:
        """Continue the run of a checkpoint."""
        super().restore(state, step)
        self.rows = 0 if state is None else state.get("rows")
        recent = [] if state is None else state.get("recent", [])
        self.recent = deque((Recent(time.monotonic(), *row) for row in recent), maxlen=MOST_RECENT)

    def started(self) -> Any:
        """Return the run of wandb."""
        if self.writer is None:
            self.writer = self._start()
            self.rows_there = num_rows(self.folders.output_dir, self.writer.id) if self.writer.offline else 0
            self.rows_there = max(self.rows_there, self.writer.starting_step)
            self.run_id = self.writer.id
            for row in self.recent:
                self._write_row(row.number, row.values, row.step)
        return self.writer

    def _start(self) -> Any:
        import wandb

        if wandb.run is not None:  # of an earlier run in this process, which failed
            wandb.finish(exit_code=1)
        # wandb would write into the lines of the terminal, and make a copy of them
        settings = wandb.Settings(console="off", silent=True, init_timeout=30)
        fixed = {"name": self.name, "dir": str(self.folders.output_dir), "settings": settings}
        if self.run_id is not None:
            fixed |= {"id": self.run_id, "resume": "allow"}
        self.folders.output_dir.mkdir(parents=True, exist_ok=True)
        try:
            run = wandb.init(**self.options, **fixed)
        except Exception as error:
            if self.options.get("mode") == "offline":
                raise
            logger.warning(
                f"--loggers wandb: Weights & Biases does not accept the run (%s); it is logged offline. {SYNC}",
                *(" ".join(str(error).split())[:300], self.folders.output_dir),
            )
            wandb.teardown()
            run = wandb.init(**{**self.options, "mode": "offline"}, **fixed)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        if not run.offline:
            logger.info("Weights & Biases: %s", run.url)
        return run

    def _log(self, values: Mapping[str, Any], step: int) -> int:
        """Log a row, unless it is there; return its number."""
        self.started()
        number = self.rows_there if self.rows is None else self.rows
        self.rows = number + 1
        self._write_row(number, values, step)
        return number

    def _write_row(self, number: int, values: Mapping[str, Any], step: int) -> None:
        if number >= self.rows_there:
            self.writer.log({**values, "trainer/global_step": step}, step=number, commit=True)

    @rank_zero_only
    def write_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics."""
        values = {name: float(value) for name, value in metrics.items()}
        self.recent.append(Recent(time.monotonic(), self._log(values, step), values, step))

    @rank_zero_only
    def write_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Log hyper-parameters."""
        self.started().config.update(dict(params), allow_val_change=True)

    def log_text(self, name: str, text: str, step: int) -> None:
        """Log a text."""
        import wandb

        page = wandb.Html(f"<pre style='white-space: pre-wrap'>{html.escape(text)}</pre>")
        self._log({name: page}, step)

    def log_figure(self, name: str, png: Path, step: int) -> None:
        """Log a figure."""
        import wandb

        self._log({name: wandb.Image(str(png))}, step)

    @rank_zero_only
    def end(self, *, failed: bool) -> None:
        """End the run of wandb, with all that is still to be uploaded."""
        run, self.writer = self.writer, None
        if run is not None:
            run.finish(exit_code=int(failed))


def wandb(
    folders: RunFolders,
    *,
    wandb_project: str | None = None,
    wandb_entity: str | None = None,
    wandb_mode: Literal["online", "offline"] | None = None,
) -> WeightsAndBiases:
    """Log to Weights & Biases.

    Args:
        folders: Folders of the run.
        wandb_project: Project at Weights & Biases; by default that of WANDB_PROJECT, else transformers-framework.
        wandb_entity: User or team at Weights & Biases; by default that of WANDB_ENTITY, else of the API key.
        wandb_mode: Log to the server of Weights & Biases, or offline to the folder wandb of --output_dir, from which
            'wandb sync' uploads; by default as in WANDB_MODE, else online if there is an API key.

    Raises:
        MissingDependencyError: When wandb is not installed.
    """
    require_packages("wandb", needed_by="--loggers wandb", extra="wandb")
    mode = wandb_mode or os.environ.get("WANDB_MODE")
    if mode in (None, "online") and not has_credentials():
        logger.warning(
            "--loggers wandb: there is no API key (WANDB_API_KEY, or 'wandb login'); the run is logged offline. "
            + SYNC.replace("%s", str(folders.output_dir))
        )
        mode = "offline"
    project = wandb_project or os.environ.get("WANDB_PROJECT") or "transformers-framework"
    return WeightsAndBiases(folders, project=project, entity=wandb_entity, mode=mode)


def has_credentials() -> bool:
    """Return whether there is an API key or a token for the server of Weights & Biases."""
    if any(os.environ.get(name) for name in CREDENTIALS):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
