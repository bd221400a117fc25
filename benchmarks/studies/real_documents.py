"""Documents of one's own, with true texts beside them (`NAME.md`): drawn, grouped, read by tesseract, and scored.

    python -m benchmarks.studies.real_documents FOLDER [--folder distilled/real] [--json scores.json]

For each document: the pages whose true text is known, tesseract's character and word errors on them by each folding
(edits over the length of the true text, in percent), and F1 of the words in any order. Documents that share a page are
named. What is drawn and read once is kept in `--folder`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gemtune.documents.folder import DistilledFolder
from gemtune.documents.ocr import OcrPage, available, read_pages
from gemtune.documents.pages import draw_pages
from gemtune.documents.references import references_of
from gemtune.documents.rows import groups_of
from gemtune.documents.sources import documents_of
from gemtune.metrics.arabic import FOLDINGS, fold
from gemtune.metrics.markdown import read_markdown
from gemtune.metrics.reading import Edits, character_edits, word_bag_f1, word_edits
from gemtune.recipe.schema import Recipe


def scores_of(pairs: list[tuple[str, str]]) -> dict[str, float]:
    """(reading, truth) of pages -> percent: error rates over all of them, and F1 of their words."""
    scores = {}
    for folding in FOLDINGS:
        folded = [(fold(reading, folding), fold(truth, folding)) for reading, truth in pairs]
        for name, edits in (("cer", character_edits), ("wer", word_edits)):
            all_edits = [edits(reading, truth) for reading, truth in folded]
            both = Edits(sum(one.edits for one in all_edits), sum(one.length for one in all_edits))
            scores[f"{name} {folding}"] = 100 * both.rate
    words = [word_bag_f1(fold(reading), fold(truth)) for reading, truth in pairs]
    return {**scores, "bag f1": 100 * sum(words) / len(words)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("distilled/real"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if fault := available():
        raise SystemExit(fault)
    source, root = str(options.source.absolute()), options.folder.absolute()
    recipe = Recipe(name=root.name, task="documents", pages={"source": source, "folder": str(root.parent)})
    folder = DistilledFolder.of(recipe)
    pages = draw_pages(recipe, folder, print, lambda what, done, total: None)
    for group in groups_of(pages):
        for pair in group.shared:
            other = f"{pair.other} page {pair.other_number}, {pair.distance} bits apart"
            print(f"{pair.document} page {pair.number} = {other}")
    readings = read_pages(folder, [page for page in pages if not page.blank], lambda what, done, total: None)
    texts: dict[str, dict[int, str]] = {}
    for page in pages:
        reading = readings.get(page.image)
        texts.setdefault(page.document, {})[page.number] = reading.text if isinstance(reading, OcrPage) else ""
    table = {}
    everything = []
    for document in documents_of(recipe.pages, folder.root)[0]:
        true = references_of(document.path, texts.get(document.name, {}))
        pairs = [(texts[document.name][number], read_markdown(text).text) for number, text in true.items()]
        everything += pairs
        if pairs:
            table[document.name] = {"pages": ",".join(map(str, true)), **scores_of(pairs)}
    table["all"] = {"pages": str(len(everything)), **scores_of(everything)}
    names = ["pages", *(f"{rate} {folding}" for folding in FOLDINGS for rate in ("cer", "wer")), "bag f1"]
    print("| document | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for name, row in table.items():
        cells = (f"{row[key]:.1f}" if isinstance(row[key], float) else row[key] for key in names)
        print(f"| {name} | " + " | ".join(cells) + " |")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
