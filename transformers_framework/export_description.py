"""The file in an export that describes its task: pipeline, columns, lengths and other flags that define the inputs.

With it, an export is loaded as it was trained. It has no paths, and names nothing that would be imported: only flags of
the pipeline's inputs and objectives are written, and no others are read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args

from transformers_framework import __version__
from transformers_framework.exceptions import ConfigurationError, did_you_mean
from transformers_framework.import_paths import keyword_types
from transformers_framework.registry import declaring, given_flags, pipeline_spec, resolve
from transformers_framework.restricted import Expanded
from transformers_framework.specs import PipelineSpec
from transformers_framework.storage.paths import is_inside

FILE = "transformers_framework.json"
FORMAT = 1  # increase it when older versions would misread the file


def task_flags(spec: PipelineSpec) -> list[str]:
    """Return the flags of a pipeline that an export describes: those of its inputs and objectives, without paths."""
    found: dict[str, None] = {}
    for path in (spec.inputs, *spec.objectives, *spec.flags):
        for _, function in declaring(resolve(path)):
            found |= dict.fromkeys(name for name, hint in keyword_types(function).items() if not _is_path(hint))
    return [*found, "seed"]  # of texts that are sampled


def _is_path(hint: Any) -> bool:
    """Return whether values of a type are paths, hub names or addresses.

    Examples:
        >>> from transformers_framework.restricted import PositiveInt, Source
        >>> _is_path(Source | None), _is_path(PositiveInt | None)
        (True, False)
    """
    return isinstance(hint, Expanded) or any(map(_is_path, get_args(hint)))


def describe(
    options: Mapping[str, Any], family: str, heads: Mapping[str, str], labels: Mapping[str, Any], learned: Any
) -> dict[str, Any]:
    """Return the content of the file.

    Args:
        options: Flags of the run.
        family: Model family, as transformers calls it.
        heads: Folder of each head, or of each network, relative to the export, by name.
        labels: Names of the classes of each head that has any.
        learned: Values of each objective that were found in training, such as thresholds; the configs have them too.
    """
    spec = pipeline_spec(options["pipeline"], given_flags(options))
    known = {name for values in learned.values() for name in values}
    names = [name for name in task_flags(spec) if options.get(name) is not None and name not in known]
    return {
        "format": FORMAT,
        "version": __version__,
        "pipeline": options["pipeline"],
        "model": family,
        "heads": dict(heads),
        "flags": {name: options[name] for name in names},
        "labels": dict(labels),
        "learned": dict(learned),
    }


def write_description(folder: Path, content: Mapping[str, Any], alone: Collection[str] = ()) -> None:
    """Write the file into an export, and into the folder of each head that can be loaded without the others."""
    own = {name: below for name, below in content["heads"].items() if name in alone and below != "."}
    for path, described in (
        (folder, content),
        *((folder / below, {**content, "heads": {name: "."}}) for name, below in own.items()),
    ):
        text = json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False)
        (path / FILE).write_text(text + "\n", encoding="utf-8")


def read_description(folder: Path) -> dict[str, Any] | None:
    """Return the content of the file; None if the folder has none.

    Raises:
        ConfigurationError: When it cannot be read, or a newer version of this program has written it.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        is_valid = all(isinstance(content[key], kind) for key, kind in _TYPES.items())
        is_valid = is_valid and all(isinstance(below, str) for below in content["heads"].values())
        outside = [below for below in content["heads"].values() if not is_inside(below)] if is_valid else []
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        is_valid = False
    if not is_valid:
        raise ConfigurationError(f"{path}: it is damaged. Restore it, or remove it and give pipeline and columns.")
    if content["format"] > FORMAT:
        raise ConfigurationError(
            f"{path}: version {content['version']} of transformers-framework wrote it, and this is {__version__}. "
            "Install the newer one."
        )
    if outside:
        raise ConfigurationError(f"{path}: it names '{outside[0]}', which is not in its folder.")
    return dict(content)


_TYPES = {"format": int, "version": str, "pipeline": str, "heads": dict, "flags": dict}


def check_described(flags: Mapping[str, Any], spec: PipelineSpec, place: str) -> None:
    """Check that only flags of the pipeline's inputs and objectives are set.

    Args:
        flags: The flags.
        spec: The pipeline.
        place: Where they come from, for the message.

    Raises:
        ConfigurationError: With the first other flag.
    """
    known = task_flags(spec)
    if others := [name for name in flags if name not in known]:
        raise ConfigurationError(
            f"{place}: '{others[0]}' is not a flag of the inputs or objectives of this pipeline."
            f"{did_you_mean(others[0], known)}"
        )
