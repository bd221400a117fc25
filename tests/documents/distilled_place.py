"""A recipe over some of the shipped documents, drawn small, and what its distillation said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from gemtune.documents.distill import distill
from gemtune.documents.folder import DistilledFolder
from gemtune.documents.manifest import DistillManifest
from gemtune.recipe.loader import load_recipe

EXAMPLES = Path(__file__).parents[2] / "examples" / "documents"
TRUTH = EXAMPLES / "truth.jsonl"


class Place:
    """A recipe over some of the shipped documents, drawn small, and what its distillation said."""

    def __init__(self, root: Path, **sections: Any):
        self.root, self.said = root, list[str]()
        recipe = {
            "name": "letters",
            "task": "documents",
            "pages": {"source": [str(EXAMPLES / "letter"), str(EXAMPLES / "form" / "2[23].pdf")]},
            "teacher": {"provider": "files", "replies": str(TRUTH)},
            "privacy": {"ocr": False},
        }
        recipe |= sections
        recipe["pages"] = {"folder": str(root), "dpi": 50, "least_side": 0, "workers": 1, **recipe["pages"]}
        self.file = root / "documents.yaml"
        self.file.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
        self.folder = DistilledFolder(root / "letters")

    def distill(self, *overrides: str, **more: Any) -> DistillManifest:
        recipe = load_recipe(self.file, overrides)
        return distill(recipe, self.folder, self.said.append, lambda what, done, total: None, **more)

    def rows(self) -> list[dict[str, Any]]:
        return list(map(json.loads, self.folder.rows_file.read_text(encoding="utf-8").splitlines()))


def replies(root: Path, *names: str) -> Path:
    """The shipped replies for the pages of some documents, by the names that a source of one folder gives them."""
    lines = [json.loads(line) for line in TRUTH.read_text(encoding="utf-8").splitlines()]
    own = [{**line, "document": line["document"].rpartition("/")[2]} for line in lines]
    path = root / "replies.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in own if line["document"] in names), encoding="utf-8")
    return path


def three_letters(root: Path, **sections: Any) -> Place:
    """Letters whose replies are there already; the second page of the last is empty."""
    names = ("01.pdf", "02.pdf", "08.pdf")
    source = [str(EXAMPLES / "letter" / name) for name in names]
    given = replies(root, *names)
    return Place(root, pages={"source": source}, teacher={"provider": "files", "replies": str(given)}, **sections)
