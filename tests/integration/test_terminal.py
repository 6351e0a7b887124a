"""No label and no text of the data commands the terminal: what a run prints is escaped."""

from __future__ import annotations

import logging

import pytest

from tests import runs, tiny
from transformers_framework.cli.main import main

ESCAPE = "\x1b]0;title\x07\x1b[31m"
ROWS = [{"text": f"the sun {ESCAPE}", "label": label + ESCAPE} for label in ("cat", "dog")] * 4


@pytest.mark.parametrize(
    ("labels", "flags", "status"),
    [
        (("cat", "dog"), ["--check"], 0),
        (("cat", "dog"), ["--preview", "2"], 0),
        (("cat", "dog"), [], 0),
        (("cat", "other"), [], 2),
    ],
    ids=["check", "preview", "run", "error"],
)
def test_what_is_printed_is_escaped(labels, flags, status, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    logging.getLogger("transformers_framework").handlers.clear()  # it writes where standard error was once
    tiny.write_jsonl(tmp_path / "train.jsonl", ROWS)
    tiny.write_jsonl(tmp_path / "test.jsonl", [{**row, "label": name + ESCAPE} for row in ROWS for name in labels])
    line = runs.command(
        tmp_path,
        pipeline="seq_class",
        train_dataset=tmp_path / "train.jsonl",
        test_dataset=tmp_path / "test.jsonl",
        max_steps=1,
    )
    assert main([*line, *flags]) == status
    printed = "".join(capfd.readouterr())
    assert r"\x1b]0;title\x07\x1b[31m" in printed
    assert "\x1b]" not in printed
    assert "\x07" not in printed
