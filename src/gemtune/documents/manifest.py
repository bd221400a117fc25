"""What distilled rows were made of, and what has none: the manifest of a folder, by which nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gemtune.documents.folder import DistilledFolder
from gemtune.documents.references import ENDINGS
from gemtune.documents.rows import LeftOut
from gemtune.documents.sources import Document, documents_of
from gemtune.errors import RunError
from gemtune.files import read_jsonl, read_object, sha256_of, sha256_of_text
from gemtune.recipe.schema import Recipe
from gemtune.run_files import Stored

REVISION = 1  # of what `distill` makes of the same documents and replies


@dataclass(frozen=True, kw_only=True)
class TeacherNote(Stored):
    """What a teacher has done for the rows, over all starts."""

    model: str
    requests: Annotated[int, "sent"]
    answered: int
    input: Annotated[int, "", "tokens"]
    output: Annotated[int, "thinking included", "tokens"]
    cost: Annotated[float, "in the currency of the recipe's prices; 0 without"]
    perhaps: Annotated[int, "requests that may have been charged though no reply arrived; not in `cost`"]


@dataclass(frozen=True, kw_only=True)
class DistillManifest(Stored):
    """manifest.json of the folder of documents: what its rows were made of, and what has none."""

    version: Annotated[int, "1"]
    fingerprint: Annotated[str, "of documents and keys; the same means nothing is done again"]
    rows: int
    sha256: Annotated[str, "of rows.jsonl"]
    tasks: Annotated[dict[str, int], "task: rows"]
    documents: Annotated[int, "of which there are rows"]
    pages: Annotated[int, "of which there are rows"]
    groups: Annotated[int, "that the split keeps whole"]
    merged: Annotated[int, "of them made of several documents; groups.jsonl says why"]
    references: Annotated[int, "pages whose true text is known"]
    left_out: Annotated[list[LeftOut], "what has no row, and why"]
    teachers: list[TeacherNote]


def source_documents(recipe: Recipe) -> list[Document]:
    """The documents of `pages.source`."""
    if recipe.pages is None:
        return []
    documents, _ = documents_of(recipe.pages, Path(recipe.pages.folder), Path(recipe.runs_dir))
    return documents


def fingerprint_of(recipe: Recipe) -> str:
    """Of what decides the rows: keys, and the files that they name, by size and time of change."""
    sections = recipe.model_dump(mode="json", include={"pages", "teacher", "privacy", "documents"})
    files = [document.path for document in source_documents(recipe)]
    for folder in sorted({path.parent for path in files}):
        files += sorted(path for path in folder.iterdir() if path.suffix in ENDINGS)  # true texts, and a few others
    files += [Path(task) for task in recipe.documents.tasks if task.endswith(".json")]
    files += [Path(recipe.privacy.names)] if recipe.privacy.names else []
    for replies in (Path(teacher.replies) for teacher in recipe.teacher if teacher.replies):
        files += sorted(replies.rglob("*.*")) if replies.is_dir() else [replies]
    states = [f"{path} {state.st_size} {state.st_mtime_ns}" for path in files if (state := _state(path))]
    return sha256_of_text(str(REVISION), json.dumps(sections, sort_keys=True), *states)


def _state(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):  # whoever reads it says why it cannot be
        return path.stat()
    return None


def up_to_date(folder: DistilledFolder, fingerprint: str) -> DistillManifest | None:
    """The manifest of rows that are there, whole, and made of the same; None where there is work to do."""
    if not (folder.manifest_file.is_file() and folder.rows_file.is_file()):
        return None
    try:
        manifest = DistillManifest.from_json(read_object(folder.manifest_file), folder.manifest_file)
    except RunError:  # of another version, or damaged: it is made again
        return None
    is_same = manifest.fingerprint == fingerprint and manifest.sha256 == sha256_of(folder.rows_file)
    return manifest if is_same and all(image.is_file() for image in _images(folder)) else None


def _images(folder: DistilledFolder) -> Iterator[Path]:
    yield from (folder.root / row["image"] for row in read_jsonl(folder.rows_file))
