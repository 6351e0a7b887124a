"""Log messages: one line each, on standard error, from rank 0."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TextIO

from transformers_framework.display import IS_PROGRESS, Screen, is_terminal
from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.exceptions import printable

# warnings of libraries about what this program does on purpose
KNOWN = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*ended before the epoch ended and your dataloader is not resumable.*",  # ours is
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*`weights_only`.*",
    ".*recommended to use `self.log\\(.*sync_dist=True.*",  # our metrics gather over ranks themselves
    ".*Total length of .* across ranks is zero.*",  # no validation without its data
    ".*You have overridden `on_before_batch_transfer` in `LightningModule`.*",  # lengths of documents
    ".*LeafSpec.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
)

# of loggers of libraries: that of DeepSpeed is imported wherever it is installed, when the first export is written
KNOWN_MESSAGES = {"DeepSpeed": "Setting accelerator to CPU"}


class Printable(logging.Formatter):
    """Formats messages without the control characters that labels or texts of the data may have."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return printable(super().format(record))


class StandardError(logging.StreamHandler):
    """Writes to ``sys.stderr`` as it is when a message is logged: notebooks and tests replace it.

    Messages appear above the bars of a terminal; those that only report progress are left out there.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """The standard error stream."""
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if Screen.live is not None and getattr(record, IS_PROGRESS, False):
            return
        try:
            if not Screen.print(self.format(record)):
                super().emit(record)
        except Exception:  # as every handler of logging does
            self.handleError(record)


def set_up_logging() -> None:
    """Make the package's messages visible, and silence known warnings."""
    package = logging.getLogger("transformers_framework")
    if not package.handlers:
        handler = StandardError()
        handler.setFormatter(Printable("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        package.addHandler(handler)
        package.propagate = False
    package.setLevel(logging.INFO if is_rank_zero() else logging.ERROR)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)  # logs when it was asked to
    _set_up_bars()
    for message in KNOWN:
        warnings.filterwarnings("ignore", message)
    for name in KNOWN_MESSAGES:
        logging.getLogger(name).addFilter(_is_unknown)


def _is_unknown(record: logging.LogRecord) -> bool:
    """Return whether a message of a library is shown."""
    return KNOWN_MESSAGES[record.name] not in str(record.msg)


def _set_up_bars() -> None:
    """Disable the bars of transformers ("Loading weights"); downloads from the hub have one on a terminal."""
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    are_disabled = are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    if is_terminal() and not are_disabled:
        enable_progress_bars()
