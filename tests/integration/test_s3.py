"""Real s3fs against a real HTTP server on loopback."""

import io
import json
import logging
import multiprocessing
import socket
import sys
import threading
import time
from pathlib import Path

import boto3
import datasets
import pytest

from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.sources.loading import load_dataset, row_place
from transformers_framework.storage import remote
from transformers_framework.storage.pre_trained import fetch

ROWS = [{"q": f"question {row}", "n": row} for row in range(10)]


class Requests:
    """A WSGI layer that counts what is asked of the server, and can break answers.

    ``cut`` is the number of downloads that break in the middle; ``lose`` ends them before the first byte.
    """

    def __init__(self, app):
        self.app, self.downloads, self.lists, self.cut = app, [], 0, 0
        self.before = lambda key: None

    def __call__(self, environ, start_response):
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        if environ["REQUEST_METHOD"] == "GET" and "list-type" in query:
            self.lists += 1
        elif environ["REQUEST_METHOD"] == "GET" and path.count("/") > 1:
            self.downloads.append(path)
            self.before(path)
            body = b"".join(self.app(environ, start_response))
            if self.cut:
                self.cut -= 1
                body = body[: len(body) // 2]
            return [body]
        return self.app(environ, start_response)


@pytest.fixture(scope="module")
def server():
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    requests = Requests(DomainDispatcherApplication(create_backend_app))
    http = make_server("127.0.0.1", 0, requests, threaded=True)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    requests.url = f"http://127.0.0.1:{http.server_port}"
    yield requests
    http.shutdown()
    thread.join()


@pytest.fixture
def s3(server, monkeypatch, tmp_path):
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "BACKOFF", 0.01)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    server.downloads, server.lists, server.cut, server.before = [], 0, 0, lambda key: None

    def put(key, content):
        client.put_object(Bucket="bucket", Key=key, Body=content)

    def put_folder(prefix, folder):
        for path in folder.rglob("*"):
            if path.is_file():
                put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    server.client, server.put, server.put_folder = client, put, put_folder
    yield server
    for entry in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=entry["Key"])


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def folders(cache):
    return [path.name for path in (cache / "s3").iterdir() if path.is_dir()] if (cache / "s3").exists() else []


def test_model(s3, cache, tmp_path):
    from transformers import AutoConfig, AutoModel, BertConfig, BertModel

    model = BertModel(
        BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    )
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "optimizer.pt").write_bytes(b"state")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"second copy")
    s3.put_folder("models/tiny", tmp_path / "model")
    folder = fetch("s3://bucket/models/tiny", cache_dir=cache, what="pre_trained_model")
    assert AutoConfig.from_pretrained(folder).vocab_size == 20
    loaded = AutoModel.from_pretrained(folder).state_dict()
    assert all(value.equal(loaded[name]) for name, value in model.state_dict().items())
    assert sorted(path.rpartition("/")[2] for path in s3.downloads) == ["config.json", "model.safetensors"]
    assert fetch("s3://bucket/models/tiny/", cache_dir=cache, what="pre_trained_model") == folder
    assert len(s3.downloads) == 2


def test_a_folder_of_two_towers_stands_for_both(s3, cache, tmp_path):
    from transformers_framework.models.sentence_transformers import remembered
    from transformers_framework.models.sentence_transformers_export import write_router

    write_router(tmp_path, {"query": "query", "document": "passage"}, {"query": [("Transformer", "")], "passage": [("Transformer", "")]})  # fmt: skip  # noqa: E501
    for name in ("query", "passage"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"model_type": "bert"}')
    s3.put_folder("two", tmp_path)
    for folder in ("s3://bucket/two", str(tmp_path)):
        found = remembered(pre_trained_model=folder, cache_dir=str(cache))
        assert found == {"pre_trained_model": f"{folder}/query", "pre_trained_passage_model": f"{folder}/passage"}
        found = remembered(pre_trained_model=folder, pre_trained_passage_model="mine", cache_dir=str(cache))
        assert found["pre_trained_passage_model"] == "mine"


def test_saved_dataset_is_downloaded_once_and_a_change_is_noticed(s3, cache, tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved", num_shards=3)
    s3.put_folder("data/saved", tmp_path / "saved")
    first = load_dataset("s3://bucket/data/saved", cache_dir=cache)
    assert first.to_list() == ROWS
    assert len(s3.downloads) == 5
    again = load_dataset("s3://bucket/data/saved", cache_dir=cache)
    assert len(s3.downloads) == 5
    assert again._fingerprint == first._fingerprint
    datasets.Dataset.from_list(ROWS[:4]).save_to_disk(tmp_path / "saved", num_shards=3)
    s3.put_folder("data/saved", tmp_path / "saved")
    assert load_dataset("s3://bucket/data/saved", cache_dir=cache).to_list() == ROWS[:4]
    assert first.to_list() == ROWS


def test_files_folders_and_globs(s3, cache):
    s3.put("data/d/a.jsonl", lines(ROWS[:6]))
    s3.put("data/d/b.jsonl", lines(ROWS[6:]))
    s3.put("data/d/notes.txt", "no data")
    s3.put("data/d/deep/c.jsonl", lines(ROWS))
    s3.put("data/d/.old.jsonl", "no data")
    s3.put("data/d/", "")  # what consoles make for a folder
    s3.put("data/t.csv", "q,n\nwhat?,1\n")
    assert load_dataset("s3://bucket/data/d/a.jsonl", cache_dir=cache).to_list() == ROWS[:6]
    assert load_dataset("s3://bucket/data/d", cache_dir=cache).to_list() == ROWS
    assert load_dataset("s3://bucket/data/d/*.jsonl", cache_dir=cache).to_list() == ROWS
    assert load_dataset("s3://bucket/data/d/[b].jsonl", cache_dir=cache).to_list() == ROWS[6:]
    assert load_dataset("s3://bucket/data/t.csv", cache_dir=cache).to_list() == [{"q": "what?", "n": 1}]
    assert not [path for path in s3.downloads if "notes" in path or "deep" in path]
    for source, row, place in [
        ("s3://bucket/data/d/a.jsonl", 2, "s3://bucket/data/d/a.jsonl:3"),
        ("s3://bucket/data/d", 6, "s3://bucket/data/d/b.jsonl:1"),
        ("s3://bucket/data/d/b*", 1, "s3://bucket/data/d/b.jsonl:2"),
        ("s3://bucket/data/t.csv", 0, "s3://bucket/data/t.csv:2"),
    ]:
        assert row_place(source, row, cache_dir=cache) == place


def test_a_broken_line_is_named_by_its_address(s3, cache):
    s3.put("data/a.jsonl", '{"x": 1}\n{"x": \n')
    with pytest.raises(DataError, match=r"^s3://bucket/data/a\.jsonl:2: not JSON"):
        load_dataset("s3://bucket/data/a.jsonl", cache_dir=cache)


def test_dataset_dict_downloads_nothing(s3, cache, tmp_path):
    data = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": data, "dev": data}).save_to_disk(tmp_path / "both")
    s3.put_folder("both", tmp_path / "both")
    with pytest.raises(DataError, match=r"DatasetDict with the splits dev, train; .*s3://bucket/both/train"):
        load_dataset("s3://bucket/both", cache_dir=cache)
    assert s3.downloads == []
    assert load_dataset("s3://bucket/both/train", cache_dir=cache).to_list() == ROWS


def test_a_cut_download_leaves_nothing_and_the_next_works(s3, cache, monkeypatch):
    s3.put("m/config.json", "{}")
    s3.put("m/model.safetensors", b"x" * 200_000)
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    s3.cut = 10**9
    with pytest.raises(
        ConfigurationError,
        match=r"--pre_trained_model s3://bucket/m: the download failed .*incomplete files are not kept",
    ):
        fetch("s3://bucket/m", cache_dir=cache, what="pre_trained_model")
    assert folders(cache) == []
    s3.cut = 0
    folder = fetch("s3://bucket/m", cache_dir=cache, what="pre_trained_model")
    assert folders(cache) == [folder.rpartition("/")[2]]


def test_a_broken_connection_is_tried_again(s3, cache):
    s3.put("m/config.json", '{"a": "' + "x" * 10_000 + '"}')
    s3.cut = 1
    folder = fetch("s3://bucket/m", cache_dir=cache, what="pre_trained_model")
    assert json.loads(Path(folder, "config.json").read_text())["a"] == "x" * 10_000
    assert len(s3.downloads) >= 2


def test_a_server_that_stalls_is_not_waited_for(s3, cache, monkeypatch):
    import s3fs

    s3.put("m/config.json", "{}")
    monkeypatch.setattr(s3fs.S3FileSystem, "read_timeout", 0.3)
    stalls = [1.0] * 3
    s3.before = lambda key: threading.Event().wait(stalls.pop() if stalls else 0.1)
    folder = fetch("s3://bucket/m", cache_dir=cache, what="pre_trained_model")
    assert Path(folder, "config.json").read_text() == "{}"
    assert not stalls
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    s3.before = lambda key: threading.Event().wait(1.0)
    s3.put("n/config.json", "{}")
    with pytest.raises(ConfigurationError, match=r"s3://bucket/n: the download failed .*run the same command again"):
        fetch("s3://bucket/n", cache_dir=cache, what="pre_trained_model")


def test_a_frozen_server_is_named_and_given_up(s3, cache, monkeypatch, said):
    """It accepts connections and never answers: attempts of three libraries within each other took six minutes."""
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "read_timeout", 0.3)
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    with socket.create_server(("127.0.0.1", 0), backlog=100) as frozen, said.at_level(logging.INFO):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{frozen.getsockname()[1]}")
        before = time.monotonic()
        with pytest.raises(ConfigurationError, match=r"s3://bucket/m: the download failed \(Read timeout on endpoint"):
            fetch("s3://bucket/m", cache_dir=cache, what="pre_trained_model")
        assert time.monotonic() - before < 5
    told = [record.message for record in said.records if record.name == remote.__name__]
    assert told[0] == "Looking for s3://bucket/m"
    assert [line.rpartition("; ")[2] for line in told[1:]] == ["trying again (2 of 3)", "trying again (3 of 3)"]


def test_a_download_that_stands_still_is_logged(s3, cache, monkeypatch, said):
    s3.put("m/config.json", "{}")
    monkeypatch.setattr(remote, "STALL_TIMEOUT", 0.2)
    s3.before = lambda key: threading.Event().wait(1.0)
    fetch("s3://bucket/m", cache_dir=cache, what="pre_trained_model")
    assert "s3://bucket/m: no data received for 0 s; still trying" in said.messages


def test_an_object_that_changes_meanwhile(s3, cache):
    s3.put("d/a.jsonl", lines(ROWS))
    s3.put("d/b.jsonl", lines(ROWS))
    s3.before = lambda key: s3.put("d/a.jsonl", lines(ROWS).replace("question", "QUESTION"))
    with pytest.raises(DataError, match="files changed during the download"):
        load_dataset("s3://bucket/d", cache_dir=cache)
    assert folders(cache) == []
    s3.before = lambda key: None
    assert load_dataset("s3://bucket/d", cache_dir=cache)[0]["q"] == "QUESTION 0"


def test_large_files_come_in_parts(s3, cache):
    content = bytes(range(256)) * 4 * 60_000  # 61 MB: more than one block of s3fs
    s3.put("m/config.json", "{}")
    s3.put("m/model.safetensors", content)
    folder = fetch("s3://bucket/m", cache_dir=cache, what="pre_trained_model")
    assert Path(folder, "model.safetensors").read_bytes() == content


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        ("s3://buket/models/tiny", ["no bucket 'buket'"]),
        ("s3://buket/models/*.jsonl", ["no bucket 'buket'", "nothing"]),
        ("s3://bucket/models/tiney", ["nothing that can be read", "Did you mean 'tiny'?"]),
        ("s3://bucket/models/*.csv", ["no readable files there"]),
        ("s3://bucket/nothing/at/all", ["nothing"]),
        ("s3:///models", ["expected s3://bucket/path"]),
    ],
)
def test_nothing_there(s3, cache, source, messages):
    s3.put("models/tiny/config.json", "{}")
    with pytest.raises(ConfigurationError) as error:
        fetch(source, cache_dir=cache, what="pre_trained_model")
    assert f"--pre_trained_model {source}: " in str(error.value)
    assert any(message in str(error.value) for message in messages), str(error.value)
    assert folders(cache) == []


def test_unreachable_server(s3, cache, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"--train_dataset s3://bucket/x: .*AWS_ENDPOINT_URL"):
        load_dataset("s3://bucket/x", cache_dir=cache)


def test_without_credentials(s3, cache, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match=r"no AWS credentials .*FSSPEC_S3_ANON"):
        fetch("s3://bucket/m", cache_dir=cache, what="pre_trained_model")


def test_access_denied(s3, cache, monkeypatch):
    import s3fs

    def deny(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3fs.S3FileSystem, "find", deny)
    with pytest.raises(ConfigurationError, match=r"s3://bucket/m: S3 denies access \(Access Denied\).*AWS_PROFILE"):
        fetch("s3://bucket/m", cache_dir=cache, what="pre_trained_model")


def test_progress_bar_in_a_terminal(s3, cache, monkeypatch, caplog):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    s3.put("m/config.json", "{}" + " " * 5_000_000)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("transformers_framework.display.BAR_DELAY", 0)
    with caplog.at_level("INFO", logger="transformers_framework"):
        fetch("s3://bucket/m", cache_dir=cache, what="pre_trained_model")
    assert "Downloading s3://bucket/m" in screen.getvalue()
    assert "5.0 MB of 5.0 MB" in screen.getvalue()
    assert sys.stderr is screen, "nothing of the bar is left"


def _load(cache, start, answers):
    start.wait()
    answers.put(load_dataset("s3://bucket/a.jsonl", cache_dir=cache).to_list() == ROWS)


def test_concurrent_processes_download_once(s3, cache):
    s3.put("a.jsonl", lines(ROWS))
    context = multiprocessing.get_context("spawn")
    start, answers = context.Event(), context.Queue()
    processes = [context.Process(target=_load, args=(cache, start, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    start.set()
    assert [answers.get(timeout=60) for _ in processes] == [True, True]
    for process in processes:
        process.join(30)
    assert s3.downloads == ["/bucket/a.jsonl"]
