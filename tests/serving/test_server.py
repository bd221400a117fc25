"""Listening, tokens, and a clean end: in a process of its own, as a user has it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from command import MAIN, refusal, spawn
from gemtune.errors import GemtuneError
from gemtune.serving import bearer, server
from serving.live import LONG, PROMPT, user


@contextlib.contextmanager
def process(run: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A `gemtune serve` of its own, its address, and the lines that it has said."""
    command = [sys.executable, "-c", MAIN, "serve", str(run), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        lines: list[str] = []
        try:
            assert child.stderr
            for line in child.stderr:
                lines.append(line.rstrip())
                if match := re.search(r"at (http://\S+)", line):
                    yield child, match[1], lines
                    break
            else:
                pytest.fail(f"it did not start: {lines}")
        finally:
            child.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(
    runs: list[Path], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being generated is ended after the grace, or when its client leaves; nothing is left on the disk."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with process(runs[0]) as (child, url, lines):
        assert re.fullmatch(r"serving one, base at http://127\.0\.0\.1:\d+/v1 \(Ctrl-C stops it\)", lines[-1])
        client = OpenAI(base_url=url, api_key="none", max_retries=0)
        running = client.chat.completions.create(model="base", messages=[user(PROMPT)], stream=True, **LONG)  # type: ignore[call-overload]
        next(iter(running))
        os.kill(child.pid, number)
        threading.Timer(0.5, running.close).start()
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (0, "", "")
    assert list(tmp_path.glob("gemtune-*")) == []


def test_other_machines_need_the_token_that_is_shown_once(runs: list[Path]) -> None:
    with process(runs[0], "--host", "0.0.0.0") as (_, url, lines):
        (line,) = [line for line in lines if line.startswith("token: ")]
        token = line.removeprefix("token: ")
        here = url.replace("0.0.0.0", "127.0.0.1")
        assert len(token) >= 43
        assert [model.id for model in OpenAI(base_url=here, api_key=token).models.list().data] == ["one", "base"]
        with pytest.raises(Exception, match="wrong or no token"):
            OpenAI(base_url=here, api_key="none", max_retries=0).models.list()


def test_a_token_is_read_from_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    path, said = tmp_path / "token", list[str]()
    path.write_text("0123456789abcdef\n")
    path.chmod(0o600)
    assert bearer.token_for("127.0.0.1", str(path), said.append) == "0123456789abcdef"
    assert bearer.token_for("0.0.0.0", str(path), said.append) == "0123456789abcdef"
    assert said == [] and bearer.token_for("127.0.0.1", None, said.append) is None
    first, second = (bearer.token_for("192.168.0.1", None, said.append) for _ in range(2))
    assert first != second and f"token: {first}" in said
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(GemtuneError, match=r"others than you can read or write this token; chmod 600 "):
            bearer.token_for("127.0.0.1", str(path), said.append)
    path.chmod(0o600)
    for text in ("", "short", "two words of a token", "tökentökentöken-"):
        path.write_text(text)
        with pytest.raises(GemtuneError, match="no token in it; wanted one line of at least 16 ASCII characters"):
            bearer.token_for("127.0.0.1", str(path), said.append)
    with pytest.raises(GemtuneError, match="No such file"):
        bearer.token_for("127.0.0.1", str(tmp_path / "gone"), said.append)


def test_an_address_that_cannot_be_had_is_one_line() -> None:
    with server.listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            GemtuneError, match=rf"127\.0\.0\.1 port {port}: cannot listen there .*; give another --port"
        ):
            server.listening("127.0.0.1", port)
    with pytest.raises(GemtuneError, match=r"203\.0\.113\.1 port 80: cannot listen there"):
        server.listening("203.0.113.1", 80)


def test_names_beside_addresses() -> None:
    assert server.names_for("0.0.0.0") == {"localhost"}
    assert server.names_for("Box.lan") == {"localhost", "box.lan"}


def test_without_its_packages_it_says_which_to_install(runs: list[Path]) -> None:
    first = "import sys\nfor name in ('starlette', 'uvicorn'): sys.modules[name] = None"
    line = refusal(spawn("serve", runs[0], first=first))
    assert line.endswith(
        "gemtune serve needs an optional dependency that is not installed: pip install 'gemtune[serve]'"
    )
