"""A user's folder, and a run that was trained in one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from gemtune.pipeline import stages

ROWS = [(f"good morning number {i}, coffee time", "☕🌅") for i in range(40)]


class Place:
    """A user's folder: a recipe `t.yaml` over the tiny model, rows `e.csv`, and what a case makes wrong in it."""

    def __init__(self, folder: Path, model: Path):
        self.folder, self.model = folder, model
        self.csv(ROWS)
        self.recipe()

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path

    def csv(self, rows: list[tuple[str, str]], name: str = "e.csv") -> Path:
        return self.write(name, "text,emoji\n" + "".join(f'"{text}",{emoji}\n' for text, emoji in rows))

    def jsonl(self, rows: list[Any], name: str = "e.jsonl") -> Path:
        return self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def recipe(self, source: str = "e.csv", **keys: Any) -> Path:
        value: dict[str, Any] = {
            "name": "t",
            "task": "emoji",
            "model": str(self.model),
            "runs_dir": str(self.folder / "runs"),
            "data": {"source": source},
            "train": {"max_steps": 2, "batch_size": 8, "max_length": 128, "precision": "fp32", "device": "cpu"},
            "evaluate": {"limit": 3, "max_new_tokens": 4},
        }
        for key, section in keys.items():
            value[key] = {**value[key], **section} if isinstance(section, dict) and key in value else section
        return self.write("t.yaml", yaml.safe_dump(value, allow_unicode=True, sort_keys=False))

    def model_copy(self, **files: str | bytes | None) -> Path:
        """A copy of the tiny model with some of its files replaced, or removed where None; `_` stands for a dot."""
        copy = self.folder / "model"
        shutil.copytree(self.model, copy)
        for name, text in files.items():
            path = copy / ".".join(name.rsplit("_", 1))
            path.unlink() if text is None else path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return copy


def trained_in(folder: Path, model: Path, verb: Callable[[stages.Job], object]) -> Path:
    """The run directory that a stage leaves in a folder: with two checkpoints, one a step."""
    place = Place(folder, model)
    place.recipe(str(place / "e.csv"), train={"save_steps": 1, "eval_steps": 1})
    verb(stages.Job(place / "t.yaml", say=lambda text: None))
    return place / "runs" / "t"
