"""docs/security.md: every defence names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!what could|---)(.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)


def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_defence_is_proven_by_a_test_that_is_there() -> None:
    assert len(ROWS) >= 20
    for danger, _, proofs in ROWS:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", proofs)
        assert named and not {f"{path}::{name}" for path, name in named if name not in names_in(path)}, danger
