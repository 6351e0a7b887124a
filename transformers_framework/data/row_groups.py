"""Groups of rows: they are in one batch, and share an input of the model if the inputs group them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from transformers_framework.constants import Stage
from transformers_framework.objectives.capabilities import GroupsRows

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule
    from transformers_framework.inputs.inputs import Inputs
    from transformers_framework.objectives.objective import Objective
    from transformers_framework.processing.packing import Bins


def grouping_objective(inputs: Inputs, objectives: Iterable[Objective]) -> GroupsRows | None:
    """Return the objective that groups rows; None if there is none, or the inputs group them.

    Args:
        inputs: Inputs of the run.
        objectives: Objectives of the run.
    """
    grouping = (objective for objective in objectives if isinstance(objective, GroupsRows))
    return None if inputs.groups_rows else next(grouping, None)


def num_groups(data: DataModule, stage: Stage) -> int | None:
    """Return the number of groups of a stage; None if its batches are made of single rows."""
    own = data.grouping_objective
    return data.inputs.num_groups(stage) if own is None else own.num_groups(stage)


def groups(data: DataModule, stage: Stage, epoch: int) -> Bins | None:
    """Return the groups of an epoch; None if batches of the stage are made of single rows."""
    own = data.grouping_objective
    return data.inputs.groups(stage, data.seed, epoch) if own is None else own.groups(stage, data.seed, epoch)


def regroup(data: DataModule, stage: Stage) -> Callable[[int], Bins | None] | None:
    """Return a function of the epoch that returns the groups of a stage; None if it has none."""
    return None if num_groups(data, stage) is None else lambda epoch: groups(data, stage, epoch)
