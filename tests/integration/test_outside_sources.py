"""A data source from outside the tree: a file system of fsspec is all that it takes."""

from __future__ import annotations

from tests import runs, tiny
from tests.outside import package  # noqa: F401
from transformers_framework.cli.main import main

SHELF = '''
"""A file system whose addresses are shelf://NAME."""
from fsspec import register_implementation
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

class Shelf(DirFileSystem):
    protocol = "shelf"

    def __init__(self, **options):
        super().__init__({folder!r}, LocalFileSystem())

register_implementation("shelf", Shelf, clobber=True)
'''


def test_a_source_of_ones_own(tmp_path, package, capsys):  # noqa: F811
    shelf = tmp_path / "shelf"
    tiny.write_jsonl(shelf / "rows.jsonl", runs.rows_for("seq_class", 16))
    package({"shelves.py": SHELF.format(folder=str(shelf))})
    flags = {"pipeline": "seq_class", "train_dataset": "shelf://rows.jsonl", "valid_dataset": "shelf://rows.jsonl"}
    own = [str(word) for word in ("--import", "shelves", "--cache_dir", tmp_path / "cache")]
    assert main([*runs.command(tmp_path, **flags), *own]) == 0, capsys.readouterr().err
    assert (tmp_path / "out" / "checkpoints").is_dir()
    wrong = runs.command(tmp_path, **{**flags, "train_dataset": "shelf://absent.jsonl"}, overwrite=True)
    assert main([*wrong, *own]) == 2
    assert "--train_dataset shelf://absent.jsonl" in capsys.readouterr().err
