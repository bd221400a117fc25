"""Documents -> rows: pages are drawn, scanned, labelled by teachers, and written in an order that no kill changes."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout

from gemtune.documents.audit import record_sent
from gemtune.documents.folder import DistilledFolder, Page, Problem
from gemtune.documents.ocr import OcrPage, read, read_pages
from gemtune.documents.pages import draw_pages
from gemtune.documents.privacy import gate
from gemtune.documents.redaction import Sendable
from gemtune.documents.references import reference_files, references_of
from gemtune.documents.rows import Group, LeftOut, Vote, agreed, groups_of, row_of
from gemtune.documents.sources import Document, documents_of
from gemtune.documents.teacher import Ledger, Local, Request, ask
from gemtune.documents.teacher.reply_store import ReplyStore, key_of
from gemtune.errors import DataError, RecipeError, RunError
from gemtune.files import (
    JsonObject,
    os_errors,
    read_jsonl,
    read_object,
    sha256_of,
    sha256_of_text,
    write_json,
    write_jsonl,
)
from gemtune.recipe.document_sections import Teacher
from gemtune.recipe.schema import Recipe
from gemtune.run_files import Stored
from gemtune.tasks.documents import PageTask, page_tasks

Say = Callable[[str], None]
Tick = Callable[[str, int, int], None]  # (what, done, of how many)

REVISION = 1  # of what `distill` makes of the same documents and replies
_HERE = ("local", "files")  # providers to which nothing is sent


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


def distill(
    recipe: Recipe,
    folder: DistilledFolder,
    say: Say,
    tick: Tick,
    local: Callable[[Teacher], Local] | None = None,
) -> DistillManifest:
    """Writes rows.jsonl and what it needs, and returns its manifest; nothing is done when nothing has changed.

    `local` makes a teacher of a model on this machine. Whatever stops it is one line, and the same call goes on from
    there: what was drawn, read and paid for is kept.
    """
    if not recipe.teacher:
        raise RecipeError("teacher: is missing; name a model that labels the pages, such as {url: ..., model: ...}")
    tasks = page_tasks(recipe.documents)
    with _alone(folder):
        fingerprint = _fingerprint(recipe)
        if (there := _up_to_date(folder, fingerprint)) is not None:
            say(f"{folder.rows_file}: {there.rows} rows of {there.documents} documents, and nothing has changed")
            return there
        folder.manifest_file.unlink(missing_ok=True)
        pages = draw_pages(recipe, folder, say, tick)
        groups = groups_of(pages, recipe.pages.groups if recipe.pages else (), _undrawn(folder))
        write_jsonl(folder.groups_file, (group.to_json() for group in groups))
        sendable = gate(recipe, folder, pages, tick)
        votes = _votes(recipe, folder, sendable, tasks, say, tick, local)
        return _written(recipe, folder, fingerprint, pages, groups, sendable, tasks, votes, tick)


@contextlib.contextmanager
def _alone(folder: DistilledFolder) -> Iterator[None]:
    with os_errors(folder.root):
        folder.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.root / ".lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout as error:
        raise RunError(f"{folder.root}: another gemtune works there; wait for it, or choose another name") from error


def _undrawn(folder: DistilledFolder) -> set[str]:
    return {line["document"] for line in read_jsonl(folder.problems_file)}


# --- asking -----------------------------------------------------------------------------------------------------------

Votes = Mapping[tuple[str, int, str], Sequence[Vote]]  # (document, number, task) -> a reply of each teacher and sample


def _votes(
    recipe: Recipe,
    folder: DistilledFolder,
    sendable: Sequence[Sendable],
    tasks: Sequence[PageTask],
    say: Say,
    tick: Tick,
    local: Callable[[Teacher], Local] | None,
) -> Votes:
    """Asks every teacher for every page, task and sample; in the recipe's order, whatever order they answer in."""
    votes: dict[tuple[str, int, str], list[Vote]] = {}
    for teacher in recipe.teacher:
        requests = [
            Request(one.page.document, one.page.number, task.name, sample, one.image, task.teacher_prompt, task.schema)
            for one in sendable
            for task in tasks
            for sample in range(teacher.samples)
        ]
        if teacher.provider not in _HERE:
            record_sent(folder, _unanswered(sendable, requests, teacher, folder), teacher)
        here = local(teacher) if local and teacher.provider == "local" else None
        replies = list(ask(requests, teacher, folder, say=say, tick=tick, local=here))
        for reply in sorted(replies, key=lambda reply: reply.request.sample):
            asked = reply.request
            vote = Vote(teacher.model or teacher.provider, teacher.agreement, reply)
            votes.setdefault((asked.document, asked.page, asked.task), []).append(vote)
    return votes


def _unanswered(
    sendable: Sequence[Sendable], requests: Sequence[Request], teacher: Teacher, folder: DistilledFolder
) -> list[Sendable]:
    """The pages of which a reply is not there yet: those that are sent now."""
    store = ReplyStore(folder.replies)
    images = {request.image for request in requests if store.get(key_of(request, teacher)) is None}
    return [one for one in sendable if one.image in images]


# --- writing ----------------------------------------------------------------------------------------------------------


def _written(
    recipe: Recipe,
    folder: DistilledFolder,
    fingerprint: str,
    pages: Sequence[Page],
    groups: Sequence[Group],
    sendable: Sequence[Sendable],
    tasks: Sequence[PageTask],
    votes: Votes,
    tick: Tick,
) -> DistillManifest:
    """Writes rows.jsonl and, last, the manifest."""
    texts = _texts(recipe, folder, pages, sendable, tick)
    group_of = {document: group.group for group in groups for document in group.documents}
    rows, left_out = [], _unsent(folder, pages, sendable)
    for one in sendable:
        page = one.page
        for task in tasks:
            reply, why = agreed(votes[page.document, page.number, task.name])
            if reply is None:
                left_out.append(LeftOut(document=page.document, number=page.number, task=task.name, why=why))
                continue
            image = one.image.relative_to(folder.root).as_posix()
            group, known = group_of.get(page.document, page.document), texts[page.document, page.number]
            rows.append(row_of(reply, page, task, image=image, group=group, known=known))
    if not rows:
        first = max(left_out, key=lambda one: one.task is not None)
        raise DataError(f"none of {len(pages)} pages has a row; {first}")
    write_jsonl(folder.rows_file, rows)
    manifest = DistillManifest(
        version=1,
        fingerprint=fingerprint,
        rows=len(rows),
        sha256=sha256_of(folder.rows_file),
        tasks=dict(Counter(row["task"] for row in rows)),
        documents=len({row["document"] for row in rows}),
        pages=len({(row["document"], row["number"]) for row in rows}),
        groups=len({row["group"] for row in rows}),
        merged=len({row["group"] for row in rows} & {group.group for group in groups}),
        references=len({(row["document"], row["number"]) for row in rows if "reference" in row}),
        left_out=left_out,
        teachers=_teacher_notes(recipe, folder),
    )
    write_json(folder.manifest_file, manifest.to_json())
    return manifest


def _texts(
    recipe: Recipe, folder: DistilledFolder, pages: Sequence[Page], sendable: Sequence[Sendable], tick: Tick
) -> dict[tuple[str, int], JsonObject]:
    """What is known of a page apart from replies: `ocr`, `layer`, `reference`, each where there is one."""
    drawn = [page for page in pages if not page.blank]
    readings = read_pages(folder, drawn, tick) if recipe.privacy.ocr else {}
    read_texts = {image: reading.text for image, reading in readings.items() if isinstance(reading, OcrPage)}
    seen: dict[str, dict[int, str]] = {}
    for page in drawn:
        seen.setdefault(page.document, {})[page.number] = read_texts.get(page.image, "") or page.text
    references = {
        document.name: references_of(document.path, seen[document.name])
        for document in _documents(recipe)
        if document.name in seen
    }
    texts: dict[tuple[str, int], JsonObject] = {}
    for one in sendable:
        page, is_whole = one.page, not one.redactions  # what a redacted page says is not in its layer or reference
        ocr = read_texts.get(page.image, "") if is_whole else read(one.image, folder.ocr).text
        layer = page.text if page.trusted and is_whole else ""
        reference = references.get(page.document, {}).get(page.number, "") if is_whole else ""
        known = {"ocr": ocr, "layer": layer, "reference": reference}
        texts[page.document, page.number] = {name: text for name, text in known.items() if text}
    return texts


def _unsent(folder: DistilledFolder, pages: Sequence[Page], sendable: Sequence[Sendable]) -> list[LeftOut]:
    """What was not drawn, is blank, or may not leave this machine."""
    drawn = {(page.document, page.number) for page in pages if not page.blank}
    documents = {page.document for page in pages}
    problems = [Problem.from_json(line, folder.problems_file) for line in read_jsonl(folder.problems_file)]
    left_out = [
        LeftOut(document=problem.document, number=problem.number, task=None, why=problem.problem)
        for problem in problems
        if (
            problem.document not in documents
            if problem.number is None
            else (problem.document, problem.number) not in drawn
        )
    ]
    unsent = drawn - {(one.page.document, one.page.number) for one in sendable}
    why = f"skipped by `privacy`; {folder.findings_file.name} says why"
    return left_out + [LeftOut(document=name, number=number, task=None, why=why) for name, number in sorted(unsent)]


def _teacher_notes(recipe: Recipe, folder: DistilledFolder) -> list[TeacherNote]:
    ledger = Ledger(folder.ledger_file)
    notes = []
    for model in dict.fromkeys(teacher.model for teacher in recipe.teacher if teacher.provider != "files"):
        total = ledger.total(model)
        notes.append(
            TeacherNote(
                model=model,
                requests=total.requests,
                answered=total.answered,
                input=total.usage.input,
                output=total.usage.output,
                cost=round(total.cost, 6),
                perhaps=total.open,
            )
        )
    return notes


# --- doing nothing twice ----------------------------------------------------------------------------------------------


def _documents(recipe: Recipe) -> list[Document]:
    if recipe.pages is None:
        return []
    documents, _ = documents_of(recipe.pages, Path(recipe.pages.folder), Path(recipe.runs_dir))
    return documents


def _fingerprint(recipe: Recipe) -> str:
    """Of what decides the rows: keys, and the files that they name, by size and time of change."""
    sections = recipe.model_dump(mode="json", include={"pages", "teacher", "privacy", "documents"})
    files = [path for document in _documents(recipe) for path in (document.path, *reference_files(document.path, []))]
    files += [Path(task) for task in recipe.documents.tasks if task.endswith(".json")]
    for replies in (Path(teacher.replies) for teacher in recipe.teacher if teacher.replies):
        files += sorted(replies.rglob("*.*")) if replies.is_dir() else [replies]
    states = [f"{path} {state.st_size} {state.st_mtime_ns}" for path in files if (state := _state(path))]
    return sha256_of_text(str(REVISION), json.dumps(sections, sort_keys=True), *states)


def _state(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):  # whoever reads it says why it cannot be
        return path.stat()
    return None


def _up_to_date(folder: DistilledFolder, fingerprint: str) -> DistillManifest | None:
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
