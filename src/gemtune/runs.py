"""The run directory: the only file that joins run paths."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gemtune.config import Recipe
from gemtune.errors import RunError
from gemtune.files import os_errors, read_json, read_jsonl, write_json, write_text
from gemtune.recipe_file import recipe_of

VERSION = 1  # of the files in a run directory; docs/formats.md describes them

PARTS = ("train", "val", "test")


class Run:
    """One run directory; every path in it is a property here."""

    def __init__(self, root: Path):
        self.root = root
        self.recipe_file = root / "recipe.yaml"
        self.manifest_file = root / "manifest.json"
        self.metrics_file = root / "metrics.jsonl"
        self.data = root / "data"
        self.data_manifest_file = self.data / "manifest.json"
        self.leaks_file = self.data / "leaks.jsonl"
        self.dropped_file = self.data / "dropped.jsonl"
        self.images = self.data / "images"
        self.show_page = root / "show.html"
        self.checkpoints = root / "checkpoints"
        self.adapter = root / "adapter"
        self.full_model = root / "model"
        self.eval = root / "eval"
        self.summary_file = self.eval / "summary.json"
        self.tensorboard = root / "tensorboard"
        self.report_page = root / "report.html"
        self.report_markdown = root / "report.md"

    @classmethod
    def create(cls, recipe: Recipe, recipe_text: str) -> Run:
        """The run directory of a recipe, made when it is not there yet; RunError when another process works in it."""
        run = cls(Path(recipe.runs_dir) / recipe.name)
        with os_errors(run.root):
            run.root.mkdir(parents=True, exist_ok=True)
        with run.lock():
            if not run.manifest_file.exists():
                write_json(run.manifest_file, {"version": VERSION})
            run._check_version()
            run.note("recipe", recipe.model_dump(mode="json"))
            write_text(run.recipe_file, recipe_text)
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run directory; RunError when it is not one."""
        run = cls(Path(path))
        if not run.manifest_file.is_file():
            raise RunError(f"{path}: not a run directory (no manifest.json); `gemtune run RECIPE.yaml` makes one")
        run._check_version()
        return run

    def _check_version(self) -> None:
        found = self.manifest.get("version")
        if found != VERSION:
            raise RunError(
                f"{self.manifest_file}: version {found!r}, this gemtune reads {VERSION}; use another run name or the "
                "gemtune that made it"
            )

    @property
    def manifest(self) -> dict[str, Any]:
        value = read_json(self.manifest_file)
        if not isinstance(value, dict):
            raise RunError(f"{self.manifest_file}: not a manifest; start again under another run name")
        return value

    def recipe_with(self, overrides: Sequence[str]) -> Recipe:
        """The run's recipe with `key=value` overrides, which the run directory does not keep."""
        if not isinstance(recipe := self.manifest.get("recipe"), dict):
            raise RunError(f"{self.manifest_file}: no recipe in it; run `gemtune run RECIPE.yaml` again")
        return recipe_of(recipe, self.manifest_file.absolute(), overrides)

    def note(self, section: str, value: Any) -> None:
        """Sets one section of the manifest."""
        write_json(self.manifest_file, {**self.manifest, section: value})

    def decide(self, name: str, decision: tuple[Any, str]) -> Any:
        """Keeps a decision's value and reason in the manifest and returns the value."""
        value, why = decision
        before = self.manifest.get("decisions", {})
        after = {**before, name: {"value": value, "why": why}}
        if after != before:  # a reader such as `generate`, which holds no lock, then writes nothing
            self.note("decisions", after)
        return value

    def log(self, line: dict[str, Any]) -> None:
        """Appends one line to metrics.jsonl."""
        with os_errors(self.metrics_file), self.metrics_file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        return list(read_jsonl(self.metrics_file)) if self.metrics_file.exists() else []

    def summary(self) -> dict[str, Any] | None:
        """eval/summary.json, when base and tuned have been compared."""
        return dict(read_json(self.summary_file)) if self.summary_file.exists() else None

    def keep_metrics(self, until_step: int) -> None:
        """Drops the lines after a step, which a resumed run will write again; a torn last line goes with them."""
        kept = []
        if self.metrics_file.exists():
            for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    value = json.loads(line)
                    if value["step"] <= until_step:
                        kept.append(json.dumps(value))
        write_text(self.metrics_file, "".join(line + "\n" for line in kept))

    def part(self, name: str) -> Path:
        """The conversations of one part of the split: train, val or test."""
        return self.data / f"{name}.jsonl"

    def table(self, name: str) -> Path:
        """The tokenised examples of one part."""
        return self.data / f"{name}.arrow"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step}"

    def replies(self, name: str) -> Path:
        """The replies of `base`, `tuned` or `step-N`, one line a test row."""
        return self.eval / f"{name}.jsonl"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for one process; the kernel lets go of it when that process dies."""
        lock = FileLock(self.root / ".lock")
        with os_errors(self.root):
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise RunError(
                    f"{self.root}: another gemtune process is working in it; wait for it or choose another name"
                ) from error
        try:
            yield
        finally:
            lock.release()
