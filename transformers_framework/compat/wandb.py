"""The files of Weights & Biases, which has no function that reads them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# what is used, as `module:name`, and why the public interface does not do
PARTS: Final = {
    "wandb.proto.wandb_internal_pb2:Record": "rows of a run that is resumed offline, so that none is logged twice",
}
START, HEADER, BLOCK = 7, 7, 32768  # bytes of the file's header, of that of a part, and of a block
WHOLE, LAST = 1, 4  # kinds of parts that end a record


def num_rows(output_dir: Path, run_id: str) -> int:
    """Return the number of rows that earlier processes of a run have logged to files.

    Args:
        output_dir: Folder with the folder ``wandb``.
        run_id: Id of the run.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    found = 0
    for path in output_dir.glob(f"wandb/*run-*-{run_id}/run-{run_id}.wandb"):
        for content in records(path):
            record = Record()
            try:
                record.ParseFromString(content)
            except DecodeError:  # it was not written completely
                break
            if record.HasField("history"):
                found = max(found, record.history.step.num + 1)
    return found


def records(path: Path) -> Iterator[bytes]:
    """Yield the records of a file of wandb, which has the format of LevelDB's logs: blocks of parts with headers."""
    content, place, record = path.read_bytes(), START, b""
    while place + HEADER <= len(content):
        if (rest := BLOCK - place % BLOCK) < HEADER:  # no header fits into the rest of a block
            place += rest
            continue
        size, kind = struct.unpack("<HB", content[place + 4 : place + HEADER])
        place += HEADER + size
        record += content[place - size : place]
        if kind in (WHOLE, LAST):
            yield record
            record = b""
