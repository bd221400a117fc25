"""Pages that a model is asked about, as it saw pages in training: drawn alike, and prepared by the same steps."""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path

from gemtune.documents.pages import drawing, require_pdfium
from gemtune.documents.workers import Workers
from gemtune.errors import RowError
from gemtune.files import JsonObject
from gemtune.recipe.document_sections import Pages


class AskedPages:
    """The bytes of a PDF, a scan or a photo -> those of its page as a PNG; its child process ends with this one.

    `number` is the page; without it, there must be one alone.
    """

    def __init__(self, pages: Pages, number: int | None = None):
        self._pages, self._number = pages, number
        self._workers = Workers(1)

    def __call__(self, data: bytes) -> bytes:
        require_pdfium()
        with tempfile.TemporaryDirectory(prefix="gemtune-") as folder:
            path = Path(folder) / "page"
            path.write_bytes(data)
            password, opened = self._opened(path)
            result = self._answer(drawing(self._pages, path, self._number_of(opened["pages"]), password))
        png = result["prepared"].get("png") or result["drawn"]["png"]  # which no step has changed
        return base64.b64decode(png)

    def _opened(self, path: Path) -> tuple[str | None, JsonObject]:
        """The password that opens it, of those that the recipe names, and what it says of itself."""
        known = [os.environ[name] for name in self._pages.passwords.values() if name in os.environ]
        for password in known:
            opened = self._workers.ask({"do": "open", "path": str(path), "password": password})
            if "problem" not in opened:
                return password, opened
        return None, self._answer({"do": "open", "path": str(path), "password": None})

    def _number_of(self, count: int) -> int:
        if self._number is None and count > 1:
            raise RowError("which page", f"it has {count} pages, wanted one; add --page N, or give that page alone")
        number = self._number or 1
        if number > count:
            raise RowError("which page", f"found no page {number}: it has {count}; give another --page")
        return number

    def _answer(self, request: JsonObject) -> JsonObject:
        answer = self._workers.ask(request)
        if "problem" in answer:
            raise RowError("bad page", answer["problem"])
        return answer
