"""Every verb on a terminal that is not UTF-8, and of a user whose cache cannot be written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

import command
from gemtune.kernels.native import INSTEAD, compiled

NAME = "é☕.csv"
ROWS = [f"Straße number {i},☕🌅" for i in range(40)]
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
STREAMS = {"PYTHONIOENCODING": "latin-1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    (folder / NAME).write_text("\n".join(["text,emoji", *ROWS, ""]), encoding="utf-8")
    recipe = {
        "name": "t",
        "task": "emoji",
        "model": str(tiny_model),
        "data": NAME,
        "train": {"max_steps": 1, "batch_size": 8, "max_length": 128, "precision": "fp32", "device": "cpu"},
        "evaluate": {"limit": 2, "max_new_tokens": 2},
    }
    (folder / "é.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return folder


def gemtune(folder: Path, env: Mapping[str, str], *args: str) -> tuple[int, bytes, bytes]:
    """`python -m gemtune ARGS` in a folder, with the bytes of both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "gemtune", *args], env={**os.environ, **env}, cwd=folder, capture_output=True
    )
    return done.returncode, done.stdout, done.stderr


VERBS = [  # in the order in which a user gives them
    ("run", "é.yaml"),
    ("prepare", "é.yaml", "--json"),
    ("show", "é.yaml"),
    ("check", "é.yaml"),
    ("plan", "é.yaml"),
    ("train", "é.yaml"),
    ("evaluate", "runs/t", "--json"),
    ("report", "runs/t"),
    ("generate", "runs/t", "Straße ☕"),
    ("generate", "runs/t", "--input", NAME, "--output", "ß.jsonl"),
    ("new", "emoji", "ñew"),
    ("doctor",),
    ("tiny", "gemma3", "tiný"),
]


IN_ONE_PROCESS = """
import json, sys
from gemtune.cli.app import main

for verb in json.loads(sys.argv[1]):
    sys.argv = ["gemtune", *verb]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
"""


def test_every_verb_works_on_a_terminal_that_is_not_utf8(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, json.dumps(VERBS)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        cwd=place,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert r"Stra\xdfe" in done.stdout.decode("ascii") and "Traceback" not in done.stderr.decode("ascii")
    assert NAME in (place / "runs/t/data/manifest.json").read_text(encoding="utf-8")
    assert len((place / "ß.jsonl").read_text(encoding="utf-8").splitlines()) == len(ROWS)


def test_names_and_arguments_are_utf8_where_python_was_told_ascii(place: Path) -> None:
    code, out, err = gemtune(
        place, ASCII, "prepare", "é.yaml", "name=ascii", "task=columns", "template.prompt=☕ {text}"
    )
    assert code == 2 and b"column 'answer' is missing" in err
    code, out, err = gemtune(place, ASCII, "prepare", "é.yaml", "name=ascii", "--json")
    assert (code, json.loads(out.decode("ascii"))["rows_read"]) == (0, len(ROWS)), err


@pytest.mark.parametrize("encoding, env", [("ascii", ASCII), ("latin-1", STREAMS)])
def test_a_refusal_there_is_still_one_line(encoding: str, env: Mapping[str, str], place: Path) -> None:
    code, out, err = gemtune(place, env, "run", "ü☕.yaml")
    shown = r"\xfc" if encoding == "ascii" else "ü"
    assert (code, out) == (2, b"")
    assert err.decode(encoding).startswith(f"gemtune: {shown}\\u2615.yaml: no such recipe or run directory; ")


# ---- a cache that cannot be written


def in_the_way(folder: Path) -> dict[str, str]:
    (folder / "file").write_text("")
    return {"GEMTUNE_CACHE": str(folder / "file" / "cache")}


def no_compiler(folder: Path) -> dict[str, str]:
    return {"CXX": str(folder / "no-such-compiler")}


CACHES = {
    "a file in the way": (in_the_way, "Not a directory; GEMTUNE_CACHE names another folder"),
    "a file system that takes nothing": (
        lambda folder: {"GEMTUNE_CACHE": "/proc/cache"},
        "GEMTUNE_CACHE names another",
    ),
    "CXX names nothing": (no_compiler, "no-such-compiler cannot be asked its version"),
}


@pytest.mark.parametrize("what", CACHES)
def test_training_without_a_cache_says_so_once(what: str, place: Path, tmp_path: Path) -> None:
    environment, why = CACHES[what]
    code, _, err = gemtune(place, environment(tmp_path), "train", "é.yaml", f"runs_dir={tmp_path / 'runs'}")
    assert code == 0, err
    (line,) = (line for line in err.decode().splitlines() if INSTEAD in line)
    assert why in line and line.startswith("Without compiled kernels: ")


@pytest.mark.skipif(compiled()[0] is None, reason="needs a C++ compiler")
def test_a_library_that_was_cut_is_compiled_again(place: Path, tmp_path: Path) -> None:
    """To load it would kill the process with a bus error."""
    (library,) = (tmp_path.joinpath(_library().name),)
    library.write_bytes(_library().read_bytes()[:60_000])
    env = {"GEMTUNE_CACHE": str(tmp_path)}
    code, out, err = gemtune(place, env, "doctor", "--json")
    assert code == 0, err
    finding = next(entry for entry in json.loads(out) if entry["what"] == "C++ kernels")
    assert "are compiled for" in finding["found"]
    (whole,) = tmp_path.glob("native-*.so")
    assert whole.stat().st_size > 60_000


def _library() -> Path:
    match = re.search(r"\((/.*\.so)\)", compiled()[1])
    assert match
    return Path(match[1])


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs user namespaces")
def test_a_user_without_a_home_trains(place: Path, tmp_path: Path) -> None:
    user = ["unshare", "--user", "--map-user=54321"]
    if subprocess.run([*user, "true"], capture_output=True).returncode:
        pytest.skip("user namespaces are not allowed here")
    homes = ("HOME", "XDG_CACHE_HOME", "GEMTUNE_CACHE", "USER", "LOGNAME")
    environment = {name: value for name, value in os.environ.items() if name not in homes}
    args = [sys.executable, "-m", "gemtune", "train", "é.yaml", f"runs_dir={tmp_path / 'runs'}"]
    done = subprocess.run([*user, *args], env=environment, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert done.stderr.count("this user has no home folder to keep a cache in; GEMTUNE_CACHE names one") == 1


def test_images_are_seen_without_a_cache(tmp_path: Path) -> None:
    """Once said, every image goes through the tower whenever it is seen."""
    examples = Path(__file__).parents[2] / "examples" / "multi_image"
    assert command.spawn("tiny", "gemma3-vision", tmp_path / "model").code == 0
    recipe = {
        "name": "t",
        "task": "multi_image",
        "model": str(tmp_path / "model"),
        "runs_dir": str(tmp_path / "runs"),
        "data": {"source": str(examples / "rows.json"), "images": [str(examples / "pictures.zip")], "limit": 16},
        "train": {"max_steps": 1, "batch_size": 4, "max_length": 512, "precision": "fp32", "device": "cpu"},
        "evaluate": {"limit": 1, "max_new_tokens": 2},
    }
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    ran = command.spawn("run", tmp_path / "t.yaml", env=in_the_way(tmp_path))
    assert ran.code == 0, ran.err
    assert ran.err.count("every image goes through the vision tower whenever it is seen") == 1
