"""The folder that `distill` writes: the only file that joins its paths, and what a line of its files holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from gemtune.errors import RecipeError
from gemtune.files import JsonObject
from gemtune.recipe.document_sections import ROWS
from gemtune.recipe.schema import Recipe
from gemtune.run_files import Stored


@dataclass(frozen=True, kw_only=True)
class Page(Stored):
    """A page image: a line of pages.jsonl, which is ordered by document and number."""

    document: Annotated[str, "its path below `pages.source`, with `/`"]
    number: Annotated[int, "from 1"]
    image: Annotated[str, "the page after its steps, by path in the folder; named by the SHA-256 of its pixels"]
    drawn: Annotated[str, "the page as drawn, before its steps"]
    size: Annotated[tuple[int, int], "of `image`", "pixels"]
    dpi: Annotated[float, "that it was drawn at; that of a scan where its file says so", "dots/inch"]
    source: Annotated[str, "the SHA-256 of its document"]
    steps: Annotated[list[JsonObject], "what was done, in order: `step`, its setting and its result"]
    fingerprint: Annotated[str, "of what it looks like: a dHash of 16x16, in hex; near pages are few bits apart"]
    blank: Annotated[bool, "nothing is on it; it is not sent"]
    text: Annotated[str, "the document's own text layer, lam-alef put right; empty where there is none"] = ""
    trusted: Annotated[bool, "whether that text can be believed"] = False
    why: Annotated[str, "of `trusted`"] = ""
    metadata: Annotated[dict[str, str], "what its document says of itself: `Author`, `Title` ..."] = field(
        default_factory=dict
    )


@dataclass(frozen=True, kw_only=True)
class Problem(Stored):
    """A document or page that could not be drawn: a line of problems.jsonl."""

    document: Annotated[str, "its name, as with the pages"]
    number: Annotated[int | None, "null: the whole document"]
    problem: Annotated[str, "what was found, and what to do"]


class DistilledFolder:
    """`pages.folder`/`name` of a recipe.

    >>> DistilledFolder(Path("distilled/letters")).rows_file.as_posix()
    'distilled/letters/rows.jsonl'
    """

    def __init__(self, root: Path):
        self.root = root
        self.images = root / "images"  # ab/<sha256 of pixels>.png
        self.pages_file = root / "pages.jsonl"
        self.drawn_file = root / "drawn.jsonl"  # what was drawn, as it came: nothing is drawn twice
        self.problems_file = root / "problems.jsonl"
        self.ocr = root / "ocr"  # ab/<sha256 of pixels>.json: what tesseract read
        self.redacted = root / "redacted"  # ab/<sha256 of pixels>.png: page images with boxes over personal data
        self.findings_file = root / "findings.jsonl"  # personal data, by page
        self.audit_file = root / "audit.jsonl"  # what was sent where
        self.replies = root / "replies"  # ab/<key>.json: a teacher's replies, each paid for
        self.ledger_file = root / "ledger.jsonl"  # intents and charges, a line each
        self.groups_file = root / "groups.jsonl"  # documents that share a page, or belong together
        self.rows_file = root / ROWS
        self.manifest_file = root / "manifest.json"
        self.contact_sheet = root / "pages.html"
        self.llamafactory = root / "llamafactory"

    @classmethod
    def of(cls, recipe: Recipe) -> DistilledFolder:
        """The folder of a recipe with `pages`; RecipeError for one without."""
        if recipe.pages is None:
            raise RecipeError("pages: is missing; `gemtune new documents` writes a recipe with documents")
        return cls(Path(recipe.pages.folder) / recipe.name)
