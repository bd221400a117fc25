"""The engine's packages: taken apart where they are what was pinned, and refused where they are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gemtune.errors import DataError, GemtuneError
from gemtune.serving import web_assets
from gemtune.serving.web_assets import write_engine
from web_packages import FILES, NAMES, package_in


def test_files_of_a_package_get_the_pages_names(tmp_path: Path) -> None:
    write_engine(tmp_path / "engine", tmp_path, [package_in(tmp_path)])
    for member, name in NAMES.items():
        assert (tmp_path / "engine" / name).read_bytes() == FILES[member]


def test_another_file_of_the_same_name_is_refused(tmp_path: Path) -> None:
    package = package_in(tmp_path)
    path = tmp_path / "small.tgz"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(GemtuneError, match=r"small\.tgz: has SHA-512 .*, wanted"):
        write_engine(tmp_path / "engine", tmp_path, [package])
    assert not (tmp_path / "engine").exists()


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    package = replace(package_in(tmp_path), address="@some/small/-/other.tgz")
    with pytest.raises(DataError, match=r"other\.tgz: No such file"):
        write_engine(tmp_path / "engine", tmp_path, [package])


def test_without_a_network_the_same_packages_come_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_assets, "REGISTRY", "https://registry.invalid/")  # a name that is never found
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    package = package_in(tmp_path)
    with pytest.raises(GemtuneError, match="give their folder with --assets"):
        write_engine(tmp_path / "engine", None, [package])
    write_engine(tmp_path / "engine", tmp_path, [package])
    assert {path.name for path in (tmp_path / "engine").iterdir()} == set(NAMES.values())
