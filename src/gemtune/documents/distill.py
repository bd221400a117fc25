"""Documents -> rows: pages are drawn, scanned, labelled by teachers, and written in an order that no kill changes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from filelock import FileLock, Timeout

from gemtune.documents.audit import recorder
from gemtune.documents.folder import DistilledFolder, Page, Problem
from gemtune.documents.manifest import DistillManifest, TeacherNote, fingerprint_of, source_documents, up_to_date
from gemtune.documents.ocr import OcrPage, available, read, read_pages
from gemtune.documents.pages import draw_pages
from gemtune.documents.privacy import Finding, gate
from gemtune.documents.redaction import Sendable
from gemtune.documents.references import references_of
from gemtune.documents.rows import Group, LeftOut, Vote, agreed, groups_of, row_of, without_covered
from gemtune.documents.teacher import Ledger, Local, Request, ask
from gemtune.documents.text_layer import trust
from gemtune.errors import DataError, RecipeError, RunError
from gemtune.files import (
    JsonObject,
    os_errors,
    read_jsonl,
    sha256_of,
    write_json,
    write_jsonl,
)
from gemtune.recipe.document_sections import Teacher
from gemtune.recipe.schema import Recipe
from gemtune.tasks.documents import PageTask, page_tasks

Say = Callable[[str], None]
Tick = Callable[[str, int, int], None]  # (what, done, of how many)

_HERE = ("local", "files")  # providers to which nothing is sent


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
        fingerprint = fingerprint_of(recipe)
        if (there := up_to_date(folder, fingerprint)) is not None:
            say(f"{folder.rows_file}: {there.rows} rows of {there.documents} documents, and nothing has changed")
            return there
        folder.manifest_file.unlink(missing_ok=True)
        pages = draw_pages(recipe, folder, say, tick)
        groups = groups_of(pages, recipe.pages.groups if recipe.pages else (), _undrawn(folder))
        write_jsonl(folder.groups_file, (group.to_json() for group in groups))
        sendable = gate(recipe, folder, pages, tick)
        votes = _votes(recipe, folder, sendable, tasks, say, tick, local)
        texts = _texts(recipe, folder, pages, sendable, say, tick)
        return _written(recipe, folder, fingerprint, pages, groups, sendable, tasks, votes, texts)


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
        sending = None if teacher.provider in _HERE else recorder(folder, sendable, teacher)
        here = local(teacher) if local and teacher.provider == "local" else None
        replies = list(ask(requests, teacher, folder, say=say, tick=tick, local=here, sending=sending))
        for reply in sorted(replies, key=lambda reply: reply.request.sample):
            asked = reply.request
            vote = Vote(teacher.model or teacher.provider, teacher.agreement, reply)
            votes.setdefault((asked.document, asked.page, asked.task), []).append(vote)
    return votes


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
    texts: Mapping[tuple[str, int], JsonObject],
) -> DistillManifest:
    """Writes rows.jsonl and, last, the manifest."""
    group_of = {document: group.group for group in groups for document in group.documents}
    rows, left_out = [], _unsent(folder, pages, sendable)
    for one in sendable:
        page = one.page
        for task in tasks:
            reply, why = agreed(votes[page.document, page.number, task.name])
            if reply is not None and one.redactions:
                reply, why = without_covered(reply, one)
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
    recipe: Recipe, folder: DistilledFolder, pages: Sequence[Page], sendable: Sequence[Sendable], say: Say, tick: Tick
) -> dict[tuple[str, int], JsonObject]:
    """What is known of a page apart from replies: `ocr`, `layer`, `reference`, each where there is one."""
    drawn = [page for page in pages if not page.blank]
    if recipe.privacy.ocr and (fault := available()):
        say(f"rows have no `ocr`, to which models could be compared: {fault}")
    readings = read_pages(folder, drawn, tick) if recipe.privacy.ocr else {}
    read_texts = {image: reading.text for image, reading in readings.items() if isinstance(reading, OcrPage)}
    seen: dict[str, dict[int, str]] = {}
    for page in drawn:
        seen.setdefault(page.document, {})[page.number] = read_texts.get(page.image, "") or page.text
    references = {
        document.name: references_of(document.path, seen[document.name])
        for document in source_documents(recipe)
        if document.name in seen
    }
    texts: dict[tuple[str, int], JsonObject] = {}
    for one in sendable:
        page, is_whole = one.page, not one.redactions  # what a redacted page says is not in its layer or reference
        ocr = read_texts.get(page.image, "") if is_whole else read(one.image, folder.ocr).text
        layer = page.text if page.trusted and is_whole and trust(page.text, ocr)[0] else ""
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
    why = _why_skipped(folder) if unsent else {}
    return left_out + [
        LeftOut(document=name, number=number, task=None, why=why[name, number]) for name, number in sorted(unsent)
    ]


def _why_skipped(folder: DistilledFolder) -> dict[tuple[str, int | None], str]:
    """What was found on each page: its kinds, and why it was not redacted."""
    found: dict[tuple[str, int | None], list[Finding]] = {}
    for line in read_jsonl(folder.findings_file):
        finding = Finding.from_json(line, folder.findings_file)
        found.setdefault((finding.document, finding.number), []).append(finding)
    return {
        page: "; ".join(
            dict.fromkeys(
                [f"skipped by `privacy`: {', '.join(sorted({one.kind for one in findings}))}"]
                + [one.note for one in findings if one.note]
            )
        )
        for page, findings in found.items()
    }


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
