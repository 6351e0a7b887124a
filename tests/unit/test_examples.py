"""The command that copies the examples."""

from __future__ import annotations

from tests.runs import ROOT
from transformers_framework import examples

FILES = {path.name: path.read_bytes() for path in (ROOT / "examples").iterdir() if path.is_file()}


def test_the_examples_are_copied(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert examples.main([]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "examples").iterdir()} == FILES
    *_, data, train = capsys.readouterr().out.splitlines()
    for line, name in ((data, "demo_data.py"), (train, "answer_selection.yaml")):
        assert f"examples/{name}" in line.split()


def test_files_are_replaced_only_when_asked(tmp_path, capsys):
    changed = tmp_path / "masked_lm.yaml"
    changed.write_text("name: mine", encoding="utf-8")
    assert examples.main(["--output", str(tmp_path)]) == 2
    assert f"--output {tmp_path}: masked_lm.yaml exists" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [changed]
    assert examples.main(["--output", str(tmp_path), "--overwrite"]) == 0
    assert changed.read_bytes() == FILES["masked_lm.yaml"]


def test_mistakes_are_explained(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert examples.main(["--output", str(tmp_path / "file" / "folder")]) == 2
    assert "folder: it cannot be written" in capsys.readouterr().err
    assert examples.main(["answer_selection"]) == 2
    assert examples.main(["--help"]) == 0
    assert "--output" in capsys.readouterr().out
