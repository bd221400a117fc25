"""The command line on documents: pages are shown, rows are made, LLaMA-Factory's recipes are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import command
from documents.distilled_place import Place, three_letters
from gemtune.models.families import write_tiny


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return three_letters(tmp_path, model=str(write_tiny("gemma3-vision", tmp_path / "tiny")))


def test_pages_are_shown_before_there_are_rows(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    answer = command.gemtune(capfd, "show", place.file)
    assert answer.code == 0
    assert answer.out.splitlines() == [f"pages: {place.folder.contact_sheet}", f"next: gemtune distill {place.file}"]


def test_distill_says_what_there_is_and_what_is_left_out(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    answer = command.gemtune(capfd, "distill", place.file, "--llamafactory")
    lines, rows = answer.out.splitlines(), place.rows()
    pages = len({(row["document"], row["number"]) for row in rows})
    assert answer.code == 0
    assert lines[:2] == [
        f"{len(rows)} rows of {pages} pages of 3 documents: {place.folder.rows_file}",
        f"  content {pages}, fields {pages}",
    ]
    assert any(line.startswith("  left out: 08.pdf page 2: nothing is drawn on it") for line in lines)
    assert lines[-2].startswith(f"wrote {place.folder.llamafactory}: train ")
    assert lines[-1] == f"next: gemtune run {place.file}"


def test_distill_answers_a_script_in_json(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    answer = command.gemtune(capfd, "distill", place.file, "--json")
    manifest = json.loads(place.folder.manifest_file.read_text(encoding="utf-8"))
    assert json.loads(answer.out) == {**manifest, "llamafactory": None} and answer.err == ""


def test_a_recipe_without_documents_is_told_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e.yaml").write_text("task: emoji\ndata: e.csv\n")
    answer = command.gemtune(capfd, "distill", tmp_path / "e.yaml")
    assert command.refusal(answer) == ("pages: is missing; `gemtune new documents` writes a recipe with documents")


def test_import_says_what_each_key_became(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "lf.yaml"
    source.write_text("model_name_or_path: a/b\ndataset: d\nlora_rank: 96\nlora_rnak: 1\n")
    answer = command.gemtune(capfd, "import", source)
    lines = answer.out.splitlines()
    assert answer.code == 0 and (tmp_path / "lf.gemtune.yaml").is_file()
    assert "lora_rank: 96 -> lora.r: 96, lora.alpha: 192 (alpha is twice the rank there)" in lines
    assert "lora_rnak: 1 -> nothing: unknown key; did you mean 'lora_rank'?" in lines
    assert lines[-2:] == [f"wrote {tmp_path}/lf.gemtune.yaml", f"next: gemtune run {tmp_path}/lf.gemtune.yaml"]


def test_import_of_what_is_not_there_names_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answer = command.gemtune(capfd, "import", tmp_path / "none.yaml")
    assert "none.yaml: no such " in command.refusal(answer)
