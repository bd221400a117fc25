"""The verbs that write, each with the folder it finds and the folder it leaves when nothing happens to it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from chaos.machine import ask
from gemtune.files import write_jsonl
from made_pdfs import written_page

ROWS = 24
FRESH = "a fresh folder"
# A verb's command, and the verb whose folder it goes on in.
VERBS = {
    "new": (FRESH, ("new", "emoji", "started")),
    "tiny": (FRESH, ("tiny", "gemma3", "small")),
    "distill": (FRESH, ("distill", "d.yaml")),
    "import": (FRESH, ("import", "factory.yaml")),
    "prepare": (FRESH, ("prepare", "t.yaml")),
    "show": ("prepare", ("show", "t.yaml")),
    "check": ("prepare", ("check", "t.yaml")),
    "plan": ("prepare", ("plan", "t.yaml")),
    "train": ("prepare", ("train", "t.yaml")),
    "evaluate": ("train", ("evaluate", "t.yaml")),
    "evaluate --data": ("evaluate", ("evaluate", "runs/t", "--data", "more.csv")),
    "generate": ("evaluate", ("generate", "runs/t", "--input", "more.csv", "--output", "replies.jsonl")),
    "export": ("evaluate", ("export", "runs/t", "merged", "--limit", "2")),
    "report": ("evaluate", ("report", "runs/t")),
    "run": (FRESH, ("run", "t.yaml")),
    "run --fresh": ("run", ("run", "t.yaml", "--fresh")),
}

_TIME = re.compile(rb'"(seal|seconds|peak_memory_gb)": [^,}]*,?')  # what a verify.json says of its making
Digests = dict[str, str]  # the path of a file -> the SHA-256 of its bytes


@dataclass(frozen=True)
class Case:
    """A verb in a folder, always the same one: its path is in what is kept."""

    verb: str
    arguments: tuple[str, ...]
    before: Path  # what the verb finds, to be copied
    after: Path  # what it leaves
    here: Path
    seconds: float  # that it takes undisturbed
    bytes: int  # that it adds to the folder
    kept: Digests  # what it leaves: the files that two undisturbed ends agree on, all but what tells the time

    def again(self) -> Case:
        """The same verb in the folder that it has left."""
        return replace(self, before=self.after)

    def fresh(self) -> Path:
        """The folder as the verb finds it."""
        return copied(self.before, self.here)

    def lost(self) -> list[str]:
        """The files that are not there as an undisturbed verb leaves them."""
        now = digests(self.here)
        return [path for path, digest in self.kept.items() if now.get(path) != digest]


def cases(place: Path) -> Iterator[Case]:
    """Runs every verb twice without any disturbance."""
    here, after = place / "here", {FRESH: _recipe_folder(place / "fresh", place / "model")}
    for number, (verb, (found, arguments)) in enumerate(VERBS.items()):
        ends = []
        for _ in range(2):
            copied(after[found], here)
            began = time.monotonic()
            ended = ask(arguments, here)
            seconds = time.monotonic() - began
            if ended.code:
                raise RuntimeError(f"gemtune {' '.join(arguments)} fails undisturbed: {ended.said}")
            ends.append(digests(here))
        after[verb] = copied(here, place / f"after-{number}")
        kept = {path: digest for path, digest in ends[0].items() if ends[1].get(path) == digest}
        grown = size_of(here) - size_of(after[found])
        yield Case(verb, arguments, after[found], after[verb], here, seconds, grown, kept)


def _recipe_folder(folder: Path, model: Path) -> Path:
    """A recipe over a tiny vision model with its rows and pictures."""
    folder.mkdir()
    rows = [_row(folder, number) for number in range(ROWS)]
    (folder / "rows.csv").write_text("name,category,image,description\n" + "".join(rows), encoding="utf-8")
    (folder / "more.csv").write_text("name,category,image,description\n" + "".join(rows[:3]), encoding="utf-8")
    train = {"max_steps": 4, "batch_size": 8, "precision": "fp32", "device": "cpu", "save_steps": 1, "eval_steps": 2}
    recipe = {"name": "t", "task": "product", "model": str(model), "data": {"source": "rows.csv"}, "train": train}
    recipe |= {"runs_dir": "runs", "split": {"val": 0.2, "test": 0.3}, "evaluate": {"limit": 3, "max_new_tokens": 4}}
    (folder / "t.yaml").write_text(json.dumps({**recipe, "export": ["merged"]}), encoding="utf-8")
    (folder / "factory.yaml").write_text(json.dumps({"stage": "sft", "dataset": "a", "lora_rank": 8}), encoding="utf-8")
    _documents(folder)
    if (ended := ask(("tiny", "gemma3-vision", str(model)), folder)).code:
        raise RuntimeError(ended.said)
    return folder


def _documents(folder: Path) -> None:
    """Scans of pages, and what a teacher has said of them."""
    (folder / "scans").mkdir()
    replies = []
    for number in range(3):
        written_page([f"line {line} of page {number}" for line in range(9)]).save(folder / "scans" / f"{number}.png")
        reply = {"elements": [{"type": "paragraph", "markdown": f"page {number}"}]}
        replies.append({"document": f"{number}.png", "page": 1, "task": "content", "reply": reply})
    write_jsonl(folder / "replies.jsonl", replies)
    pages = {"source": ["scans"], "folder": "pages", "workers": 1}
    recipe = {"name": "d", "task": "documents", "pages": pages, "documents": {"tasks": ["content"]}}
    recipe |= {"teacher": {"provider": "files", "replies": "replies.jsonl"}, "privacy": {"ocr": False}}
    (folder / "d.yaml").write_text(json.dumps(recipe), encoding="utf-8")


def _row(folder: Path, number: int) -> str:
    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.png")
    return f"Cup number {number},Kitchen {number % 5},{number}.png,A cup for tea with {number} stars.\n"


def copied(source: Path, target: Path) -> Path:
    """The target with the files of the source and no others; it may be where a disk is."""
    for path in target.iterdir() if target.exists() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Path(shutil.copytree(source, target, dirs_exist_ok=True))


def digests(folder: Path) -> Digests:
    """Path -> digest of every file but locks; of a `verify.json` without what its making took."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(_timeless(path)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def _timeless(path: Path) -> bytes:
    data = path.read_bytes()
    return _TIME.sub(b"", data) if path.name == "verify.json" else data


def size_of(folder: Path) -> int:
    """The bytes of a folder's files, each with what a disk rounds it up to."""
    return sum(-(-path.stat().st_size // 4096) * 4096 + 4096 for path in folder.rglob("*"))


def litter(folder: Path) -> list[str]:
    """Temporary files and folders that nobody has swept."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob(".*") if path.name != ".lock"]
