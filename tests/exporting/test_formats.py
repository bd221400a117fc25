"""The table of formats: what a name means, and what is refused before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gemtune.errors import GemtuneError, MissingExtra
from gemtune.exporting.formats import DEFAULTS, FORMATS, formats_of


def test_every_short_name_means_a_format() -> None:
    assert set(DEFAULTS.values()) <= FORMATS.keys() and not DEFAULTS.keys() & FORMATS.keys()
    here = [name for name in FORMATS if name != "litert"]  # which has an environment of its own
    assert formats_of([*DEFAULTS, *here, *DEFAULTS]) == list(dict.fromkeys([*DEFAULTS.values(), *here]))


def test_every_format_says_what_it_needs() -> None:
    for name, format_ in FORMATS.items():
        assert format_.what and bool(format_.modules) == bool(format_.extra), name
        assert (format_.write is None) != (format_.write_apart is None), name


def test_a_format_that_is_not_known_names_the_nearest() -> None:
    with pytest.raises(GemtuneError, match=r"no format 'merge' to export to; did you mean 'merged'\?"):
        formats_of(["merge"])


def test_a_missing_extra_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    needy = replace(FORMATS["merged"], modules=("json", "no_such_module"), extra="onnx")
    monkeypatch.setitem(FORMATS, "needy", needy)
    with pytest.raises(MissingExtra, match=r"export needy needs .*: pip install 'gemtune\[onnx\]'"):
        formats_of(["merged", "needy"])


def test_a_merged_folder_is_linked_not_copied(tmp_path: Path) -> None:
    merged, folder = tmp_path / "merged", tmp_path / "export" / "merged"
    (merged / "onnx").mkdir(parents=True)
    (merged / "onnx" / "x.bin").write_text("x")
    folder.mkdir(parents=True)
    FORMATS["merged"].write(merged, folder)
    assert (folder / "onnx" / "x.bin").samefile(merged / "onnx" / "x.bin")
