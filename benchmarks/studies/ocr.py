"""How well does tesseract read documents whose true text lies beside them?

    python -m benchmarks.studies.ocr FOLDER

Each PDF of the folder has its text in a Markdown file of its name. Pages are drawn and prepared as a recipe does that
says nothing of it, and read with the languages that each page is found to be in; `--languages ara eng ara+eng` adds
readings with the same languages on every page.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from benchmarks.compare.results import table
from benchmarks.machine import CORES, write_page
from gemtune.documents.folder import DistilledFolder, Page
from gemtune.documents.ocr import AUTO, OcrPage, available, engine, read
from gemtune.documents.pages import draw_pages
from gemtune.documents.references import references_of
from gemtune.metrics.arabic import fold
from gemtune.metrics.markdown import read_markdown
from gemtune.metrics.reading import Edits, character_edits, word_bag_f1, word_edits
from gemtune.recipe.schema import Recipe

FOLDINGS = {"as it is": "none", "punctuation dropped": "punctuation", "Arabic folded": "arabic", "both": "all"}
BODY = """\
{documents} documents, {pages} pages with a true text, {engine}. Error rates are edits of all documents over the
characters (CER) or words (WER) of their true text, in percent; the mean is over documents. A document is compared as a
whole, so that a line in another place than in its true text counts as wrong.

{foldings}

By document, Arabic folded and punctuation dropped; words: F1 of its words in any order.

{by_document}

True texts are not without fault: some leave running heads out, or correct what is printed.
"""


@dataclass(frozen=True)
class Document:
    """One document as it was read, and as it should be."""

    name: str
    read: str
    truth: str
    pages: int  # that its true text covers
    languages: str
    confidence: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of PDFs, each with a .md of its name beside it")
    parser.add_argument("--languages", nargs="*", default=[], help="read with these as well, whatever is on a page")
    parser.add_argument("--kept", type=Path, help="folder of page images and readings from an earlier time")
    args = parser.parse_args()
    if fault := available():
        parser.error(fault)
    with tempfile.TemporaryDirectory() as temporary:
        keys = {"source": str(args.folder), "folder": str(args.kept or temporary)}
        recipe = Recipe.model_validate({"name": "ocr", "task": "documents", "pages": keys})
        folder = DistilledFolder.of(recipe)
        pages = [page for page in draw_pages(recipe, folder, print, print_tick) if not page.blank]
        arms = {
            languages: read_documents(args.folder, folder, pages, languages) for languages in (AUTO, *args.languages)
        }
    documents = arms[AUTO]
    body = BODY.format(
        documents=len(documents),
        pages=sum(document.pages for document in documents),
        engine=engine(),
        foldings=table(
            "languages | compared | CER | mean CER | WER | mean WER",
            [
                row_of(languages, said, folding, arm)
                for languages, arm in arms.items()
                for said, folding in FOLDINGS.items()
            ],
        ),
        by_document=table(
            "document | languages | confidence | CER | WER | words",
            [row_of_document(document) for document in documents],
        ),
    )
    write_page(__file__, "Reading documents with tesseract", body)


def print_tick(what: str, done: int, total: int) -> None:
    print(f"\r{what}: {done} of {total}", end="\n" if done == total else "", flush=True)


def read_documents(source: Path, folder: DistilledFolder, pages: Sequence[Page], languages: str) -> list[Document]:
    """The documents that have a true text, each with the pages that it covers."""
    cache = folder.ocr if languages == AUTO else folder.root / f"ocr {languages}"
    reader = partial(read, cache=cache, languages=languages)
    with ThreadPoolExecutor(CORES) as pool:
        readings = list(pool.map(reader, (folder.root / page.image for page in pages)))
    documents = []
    for name in dict.fromkeys(page.document for page in pages):
        of_document = {
            page.number: reading for page, reading in zip(pages, readings, strict=True) if page.document == name
        }
        truths = references_of(source / name, {number: reading.text for number, reading in of_document.items()})
        covered = [of_document[number] for number in truths]
        if covered:
            documents.append(
                Document(
                    name,
                    "\n".join(reading.text for reading in covered),
                    "\n".join(read_markdown(truth).text for truth in truths.values()),
                    len(covered),
                    ", ".join(dict.fromkeys(reading.languages for reading in covered)),
                    mean_confidence(covered),
                )
            )
    return documents


def mean_confidence(readings: Sequence[OcrPage]) -> float:
    return fmean(reading.confidence for reading in readings)


def row_of(languages: str, said: str, folding: str, documents: Sequence[Document]) -> tuple[str, ...]:
    texts = [(fold(document.read, folding), fold(document.truth, folding)) for document in documents]
    characters = [character_edits(*pair) for pair in texts]
    words = [word_edits(*pair) for pair in texts]
    rates = (
        micro(characters),
        fmean(edits.rate for edits in characters),
        micro(words),
        fmean(edits.rate for edits in words),
    )
    return languages, said, *(percent(rate) for rate in rates)


def row_of_document(document: Document) -> tuple[str, ...]:
    pair = fold(document.read), fold(document.truth)
    rates = character_edits(*pair).rate, word_edits(*pair).rate, word_bag_f1(*pair)
    return document.name, document.languages, f"{document.confidence:.0f}", *(percent(rate) for rate in rates)


def micro(edits: Sequence[Edits]) -> float:
    return sum(edit.edits for edit in edits) / sum(edit.length for edit in edits)


def percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


if __name__ == "__main__":
    main()
