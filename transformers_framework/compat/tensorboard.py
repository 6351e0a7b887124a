"""Private parts of TensorBoard's writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

# what is used, as `module:name`, and why the public interface does not do
PARTS: Final = {
    "tensorboard.summary.writer.event_file_writer:EventFileWriter": (
        "`_file_name`, `_general_file_writer`: files of a resumed run that are read last"
    ),
    "torch.utils.tensorboard.writer:SummaryWriter": (
        "`_get_file_writer`: Lightning closes the writer after each stage, and it opens a file for what comes then"
    ),
}


def open_file(writer: Any) -> Any:
    """Return the file of a ``SummaryWriter``; one that was closed opens another."""
    return writer._get_file_writer()


def event_file(writer: Any) -> Path:
    """Return the file that a ``SummaryWriter`` writes events to."""
    return Path(writer.file_writer.event_writer._file_name)


def rename_event_file(writer: Any, path: Path) -> None:
    """Rename the file that a ``SummaryWriter`` writes events to."""
    events = writer.file_writer.event_writer
    Path(events._file_name).rename(path)
    events._file_name = str(path)
    events._general_file_writer.filename = str(path).encode()
