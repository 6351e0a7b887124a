"""Checks of a data set by all parts of a run, before anything is made of its rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from transformers_framework.exceptions import DataError, UserError, caught
from transformers_framework.sources.row_errors import RowErrors

if TYPE_CHECKING:
    from datasets import Dataset

    from transformers_framework.inputs.inputs import Inputs
    from transformers_framework.objectives.objective import Objective
    from transformers_framework.sources.columns import DatasetSource

logger = logging.getLogger(__name__)


def checked(
    dataset: Dataset, parts: Iterable[Inputs | Objective], source: DatasetSource
) -> tuple[Dataset, list[UserError]]:
    """Return a data set as all parts return it, and all errors; those of single rows are one error.

    Args:
        dataset: The rows.
        parts: Inputs and objectives, which check the rows.
        source: Source of the rows.
    """
    source = replace(source, errors=RowErrors())
    found: list[UserError] = []
    for part in parts:
        try:
            dataset = part.pre_process(dataset, source)
        except UserError as error:
            found.append(error)
        except Exception:  # a check of columns or values that were found to be broken before
            if not (found or source.errors):
                raise
            logger.debug("%s after other errors", type(part).__name__, exc_info=True)
    with caught(found.append):
        source.check()
    return dataset, found


def report(errors: Sequence[UserError], on_error: Callable[[UserError], None] | None) -> None:
    """Pass errors to a function; without one, raise them as a single error.

    Raises:
        UserError: When there are errors, and no function to take them.
    """
    if on_error is not None:
        for error in errors:
            on_error(error)
    elif len(errors) == 1:
        raise errors[0]
    elif errors:
        raise DataError("\n".join(map(str, errors)))
