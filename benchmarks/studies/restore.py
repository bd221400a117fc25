"""Do the steps of `pages` bring back what bad light, noise and skew take from a page? Character errors of tesseract.

    python -m benchmarks.studies.restore pdfs/ --only pdf6 pdf24 pdf21

Wants a folder of PDFs, each with the text of all its pages in a .md beside it. Every page is damaged in each way,
prepared in each way, and read.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.compare.results import table
from benchmarks.machine import CORES, write_page
from gemtune.documents.folder import DistilledFolder, Page
from gemtune.documents.ocr import read
from gemtune.documents.pages import draw_pages
from gemtune.documents.steps import prepared
from gemtune.metrics.arabic import fold
from gemtune.metrics.reading import character_edits
from gemtune.recipe.document_sections import step_and_setting
from gemtune.recipe.schema import Recipe

Grey = NDArray[np.float32]  # (H, W), from 0 to 255

PREPARED = {
    "as it is": [],
    "autocontrast": ["autocontrast"],
    "clahe": ["clahe"],
    "flatten": ["flatten"],
    "deskew": ["deskew"],
    "flatten, deskew": ["flatten", "deskew"],
}
_MARKUP = re.compile(r"<[^>]*>|!\[[^\]]*\]\([^)]*\)|[#*_|`]|:?-{3,}:?")
BODY = """\
Character errors of tesseract (`{languages}`) on {pages} pages of {documents} documents, per cent, over all of them, in
text without punctuation and with the letters of Arabic folded:

{table}

Drawn as a recipe draws them by default; every damage has a fixed seed.
"""


def light(grey: Grey) -> Grey:
    """A lamp at the upper left: half the contrast, and a third of the light at the lower right."""
    rows, columns = grey.shape
    far = np.hypot(*np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))) / np.sqrt(2)
    return (110 + grey * (130 / 255)) * (1 - 0.68 * far)


def turned(grey: Grey, degrees: float) -> Grey:
    image = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    return np.asarray(image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=255), np.float32)


def scanned(grey: Grey, noise: float) -> Grey:
    """Turned by 1.5 degrees, unevenly lit, noisy, and a JPEG of quality 60."""
    grain = np.random.default_rng(5).normal(0, noise, grey.shape)
    dark = (light(turned(grey, 1.5)) + grain).round().clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(dark).save(out, "JPEG", quality=60)
    return np.asarray(Image.open(out), np.float32)


DAMAGES: dict[str, Callable[[Grey], Grey]] = {
    "none": lambda grey: grey,
    "low contrast, light falling off": light,
    "turned by 2 degrees": lambda grey: turned(grey, 2),
    "turned by 5 degrees": lambda grey: turned(grey, 5),
    "scan: 1.5 degrees, noise 5, uneven light, JPEG": lambda grey: scanned(grey, 5),
    "the same with noise 14": lambda grey: scanned(grey, 14),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="PDFs, each with a .md of its name")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="PDFs to take, without .pdf; all when not given")
    parser.add_argument("--damages", nargs="+", choices=DAMAGES, default=list(DAMAGES), metavar="DAMAGE")
    parser.add_argument("--prepared", nargs="+", choices=PREPARED, default=list(PREPARED), metavar="STEPS")
    parser.add_argument("--languages", default="ara")
    args = parser.parse_args()
    names = args.only or sorted(path.stem for path in args.folder.glob("*.pdf"))
    with tempfile.TemporaryDirectory() as scratch:
        folder, pages = drawn([args.folder / f"{name}.pdf" for name in names], Path(scratch))
        rows = []
        for damage in args.damages:
            rows.append([damage])
            for steps in args.prepared:
                texts = readings(folder, pages, DAMAGES[damage], PREPARED[steps], args.languages)
                rows[-1].append(f"{100 * errors(args.folder, pages, texts):.1f}")
                print(damage, steps, rows[-1][-1], file=sys.stderr, flush=True)
    shown = table(" | ".join(["damage", *args.prepared]), rows)
    body = BODY.format(languages=args.languages, pages=len(pages), documents=len(names), table=shown)
    write_page(__file__, "Pages restored", body)


def drawn(pdfs: Sequence[Path], scratch: Path) -> tuple[DistilledFolder, list[Page]]:
    """The pages without any step but gray."""
    pages = {"source": [str(path) for path in pdfs], "folder": str(scratch), "steps": ["gray"]}
    recipe = Recipe.model_validate({"name": "restore", "task": "documents", "pages": pages})
    folder = DistilledFolder.of(recipe)
    return folder, draw_pages(recipe, folder, print, lambda what, done, total: None)


def readings(
    folder: DistilledFolder, pages: Sequence[Page], damage: Callable[[Grey], Grey], steps: list[str], languages: str
) -> list[str]:
    """What tesseract reads on each page, damaged and prepared."""

    def text(page: Page) -> str:
        grey = damage(np.asarray(Image.open(folder.root / page.drawn), np.float32))
        image = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
        image, _ = prepared(image, [step_and_setting(step) for step in steps])
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "page.png"
            image.save(path, compress_level=1)
            return read(path, languages=languages).text

    with ThreadPoolExecutor(CORES) as pool:
        return list(pool.map(text, pages))


def errors(folder: Path, pages: Sequence[Page], texts: Sequence[str]) -> float:
    """The character errors of all documents per character of their references."""
    read_of: dict[str, list[str]] = {}
    for page, text in zip(pages, texts, strict=True):
        read_of.setdefault(page.document, []).append(text)
    edits = [
        character_edits(
            fold(" ".join(parts)), fold(_MARKUP.sub(" ", (folder / name).with_suffix(".md").read_text("utf-8")))
        )
        for name, parts in read_of.items()
    ]
    return sum(edit.edits for edit in edits) / sum(edit.length for edit in edits)


if __name__ == "__main__":
    main()
