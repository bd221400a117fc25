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
HALF = 20_000  # bytes that come of a file before its download breaks off
REFUSALS = {
    "gated": (403, "GatedRepo", "Access to model someone/tiny is restricted"),
    "missing": (404, "RepoNotFound", "Repository not found"),
    "busy": (503, "", "Service unavailable"),
}


class Hub:
    """Serves one model folder as a Hub repository, and keeps the names of the files that were fetched.

    `fault` is what goes wrong: "gated", "missing", "busy", "breaks off" or "stalls".
    """

    def __init__(self, folder: Path):
        self.folder, self.fetched = folder, set[str]()
        self.commit, self.fault, self.stalled = COMMIT, "", threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, with_body: bool) -> None:
                path = self.path.split("?")[0]
                if hub.fault in REFUSALS:
                    return self.refuse(*REFUSALS[hub.fault])
                if path.endswith("/revision/gone"):
                    return self.refuse(404, "RevisionNotFound", "Invalid rev id: gone")
                if path.startswith(f"/api/models/{REPO}"):
                    is_tree = "/tree/" in path
                    body = json.dumps(hub.tree() if is_tree else {"id": REPO, "sha": hub.commit}).encode()
                    return self.send(body, {"Content-Type": "application/json"}, with_body)
                file = hub.folder / path.rsplit("/", 1)[-1]
                if not path.startswith(f"/{REPO}/resolve/") or not file.is_file():
                    self.send_error(404)
                    return None
                body = file.read_bytes()
                if with_body:
                    hub.fetched.add(file.name)
                etag = hashlib.sha1(body).hexdigest()
                return self.send(body, {"ETag": f'"{etag}"', "X-Repo-Commit": hub.commit}, with_body)

            def refuse(self, status: int, code: str, text: str) -> None:
                self.send_response(status)
                for name, value in {"X-Error-Code": code, "X-Error-Message": text, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def send(self, body: bytes, headers: dict[str, str], with_body: bool) -> None:
                self.send_response(200)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if with_body and hub.fault and len(body) > HALF:
                    self.wfile.write(body[:HALF])
                    self.wfile.flush()
                    hub.stalled.wait(5 if hub.fault == "stalls" else 0)
                    self.close_connection = True
                elif with_body:
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
    hub.stalled.set()
    hub.server.shutdown()


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """The client's: this Hub, nobody's login, an empty cache, and little patience."""
    return {
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_TOKEN": "",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
    }


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of one step over the Hub's model."""
    rows = "".join(f"good morning number {i},☕🌅\n" for i in range(40))
    (tmp_path / "e.csv").write_text(f"text,emoji\n{rows}", encoding="utf-8")
    train = {"max_steps": 1, "max_length": 128, "precision": "fp32", "device": "cpu"}
    value = {"task": "emoji", "data": "e.csv", "model": REPO, "train": train}
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return path


def test_only_what_needs_weights_fetches_them(
    hub: Hub, recipe: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    for verb in ("prepare", "show", "plan"):
        answer = command.spawn(verb, recipe, env=environment, cwd=tmp_path)
        assert answer.code == 0, answer.err
        assert hub.fetched and "model.safetensors" not in hub.fetched, verb
    answer = command.spawn("check", recipe, env=environment, cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "model.safetensors" in hub.fetched


@pytest.mark.parametrize(
    ("fault", "advice"),
    {
        "gated": f"accept its licence at https://huggingface.co/{REPO} and run `hf auth login`",
        "missing": "check its name; if it is private, run `hf auth login`",
        "busy": "run the same again",
        "breaks off": "run the same again, which fetches only what is missing",
        "stalls": "run the same again, which fetches only what is missing",
    }.items(),
)
def test_what_the_hub_does_not_give_is_one_line_with_the_next_move(
    fault: str, advice: str, hub: Hub, recipe: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    hub.fault = fault
    answer = command.spawn("prepare", recipe, env=environment, cwd=tmp_path)
    *retries, line = answer.err.splitlines()
    assert answer.code == 2 and "Traceback" not in answer.err and (not retries or hub.fetched), answer
    assert line.startswith(f"gemtune: model {REPO}: cannot be fetched from the Hub (") and advice in line


def test_a_download_that_broke_off_goes_on(hub: Hub, recipe: Path, environment: dict[str, str], tmp_path: Path) -> None:
    hub.fault = "breaks off"
    assert command.spawn("prepare", recipe, env=environment, cwd=tmp_path).code == 2
    hub.fault = ""
    answer = command.spawn("prepare", recipe, env=environment, cwd=tmp_path)
    assert answer.code == 0, answer.err


def test_without_a_network_only_a_whole_cache_will_do(
    hub: Hub, recipe: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    nowhere = {**environment, "HF_ENDPOINT": "http://127.0.0.1:9"}
    for away in (nowhere, {**environment, "HF_HUB_OFFLINE": "1"}):
        line = command.refusal(command.spawn("prepare", recipe, env=away, cwd=tmp_path))
        assert "the cache does not hold all of it: try again with a network and without HF_HUB_OFFLINE" in line
    assert command.spawn("prepare", recipe, env=environment, cwd=tmp_path).code == 0  # without the weights
    line = command.refusal(command.spawn("check", recipe, env=nowhere, cwd=tmp_path))
    assert "the cache does not hold all of it" in line
    assert command.spawn("check", recipe, env=environment, cwd=tmp_path).code == 0
    answer = command.spawn("train", recipe, env=nowhere, cwd=tmp_path)
    assert answer.code == 0, answer.err


def test_a_run_keeps_the_revision_that_it_was_trained_from(
    hub: Hub, recipe: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    answer = command.spawn("train", recipe, env=environment, cwd=tmp_path)
    assert answer.code == 0, answer.err
    manifest = json.loads((tmp_path / "runs" / "emoji" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["model"]["revision"] == COMMIT
    assert COMMIT in manifest["decisions"]["model"]["value"]
    hub.commit = "0" * 39 + "2"
    answer = command.spawn("train", recipe, "train.max_steps=1", env=environment, cwd=tmp_path)
    assert answer.code == 0 and "already trained" in answer.err, answer
    snapshots = tmp_path / "cache" / "hub" / "models--someone--tiny" / "snapshots"
    assert [path.name for path in snapshots.iterdir()] == [COMMIT]
    answer = command.spawn("prepare", recipe, f"model={REPO}@{hub.commit}", "name=other", env=environment, cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert {path.name for path in snapshots.iterdir()} == {COMMIT, hub.commit}


def test_a_revision_that_is_not_there_is_named(
    hub: Hub, recipe: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    line = command.refusal(command.spawn("prepare", recipe, f"model={REPO}@gone", env=environment, cwd=tmp_path))
    assert "it has no revision 'gone': give a branch, tag or commit that is there" in line
