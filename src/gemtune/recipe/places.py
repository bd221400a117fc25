"""The same recipe at another place: its files are known by name and content, not by the folder they lie in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def without_places(decided: dict[str, Any]) -> dict[str, Any]:
    """What `deciders` gives, with every absolute path cut down to what stays when a project is moved.

    What lies in files is told by a digest beside it, so their name is enough; image folders have none, so they are
    told by how they lie to the rows.

    >>> without_places({"task": "/a/t.py:T", "data": [{"source": "/a/rows/e.csv", "images": ["/a/img"], "limit": 9}]})
    {'task': 't.py:T', 'data': [{'source': 'e.csv', 'images': ['../img'], 'limit': 9}]}
    >>> without_places({"task": "emoji", "data": [{"source": "user/name", "images": []}]})
    {'task': 'emoji', 'data': [{'source': 'user/name', 'images': []}]}
    """
    moved = {**decided}
    if "task" in moved:
        moved["task"] = _name(moved["task"])
    if "data" in moved:
        moved["data"] = [_source_without_place(source) for source in moved["data"]]
    return moved


def _source_without_place(source: dict[str, Any]) -> dict[str, Any]:
    path = Path(source["source"])
    images = [
        os.path.relpath(image, path.parent) if _are_absolute(image, path) else image for image in source["images"]
    ]
    return {**source, "source": _name(source["source"]), "images": images}


def _are_absolute(*paths: str | Path) -> bool:
    return all(Path(path).is_absolute() for path in paths)


def _name(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() else path
