"""What came from elsewhere: a run's own program, texts that act on a terminal, pictures of the disk; and bugs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import command
from gemtune.data.images import stored_image
from gemtune.files import read_json, sha256_of, write_json
from gemtune.run_files import sealed

TASK = """
from pathlib import Path
from gemtune.tasks.emoji import Emoji

Path(__file__).with_name("ran").touch()


class Mine(Emoji):
    pass
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def strange_run(write_recipe: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """A prepared run whose manifest names a task file in its own folder, as one that was downloaded has it."""
    recipe = write_recipe(train={"max_steps": 1}, data={"limit": 40})
    assert command.gemtune(capfd, "train", recipe).code == 0
    run = tmp_path / "runs" / "t"
    (run / "x.py").write_text(TASK)
    manifest = read_json(run / "manifest.json")
    for section in (manifest["recipe"], manifest["trained_on"]["recipe"]):
        section["task"] = "x.py:Mine"
    write_json(run / "manifest.json", sealed(manifest))  # a stranger can do that, too
    return run


VERBS = [("generate", "RUN", "hi"), ("generate", "RUN", "--input", "ROWS"), ("evaluate", "RUN"), ("show", "RUN")]
VERBS += [("prepare", "RUN"), ("train", "RUN"), ("run", "RUN"), ("check", "RUN"), ("plan", "RUN"), ("report", "RUN")]
VERBS += [("evaluate", "RUN", "--data", "ROWS")]


@pytest.mark.usefixtures("cache")
def test_a_program_that_came_with_a_run_is_asked_for_first(
    strange_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,emoji\nhi,☕\n")
    for verb in VERBS:
        args = [arg.replace("RUN", str(strange_run)).replace("ROWS", str(rows)) for arg in verb]
        answer = command.gemtune(capfd, *args)
        assert not (strange_run / "ran").exists(), verb
        goes_on = verb[0] not in ("generate", "evaluate")  # of what is prepared and trained already
        assert (goes_on and answer.code == 0) or "read it, then say --trust-task" in answer.err, answer
    assert command.gemtune(capfd, "generate", strange_run, "hi", "--trust-task").code == 0
    assert (strange_run / "ran").exists(), "by name it runs"
    assert command.gemtune(capfd, "generate", strange_run, "hi").code == 0, "and is asked for once"
    (strange_run / "x.py").write_text(TASK + "\n# changed\n")
    assert "--trust-task" in command.gemtune(capfd, "generate", strange_run, "hi").err, "another program is another"


@pytest.mark.usefixtures("cache")
def test_the_task_of_a_users_own_recipe_runs(
    write_recipe: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(TASK)
    recipe = write_recipe(task="mine.py:Mine", data={"limit": 40})
    assert command.gemtune(capfd, "prepare", recipe).code == 0
    assert command.gemtune(capfd, "prepare", tmp_path / "runs" / "t").code == 0, "its run is not asked about"


# ---- a terminal

ESCAPES = "\x1b]0;owned\x07\x1b[31m\u202e\x9b31m[bold]"
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_nothing_that_a_file_says_acts_on_the_terminal(
    write_recipe: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {
        "header.csv": f"text{ESCAPES},emoji\nhi,☕\n",
        "key.jsonl": json.dumps({f"text{ESCAPES}": "a"}) + "\n",
        "d[b]\u202e.csv": "text,emoji\n" + "".join(f"hello number {n}{ESCAPES},☕\n" for n in range(40)),
    }
    for name, text in places.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        recipe = write_recipe(data={"source": str(tmp_path / name)})
        for args in (("prepare", recipe), ("prepare", recipe, "--json"), ("show", recipe)):
            answer = command.gemtune(capfd, *args)
            assert answer.code == (0 if name.startswith("d[") else 2)
            assert not ACTS.search(answer.out + answer.err), (name, args)
    page = (tmp_path / "runs" / "t" / "show.html").read_text(encoding="utf-8")
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b]", page)
    assert not ACTS.search(command.gemtune(capfd, "prepare", recipe, f"train.epochs={ESCAPES}").err)
    assert not ACTS.search(command.gemtune(capfd, "prepare", tmp_path / f"no{ESCAPES}.yaml").err)


def says_escape(model: Path, folder: Path) -> Path:
    """A copy of a model whose replies are ESC signs: its word is where all words point, and three times as long."""
    shutil.copytree(model, folder)
    words = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(["▁", "<0x1B>"])
    weights = load_file(folder / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    table[:] = table[words[0]].clone()
    table[words[1]] *= 3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminal")
def test_a_reply_does_nothing_to_the_terminal_and_is_itself_in_a_pipe(
    write_recipe: Callable[..., Path], tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import pty

    recipe = write_recipe(model=str(says_escape(tiny_model, tmp_path / "model")), evaluate={"max_new_tokens": 3})
    assert command.gemtune(capfd, "prepare", recipe).code == 0
    arguments = [sys.executable, "-m", "gemtune", "generate", str(tmp_path / "runs" / "t"), "hi", "--base"]
    piped = subprocess.run(arguments, capture_output=True, check=True)
    assert piped.stdout == b"\x1b\x1b\x1b\n"
    terminal, end = pty.openpty()
    subprocess.run(arguments, stdout=end, stderr=subprocess.DEVNULL, stdin=end, check=True)
    assert os.read(terminal, 1000).decode() == "␛␛␛\r\n"
    os.close(end)
    os.close(terminal)


# ---- pictures of the disk


def test_only_pictures_of_the_run_are_shown(tmp_path: Path) -> None:
    data = tmp_path / "run" / "data"
    (data / "images" / "ab").mkdir(parents=True)
    for path in (tmp_path / "private.png", data / "images" / "ab" / "a.png"):
        Image.new("RGB", (8, 8)).save(path)
    (data / "images" / "ab" / "link.png").symlink_to(tmp_path / "private.png")
    digest = sha256_of(data / "images" / "ab" / "a.png")
    (data / "images" / "ab" / "a.png").rename(data / "images" / "ab" / f"{digest}.png")
    Image.new("RGB", (8, 8)).save(data / "images" / "ab" / f"{'0' * 64}.png")  # another picture than was stored
    assert stored_image(data, f"images/ab/{digest}.png") == (data / f"images/ab/{digest}.png").resolve()
    names = ["../../private.png", str(tmp_path / "private.png"), "images/../../../private.png", "images/ab/link.png"]
    for name in [*names, f"images/ab/{'0' * 64}.png", "images/ab", "x" * 300, "images/\0.png", ""]:
        assert stored_image(data, name) is None, name


# ---- bugs

BUG = """
from gemtune.pipeline import stages
def report(job):
    secret = "hf_secret"
    raise KeyError(f"row 7 says {secret}")
stages.report = report
"""


def test_a_bug_is_one_line_and_a_file_without_data(strange_run: Path, tmp_path: Path) -> None:
    answer = command.spawn("report", strange_run, first=BUG, env={"TMPDIR": str(tmp_path), "HF_TOKEN": "hf_secret"})
    assert answer.code == 1
    line = answer.err.splitlines()
    assert len(line) == 1 and line[0].startswith("gemtune: a bug of gemtune's (KeyError); please report it with ")
    (crash,) = tmp_path.glob("gemtune-crash-*.txt")
    text = crash.read_text()
    assert str(crash) in line[0] and crash.stat().st_mode & 0o077 == 0
    assert "builtins.KeyError" in text and "in report" in text and "torch" in text and "cli/app.py" in text
    assert "hf_secret" not in text and "row 7" not in text
