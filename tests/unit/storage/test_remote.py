"""Every protocol of fsspec alike: an HTTP server on loopback, fsspec's memory; S3 has tests/integration/test_s3.py."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pytest

from transformers_framework.exceptions import ConfigurationError, DataError, MissingDependencyError
from transformers_framework.sources.loading import load_dataset, row_place
from transformers_framework.storage import addresses, remote
from transformers_framework.storage.pre_trained import fetch

ROWS = [{"q": f"question {row}", "n": row} for row in range(10)]


class Handler(SimpleHTTPRequestHandler):
    """The server of Python, which knows no ranges; it counts downloads, and can break them or refuse access."""

    downloads: list[str]
    cut: int
    status: int
    before: Callable[[str], None]

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        if type(self).status:
            self.send_error(type(self).status)
        else:
            super().do_HEAD()

    def do_GET(self) -> None:
        kind = type(self)
        if kind.status:
            return self.send_error(kind.status)
        if Path(self.translate_path(self.path)).is_dir():
            return super().do_GET()
        kind.downloads.append(self.path)
        kind.before(self.path)
        if kind.cut:
            kind.cut -= 1
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        return super().do_GET()


class Served:
    """A folder and the address at which it is served."""

    def __init__(self, root: Path, url: str, handler: type[Handler] | None = None) -> None:
        self.root, self.url, self.handler = root, url, handler

    def put(self, name: str, content: str | bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(content.encode() if isinstance(content, str) else content)

    def publish(self) -> None:
        if self.handler is None:  # memory
            fsspec.filesystem("memory").put(f"{self.root}/", self.url.removeprefix("memory:/"), recursive=True)


@pytest.fixture
def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(remote, "BACKOFF", 0.01)
    root = tmp_path / "served"
    root.mkdir()
    kind = type(
        "Counting", (Handler,), {"downloads": [], "cut": 0, "status": 0, "before": staticmethod(lambda _: None)}
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Served(root, f"http://127.0.0.1:{server.server_port}", kind)
        server.shutdown()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Served]:
    root = tmp_path / "memory"
    root.mkdir()
    yield Served(root, f"memory://{tmp_path.name}")
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture(params=["http", "memory"])
def served(request: pytest.FixtureRequest) -> Served:
    return request.getfixturevalue(request.param)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def folders(cache: Path) -> list[Path]:
    return [path for path in cache.glob("*/*") if path.is_dir()]


def test_a_model(served: Served, cache: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"):
        served.put(f"models/tiny/{name}", f"the {name}")
    for name in ("pytorch_model.bin", "optimizer.pt", "deep/config.json", ".hidden"):
        served.put(f"models/tiny/{name}", "not needed")
    served.publish()
    url = f"{served.url}/models/tiny"
    folder = Path(fetch(url, cache_dir=cache, what="pre_trained_model"))
    found = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("[!.]*") if path.is_file()}
    needed = ("config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json")
    assert found == {name: f"the {name}" for name in needed}
    assert folder.parent == cache / url.partition("://")[0]
    if served.handler:
        assert len(served.handler.downloads) == 4
    assert fetch(f"{url}/", cache_dir=cache, what="pre_trained_model") == str(folder)
    if served.handler:
        assert len(served.handler.downloads) == 4
    config = fetch(f"{url}/config.json", cache_dir=cache, what="pre_trained_config")
    assert [path.name for path in Path(config).glob("[!.]*")] == ["config.json"]


def test_files_folders_and_globs(served: Served, cache: Path) -> None:
    served.put("d/a.jsonl", lines(ROWS[:6]))
    served.put("d/b c.jsonl", lines(ROWS[6:]))
    served.put("d/notes.txt", "no data")
    served.put("d/deep/c.jsonl", lines(ROWS))
    served.put("d/.old.jsonl", "no data")
    served.put("t.csv", "q,n\nwhat?,1\n")
    served.publish()
    for source, rows in [
        ("d/a.jsonl", ROWS[:6]),
        ("d", ROWS),
        ("d/*.jsonl", ROWS),
        ("d/[b]*.jsonl", ROWS[6:]),
        ("t.csv", [{"q": "what?", "n": 1}]),
    ]:
        assert load_dataset(f"{served.url}/{source}", cache_dir=cache).to_list() == rows, source
    for source, row, place in [
        ("d/a.jsonl", 2, "d/a.jsonl:3"),
        ("d", 6, "d/b c.jsonl:1"),
        ("d/b*", 1, "d/b c.jsonl:2"),
        ("t.csv", 0, "t.csv:2"),
    ]:
        assert row_place(f"{served.url}/{source}", row, cache_dir=cache) == f"{served.url}/{place}"
    if served.handler:
        assert not [path for path in served.handler.downloads if "notes" in path or "deep" in path or ".old" in path]


def test_a_saved_dataset_and_a_change_of_it(served: Served, cache: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(served.root / "saved", num_shards=2)
    served.publish()
    assert load_dataset(f"{served.url}/saved", cache_dir=cache).to_list() == ROWS
    datasets.Dataset.from_list(ROWS[:4]).save_to_disk(served.root / "saved", num_shards=2)
    served.publish()
    assert load_dataset(f"{served.url}/saved", cache_dir=cache).to_list() == ROWS[:4]


def test_several_splits_are_named_and_nothing_is_downloaded(served: Served, cache: Path) -> None:
    data = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": data, "dev": data}).save_to_disk(served.root / "both")
    served.publish()
    with pytest.raises(DataError, match=rf"the splits dev, train; .*{re.escape(served.url)}/both/train"):
        load_dataset(f"{served.url}/both", cache_dir=cache)
    assert folders(cache) == []


@pytest.mark.parametrize("source", ["d/a.json", "nothing/at/all", "e/*.jsonl"])
def test_nothing_there(served: Served, cache: Path, source: str) -> None:
    served.put("d/a.jsonl", lines(ROWS))
    served.publish()
    with pytest.raises(DataError) as error:
        load_dataset(f"{served.url}/{source}", cache_dir=cache)
    assert f"--train_dataset {served.url}/{source}: no readable files there" in str(error.value)
    assert ("Did you mean 'a.jsonl'?" in str(error.value)) is (source == "d/a.json")
    assert folders(cache) == []


def test_a_page_cannot_name_a_file_outside_the_cache(http: Served, cache: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jsonl"
    links = (str(outside).replace("/", "%2F"), "%2E%2E%2F%2E%2E%2Fabove.jsonl", "nul%00.jsonl", "a.jsonl")
    http.put("d/index.html", "".join(f'<a href="{link}">rows</a>' for link in links))
    for name in ("d/a.jsonl", f"d{outside}", "above.jsonl"):
        http.put(name, lines(ROWS))
    assert load_dataset(f"{http.url}/d/*.jsonl", cache_dir=cache).to_list() == ROWS
    assert not outside.exists()
    assert not list(cache.rglob("*above*"))


def test_a_server_that_gives_no_sizes(http: Served, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert http.handler is not None
    header = http.handler.send_header
    hidden = ("Content-Length", "Last-Modified")
    monkeypatch.setattr(http.handler, "send_header", lambda self, *pair: pair[0] in hidden or header(self, *pair))
    http.put("a.jsonl", lines(ROWS))
    assert load_dataset(f"{http.url}/a.jsonl", cache_dir=cache).to_list() == ROWS


def test_a_query_is_no_pattern(http: Served, cache: Path) -> None:
    http.put("a.jsonl", lines(ROWS))
    source = f"{http.url}/a.jsonl?token=1&download=true"
    assert load_dataset(source, cache_dir=cache).to_list() == ROWS
    assert row_place(source, 1, cache_dir=cache) == f"{source}:2"


def test_a_cut_download_is_tried_again_and_else_leaves_nothing(http: Served, cache: Path) -> None:
    http.put("m/config.json", "{}" + " " * 100_000)
    http.handler.cut = 1
    folder = fetch(f"{http.url}/m", cache_dir=cache, what="pre_trained_model")
    assert Path(folder, "config.json").stat().st_size == 100_002
    http.put("n/config.json", "{}" + " " * 100_000)
    http.handler.cut = 10**9
    with pytest.raises(
        ConfigurationError,
        match=r"/n: the download failed .*incomplete files are not kept",
    ):
        fetch(f"{http.url}/n", cache_dir=cache, what="pre_trained_model")
    assert [str(path) for path in folders(cache)] == [folder]
    assert len(http.handler.downloads) == 2 + remote.ATTEMPTS


def test_a_server_that_stalls_is_not_waited_for(http: Served, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "TIMEOUT", 0.3)
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    http.put("m/config.json", "{}")
    stalls = [2.0]
    http.handler.before = staticmethod(lambda _: threading.Event().wait(stalls.pop() if stalls else 0))
    assert Path(fetch(f"{http.url}/m", cache_dir=cache, what="pre_trained_model"), "config.json").read_text() == "{}"
    assert not stalls


def test_a_file_that_changes_meanwhile(http: Served, cache: Path) -> None:
    http.put("d/a.jsonl", lines(ROWS))
    http.put("d/b.jsonl", lines(ROWS))
    http.handler.before = staticmethod(lambda _: os.utime(http.root / "d/a.jsonl", (0, 0)))
    with pytest.raises(DataError, match="files changed during the download"):
        load_dataset(f"{http.url}/d", cache_dir=cache)
    assert folders(cache) == []


def test_progress_of_a_protocol_that_reports_none(
    memory: Served, cache: Path, monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def slowly(self: Any, rpath: str, lpath: str, **_: Any) -> None:
        with Path(lpath).open("wb") as file:
            for number in self.cat_file(rpath):
                file.write(bytes([number]))
                file.flush()
                threading.Event().wait(0.3 if number == 2 else 0.05)

    memory.put("m/config.json", bytes([1, 1, 1, 1, 2, 1]))
    memory.publish()
    monkeypatch.setattr(MemoryFileSystem, "get_file", slowly)
    monkeypatch.setattr(remote, "STALL_TIMEOUT", 0.15)
    monkeypatch.setattr(remote, "POLL_INTERVAL", 0.01)
    fetch(f"{memory.url}/m", cache_dir=cache, what="pre_trained_model")
    quiet = [line for line in said.messages if "no data received" in line]
    assert quiet == [f"{memory.url}/m: no data received for 0 s; still trying"]


@pytest.mark.parametrize(("status", "message"), [(403, "the server denies access"), (401, "denies access")])
def test_access_denied(http: Served, cache: Path, status: int, message: str) -> None:
    http.put("m/config.json", "{}")
    http.handler.status = status
    with pytest.raises(
        ConfigurationError, match=rf"--pre_trained_model {http.url}/m: {message if status == 403 else ''}"
    ):
        fetch(f"{http.url}/m", cache_dir=cache, what="pre_trained_model")
    assert folders(cache) == []


def test_an_overloaded_server_is_asked_again(http: Served, cache: Path, said: pytest.LogCaptureFixture) -> None:
    http.handler.status = 503
    with pytest.raises(DataError, match=r"the download failed \(503"):
        load_dataset(f"{http.url}/a.jsonl", cache_dir=cache)
    assert [line.rpartition("; ")[2] for line in said.messages if "503" in line] == [
        "trying again (2 of 3)",
        "trying again (3 of 3)",
    ]


def test_a_server_that_is_not_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BACKOFF", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DataError, match=rf"http://127.0.0.1:{port}/a.jsonl: the download failed .*Check the address"):
        load_dataset(f"http://127.0.0.1:{port}/a.jsonl", cache_dir=cache)


@pytest.mark.parametrize(
    ("source", "package", "install"),
    [
        ("s3://bucket/m", "s3fs", r"'transformers-framework\[s3\]'"),
        ("gs://bucket/m", "gcsfs", "gcsfs"),
        ("az://container/m", "adlfs", "adlfs"),
        ("abfs://container/m", "adlfs", "adlfs"),
        ("https://host/m", "aiohttp", "aiohttp"),
        ("hf://user/name", "huggingface_hub", "huggingface_hub"),
    ],
)
def test_a_package_that_is_not_installed(
    source: str, package: str, install: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else found(name, *rest)
    )
    with pytest.raises(MissingDependencyError, match=rf"_model {source} needs .*'{package}'.*: pip install {install}$"):
        fetch(source, cache_dir=cache, what="pre_trained_model")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gss://bucket/m", r"unknown protocol 'gss'; use s3, .*Did you mean 'gs'\?"),
        ("file:///data/m", "give a local path without a protocol"),
        ("dropbox://folder/m", "a package is not installed .*dropbox"),
        ("s3:///m", "not an address on S3; expected s3://bucket/path"),
        ("hf://*/x", "not an address on the hub; expected hf://user/name/path or hf://datasets/user/name/path"),
        ("zip://a/b", "'zip' cannot be opened"),
        ("https://huggingface.co/google-bert/bert", "a web page of the hub; give hf://google-bert/bert, or its"),
        ("https://huggingface.co/datasets/a/b/tree/main/data", "give hf://datasets/a/b, or its name"),
    ],
)
def test_what_is_no_address(source: str, message: str, cache: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fetch(source, cache_dir=cache, what="pre_trained_model")


def test_the_hub_without_a_network(cache: Path) -> None:
    with pytest.raises(DataError, match=r"hf://datasets/a/b/c\.jsonl: the download failed .*Check .*HF_HUB_OFFLINE"):
        load_dataset("hf://datasets/a/b/c.jsonl", cache_dir=cache)
