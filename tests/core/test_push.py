"""Sending to the hub: a stand-in on this computer takes one commit with every file, and what cannot go is a sentence."""

from __future__ import annotations

import base64
import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from core import catalog
from core.__main__ import main
from core.catalog import UserError
from core.datasets import assemble, hub, save

hub_library = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")
WORDS = ["export", "small", "--as", "parquet", "--set", "export.near=false", "--json"]


class Hub(ThreadingHTTPServer):
    """Speaks as much of the hub's language as an upload needs.

    Attributes:
        held: By the name of a dataset its files, and whether it is private.
        asked: Tokens that came.
        full: Whether it refuses commits.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.held, self.private, self.asked, self.full = {}, {}, set(), False


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_):
        pass

    def say(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        if code == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.asked.add(self.headers.get("Authorization"))
        parts = self.path.split("?")[0].strip("/").split("/")
        id = "/".join(parts[2:4])
        if id not in self.server.held:
            return self.say(404, {"error": "no such dataset"})
        names = [*self.server.held[id]]
        if "tree" in parts:
            rows = [{"type": "file", "path": n, "size": 1, "oid": "0" * 40} for n in names]
            return self.say(200, rows)
        files = [{"rfilename": name} for name in names]
        return self.say(200, {"id": id, "sha": "0" * 40, "siblings": files, "tags": []})

    def do_POST(self):
        self.server.asked.add(self.headers.get("Authorization"))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            said = json.loads(body)
            id = f"{said.get('organization') or 'me'}/{said['name']}"
            self.server.held[id] = {}
            self.server.private[id] = said.get("private") or said.get("visibility") == "private"
            url = f"http://127.0.0.1:{self.server.server_port}/datasets/{id}"
            return self.say(200, {"url": url, "name": id, "id": "1"})
        if self.path == "/api/validate-yaml":
            return self.say(200, {"errors": [], "warnings": []})
        id = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            rows = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            return self.say(200, {"files": rows})
        if self.server.full:
            return self.say(403, {"error": "storage limit reached"})
        for line in body.decode().splitlines():
            row = json.loads(line)
            if row["key"] == "file":
                content = base64.b64decode(row["value"]["content"])
                self.server.held[id][row["value"]["path"]] = content
            elif row["key"] == "deletedFile":
                del self.server.held[id][row["value"]["path"]]
        url = f"http://127.0.0.1:{self.server.server_port}/datasets/{id}/commit/{'a' * 40}"
        return self.say(200, {"commitUrl": url, "commitOid": "a" * 40, "success": True})


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """Whatever the computer says, the library may use a network, and has a token."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")


@pytest.fixture
def server(monkeypatch):
    """A hub on this computer, which the library takes for the real one."""
    with Hub() as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        end = f"http://127.0.0.1:{running.server_port}"
        monkeypatch.setattr(hub_library, "HfApi", partial(hub_library.HfApi, endpoint=end))
        yield running
        running.shutdown()


def small():
    rows = np.arange(12)
    x = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8)).astype(np.uint8)
    splits = {"train": rows[4:], "valid": rows[:2], "test": rows[2:4]}
    terms = {"licence": "CC0-1.0", "consent": "not needed"}
    return save("small", assemble(x, rows % 2, ("a", "b"), splits, name="small", terms=terms))


def test_a_layout_is_sent_as_one_commit_and_replaced_only_when_asked(server, tmp_path, capsys):
    small()
    assert main([*WORDS, "--push", "me/small", "--private"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["push"]["repository"] == "me/small" and told["push"]["commit"] == "a" * 40
    assert told["push"]["url"].endswith("/datasets/me/small") and told["out"] is None
    files = server.held["me/small"]
    assert {"README.md", "data/train-00000-of-00001.parquet"} <= files.keys()
    assert files["data/train-00000-of-00001.parquet"][:4] == b"PAR1"
    assert server.private == {"me/small": True} and server.asked == {"Bearer hf_secret"}
    assert main([*WORDS, "--push", "me/small"]) == 2
    assert "is on the hub already, and holds" in capsys.readouterr().err
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "README.md").write_text("new", "utf-8")
    hub.pushed(folder, "me/small", replace=True)
    assert server.held["me/small"] == {"README.md": b"new"}
    server.full = True
    with pytest.raises(UserError, match=r"'me/full' could not be sent to the hub: .*The empty dat"):
        hub.pushed(folder, "me/full")


def test_what_cannot_be_sent_is_told_before_anything_is_written(monkeypatch, setting, capsys):
    for words, why in {
        ("--as", "parquet,npz", "--push", "me/x"): "--push sends one layout, got 'parquet,npz'",
        ("--as", "npz", "--push", "x"): "is named hf://datasets/OWNER/NAME",
        ("--as", "npz", "--push", "me/x@1"): "without a scheme or a revision, got 'me/x@1'",
        ("--push", "me/x"): "--push and --watermark belong to layouts",
        ("--as", "npz", "--out", "o", "--private"): "--private and --replace belong to --push",
    }.items():
        assert main(["export", "digits", *words]) == 2
        assert why in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(UserError, match=r"needs a token that may write, in the environment vari"):
        hub.allow_push("me/x")
    monkeypatch.setattr(catalog, "installed", lambda module: False)
    with pytest.raises(UserError, match=r"Sending to the hub needs the package huggingface-hub"):
        hub.allow_push("me/x")
    setting(view_only=1)
    with pytest.raises(UserError, match="viewing only"):
        hub.allow_push("me/x")


def test_without_a_network_it_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(
        hub_library, "HfApi", partial(hub_library.HfApi, endpoint="http://127.0.0.1:9")
    )
    with pytest.raises(UserError, match=r"'me/x' could not be sent to the hub: .* Check the name"):
        hub.pushed(tmp_path, "me/x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"set to work without a network \(HF_HUB_OFFLINE\)"):
        hub.pushed(tmp_path, "me/x")
