"""Functions that register pipelines, models and other pieces of packages of ``--import`` and of installed plug-ins.

A row is a name and an import path, so that registration imports nothing heavy. A name that another module registered is
an error; the same module may register it again, such as a notebook cell that runs twice.
"""

from __future__ import annotations

import inspect
from collections.abc import MutableMapping
from typing import Any

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.families import Family
from transformers_framework.import_paths import PACKAGE
from transformers_framework.losses.retrieval.table import RETRIEVAL_LOSSES, RetrievalLoss
from transformers_framework.registry import LOGGERS, MODELS, OPTIMIZERS, PIPELINES, SCHEDULERS
from transformers_framework.specs import PipelineSpec

OWNERS: dict[tuple[str, str], str] = {}  # kind and name of a row -> module that registered it; others are ours


def register_pipeline(name: str, spec: PipelineSpec) -> None:
    """Add a pipeline.

    Args:
        name: Value of ``--pipeline``.
        spec: Its row; rows of this package are in ``registry.py``.

    Raises:
        ConfigurationError: When the name is taken or invalid.
    """
    if not isinstance(spec, PipelineSpec):
        raise ConfigurationError(f"register_pipeline '{name}': expected a PipelineSpec, found {spec!r}.")
    _register("pipeline", PIPELINES, name, spec)


def register_model(family: Family) -> None:
    """Add a model family; its name for ``--model`` is its ``model_type``, with ``_`` for ``-``.

    Args:
        family: Its row: ``model_type`` of its config, the module that registers its classes with transformers' Auto
            classes, and its differences from the defaults.

    Raises:
        ConfigurationError: When the name is taken or invalid.
    """
    if not isinstance(family, Family):
        raise ConfigurationError(f"register_model: expected a Family, found {family!r}.")
    _register("model", MODELS, family.name, family)


def register_optimizer(name: str, path: str) -> None:
    """Add an optimizer.

    Args:
        name: Value of ``--optimizer``.
        path: Import path of a function that takes parameter groups and returns an optimizer; its keyword-only
            parameters are flags.

    Raises:
        ConfigurationError: When the name is taken or invalid.
    """
    _register("optimizer", OPTIMIZERS, name, _checked("optimizer", name, path))


def register_scheduler(name: str, path: str) -> None:
    """Add a learning rate schedule.

    Args:
        name: Value of ``--scheduler``.
        path: Import path of a function of ``(step, total_steps)`` that returns the factor of the learning rate; its
            keyword-only parameters are flags.

    Raises:
        ConfigurationError: When the name is taken or invalid.
    """
    _register("scheduler", SCHEDULERS, name, _checked("scheduler", name, path))


def register_logger(name: str, path: str) -> None:
    """Add a logger.

    Args:
        name: Value of ``--loggers``.
        path: Import path of a function that returns one of Lightning's loggers for the folders of a run; its
            keyword-only parameters are flags.

    Raises:
        ConfigurationError: When the name is taken or invalid.
    """
    _register("logger", LOGGERS, name, _checked("logger", name, path))


def register_retrieval_loss(name: str, row: RetrievalLoss) -> None:
    """Add a loss of query and passage embeddings.

    Args:
        name: Value of ``--loss_fn``.
        row: Import paths of its functions, its default settings and its requirements for rows; rows of this package are
            in ``losses/retrieval/table.py``.

    Raises:
        ConfigurationError: When the name is taken or invalid.
    """
    if not isinstance(row, RetrievalLoss):
        raise ConfigurationError(f"register_retrieval_loss '{name}': expected a RetrievalLoss, found {row!r}.")
    _checked("retrieval_loss", name, row.function)
    _register("retrieval_loss", RETRIEVAL_LOSSES, name, row)


def _checked(kind: str, name: str, path: str) -> str:
    if not isinstance(path, str) or not all(path.partition(":")):
        raise ConfigurationError(f"register_{kind} '{name}': expected an import path module:name, found {path!r}.")
    return path


def _register(kind: str, table: MutableMapping[str, Any], name: str, row: Any) -> None:
    owner = inspect.stack(context=0)[2].frame.f_globals["__name__"]
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigurationError(f"register_{kind}: the name {name!r} of {owner} must be letters, digits and '_'.")
    taken = OWNERS.get((kind, name), PACKAGE) if name in table else owner
    if taken != owner:
        raise ConfigurationError(
            f"register_{kind}: {owner} registers '{name}', which {taken} has already. One of them needs another name."
        )
    table[name] = row
    OWNERS[kind, name] = owner
