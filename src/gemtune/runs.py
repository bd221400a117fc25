"""The run directory: the only file that joins run paths."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock, Timeout

from gemtune.artifact_files import Artifact
from gemtune.errors import RunError
from gemtune.files import JsonObject, os_errors, read_json, read_jsonl, sha256_of, write_json, write_text
from gemtune.run_contents import EXPORT, VERIFY, put_in_place, refuse_foreign, sweep
from gemtune.run_files import (
    DataManifest,
    Decision,
    Evaluation,
    Manifest,
    MetricsLine,
    Stored,
    Summary,
    TableIndex,
    Training,
    sealed,
)

if TYPE_CHECKING:
    from gemtune.recipe.schema import Recipe

# Of the shape of a run directory's files, as docs/formats.md describes them; a file of another number is not read.
VERSIONS = {"manifest": 1, "data": 1, "tokens": 1, "summary": 1, "verify": 1}
# Of what a stage makes of the same input: with another number it does its work again, and what it wrote is still read.
REVISIONS = {"data": 7, "tokens": 3, "replies": 5, "artifacts": 1}

PARTS = ("train", "val", "test")

Value = TypeVar("Value")
Kind = TypeVar("Kind", bound=Stored)


_STEP, _STAGING = "step-", ".prepare-"
_STEP_FOLDER = re.compile(rf"{_STEP}(0|[1-9][0-9]{{0,17}})")


def step_name(step: int) -> str:
    """What the weights of a checkpoint are called.

    >>> step_name(50)
    'step-50'
    """
    return f"{_STEP}{step}"


def step_of(folder: Path) -> int:
    """The step of a checkpoint's folder.

    >>> step_of(Path("runs/a/checkpoints/step-50"))
    50
    """
    return int(folder.name.removeprefix(_STEP))


@dataclass(frozen=True)
class EvaluationFolder:
    """Where the replies of models to the same rows are: eval/ for the test part, a folder in it for rows of a file."""

    root: Path

    def replies(self, name: str) -> Path:
        """The replies of `base`, `tuned` or `step-N`, one line per row."""
        return self.root / f"{name}.jsonl"

    def evaluations(self, name: str) -> list[Evaluation]:
        path = self.replies(name)
        return [Evaluation.from_json(line, f"{path}:{number}") for number, line in enumerate(read_jsonl(path), 1)]

    def summary_file(self, name: str = "tuned") -> Path:
        """Base against tuned, or against another name."""
        return self.root / ("summary.json" if name == "tuned" else f"summary-{name}.json")


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
        self.unscored_file = self.data / "unscored.jsonl"
        self.images = self.data / "images"
        self.show_page = root / "show.html"
        self.checkpoints = root / "checkpoints"
        self.adapter = root / "adapter"
        self.full_model = root / "model"
        self.eval = root / "eval"
        self.export = root / EXPORT
        self.tensorboard = root / "tensorboard"
        self.report_page = root / "report.html"
        self.report_markdown = root / "report.md"
        self._decisions: dict[str, Decision] = {}  # of this process
        self._accepted = False
        self._lock = FileLock(root / ".lock")

    @classmethod
    def of(cls, recipe: Recipe) -> Run:
        """The run directory of a recipe, which need not be there yet; nothing is written before `accept`.

        RunError when it is a folder of somebody else's: a run is new, empty, or has gemtune's manifest.
        """
        run = cls(Path(recipe.runs_dir) / recipe.name)
        refuse_foreign(run.root)
        _refuse_sources_within(run.root, recipe)
        if run.manifest_file.exists():
            run._check_version()
            _ = run.recipe
        return run

    def accept(self, recipe: Recipe, recipe_text: str | None) -> None:
        """Keeps the recipe that the run now has, and what was decided for it so far; from here on a run may be written.

        Call it when nothing can be refused any more. `recipe_text` is the user's file, None where the run is given.
        """
        before = self._manifest_or_none() or {"version": VERSIONS["manifest"]}
        # `evaluate runs/x evaluate.limit=5` is for once: the recipe of a run that is trained stays the user's file's.
        is_kept = recipe_text is not None or "trained_on" not in before
        accepted = {"recipe": recipe.model_dump(mode="json")} if is_kept else {}
        new_decisions = {name: decision.to_json() for name, decision in self._decisions.items()}
        decisions = {**before.get("decisions", {}), **new_decisions}
        after = {**before, **accepted, **({"decisions": decisions} if decisions else {})}
        if after != before:
            self._write_manifest(after)
        if recipe_text is not None and _bytes_of(self.recipe_file) != recipe_text.encode():
            write_text(self.recipe_file, recipe_text)
        self._accepted = True

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run directory; RunError when it is not one."""
        run = cls(Path(path))
        if not run.manifest_file.is_file():
            raise RunError(f"{path}: not a run directory (no manifest.json); `gemtune run RECIPE.yaml` makes one")
        run._check_version()
        return run

    def _check_version(self) -> None:
        version, readable = self.manifest.get("version"), VERSIONS["manifest"]
        if version != readable:
            raise RunError(
                f"{self.manifest_file}: version {version!r}, this gemtune reads {readable}; use another run name or "
                "the gemtune that made it"
            )

    @property
    def manifest(self) -> JsonObject:
        """manifest.json; empty before the run has one."""
        return self._manifest_or_none() or {}

    def _manifest_or_none(self) -> JsonObject | None:
        if not self.manifest_file.exists():
            return None
        value = read_json(self.manifest_file)
        if not isinstance(value, dict):
            raise RunError(f"{self.manifest_file}: not a manifest; start again under another run name")
        if value.get("version") == VERSIONS["manifest"]:  # of another one nothing is known
            Manifest.from_json(value, self.manifest_file)
        return value

    @property
    def recipe(self) -> JsonObject:
        """The run's recipe as plain data: every key with its value; RunError when the manifest has none."""
        recipe = self.manifest.get("recipe")
        if not isinstance(recipe, dict):
            raise RunError(f"{self.manifest_file}: no recipe in it; start again under another run name")
        return recipe

    def forget(self, *sections: str) -> None:
        """Removes sections of the manifest."""
        manifest = self.manifest
        if manifest.keys() & set(sections):
            self._write_manifest({name: value for name, value in manifest.items() if name not in sections})

    def note(self, section: str, value: object) -> None:
        """Sets one section of the manifest."""
        self._write_manifest({**self.manifest, section: value})

    def _write_manifest(self, values: JsonObject) -> None:
        """Its digest is in it, so that both are replaced at once: no kill leaves one without the other."""
        write_json(self.manifest_file, sealed(values))

    @property
    def decisions(self) -> dict[str, Decision]:
        """What was decided for the run, by name; this process has the last word."""
        where = f"{self.manifest_file}: decisions"
        decisions = self.manifest.get("decisions", {}).items()
        return {name: Decision.from_json(value, f"{where}.{name}") for name, value in decisions} | self._decisions

    def decide(self, name: str, decision: tuple[Value, str]) -> Value:
        """Keeps a decision's value and reason and returns the value; in the manifest, once the run was accepted.

        So a reader such as `generate`, which accepts nothing and holds no lock, writes nothing.
        """
        value, why = decision
        self._decisions[name] = Decision(value=value, why=why)
        if self._accepted:
            before, after = self.manifest.get("decisions", {}), self._decisions[name].to_json()
            if before.get(name) != after:
                self.note("decisions", {**before, name: after})
        return value

    def decided(self, name: str) -> object:
        """The value of a decision of this process, or the one the run keeps; RunError when there is none."""
        decision = self._decisions.get(name) or self.decisions.get(name)
        if decision is None:
            raise RunError(f"{self.manifest_file}: no decision '{name}' in it; train the run again")
        return decision.value

    @property
    def training(self) -> Training | None:
        """What the manifest keeps of a training that has ended."""
        section = self.manifest.get("training")
        return None if section is None else Training.from_json(section, f"{self.manifest_file}: training")

    def log(self, line: Mapping[str, object]) -> None:
        """Appends one line to metrics.jsonl."""
        with os_errors(self.metrics_file), self.metrics_file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    def metrics(self) -> list[JsonObject]:
        """The lines of metrics.jsonl; none before the first step."""
        if not self.has_whole_metrics():
            again = f"`gemtune train {self.root}` restores it"
            raise RunError(f"{self.metrics_file}: is not what was written; {again}")
        lines = enumerate(read_jsonl(self.metrics_file), 1) if self.metrics_file.exists() else ()
        return [MetricsLine.of(line, f"{self.metrics_file}:{number}") for number, line in lines]

    def note_metrics(self) -> None:
        """Keeps the digest of metrics.jsonl, to which nothing is added any more."""
        self.note("digests", {self.metrics_file.name: sha256_of(self.metrics_file)})

    def has_whole_metrics(self) -> bool:
        """Whether metrics.jsonl is what it was when its training had ended; before that nobody knows."""
        path, digest = self.metrics_file, self.manifest.get("digests", {}).get(self.metrics_file.name)
        return digest is None or (path.is_file() and sha256_of(path) == digest)

    def summary(self) -> Summary | None:
        """eval/summary.json, when base and tuned have been compared."""
        return _read(self.summary_file, "summary", Summary)

    def data_manifest(self) -> DataManifest | None:
        """data/manifest.json, when rows have been prepared."""
        return _read(self.data_manifest_file, "data", DataManifest)

    def prepared_data(self) -> DataManifest:
        """data/manifest.json; RunError when no rows have been prepared."""
        manifest = self.data_manifest()
        if manifest is None:
            raise RunError(f"{self.data}: no prepared rows; `gemtune prepare RECIPE.yaml` writes them")
        return manifest

    def keep_metrics(self, until_step: int, copy: Path | None = None) -> None:
        """Drops the lines after a step, which a resumed run will write again; a torn last line goes with them.

        `copy`: all lines until that step, as the checkpoint kept them, where it did.
        """
        if copy is not None and copy.is_file():
            write_text(self.metrics_file, copy.read_text(encoding="utf-8"))
            return
        lines = []
        if self.metrics_file.exists():
            text = self.metrics_file.read_text(encoding="utf-8", errors="replace")
            for line in text.splitlines():
                with contextlib.suppress(ValueError, RecursionError, RunError):
                    value = json.loads(line)
                    if isinstance(value, dict) and MetricsLine.of(value, self.metrics_file)["step"] <= until_step:
                        lines.append(json.dumps(value))
        write_text(self.metrics_file, "".join(line + "\n" for line in lines))

    def part(self, name: str) -> Path:
        """The conversations of one part of the split: train, val or test."""
        return self.data / f"{name}.jsonl"

    def table(self, name: str) -> Path:
        """The index of the tokenised examples of one part, which lie in shards beside it."""
        return self.data / f"{name}.index.json"

    def shard(self, name: str, number: int) -> Path:
        """One file of the tokenised examples of a part."""
        return self.data / f"{name}-{number:05}.arrow"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoint_named(step_name(step))

    def checkpoint_named(self, name: str) -> Path:
        """The checkpoint `step-N`, whether it is there or not."""
        return self.checkpoints / name

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, the newest first."""
        folders = (path for path in self.checkpoints.glob(f"{_STEP}*") if _STEP_FOLDER.fullmatch(path.name))
        return sorted(map(step_of, folders), reverse=True)

    def replies(self, name: str) -> Path:
        """The replies of `base`, `tuned` or `step-N` to the test part, one line per row."""
        return self.evaluation().replies(name)

    @property
    def summary_file(self) -> Path:
        return self.evaluation().summary_file()

    def evaluation(self, data: str | None = None) -> EvaluationFolder:
        """The replies to the test part, or to the rows of a file of the user's."""
        return EvaluationFolder(self.eval / (Path(data).stem.strip(".") or "rows") if data else self.eval)

    def artifact(self, name: str) -> Path:
        """The folder of the artifact of a format."""
        return self.export / name

    def verify_file(self, name: str) -> Path:
        return self.artifact(name) / VERIFY

    def artifact_note(self, name: str) -> Artifact | None:
        """verify.json of a format's artifact, when there is one."""
        return _read(self.verify_file(name), "verify", Artifact)

    def formats(self) -> list[str]:
        """The formats that the run has artifacts of."""
        return sorted(path.parent.name for path in self.export.glob(f"*/{VERIFY}"))

    def artifacts(self) -> list[Artifact]:
        """What is known of every artifact."""
        return [note for note in map(self.artifact_note, self.formats()) if note is not None]

    @contextlib.contextmanager
    def staging(self) -> Iterator[Run]:
        """A run inside the run, whose data directory becomes the run's when the block ends without an error."""
        with os_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            staged = Run(Path(tempfile.mkdtemp(dir=self.root, prefix=_STAGING)))
            staged.data.mkdir()
        try:
            yield staged
            with os_errors(self.data):
                put_in_place(staged.data, self.data)
        finally:
            shutil.rmtree(staged.root, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for one process, however often it asks; the kernel lets go of it when that process dies.

        Folders that were made for the lock, and in which nothing was written then, are removed again.
        """
        outermost = not self._lock.is_locked
        new_folders = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        with os_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise RunError(
                    f"{self.root}: another gemtune process is working in it; wait for it or choose another name"
                ) from error
            if outermost:
                sweep(self.root)
        try:
            yield
        finally:
            if outermost and new_folders and all(path.name == ".lock" for path in self.root.iterdir()):
                Path(self._lock.lock_file).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # not empty: another process works there meanwhile
                    for folder in new_folders:
                        folder.rmdir()
            self._lock.release()

    @contextlib.contextmanager
    def lock_if_free(self) -> Iterator[None]:
        """Holds the run where no other process does: for a reader that writes a page of its own beside it."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(RunError):
                stack.enter_context(self.lock())
            yield


def table_index(path: Path) -> TableIndex:
    """The index of a token table; RunError when there is none."""
    index = _read(path, "tokens", TableIndex)
    if index is None:
        raise RunError(f"{path}: no token table; run `gemtune prepare` again")
    return index


def _read(path: Path, version: str, kind: type[Kind]) -> Kind | None:
    """A versioned JSON file of a run, or None when it is not there."""
    if not path.is_file():
        return None
    value = read_json(path)
    if not isinstance(value, dict) or value.get("version") != VERSIONS[version]:
        raise RunError(f"{path}: not a version {VERSIONS[version]} file of gemtune; run the stage that wrote it again")
    return kind.from_json(value, path)


def _refuse_sources_within(root: Path, recipe: Recipe) -> None:
    """RunError when rows or images would be read from the run's own folder, in which files are replaced."""
    inside = Path(os.path.abspath(root))
    for name in (name for data in recipe.data for name in (data.source, *data.images)):
        path = Path(name)  # relative is only what the Hub has
        if path.is_absolute() and (path.is_relative_to(inside) or path.resolve().is_relative_to(root.resolve())):
            raise RunError(
                f"{name}: lies in the run directory {root}, which is gemtune's; move it, or give another name="
            )


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
