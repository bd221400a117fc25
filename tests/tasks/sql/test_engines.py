"""Engines by name or address: one that is none, or not installed, is one line."""

from __future__ import annotations

import importlib.util

import pytest

from gemtune.errors import RecipeError
from tasks.task_rows import task_at


def test_an_engine_that_is_not_installed_names_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"sql\.engine: duckdb is not installed; run: pip install 'gemtune\[sql\]'"):
        task_at("duckdb", "postgres")


@pytest.mark.parametrize("url", ["postgres://me:secret@host/db", "mysql://me:secret@host", "oracle://host", "sqlite3"])
def test_an_engine_that_is_none_or_shows_its_password_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"sql\.engine"):
        task_at(url, "postgres")
