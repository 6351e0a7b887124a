"""Upload to a small hub on the loopback address, which answers as the real one does, through its own client."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest

from tests import runs
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.serving.hub_upload import check_access

TOKEN, NAME = "hf_secretOfTheUser", "jane/model"
WHOLE = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(/.*)?")


class Hub(BaseHTTPRequestHandler):
    """Repositories of models: their visibility and their files."""

    repositories: ClassVar[dict[str, dict[str, Any]]] = {}
    stored: ClassVar[dict[str, bytes]] = {}  # large files by their SHA-256
    broken = False

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def answer(self, body: Any, status: int = 200, **headers: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content_Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/whoami-v2":
            self.answer({"name": "jane", "type": "user", "orgs": [], "auth": {"type": "access_token"}})
        elif (found := WHOLE.fullmatch(self.path)) and found[1] in self.repositories:
            private = self.repositories[found[1]]["private"]
            self.answer({"id": found[1], "private": private, "sha": "a" * 40, "siblings": []})
        else:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    def do_POST(self) -> None:
        body = self.body()
        if self.broken:
            self.answer({"error": "Out of order"}, 500)
        elif self.path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given.get('organization') or 'jane'}/{given['name']}"
            there = name in self.repositories
            visible = given.get("private", given.get("visibility") == "private")
            self.repositories.setdefault(name, {"private": visible, "files": {}})
            self.answer({"url": f"http://{self.headers['Host']}/{name}"}, 409 if there else 200)
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.path.endswith("/info/lfs/objects/batch"):
            host = f"http://{self.headers['Host']}/upload"
            objects = [
                {**o, "actions": {"upload": {"href": f"{host}/{o['oid']}", "header": {}}}}
                for o in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif "/preupload/" in self.path:
            modes = {True: "lfs", False: "regular"}
            files = [
                {"path": f["path"], "uploadMode": modes[f["path"].endswith("safetensors")], "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in self.path and (found := WHOLE.fullmatch(self.path.partition("?")[0])):
            files = self.repositories[found[1]]["files"]
            for line in map(json.loads, body.decode().splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.stored[value["oid"]]
            self.answer(
                {"commitUrl": f"http://{self.headers['Host']}/{found[1]}/commit/{'b' * 40}", "commitOid": "b" * 40}
            )
        else:
            self.answer({"error": "Not found"}, 404)

    def do_PUT(self) -> None:
        self.stored[self.path.rpartition("/")[2]] = self.body()
        self.answer({})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.repositories, Hub.stored, Hub.broken = {}, {}, False
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield Hub
        server.shutdown()


def test_a_trained_model_is_uploaded(hub: type[Hub], tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    done = runs.run(tmp_path, pipeline="seq_class", monitor="valid/seq_class/accuracy", push_to_hub=NAME, figures=True)
    repository, best = hub.repositories[NAME], done.pre_trained_models / "best"
    assert repository["private"] is True
    files = repository["files"]
    local = {path.name for path in best.iterdir()}
    assert files.keys() - {name for name in files if name.startswith("figures/")} == local | {"results.json"}
    assert files["model.safetensors"] == (best / "model.safetensors").read_bytes()
    card = files["README.md"].decode()
    assert f'model="{NAME}")' in card
    drawn = {f"figures/{path.name}" for path in (done.predictions / "figures").glob("*.png")}
    assert drawn
    assert (
        drawn == {name for name in files if name.startswith("figures/")} == set(re.findall(r"\((figures/.*)\)", card))
    )
    assert "| test/seq_class/accuracy |" in card
    assert json.loads(files["results.json"])["test"] == json.loads(done.results.read_text())["test"]
    logged = said.text + "".join(path.read_text() for path in done.checkpoints.glob("*.[yjl]*"))
    texts = (content for name, content in files.items() if not name.endswith((".safetensors", ".png")))
    everything = b"".join(texts).decode()
    assert TOKEN not in logged + everything
    assert str(tmp_path) not in everything
    assert f"/{NAME} (private)" in said.text


def test_a_failed_upload_fails_no_run(hub: type[Hub], tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    hub.broken = True
    data = runs.datasets(tmp_path / "data", "seq_class")["train_dataset"]
    flags = {"name": "two words", "train_dataset": data, "push_to_hub": NAME, "push_to_hub_public": True}
    done = runs.run(tmp_path, pipeline="seq_class", **flags)
    folder = done.pre_trained_models / "final"
    assert f"{folder} was not uploaded to {NAME}" in said.text
    assert f"Upload it with: hf upload {NAME} '{folder}' .\n" in said.text
    assert TOKEN not in said.text


def test_what_cannot_be_uploaded_is_refused_before_training(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories[NAME] = {"private": False, "files": {}}
    with pytest.raises(ConfigurationError, match=r"this repository is public\. Give --push_to_hub_public"):
        check_access(NAME, is_public=False)
    check_access(NAME, is_public=True)
    check_access("jane/new", is_public=False)
    with pytest.raises(ConfigurationError, match="Give a name like user/name"):
        check_access("jane/a--b", is_public=False)
    with monkeypatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_another")
        with pytest.raises(ConfigurationError, match="does not accept the token"):
            check_access("jane/new", is_public=False)
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ConfigurationError, match="HF_HUB_OFFLINE is set"):
            check_access("jane/new", is_public=False)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "absent"))
    words = runs.command(tmp_path, pipeline="seq_class", push_to_hub=NAME)
    runs.run(tmp_path, status=2, pipeline="seq_class", push_to_hub=NAME)
    assert "--push_to_hub: there is no token of the hub. Log in with `hf auth login`" in capsys.readouterr().err
    assert not runs.folders_of(words).checkpoints.exists()
    runs.run(tmp_path, status=2, pipeline="seq_class", push_to_hub="model")
    assert "--push_to_hub" in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_stops_no_training(
    monkeypatch: pytest.MonkeyPatch, hub: type[Hub], said: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    check_access(NAME, is_public=False)
    assert "the hub could not be reached to check jane/model" in said.text
