"""What a run shows on a terminal; no label and no text of the data commands it: what is printed is escaped."""

from __future__ import annotations

import io
import logging
import re
import sys

import pytest

from tests import runs, tiny
from transformers_framework import display
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


# what Lightning, transformers and datasets would print
OF_LIBRARIES = (
    "Loading weights",
    "Modules in train",
    "ModuleDict",
    "Sanity",
    "tip",
    "TPU",
    "`Trainer",
    "it/s",
    "Frozen",
)


@pytest.mark.parametrize("has_terminal", [True, False])
def test_a_run_shows_its_progress(has_terminal, tmp_path, monkeypatch):
    """Bars on a terminal, the same as lines elsewhere; validations and the summary are lines on both."""

    class Screen(io.StringIO):
        def isatty(self):
            return has_terminal

    logging.getLogger("transformers_framework").handlers.clear()
    monkeypatch.setattr(display, "BAR_DELAY", 0)
    monkeypatch.setattr(display, "BAR_INTERVAL", 0)
    monkeypatch.setattr("transformers_framework.reports.progress.LINE_INTERVAL", 0)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("TERM", "xterm")
    data = runs.datasets(tmp_path / "data", "seq_class", sizes=(16, 8, 8, 1))
    data.pop("predict_dataset")
    words = runs.command(
        tmp_path, pipeline="seq_class", **data, monitor="valid/seq_class/accuracy", max_epochs=2, early_stopping=True,
        enable_model_summary=None,
    )  # fmt: skip
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    assert main(words) == 0
    assert sys.stderr is screen
    assert display.Screen.live is None
    assert display.Screen.works == []
    said = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.getvalue())
    facts = (r"step 3 of 4", r"loss \d\.\d{4}", r"lr \d\.\d\de-\d\d", r"[\d,]+ tokens/s", r"0:\d\d left")
    progress = "epoch 2 of 2 ━.*" + " · ".join(facts) if has_terminal else ", ".join(("epoch 2 of 2", *facts))
    assert re.search(progress, said)
    assert ("Validating ━" in said) is has_terminal
    assert re.search(
        r"\d\d:\d\d:\d\d bert: [\d,]+ parameters, all trained; precision 32-true on 1 CPU; 8 rows per step", said
    )
    assert "Training starts at step 0: 4 optimizer steps in 2 epochs" in said
    assert re.search(r"step 2 \(epoch 1\): valid/seq_class/accuracy \d\.\d{4}, the best so far", said)
    assert re.search(r"step 4 \(epoch 2\): valid/seq_class/accuracy \d.*(the best so far|1 of 5 validations)", said)
    assert re.search(r"Run 'run' is done in .*\n  best +valid/seq_class/accuracy .* at step \d.*\n  test +loss ", said)
    assert not [text for text in OF_LIBRARIES if text in said]


@pytest.mark.parametrize(("silence", "lines"), [(0, 3), (1e9, 0)])
def test_few_slow_steps_are_not_silent(silence, lines, tmp_path, monkeypatch, said):
    """A line is logged after a long silence although the run ends before its first logging step."""
    monkeypatch.setattr("transformers_framework.reports.progress.LONGEST_SILENCE", silence)
    data = runs.datasets(tmp_path / "data", "seq_class", sizes=(24,))
    runs.run(
        tmp_path,
        pipeline="seq_class",
        **data,
        log_every_n_steps=50,
        accumulate_grad_batches=2,
        batch_size=4,
        max_epochs=1,
    )
    found = re.findall(r"epoch 1 of 1, step \d of 3, loss \d\.\d{4}, lr", said.text)
    assert len(found) == lines, said.text
