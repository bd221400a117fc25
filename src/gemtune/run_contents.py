"""What of a run directory gemtune has written: it replaces and removes that, and never touches anything else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from gemtune.errors import RunError, listed
from gemtune.files import os_errors

WHOLE = "whole.json"  # the digests of the files in a folder of weights; written last, so it says that all are there
_SEALS = (WHOLE, "manifest.json")  # the latter of data/, likewise
EXPORT = "export"  # the folder of a run's artifacts
VERIFY = "verify.json"  # beside the files of an artifact, and not in its list: it is written again when it was verified

_MODEL = r"(base|tuned|step-\d+)"
# The files of a run directory's folders, as they are called there; a folder of weights lists its own.
_WRITTEN = {
    "": re.compile(r"recipe\.yaml|manifest\.json|metrics\.jsonl|show\.html|report\.(html|md)|\.lock"),
    "data": re.compile(
        r"manifest\.json|(leaks|dropped|unscored)\.jsonl|(train|val|test)(\.jsonl|\.index\.json|(-\d{5,})?\.arrow)"
        r"|images/../[0-9a-f]{64}\.[a-z]+"
    ),
    "eval": re.compile(rf"([^/]+/)?({_MODEL}\.jsonl|summary(-{_MODEL})?\.json)"),
    EXPORT: re.compile(rf"[^/]+/{re.escape(VERIFY)}"),
    "tensorboard": re.compile(r"(.+/)?events\.out\.tfevents\.[^/]+"),
}
_WEIGHTS = re.compile(r"[^/]+\.(safetensors|jsonl?|jinja)|tokenizer\.model")  # where its list is damaged

# What a killed process leaves beside the file or folder that it was about to replace, and where that is looked for.
_SCRATCH = re.compile(r"(?<![^/])\.([^/]+)\.([a-z0-9_]{8}|tmp)$")
_SCRATCH_FOLDER = re.compile(r"\.prepare-[a-z0-9_]+|\.(adapter|model|step-\d+)\.tmp")
_SCRATCH_ARTIFACT = re.compile(r"\.[a-z0-9_-]+\.tmp")
_SCRATCH_PLACES = {"": ("*", "checkpoints/*"), "data": ("*", "images/*/*"), "eval": ("*", "*/*"), EXPORT: ("*", "*/*")}


def written_in(folder: Path) -> list[Path]:
    """The files in a folder of a run that gemtune wrote, the one that says that it is whole first."""
    is_written = _is_written(folder)
    return _seal_first(path for path in _files(folder) if is_written(path.relative_to(folder).as_posix()))


def remove_written(folder: Path) -> None:
    """Removes what gemtune wrote in a folder of a run, and the folders that are empty then."""
    for path in written_in(folder):
        path.unlink(missing_ok=True)
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in sorted(folders, reverse=True):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()


def put_in_place(new: Path, folder: Path) -> None:
    """Puts a new folder in the place of an older one of its kind; what gemtune did not write there stays.

    A process that is killed meanwhile leaves a folder that does not say that it is whole.
    """
    remove_written(folder)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        new.rename(folder)
        return
    for path in reversed(_seal_first(_files(new))):
        target = folder / path.relative_to(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def refuse_foreign(root: Path) -> None:
    """RunError for a folder that holds something and is no run directory."""
    with os_errors(root):
        if not root.is_dir() or (root / _SEALS[1]).exists():
            return
        written = {
            ".lock",
            *(path.name for path in _scratch_in(root)),
            *(["data"] if _is_prepared(root / "data") else []),
        }
        names = sorted({path.name for path in root.iterdir()} - written)
    if names:
        raise RunError(
            f"{root}: a folder that gemtune did not make (it holds {listed(names, 3)} and no manifest.json); give "
            "another name= or runs_dir=, or move it"
        )


def _is_prepared(data: Path) -> bool:
    """Whether a data directory is gemtune's: prepare alone, as a function, writes no more than that."""
    try:
        manifest = json.loads((data / _SEALS[1]).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and "fingerprint" in manifest


def sweep(root: Path) -> None:
    """Removes what processes that were killed have left in a run directory; call it with the run locked."""
    for path in list(_scratch_in(root)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _scratch_in(root: Path) -> Iterator[Path]:
    """Yields temporary files and folders by their names: `eval/.base.jsonl.x7k_2fqa` is one of eval/base.jsonl."""
    for top, names in _SCRATCH_PLACES.items():
        for path in (path for name in names for path in (root / top).glob(name)):
            if path.is_dir():
                scratch = _SCRATCH_ARTIFACT if path.parent == root / EXPORT else _SCRATCH_FOLDER
                is_scratch = scratch.fullmatch(path.name) is not None
            else:
                replaced = _SCRATCH.sub(r"\1", path.relative_to(root / top).as_posix())
                is_scratch = _SCRATCH.search(path.name) is not None and _WRITTEN[top].fullmatch(replaced) is not None
            if is_scratch:
                yield path


def _is_written(folder: Path) -> Callable[[str], object]:
    is_artifact = folder.parent.name == EXPORT
    pattern = None if is_artifact else _WRITTEN.get(folder.name)
    names = None if pattern else _names_of_weights(folder)
    if is_artifact:
        names = {VERIFY, *(names or ())}
    return names.__contains__ if names is not None else (pattern or _WEIGHTS).fullmatch


def _names_of_weights(folder: Path) -> set[str] | None:
    """What a folder of weights says that it holds; None where it does not say so."""
    try:
        digests = json.loads((folder / WHOLE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return {WHOLE, *digests} if isinstance(digests, dict) else None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


def _seal_first(paths: Iterator[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.name not in _SEALS, path))
