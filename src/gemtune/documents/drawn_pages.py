"""What was drawn before: pictures under the digest of their pixels, and a line for each thing that was done."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import IO, Any

from gemtune.documents.folder import DistilledFolder
from gemtune.files import JsonObject, os_errors, write_bytes

_PNG_END = b"IEND\xaeB`\x82"


class DrawnPages:
    """Results by the key of what asked for them, kept as they come: a run that is killed goes on from there.

    A line is written once its picture is there. One that a kill has cut is passed over, and its page drawn again.
    """

    def __init__(self, folder: DistilledFolder):
        self._folder = folder
        self._results: dict[str, JsonObject] = {}
        self._lock = threading.Lock()
        self._log: IO[Any] | None = None

    def __enter__(self) -> DrawnPages:
        path = self._folder.drawn_file
        with os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._log = path.open("a+", encoding="utf-8", errors="backslashreplace", newline="\n")
            self._log.seek(0)
            line = "\n"
            for line in self._log:
                if entry := _entry(line):
                    self._results[entry["key"]] = entry["result"]
            if not line.endswith("\n"):
                self._log.write("\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._log:
            with os_errors(self._folder.drawn_file):
                self._log.close()

    def get(self, key: str) -> JsonObject | None:
        """A result whose picture, where it has one, is whole."""
        result = self._results.get(key)
        return result if result and ("image" not in result or _is_whole(self.path_of(result))) else None

    def put(self, key: str, result: JsonObject) -> JsonObject:
        """Stores a result: its `png` as a file, which `image` then names, and a line of what is left."""
        if "pixels" in result:
            name = f"{self._folder.images.name}/{result['pixels'][:2]}/{result['pixels']}.png"
            png = result.pop("png", None)
            result = {**result, "image": name}
            if png and not _is_whole(self.path_of(result)):
                write_bytes(self.path_of(result), base64.b64decode(png))
        with self._lock, os_errors(self._folder.drawn_file):
            self._results[key] = result
            if self._log:
                self._log.write(json.dumps({"key": key, "result": result}, ensure_ascii=False) + "\n")
                self._log.flush()
        return result

    def path_of(self, result: JsonObject) -> Path:
        """The file of a result's picture."""
        return self._folder.root / result["image"]


def _entry(line: str) -> JsonObject | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and entry.keys() == {"key", "result"} else None


def _is_whole(path: Path) -> bool:
    """Whether a PNG is there, to its end."""
    try:
        with path.open("rb") as stream:
            stream.seek(-len(_PNG_END), 2)
            return stream.read() == _PNG_END
    except OSError:
        return False
