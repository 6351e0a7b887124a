"""MLflow, on a tracking server or in a local SQLite store."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from pytorch_lightning.utilities import rank_zero_only

from transformers_framework.constants import MEASURED
from transformers_framework.loggers.interface import StartsRun, TakesMedia
from transformers_framework.optional_packages import require_packages
from transformers_framework.restricted import without_credentials
from transformers_framework.storage.run_folders import RunFolders

if TYPE_CHECKING:
    from mlflow import MlflowClient

PACKAGES = ("mlflow", "sqlalchemy", "alembic")
MOST_PARAMS = 100  # of one request
LONGEST_PARAM = 6000  # characters
# instead of minutes in which training would wait for a server that is gone
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}

logger = logging.getLogger(__name__)


class MLflow(StartsRun, TakesMedia):
    """Log to a run of MLflow, which a resumed run continues.

    Lightning's own logger creates its store on every rank, and when nothing but ``--check`` is asked for. Values that
    were logged after the checkpoint of a resumed run are not logged again, unless they are others now.

    Args:
        folders: Folders of the run.
        tracking_uri: Address of the store.
        experiment: Name of the experiment.
    """

    state_key: ClassVar[str] = "mlflow"
    title, remedy = "MLflow", "Check the server of --mlflow_tracking_uri."

    def __init__(self, folders: RunFolders, tracking_uri: str | None, experiment: str) -> None:
        super().__init__(folders)
        self.experiment_name = experiment
        self.is_local = tracking_uri is None
        self.tracking_uri = tracking_uri or f"sqlite:///{self.folder.absolute()}/mlflow.db"
        self.client: MlflowClient | None = None
        self.there: dict[str, set[tuple[int, str | None]]] | None = None  # steps and values of a run that is resumed

    @property
    def folder(self) -> Path:
        """Folder of the local store."""
        return self.folders.output_dir / "mlflow"

    def started(self) -> MlflowClient:
        """Return MLflow's client, with :attr:`run_id`."""
        if self.client is None:
            client = self._connect()
            self.run_id = self._run(client)
            self.client = client
        return self.client

    def _connect(self) -> MlflowClient:
        """Return a client; a server that does not answer is noticed at once."""
        address = urlsplit(self.tracking_uri)
        if address.scheme in ("http", "https"):
            port = address.port or (443 if address.scheme == "https" else 80)
            socket.create_connection((str(address.hostname), port), timeout=5).close()
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        if self.is_local:
            self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("alembic", "mlflow.store.db.utils"):  # of creating a database
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        return MlflowClient(self.tracking_uri)

    def _run(self, client: MlflowClient) -> str:
        """Return the id of the run of the checkpoint, else that of a new one."""
        if self.run_id is not None:
            client.update_run(self.run_id, status="RUNNING")
            return self.run_id
        found = client.get_experiment_by_name(self.experiment_name)
        if found is None:
            place = (self.folder / "artifacts").absolute().as_uri() if self.is_local else None
            number = client.create_experiment(self.experiment_name, artifact_location=place)
        else:
            number = found.experiment_id
        run_id: str = client.create_run(number, run_name=self.folders.name).info.run_id
        store = without_credentials(self.tracking_uri)
        logger.info("MLflow: run %s of experiment %s in %s", run_id, self.experiment_name, store)
        return run_id

    @rank_zero_only
    def write_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics; of ``precision@1`` the name is ``precision_at_1``, since MLflow accepts no @."""
        from mlflow.entities import Metric

        client, now = self.started(), int(time.time() * 1000)
        values = {allowed_name(name): float(value) for name, value in metrics.items()}
        new = [Metric(key, value, now, step) for key, value in values.items() if not self._is_there(key, value, step)]
        if new:
            client.log_batch(self.run_id, metrics=new)

    def _is_there(self, key: str, value: float, step: int) -> bool:
        """Return whether an earlier process of a resumed run has logged a value; of measurements, any value."""
        if self.there is None:
            return False
        if key not in self.there:
            assert self.client is not None
            history = self.client.get_metric_history(self.run_id, key)
            self.there[key] = {(each.step, _shown(key, each.value)) for each in history}
        return (step, _shown(key, value)) in self.there[key]

    def restore(self, state: Any, step: int) -> None:
        """Continue the run of a checkpoint."""
        super().restore(state, step)
        self.there = None if state is None else {}

    @rank_zero_only
    def write_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Log hyper-parameters; those of a run that is continued stay as they were, as MLflow allows no changes."""
        from mlflow.entities import Param

        client = self.started()
        known = client.get_run(self.run_id).data.params
        new = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in params.items() if key not in known]
        for start in range(0, len(new), MOST_PARAMS):
            client.log_batch(self.run_id, params=new[start : start + MOST_PARAMS])

    def log_text(self, name: str, text: str, step: int) -> None:
        """Log a text as an artifact."""
        self.started().log_text(self.run_id, text, f"{name}.md")

    def log_figure(self, name: str, png: Path, step: int) -> None:
        """Log a figure as an artifact."""
        self.started().log_artifact(self.run_id, str(png), Path(name).parent.as_posix().removeprefix(".") or None)

    @rank_zero_only
    def end(self, *, failed: bool) -> None:
        """End the run."""
        if self.client is not None:
            self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


def mlflow(
    folders: RunFolders, *, mlflow_tracking_uri: str | None = None, mlflow_experiment: str = "transformers-framework"
) -> MLflow:
    """Log to MLflow.

    Args:
        folders: Folders of the run.
        mlflow_tracking_uri: Address of the MLflow server or store; by default that of MLFLOW_TRACKING_URI, else the
            SQLite file mlflow/mlflow.db of --output_dir.
        mlflow_experiment: Experiment of MLflow to which the run belongs.

    Raises:
        MissingDependencyError: When mlflow is not installed.
    """
    require_packages(*PACKAGES, needed_by="--loggers mlflow", extra="mlflow")
    return MLflow(folders, mlflow_tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"), mlflow_experiment)


def _shown(key: str, value: float) -> str | None:
    """Return a value to compare, nan included; None for measurements, which are never the same."""
    return None if key in MEASURED else repr(value)


def allowed_name(name: str) -> str:
    """Return a name that MLflow accepts.

    Examples:
        >>> allowed_name("valid/answer_selection/precision@1")
        'valid/answer_selection/precision_at_1'
    """
    return re.sub(r"[^\w/. :-]", "_", name.replace("@", "_at_"), flags=re.ASCII)
