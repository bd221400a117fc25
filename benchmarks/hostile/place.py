"""A user's folder with rows, models and a run to spoil, and what a kind of hostile input is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemtune.files import read_json, sha256_of, write_json

# What may come of a command.
REFUSED, DROPPED, USUAL = "refused in one line", "rows dropped", "as usual"
ROWS = 40
Command = tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """What was made once for all kinds: models, a prepared run of messages, and a run that went to its report."""

    model: Path
    vision: Path
    project: Path  # with t.yaml and runs/t
    address: str  # of a server of hostile downloads


@dataclass(frozen=True)
class Place:
    """An empty folder, in which a kind writes its input."""

    folder: Path
    made: Made

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return path

    def recipe(self, task: str = "emoji", source: str = "rows.csv", **keys: Any) -> Path:
        """`t.yaml`: quick, in fp32, on the CPU."""
        is_seen = task in ("product", "multi_image", "documents")
        length = 1024 if is_seen else 128  # a picture takes 256 tokens
        recipe: dict[str, Any] = {
            "name": "t",
            "task": task,
            "model": str(self.made.vision if is_seen else self.made.model),
            "runs_dir": "runs",
            "data": {"source": source},
            "split": {"val": 4, "test": 4},
            "train": {"max_steps": 2, "batch_size": 8, "max_length": length, "precision": "fp32", "device": "cpu"},
            "evaluate": {"limit": 3, "max_new_tokens": 4},
        }
        for name, section in keys.items():
            recipe[name] = {**recipe[name], **section} if name in recipe and isinstance(section, dict) else section
        return self.write("t.yaml", json.dumps(recipe))

    def emoji(self, *more: str, name: str = "rows.csv") -> Path:
        """Rows of text and emoji, and more lines."""
        return self.write(
            name, "text,emoji\n" + "".join([f"good morning number {n},☕\n" for n in range(ROWS)]) + "".join(more)
        )

    def jsonl(self, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
        return self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def model_copy(self, vision: bool = False) -> Path:
        return Path(
            shutil.copytree(self.made.vision if vision else self.made.model, self.folder / "model", dirs_exist_ok=True)
        )

    def project_copy(self) -> Path:
        """The folder is as that of the finished run; the run."""
        shutil.copytree(self.made.project, self.folder, dirs_exist_ok=True)
        return self.folder / "runs" / "t"


@dataclass(frozen=True)
class Kind:
    """One kind of hostile input: it writes its files, and yields the commands that meet them, one after the other."""

    what: str
    commands: Callable[[Place], Iterator[Command]]
    wanted: str = REFUSED
    then: str = ""  # what was measured of it at first
    seconds: float = 30.0  # of processors, that a command may take more than on harmless input
    megabytes: float = 500.0  # that it may have more
    wrong: Callable[[Place], str] = lambda place: ""  # what else is not as it should be in the end, "" for nothing
    environment: Mapping[str, str] = field(default_factory=dict)
    answers: str = ""  # what stands on standard input


def prepare(*overrides: str) -> Command:
    return ("prepare", "t.yaml", *overrides)


def edit(path: Path, **values: object) -> None:
    """Sets keys of a JSON object."""
    write_json(path, {**read_json(path), **values})


def seal(folder: Path) -> None:
    """A folder of weights says again that all in it is as it was written: a stranger can do that, too."""
    write_json(folder / "whole.json", {name: sha256_of(folder / name) for name in read_json(folder / "whole.json")})
