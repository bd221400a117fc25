"""Documents become page images: each drawn once, prepared by its steps, and stored under the digest of its pixels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from gemtune.documents.drawn_pages import DrawnPages
from gemtune.documents.folder import DistilledFolder, Page, Problem
from gemtune.documents.ocr import available
from gemtune.documents.sources import Document, documents_of, of_document, page_numbers
from gemtune.documents.text_layer import mended, trust
from gemtune.documents.workers import Workers
from gemtune.errors import DataError, MissingExtra, RecipeError, listed
from gemtune.files import JsonObject, sha256_of, sha256_of_text, write_jsonl
from gemtune.recipe.document_sections import Pages, step_and_setting
from gemtune.recipe.schema import Recipe

Say = Callable[[str], None]
Tick = Callable[[str, int, int], None]

_BLANK = "nothing is drawn on it: an empty page, or a damaged one; look at it in a viewer. It is not sent"


def draw_pages(recipe: Recipe, folder: DistilledFolder, say: Say, tick: Tick) -> list[Page]:
    """The pages of the recipe's documents, by document and number; what cannot be drawn is in problems.jsonl.

    What was drawn before, also by a run that was killed, is not drawn again. DataError where nothing can be drawn.
    """
    pages = recipe.pages
    if pages is None:
        raise RecipeError("pages: is missing; `gemtune new documents` writes a recipe with documents")
    require_pdfium()
    if "orient" in pages.steps and (fault := available("osd")):
        raise RecipeError(f"pages.steps: orient asks tesseract; {fault}, or leave the step out")
    documents, others = documents_of(pages, Path(pages.folder), Path(recipe.runs_dir))
    if others:
        kinds = listed(f"{count} {suffix}" for suffix, count in others.most_common())
        say(f"not read, since they are no documents: {kinds}")
    with Workers(pages.workers or os.cpu_count() or 1) as workers, DrawnPages(folder) as drawn:
        drawing = _Drawing(pages, drawn, workers)
        wanted, problems = drawing.wanted(documents, tick)
        lines, not_drawn = drawing.draw(wanted, tick)
    problems = sorted([*problems, *not_drawn], key=lambda problem: (problem.document, problem.number or 0))
    write_jsonl(folder.problems_file, (problem.to_json() for problem in problems))
    if problems:
        say(f"{folder.problems_file} says what is wrong with documents ({len(problems)}); first {_line(problems[0])}")
    if not lines:
        raise DataError(f"no page could be drawn, of documents: {len(documents)}; first {_line(problems[0])}")
    write_jsonl(folder.pages_file, (page.to_json() for page in lines))
    return lines


def image_of(folder: DistilledFolder, page: Page) -> Path:
    """The file of a page's image."""
    return folder.root / page.image


def _line(problem: Problem) -> str:
    return f"{problem.document}{f', page {problem.number}' if problem.number else ''}: {problem.problem}"


def require_pdfium() -> None:
    """MissingExtra where what draws pages is not installed."""
    try:
        import pypdfium2  # noqa: F401
    except ImportError as error:
        raise MissingExtra("drawing pages", "documents") from error


def drawing(pages: Pages, path: Path, number: int, password: str | None) -> JsonObject:
    """What a child is asked for: a page of a document, drawn and prepared as a recipe says."""
    steps, mode = _steps_and_mode(pages)
    return {
        "do": "draw",
        "path": str(path),
        "password": password,
        "number": number,
        "mode": mode,
        "dpi": pages.dpi,
        "least_side": pages.least_side,
        "steps": steps,
    }


def _steps_and_mode(pages: Pages) -> tuple[list[tuple[str, float | None]], str]:
    steps = [step_and_setting(step) for step in pages.steps]
    return steps, "L" if "gray" in [name for name, _ in steps] else "RGB"  # grey takes half the time to draw


class _Wanted(NamedTuple):
    """A page that the recipe asks for."""

    document: Document
    number: int
    source: str  # the SHA-256 of the document


def _open_key(source: str) -> str:
    return sha256_of_text("opened", source)


class _Drawing:
    """Documents and pages as a recipe wants them drawn."""

    def __init__(self, pages: Pages, drawn: DrawnPages, workers: Workers):
        self.pages, self.drawn, self.workers = pages, drawn, workers
        self.steps, self.mode = _steps_and_mode(pages)

    def wanted(self, documents: Sequence[Document], tick: Tick) -> tuple[list[_Wanted], list[Problem]]:
        """The pages to draw, in order, and what is said of documents as a whole."""
        opened: dict[Document, tuple[str, JsonObject]] = {}
        for document, source_and_result in self.workers.map(self._open, documents):
            opened[document] = source_and_result
            tick("documents", len(opened), len(documents))
        wanted: list[_Wanted] = []
        problems: list[Problem] = []
        first_of: dict[tuple[object, ...], str] = {}
        for document in documents:
            source, result = opened[document]
            numbers = page_numbers(selection := of_document(self.pages.select, document.name), result.get("pages", 0))
            first = first_of.setdefault((source, *numbers), document.name) if numbers else document.name
            if "problem" in result:
                remarks = [result["problem"]]
            elif not numbers:
                remarks = [f"pages.select: {selection!r} takes none of its {result['pages']} pages"]
            elif first != document.name:
                remarks = [f"the same file as {first}: it is read once"]
            else:
                remarks = result["remarks"]
                wanted += [_Wanted(document, number, source) for number in numbers]
            problems += [Problem(document=document.name, number=None, problem=remark) for remark in remarks]
        return wanted, problems

    def draw(self, wanted: Sequence[_Wanted], tick: Tick) -> tuple[list[Page], list[Problem]]:
        """The pages, in the order that they are wanted in, and what is said of single ones."""
        pages: dict[_Wanted, Page] = {}
        problems: list[Problem] = []
        for done, (page, result) in enumerate(self.workers.map(self._draw, wanted), 1):
            if isinstance(result, Page):
                pages[page] = result
            text = result if isinstance(result, str) else _BLANK if self._is_uniform(page) else ""
            if text:
                problems.append(Problem(document=page.document.name, number=page.number, problem=text))
            tick("pages", done, len(wanted))
        return [pages[page] for page in wanted if page in pages], problems

    def _open(self, document: Document) -> tuple[str, JsonObject]:
        """The SHA-256 of a document and how many pages it has; its problem where it cannot be opened."""
        try:
            if not document.path.is_file():
                return "", {"problem": "is not there, or no file (a pipe, a link that leads nowhere); check it"}
            source = sha256_of(document.path)
        except OSError as error:
            return "", {"problem": f"cannot be read ({error.strerror}); check its permissions and the disk"}
        key = _open_key(source)
        if known := self.drawn.get(key):
            return source, known
        try:
            result = self.workers.ask({"do": "open", "path": str(document.path), "password": self._password(document)})
        except _NoPasswordError as error:
            return source, {"problem": str(error)}
        return source, result if "problem" in result else self.drawn.put(key, result)

    def _draw(self, page: _Wanted) -> Page | str:
        """A page, from what is stored where it was drawn before; or its problem."""
        drawn_key = self._key(page)
        drawn = self.drawn.get(drawn_key)
        prepared = drawn and self.drawn.get(self._prepared_key(drawn))
        if not (drawn and prepared):
            result = self.workers.ask(self._request(page, drawn))
            if "problem" in result:
                return str(result["problem"])
            drawn = drawn or self.drawn.put(drawn_key, result["drawn"])
            prepared = self.drawn.put(self._prepared_key(drawn), result["prepared"])
        text = mended(drawn["text"])
        trusted, why = trust(text)
        return Page(
            document=page.document.name,
            number=page.number,
            image=prepared["image"],
            drawn=drawn["image"],
            size=tuple(prepared["size"]),
            dpi=drawn["dpi"],
            source=page.source,
            steps=prepared["steps"],
            fingerprint=prepared["fingerprint"],
            blank=drawn["blank"],
            text=text,
            trusted=trusted,
            why=drawn["withheld"] or why,
            metadata=(self.drawn.get(_open_key(page.source)) or {}).get("metadata", {}),
        )

    def _request(self, page: _Wanted, drawn: JsonObject | None) -> JsonObject:
        if drawn:
            return {"do": "prepare", "drawn": str(self.drawn.path_of(drawn)), "steps": self.steps}
        return drawing(self.pages, page.document.path, page.number, self._password(page.document))

    def _key(self, page: _Wanted) -> str:
        asked = (page.source, page.number, self.mode, self.pages.dpi, self.pages.least_side)
        return sha256_of_text("draw", *map(str, asked))

    def _prepared_key(self, drawn: JsonObject) -> str:
        return sha256_of_text("prepare", drawn["pixels"], json.dumps(self.steps))

    def _is_uniform(self, page: _Wanted) -> bool:
        drawn = self.drawn.get(self._key(page))
        return bool(drawn and drawn["uniform"])

    def _password(self, document: Document) -> str | None:
        variable = of_document(self.pages.passwords, document.name)
        if variable and variable not in os.environ:
            raise _NoPasswordError(f"needs the password in {variable}, which is not set; export {variable}=...")
        return os.environ[variable] if variable else None


class _NoPasswordError(Exception):
    """The variable that a document's password should be in is not set."""
