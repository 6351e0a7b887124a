"""Data sets of a small hub on the loopback address, which answers as the real one does, through its own client."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import runs
from transformers_framework.exceptions import DataError
from transformers_framework.sources.loading import load_dataset

COMMIT, FILE = "a" * 40, "data/train.parquet"
OLD, NEW = "reviews", "some-lab/reviews"  # what a data set was called, and is


class Hub(BaseHTTPRequestHandler):
    """One data set that once had a name of one part, from which it redirects."""

    content = io.BytesIO()

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content_Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        file = {"type": "file", "oid": "2" * 40, "size": len(self.content.getvalue()), "path": FILE}
        if moved := re.fullmatch(rf"(/api)?/datasets/{OLD}(/.*)?", path):
            self.answer(307, Location=f"{moved[1] or ''}/datasets/{NEW}{moved[2] or ''}")
        elif path == "/api/datasets":
            self.answer(200, [{"id": f"another/{OLD}"}, {"id": f"another/{OLD}-2"}] if OLD in query else [])
        elif re.fullmatch(rf"/api/datasets/{NEW}(/revision/({COMMIT}|main))?", path):
            self.answer(200, {"id": NEW, "sha": COMMIT, "siblings": [{"rfilename": FILE}]})
        elif tree := re.fullmatch(rf"/api/datasets/{NEW}/tree/(?:{COMMIT}|main)(/data)?", path):
            folder = {"type": "directory", "oid": "1", "path": "data"}
            self.answer(200, [file] if tree[1] else [folder, file] if "recursive=true" in query else [folder])
        elif path in (f"/datasets/{NEW}/resolve/{revision}/{FILE}" for revision in (COMMIT, "main")):
            self.answer(200, self.content.getvalue(), ETag=f'"{"2" * 40}"', X_Repo_Commit=COMMIT)
        else:
            is_entry = "/resolve/" in path or path.startswith(f"/api/datasets/{NEW}/tree/")
            self.answer(404, b"{}", X_Error_Code="EntryNotFound" if is_entry else "RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.content = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), Hub.content)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


LOAD = """
import json, sys
from pathlib import Path
from transformers_framework.sources.loading import load_dataset
from transformers_framework.exceptions import DataError
for source in sys.argv[1:]:
    try:
        print(json.dumps(load_dataset(source, cache_dir=Path("cache"))[:]))
    except DataError as error:
        print(error)
"""


def test_a_name_of_one_part_is_found_under_that_of_today(hub: str, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(runs.ROOT)}
    line = [sys.executable, "-c", LOAD, f"{OLD}/train", f"{NEW}/train", f"{OLD}/test", "nothing/train", OLD]
    done = subprocess.run(
        line, cwd=tmp_path, env=os.environ | env, capture_output=True, text=True, timeout=100, check=True
    )
    found = done.stdout.splitlines()
    assert found[:2] == [json.dumps({"text": ["a", "b"], "label": [0, 1]})] * 2, done.stderr
    for told, message in zip(
        found[2:],
        (
            f"'{OLD}' has no split 'test'; it has train",
            "the hub has no data set 'nothing' .*nothing/train/train",
            f"for instance {NEW}/train$",
        ),
        strict=True,
    ):
        assert re.search(message, told), found


def test_an_address_on_the_hub_is_read_as_that_of_any_server(hub: str, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(runs.ROOT)}
    address = f"hf://datasets/{NEW}"
    rows = [f"{address}/{FILE}", f"{address}@main/{FILE}", f"{address}/data", f"{address}@main/data/*.parquet"]
    absent = [f"{address}/data/trian.parquet", "hf://datasets/some-lab/nothing/train.csv"]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *rows, *absent],
        cwd=tmp_path,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found = done.stdout.splitlines()
    assert found[:4] == [json.dumps({"text": ["a", "b"], "label": [0, 1]})] * 4, done.stderr
    assert found[4].endswith("no readable files there. Did you mean 'train.parquet'?")
    assert re.search(r"no readable files there \(.*repository not found", found[5])
    assert len([path for path in (tmp_path / "cache/hf").iterdir() if path.is_dir()]) == 4


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imdb/train", r"'imdb' is not in the hub's cache.*did you mean stanfordnlp/imdb/train\?"),
        ("conll2003/test", r"did you mean eriktks/conll2003/test\?"),
        ("cached/train", r"did you mean me/cached/train or you/cached/train\?"),
        ("imdb", "for instance stanfordnlp/imdb/train$"),
        ("unknown", "for instance user/unknown/train$"),
    ],
)
def test_without_a_network_it_is_said_which_name_it_may_be(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    (tmp_path / "hub" / "datasets--me--cached").mkdir(parents=True)
    (tmp_path / "datasets" / "you___cached").mkdir(parents=True)
    with pytest.raises(DataError, match=message):
        load_dataset(source, cache_dir=tmp_path / "cache")
