"""Defaults that depend on the model, the pipeline, the inputs or the data of a run.

Flags with such a default have the value ``auto`` when they are not given. Files of a run have their final values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformers_framework.constants import AUTO
from transformers_framework.storage.run_folders import flags_beside

if TYPE_CHECKING:
    from transformers_framework.storage.run_folders import RunFolders

BY_RUN = (
    "max_sequence_length",
    "batch_size",
    "length_bucketing",
    "monitor",
    "monitor_direction",
)  # flags with such a default
SHOWN = (
    "max_sequence_length",
    "batch_size",
    "learning_rate",
    "monitor",
)  # flags whose defaults a run shows at its start


def kept_values(given: Mapping[str, Any], folders: RunFolders, *, resume: bool) -> dict[str, Any]:
    """Return values that flags with the default ``auto`` keep from the run whose checkpoint is continued or tested.

    A resumed run monitors the same metric as before, or none if there was none, and has no length bucketing if it had
    none; the longest input is that of training.

    Args:
        given: The value of every flag.
        folders: Folders of the run.
        resume: Whether the run continues its last checkpoint.
    """
    resumes = resume and bool(folders.existing_checkpoints())
    checkpoint = folders.last if resumes else given.get("ckpt_path")
    then = flags_beside(checkpoint) if checkpoint else {}
    if then.get("pipeline") != given["pipeline"]:
        return {}
    kept = [name for name in BY_RUN if given.get(name) == AUTO and name in then]
    if not resumes:
        kept = [name for name in kept if name == "max_sequence_length"]
    elif given.get("monitor") not in (AUTO, then.get("monitor")):
        kept = [name for name in kept if not name.startswith("monitor")]
    if then.get("length_bucketing"):  # other flags decide, as they did then
        kept = [name for name in kept if name != "length_bucketing"]
    return {name: then[name] for name in kept}
