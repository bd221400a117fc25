"""The job as plain data, and its start; benchmarks/studies/launch_files.py asks Google's own types."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from gemtune.errors import GemtuneError
from gemtune.launch_files.order import Size
from gemtune.launch_files.vertex import MACHINES, START
from launch_files.orders import ODD, shape, text_of


@pytest.mark.parametrize("file", ODD)
def test_a_name_is_text_whatever_it_says(file: str, here: Path) -> None:
    job, plain = (yaml.safe_load(text_of(here, "vertex", name)) for name in (file, "r.yaml"))
    assert shape(job) == shape(plain)
    given = f"./{file}" if file.startswith("-") else file
    container = job["workerPoolSpecs"][0]["containerSpec"]
    assert container["args"] == ["HF_TOKEN", "/gcs/bucket", "gemtune", "run", given]
    assert container["command"] == ["python3", "-c", START]


def test_a_machine_that_is_not_offered_is_one_line(here: Path) -> None:
    with pytest.raises(GemtuneError, match=r"--gpus 3 --gpu L4: Vertex AI has no such machine; choose of 1 x T4, "):
        text_of(here, "vertex", "r.yaml", Size(gpus=3))
    for gpu, count in MACHINES:
        assert f"acceleratorCount: {count}\n" in text_of(here, "vertex", "r.yaml", Size(gpu=gpu, gpus=count))
    assert "machineType: n2-standard-16\n" in text_of(here, "vertex", "r.yaml", Size(gpus=0, cpus=12))


class Google(BaseHTTPRequestHandler):
    """The metadata server and Secret Manager, as their documentation has them."""

    def do_GET(self) -> None:
        if self.path == "/computeMetadata/v1/instance/service-accounts/default/token":
            allowed, answer = self.headers["Metadata-Flavor"] == "Google", {"access_token": "ya29"}
        else:
            allowed = self.path == "/v1/projects/42/secrets/HF_TOKEN/versions/latest:access"
            allowed &= self.headers["Authorization"] == "Bearer ya29"
            answer = {"payload": {"data": base64.b64encode(b"hf_canary").decode()}}  # type: ignore[dict-item]
        self.send_response(200 if allowed else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer if allowed else {}).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def google() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Google) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_job_starts_with_the_tokens_of_its_account(google: str, here: Path) -> None:
    """What is not there is said, and gemtune starts without it."""
    show = [sys.executable, "-c", "import os; print(os.environ['HF_TOKEN'], 'NONE' in os.environ, os.getcwd())"]
    done = subprocess.run(
        [sys.executable, "-c", START, "HF_TOKEN,NONE", str(here), *show],
        env={
            **os.environ,
            "GCE_METADATA_HOST": google,
            "SECRET_MANAGER": f"http://{google}",
            "CLOUD_ML_PROJECT_ID": "42",
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["hf_canary", "False", str(here)], done.stderr
    assert done.stderr == "no secret NONE for this job (HTTP 404)\n"
