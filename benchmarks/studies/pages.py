"""How many pages a second are drawn and prepared, beside pdftoppm page by page, and does memory stay flat?

    python -m benchmarks.studies.pages --pages 5000

Copies of the PDFs of a folder (those of `examples/documents` when none is given), each with a comment at its end, so
that none is known; their pages are drawn, flattened, deskewed and stored by as many processes as there are cores.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.compare.results import table
from benchmarks.machine import CORES, ROOT, write_page
from gemtune.documents.folder import DistilledFolder
from gemtune.documents.pages import draw_pages
from gemtune.recipe.schema import Recipe

POPPLER = 100  # pages that pdftoppm draws: it is slower, and as slow at each
BODY = """\
{pages:,} pages of {documents:,} PDFs, {workers} processes. Drawn at 200 dots an inch or 2,200 pixels, the more of the
two; stored as grey PNG.

{table}

Memory of all {workers} children that draw, as it grew, sampled twice a second:

{memory}

The process that they belong to had {first:.0f} MB after the first tenth of the pages and {last:.0f} MB at the end: it
holds a line for each page.
"""


class Memory:
    """What a process and its children hold, sampled by a thread: (seconds, the process, its children), in MB."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        process, began = psutil.Process(), time.perf_counter()
        while not self._ended.wait(0.5):
            children = [child.memory_info().rss for child in process.children()]
            self.samples.append(
                (time.perf_counter() - began, process.memory_info().rss / 1e6, sum(children) / 1e6),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "examples" / "documents")
    parser.add_argument("--pages", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        source = copies(args.folder, scratch / "in", args.pages)
        with Memory() as memory:
            began, before = time.perf_counter(), used()
            recipe = Recipe.model_validate(
                {"name": "pages", "task": "documents", "pages": {"source": str(source), "folder": str(scratch / "out")}}
            )
            pages = draw_pages(recipe, DistilledFolder.of(recipe), print, lambda what, done, total: None)
            seconds, processor = time.perf_counter() - began, used() - before
        drawn = [(source / page.document, page.number) for page in pages]
        chosen = drawn[:: max(1, len(drawn) // POPPLER)][:POPPLER]
        began, before = time.perf_counter(), used()
        poppler(chosen, scratch / "ppm")
        poppler_figures = figures(len(chosen), time.perf_counter() - began, used() - before)
    rows = [
        ["gemtune: drawn, flattened, deskewed, stored", *figures(len(pages), seconds, processor)],
        [f"`pdftoppm -r 200 -gray -png`, a call a page ({len(chosen)})", *poppler_figures],
    ]
    samples = memory.samples
    body = BODY.format(
        pages=len(pages),
        documents=len({page.document for page in pages}),
        workers=CORES,
        table=table("what | pages/s | s of processor a page", rows),
        memory=table("part of the run | least | most, MB", list(quarters(samples))),
        first=samples[len(samples) // 10][1],
        last=samples[-1][1],
    )
    write_page(__file__, "Pages drawn", body)


def copies(folder: Path, target: Path, pages: int) -> Path:
    """A folder of copies with at least so many pages, none with the bytes of another."""
    import pypdfium2

    count_of = {path: len(pypdfium2.PdfDocument(path)) for path in sorted(folder.rglob("*.pdf"))}
    target.mkdir(parents=True)
    made = 0
    for turn in range(pages):
        for path, count in count_of.items():
            if made >= pages:
                return target
            (target / f"{turn:04d}-{path.parent.name}-{path.name}").write_bytes(
                path.read_bytes() + b"\n%% copy %d\n" % turn
            )
            made += count
    return target


def used() -> float:
    """Seconds of processor of this process and of its children that have ended."""
    return sum(
        use.ru_utime + use.ru_stime for use in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def poppler(pages: Sequence[tuple[Path, int]], target: Path) -> None:
    """Draws pages by a call each, as many at once as there are cores."""
    target.mkdir()

    def draw(page: tuple[Path, int]) -> None:
        path, number = page
        name = str(target / f"{path.stem}-{number}")
        command = ["pdftoppm", "-r", "200", "-gray", "-png", "-f", str(number), "-l", str(number), str(path), name]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(draw, pages))


def figures(pages: int, seconds: float, processor: float) -> list[str]:
    return [f"{pages / seconds:.1f}", f"{processor / pages:.2f}"]


def quarters(samples: Sequence[tuple[float, float, float]]) -> list[list[str]]:
    """The least and most of the children's memory in each quarter; what starts and ends with them is left out."""
    steady = [children for _, _, children in samples[4:-2]] or [0.0]
    parts = [steady[len(steady) * part // 4 : len(steady) * (part + 1) // 4] or steady for part in range(4)]
    names = ("first quarter", "second", "third", "last")
    return [[name, f"{min(part):.0f}", f"{max(part):.0f}"] for name, part in zip(names, parts, strict=True)]


if __name__ == "__main__":
    main()
