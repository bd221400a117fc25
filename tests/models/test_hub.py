"""What is fetched from the Hub, by the real client from a stand-in on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

import command

REPO, COMMIT = "someone/tiny", "0" * 39 + "1"


class Hub:
    """Serves one model folder as a Hub repository, and keeps the names of the files that were fetched."""

    def __init__(self, folder: Path):
        self.folder, self.fetched = folder, set[str]()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, with_body: bool) -> None:
                path = self.path.split("?")[0]
                if path.startswith(f"/api/models/{REPO}"):
                    is_tree = "/tree/" in path
                    body = json.dumps(hub.tree() if is_tree else {"id": REPO, "sha": COMMIT}).encode()
                    return self.send(body, {"Content-Type": "application/json"}, with_body)
                file = hub.folder / path.rsplit("/", 1)[-1]
                if not path.startswith(f"/{REPO}/resolve/") or not file.is_file():
                    self.send_error(404)
                    return None
                body = file.read_bytes()
                if with_body:
                    hub.fetched.add(file.name)
                etag = hashlib.sha1(body).hexdigest()
                return self.send(body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, with_body)

            def send(self, body: bytes, headers: dict[str, str], with_body: bool) -> None:
                self.send_response(200)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def tree(self) -> list[dict[str, object]]:
        """The files of the repository, as the Hub lists them."""
        files = ((file.name, file.read_bytes()) for file in sorted(self.folder.iterdir()))
        return [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in files
        ]


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(Path(shutil.copytree(tiny_model, tmp_path / "hub")))
    yield hub
    hub.server.shutdown()


def test_only_what_needs_weights_fetches_them(hub: Hub, tmp_path: Path) -> None:
    rows = "".join(f"good morning number {i},☕🌅\n" for i in range(40))
    (tmp_path / "e.csv").write_text(f"text,emoji\n{rows}", encoding="utf-8")
    recipe = {
        "task": "emoji",
        "data": "e.csv",
        "model": REPO,
        "train": {"max_steps": 1, "max_length": 128, "precision": "fp32", "device": "cpu"},
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(recipe))
    environment = {
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_TOKEN": "",
    }
    for verb in ("prepare", "show", "plan"):
        answer = command.spawn(verb, "e.yaml", env=environment, cwd=tmp_path)
        assert answer.code == 0, answer.err
        assert hub.fetched and "model.safetensors" not in hub.fetched, verb
    answer = command.spawn("check", "e.yaml", env=environment, cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "model.safetensors" in hub.fetched
