"""How well does tesseract read pages, by every score that a tuned model is measured by, and what does folding change?

    python -m benchmarks.studies.ocr_scores pdfs/

Wants a folder of PDFs, each with the text of its pages in a .md beside it. Pages are prepared as a recipe does it by
default; those that the text does not cover are left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.compare.results import table
from benchmarks.machine import CORES, write_page
from gemtune.documents.folder import DistilledFolder
from gemtune.documents.ocr import read
from gemtune.documents.pages import draw_pages, image_of
from gemtune.documents.references import references_of
from gemtune.metrics.arabic import FOLDINGS
from gemtune.recipe.schema import Recipe
from gemtune.tasks.documents.scores import METRICS, Truth, score_reply

SHOWN = (*(f"cer_{folding}" for folding in FOLDINGS), *(f"wer_{folding}" for folding in FOLDINGS), "word_f1", "chrf")
BODY = """\
tesseract (`{languages}`) on {documents} documents, {pages} pages, per cent; `cer` and `wer` compare texts as they are
(`none`), without punctuation, with Arabic letters, marks and digits unified (`arabic`), and with both (`all`):

{table}

The last line has the edits of all documents over their characters, and means of the other scores. References that were
made by a model have errors of their own: no reader gets 0.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="PDFs, each with a .md of its name")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="PDFs to take, without .pdf; all when not given")
    parser.add_argument("--languages", default="auto")
    args = parser.parse_args()
    names = args.only or sorted(path.stem for path in args.folder.glob("*.pdf"))
    with tempfile.TemporaryDirectory() as scratch:
        scored = list(scores_of([args.folder / f"{name}.pdf" for name in names], Path(scratch), args.languages))
    rows = [[name, str(pages), *cells(scores)] for name, pages, scores in scored]
    rows.append(["all", str(sum(pages for _, pages, _ in scored)), *cells(together([s for _, _, s in scored]))])
    shown = table(" | ".join(["document", "pages", *SHOWN]), rows)
    body = BODY.format(languages=args.languages, pages=rows[-1][1], documents=len(scored), table=shown)
    write_page(__file__, "Pages read by tesseract", body)


def scores_of(pdfs: Sequence[Path], scratch: Path, languages: str) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Each document with the number of its pages that the text covers, and its scores."""
    pages = {"source": [str(path) for path in pdfs], "folder": str(scratch)}
    recipe = Recipe.model_validate({"name": "ocr", "task": "documents", "pages": pages})
    folder = DistilledFolder.of(recipe)
    drawn = draw_pages(recipe, folder, print, lambda what, done, total: None)
    with ThreadPoolExecutor(CORES) as pool:
        texts = list(pool.map(lambda page: read(image_of(folder, page), folder.ocr, languages).text, drawn))
    for path in pdfs:
        readings = {page.number: text for page, text in zip(drawn, texts, strict=True) if page.document == path.name}
        covered = sorted(references_of(path, readings))
        truth = Truth.of({"task": "content"}, path.with_suffix(".md").read_text(encoding="utf-8"))
        scores = score_reply("\n\n".join(readings[number] for number in covered), truth)
        print(path.name, *cells(scores), file=sys.stderr, flush=True)
        yield path.name, len(covered), scores


def together(documents: Sequence[dict[str, float]]) -> dict[str, float]:
    """Error rates over the characters and words of all documents; the mean of the other scores."""
    sums = {
        name: sum(scores[name] for scores in documents) for name in documents[0] if all(name in s for s in documents)
    }
    means = {name: total / len(documents) for name, total in sums.items()}
    rates = {name: METRICS[name].combine for name in SHOWN}
    return means | {name: sums[rate.parts[0]] / sums[rate.parts[1]] for name, rate in rates.items() if rate}


def cells(scores: dict[str, float]) -> list[str]:
    return [f"{100 * scores[name]:.1f}" for name in SHOWN]


if __name__ == "__main__":
    main()
