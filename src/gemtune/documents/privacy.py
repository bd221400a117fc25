"""The gate between page images and a teacher that is elsewhere: nothing leaves this machine unscanned or unasked.

Text layers, the documents' own descriptions and what tesseract reads are searched for personal data. What was found is
in findings.jsonl, with most of it masked; what was sent where is in audit.jsonl.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from gemtune.documents.folder import DistilledFolder, Page
from gemtune.documents.ocr import OcrError, OcrPage, read, read_pages
from gemtune.documents.personal_data.names import known_names
from gemtune.documents.personal_data.phones import require_regions
from gemtune.documents.personal_data.recognisers import Match, matches
from gemtune.documents.personal_data.user_patterns import UserPatterns
from gemtune.documents.redaction import Box, Redaction, Sendable, boxes_over, places_of, redact
from gemtune.documents.scan_metadata import LOCATION
from gemtune.errors import GemtuneError, listed
from gemtune.files import write_jsonl
from gemtune.recipe.schema import Recipe
from gemtune.run_files import Stored

Tick = Callable[[str, int, int], None]  # what, how many are done, of how many
Search = Callable[[str], list[Match]]
Decision = Literal["stop", "skip", "redact", "allow"]  # the strictest first
Where = Literal["layer", "ocr", "metadata"]

_HERE = ("local", "files")  # providers of which nothing leaves this machine
_SEEN = 40.0  # confidence of tesseract, in percent, below which it has not seen what is on a page
_MOST_NAMED = 6  # documents, and pages of one, in an error; findings.jsonl has all
_ROUNDS = 3  # of covering and looking again, until nothing is left to be found


class PrivacyError(GemtuneError):
    """Pages that the recipe does not let go to a teacher elsewhere; findings.jsonl lists them."""


@dataclass(frozen=True, kw_only=True)
class Finding(Stored):
    """Personal data, or a page that could not be searched for it: a line of findings.jsonl."""

    document: str
    number: Annotated[int | None, "of the page, from 1; null: in what the document says of itself"]
    kind: Annotated[
        str,
        "email, phone, iban, card, national id, account, birth date, name, location, a name of `privacy.patterns`; "
        "unscanned",
    ]
    where: Annotated[
        Where | None, "layer: the page's text; metadata: its document's author, title ...; ocr: what tesseract read"
    ]
    excerpt: Annotated[str, "its first and last characters; the rest is masked"]
    decision: Annotated[Decision, "what becomes of the page"]
    note: Annotated[str, "why it could not be scanned, or not be redacted"] = ""


@dataclass(frozen=True)
class _Seen:
    """Personal data on a page, with the reading whose words it stands in; None: it is in the layer."""

    match: Match
    reading: OcrPage | None = None


@dataclass
class _Scan:
    """What is known of a page."""

    page: Page
    image: Path
    text: OcrPage | None
    found: list[_Seen] = field(default_factory=list)
    unscanned: str = ""  # why; empty where it was scanned


def gate(recipe: Recipe, folder: DistilledFolder, pages: Sequence[Page], tick: Tick) -> list[Sendable]:
    """The pages that may be sent, in their order; PrivacyError when one may not and the recipe says to stop.

    Blank pages are not sent. A teacher on this machine (`local`, `files`) gets all others as they are.
    """
    pages = [page for page in pages if not page.blank]
    if all(teacher.provider in _HERE for teacher in recipe.teacher):
        return [Sendable(page, folder.root / page.image) for page in pages]
    privacy = recipe.privacy
    require_regions(privacy.regions)
    names = known_names(Path(privacy.names)) if privacy.names else None
    texts = read_pages(folder, pages, tick) if privacy.ocr else {}
    findings: list[Finding] = []
    sendable: list[Sendable] = []
    with UserPatterns(privacy.patterns) as patterns:

        def search(text: str) -> list[Match]:
            return matches(text, privacy.regions, patterns, names)

        findings += _in_metadata(pages, search, privacy.findings)
        for done, page in enumerate(pages, 1):
            scan = _scan(page, folder.root / page.image, texts.get(page.image), search)
            decision = _decision(scan, privacy.findings, privacy.unscanned)
            page_to_send, note = Sendable(page, scan.image), ""
            if decision == "redact":
                page_to_send, note = _redacted(scan, folder, search)
                decision = "skip" if note else decision
            findings += _findings(scan, decision, note)
            if decision in ("allow", "redact"):
                sendable.append(page_to_send)
            tick("pages scanned", done, len(pages))
    write_jsonl(folder.findings_file, (finding.to_json() for finding in findings))
    if any(finding.decision == "stop" for finding in findings):
        raise PrivacyError(_why_stopped(findings, folder))
    return sendable


# --- scanning ---------------------------------------------------------------------------------------------------------


def _scan(page: Page, image: Path, text: OcrPage | OcrError | None, search: Search) -> _Scan:
    read_text = text if isinstance(text, OcrPage) else None
    scan = _Scan(page, image, read_text, unscanned="" if page.trusted else _why_unscanned(page, text))
    scan.found += [_Seen(match) for match in search(page.text)]  # also in a layer that cannot be trusted
    if read_text:
        scan.found += _seen_in(read_text, search)
    return scan


def _seen_in(text: OcrPage, search: Search) -> list[_Seen]:
    """What is found in the readings of a page; a value that the better one has is not said again."""
    seen: list[_Seen] = []
    for reading in text.readings:
        known = {(one.match.kind, one.match.value) for one in seen}
        seen += [_Seen(match, reading) for match in search(reading.text) if (match.kind, match.value) not in known]
    return seen


def _why_unscanned(page: Page, text: OcrPage | OcrError | None) -> str:
    """Why nothing can be said of a page without a trusted text layer; empty where tesseract could read it."""
    layer = page.why if page.why not in ("", "no text") else "it has no text layer"
    if text is None:
        return f"{layer}, and privacy.ocr is off"
    if isinstance(text, OcrError):
        return f"{layer}, and {text}"
    if text.confidence < _SEEN:
        return f"{layer}, and tesseract cannot read it (confidence {text.confidence:.0f} of 100)"
    return ""


def _in_metadata(pages: Sequence[Page], search: Search, decision: Decision) -> list[Finding]:
    """What a document says of itself. None of it is sent, so that it only ever stops."""
    found = []
    for document, metadata in {page.document: page.metadata for page in pages}.items():
        for key, value in metadata.items():
            decided: Decision = "stop" if decision == "stop" else "allow"
            if key == LOCATION:
                found.append(_finding(document, None, Match("location", 0, len(value), value), "metadata", decided))
            named = key == "Author" and len(value.split()) > 1  # not one of `user` or `Administrator`
            for match in search(f"{key}: {value}" if named or key != "Author" else value):
                found.append(_finding(document, None, match, "metadata", decided))
    return found


def _decision(scan: _Scan, findings: Decision, unscanned: Decision) -> Decision:
    """The strictest of what the recipe says of all that is known of a page."""
    said = {findings if scan.found else "allow", unscanned if scan.unscanned else "allow"}
    return next(decision for decision in ("stop", "skip", "redact", "allow") if decision in said)


# --- redacting --------------------------------------------------------------------------------------------------------


def _redacted(scan: _Scan, folder: DistilledFolder, search: Search) -> tuple[Sendable, str]:
    """The page with everything covered that was found, and why that cannot be done where it cannot.

    The covered image is read again: what is still found there is covered, too.
    """
    whole = Sendable(scan.page, scan.image)
    if scan.text is None:
        return whole, "it cannot be redacted: tesseract has not read where its words stand"
    text, found = scan.text, scan.found
    redactions: list[Redaction] = []
    for _ in range(_ROUNDS):
        for seen in found:
            boxes = _boxes(seen, text)
            if not boxes:
                return whole, f"it cannot be redacted: tesseract does not read the {seen.match.kind} of its text layer"
            redactions.append(Redaction(seen.match.kind, seen.match.value, tuple(boxes)))
        image = redact(scan.image, [box for redaction in redactions for box in redaction.boxes], folder.redacted)
        try:
            text = read(image, folder.ocr)
        except OcrError as error:
            return whole, f"it cannot be looked at again once it is redacted: {error}"
        found = _seen_in(text, search)
        if not found:
            return Sendable(scan.page, image, tuple(redactions)), ""
    return whole, f"it cannot be redacted: {found[0].match.kind} is still found on it"


def _boxes(seen: _Seen, text: OcrPage) -> list[Box]:
    """Where something stands on the image; none where it is in the layer and tesseract does not read it."""
    if seen.reading:
        return boxes_over(seen.reading, seen.match.start, seen.match.end)
    placed = ((reading, places_of(seen.match.value, reading)) for reading in text.readings)
    reading, spans = next(((reading, spans) for reading, spans in placed if spans), (text, []))
    return [box for span in spans for box in boxes_over(reading, *span)]


# --- what is said of it -----------------------------------------------------------------------------------------------


def _findings(scan: _Scan, decision: Decision, note: str) -> list[Finding]:
    page = scan.page
    lines = [
        _finding(page.document, page.number, seen.match, "ocr" if seen.reading else "layer", decision, note)
        for seen in scan.found
    ]
    if scan.unscanned:
        lines.append(
            Finding(
                document=page.document,
                number=page.number,
                kind="unscanned",
                where=None,
                excerpt="",
                decision=decision,
                note=scan.unscanned,
            )
        )
    return lines


def _finding(
    document: str, number: int | None, match: Match, where: Where, decision: Decision, note: str = ""
) -> Finding:
    return Finding(
        document=document,
        number=number,
        kind=match.kind,
        where=where,
        excerpt=masked(match.value),
        decision=decision,
        note=note,
    )


def masked(value: str) -> str:
    """The first and last characters of a value, at most a third of it, so that its owner would know it again.

    >>> masked("01228762033"), masked("ali@example.org"), masked("علي")
    ('0•••••••••3', 'al•••••••••••rg', '•••')
    """
    shown = min(2, len(value) // 6)
    return value[:shown] + "•" * (len(value) - 2 * shown) + value[len(value) - shown :]


def _why_stopped(findings: Sequence[Finding], folder: DistilledFolder) -> str:
    stopping = [finding for finding in findings if finding.decision == "stop"]
    found = [finding for finding in stopping if finding.kind != "unscanned"]
    unscanned = [finding for finding in stopping if finding.kind == "unscanned"]
    said, moves = [], []
    if found:
        said.append(f"personal data in {listed(_by_document(found), _MOST_NAMED)}")
        moves.append("privacy.findings: redact, skip or allow")
    if unscanned:
        said.append(f"no text to scan in {listed(_by_document(unscanned), _MOST_NAMED)}: {unscanned[0].note}")
        moves.append("privacy.unscanned: skip or allow")
    return (
        f"nothing was sent to the teacher: {'; '.join(said)}; {folder.findings_file} has the list, and "
        f"{' and '.join(moves)} decide what becomes of them"
    )


def _by_document(findings: Sequence[Finding]) -> list[str]:
    """Documents with their pages and what is on them, as in `a.pdf page 1, 3 (email, phone)`."""
    of_documents: dict[str, list[Finding]] = {}
    for finding in findings:
        of_documents.setdefault(finding.document, []).append(finding)
    words = []
    for document, lines in of_documents.items():
        pages = listed(dict.fromkeys(str(line.number) for line in lines if line.number), _MOST_NAMED)
        kinds = ", ".join(dict.fromkeys(line.kind for line in lines if line.kind != "unscanned"))
        place = f"{document} page {pages}" if any(line.number for line in lines) else f"{document}, its metadata"
        words.append(f"{place} ({kinds})" if kinds else place)
    return words
