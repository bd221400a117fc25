"""A Hub on the loopback interface that takes uploads, for the real client: what the client asks of it, and no more."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HALF = 60_000  # bytes that are read of an object before its connection breaks off


class Hub:
    """One account's repositories: name -> {path: bytes}.

    With `breaks_off` the next large object comes half; with `stalls` its connection stays open, and nothing happens.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}  # LFS, by digest
        self.commits: list[str] = []
        self.asked: list[str] = []
        self.tokens: set[str] = set()
        self.breaks_off, self.stalls, self.refuses_card = False, False, ""
        self.stalled = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self, b"")

            def do_POST(self) -> None:
                hub.answer(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def do_PUT(self) -> None:
                size = int(self.headers["Content-Length"])
                if hub.stalls:
                    hub.stalled.set()
                    self.rfile.read(size + 1)  # until the client is gone
                    self.close_connection = True
                    return
                if hub.breaks_off:
                    hub.breaks_off = False
                    self.rfile.read(min(size, HALF))
                    self.close_connection = True
                    self.connection.close()
                    return
                hub.answer(self, self.rfile.read(size))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        path = request.path.split("?")[0]
        self.asked.append(f"{request.command} {path}")
        self.tokens.add(request.headers.get("Authorization", ""))
        status, value = self.route(request.command, path, body)
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        if status == 404:
            request.send_header("X-Error-Code", "RepoNotFound")
        request.end_headers()
        request.wfile.write(data)

    def route(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and answer."""
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return (400, self.refuses_card) if self.refuses_card else (200, {})
        if match := re.fullmatch(r"/objects/(\w+)", path):
            if hashlib.sha256(body).hexdigest() != match[1]:
                return 400, {"error": "digest"}
            self.objects[match[1]] = body
            return 200, {}
        if match := re.fullmatch(r"/(\w+/[\w-]+)\.git/info/lfs/objects/batch", path):
            return 200, {"objects": [self.place(each) for each in json.loads(body)["objects"]]}
        if match := re.fullmatch(r"/api/models/(\w+/[\w-]+)(/\w+/main)?", path):
            repo = match[1]
            if repo not in self.files:
                return 404, {"error": "Repository not found"}
            if match[2] == "/preupload/main":
                return 200, {"files": [self.mode(repo, file) for file in json.loads(body)["files"]]}
            if match[2] == "/commit/main":
                return 200, self.commit(repo, body)
            return 200, {"id": repo, "sha": self.head, "private": self.private[repo], "siblings": [], "tags": []}
        return 404, {"error": f"no route {method} {path}"}

    @property
    def head(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode()).hexdigest()

    def create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if repo in self.files:
            return 409, {"error": "You already created this model repo", "url": f"{self.address}/{repo}"}
        self.files[repo], self.private[repo] = {}, asked.get("private") or asked.get("visibility") == "private"
        return 200, {"url": f"{self.address}/{repo}", "id": repo, "name": repo}

    def mode(self, repo: str, file: dict[str, Any]) -> dict[str, Any]:
        """How a file is to come, and the id of the one that is there."""
        is_large = file["size"] > 10 * 2**20 or file["path"].endswith(".safetensors")
        before = self.files[repo].get(file["path"])
        if before is None:
            oid = None
        elif is_large:
            oid = hashlib.sha256(before).hexdigest()
        else:
            oid = hashlib.sha1(b"blob %d\0" % len(before) + before).hexdigest()
        return {"path": file["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False, "oid": oid}

    def place(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Where an object is to be put, if it is not there."""
        where = {"upload": {"href": f"{self.address}/objects/{asked['oid']}", "header": {}}}
        return {**asked, "authenticated": True, **({} if asked["oid"] in self.objects else {"actions": where})}

    def commit(self, repo: str, body: bytes) -> dict[str, Any]:
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.commits.append(value["summary"])
            elif entry["key"] == "file":
                self.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.files[repo][value["path"]] = self.objects[value["oid"]]
        url = f"{self.address}/{repo}/commit/{self.head}"
        return {"success": True, "commitUrl": url, "commitOid": self.head, "hookOutput": ""}
