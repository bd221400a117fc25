"""The documents that ship: made again they are the same, and what is said to be on their pages is what was drawn."""

from __future__ import annotations

import doctest
import importlib
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pypdfium2
import pytest
from jsonschema_rs import ValidationError, Validator, validator_for
from PIL import features

from command import tree
from gemtune.files import JsonObject, read_jsonl
from gemtune.recipe.scaffold import shipped
from gemtune.tasks.documents.schemas import SCHEMAS

SHIPPED = shipped("examples") / "documents"
TRUTH = list(read_jsonl(SHIPPED / "truth.jsonl"))
CONTENT = {(line["document"], line["page"]): line["reply"] for line in TRUTH if line["task"] == "content"}
needs_raqm = pytest.mark.skipif(not features.check("raqm"), reason="Pillow finds no libfribidi0")


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(shipped("examples")))
    return importlib.import_module("make_documents")


@pytest.fixture(scope="module")
def layers() -> dict[str, list[str]]:
    """The text layer of every page of every document."""
    found = {}
    for path in sorted(SHIPPED.rglob("*.pdf")):
        with pypdfium2.PdfDocument(path) as pdf:
            pages = [page.get_textpage().get_text_range() for page in pdf]
        found[path.relative_to(SHIPPED).as_posix()] = pages
    return found


def test_the_examples_in_its_docstrings_hold(maker: ModuleType) -> None:
    result = doctest.testmod(maker)
    assert result.attempted and not result.failed


@needs_raqm
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(maker: ModuleType, tmp_path: Path) -> None:
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        list(itertools.islice(maker.write_documents(tmp_path / folder, seed), 4))
    assert len(tree(tmp_path / "a")) >= 4
    assert tree(tmp_path / "a") == tree(tmp_path / "b") != tree(tmp_path / "c")


@needs_raqm
def test_what_is_shipped_is_what_the_script_writes(maker: ModuleType) -> None:
    there = {path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*.pdf")}
    assert {name for name, _ in maker.documents(0)} == there
    said = defaultdict(list)
    for line in TRUTH:
        if line["task"] == "content":
            said[line["document"]] += [element["markdown"] for element in line["reply"]["elements"]]
    for name, document in maker.documents(0):
        for block in document.blocks:
            if block.kind in ("text", "title", "heading"):
                assert any(markdown.endswith(block.text) for markdown in said[name]), f"{name}: {block.text}"


def test_every_page_has_its_truth_but_the_empty_one(layers: dict[str, list[str]]) -> None:
    pages = {(name, number) for name, texts in layers.items() for number in range(1, len(texts) + 1)}
    for task in ("content", "fields"):
        said = [(line["document"], line["page"]) for line in TRUTH if line["task"] == task]
        assert sorted(said) == sorted(pages - {("letter/08.pdf", 2)})
    assert len(layers) >= 40 and len(pages) >= 80
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 2_650_000


def test_the_truth_is_of_the_schemas_that_it_answers() -> None:
    validators = {name: validator_for(schema, validate_formats=True) for name, schema in SCHEMAS.items()}
    faults = [(line["document"], error.message) for line in TRUTH for error in _faults(validators, line)]
    assert faults == []
    first = [line["reply"] for line in TRUTH if line["task"] == "fields" and line["page"] == 1]
    assert {reply["dates"][0]["role"] for reply in first} == {"issued"}


def test_the_text_beside_a_document_is_that_of_its_pages(layers: dict[str, list[str]]) -> None:
    for name, texts in layers.items():
        *pages, end = (SHIPPED / name).with_suffix(".md").read_text(encoding="utf-8").split("\f")
        assert len(pages) == len(texts) and not end
        for number, page in enumerate(pages, start=1):
            elements = CONTENT.get((name, number), {"elements": []})["elements"]
            assert page.strip() == "\n\n".join(element["markdown"] for element in elements)


def test_text_layers_are_the_words_on_the_page_and_most_pages_have_none(layers: dict[str, list[str]]) -> None:
    content = {place: json.dumps(reply, ensure_ascii=False) for place, reply in CONTENT.items()}
    checked = 0
    for name, texts in layers.items():
        for number, text in enumerate(texts, start=1):
            words = [word for line in text.split("\r\n")[2:5] for word in line.split()]
            checked += bool(words)
            missing = [word for word in words if word.strip(":،.") not in content.get((name, number), "")]
            assert len(missing) <= 0.2 * len(words), f"{name}, page {number}: {missing}"
    assert 10 < checked < 40


def test_two_invoices_share_a_page_and_one_letter_has_an_address_and_a_number() -> None:
    assert _pixels("invoice/15.pdf", 1) == _pixels("invoice/19.pdf", 1) != _pixels("invoice/15.pdf", 0)
    assert CONTENT["invoice/15.pdf", 2] == CONTENT["invoice/19.pdf", 2]
    assert {name for (name, _), reply in CONTENT.items() if "@" in json.dumps(reply)} == {"letter/07.pdf"}
    assert min(_pixels("letter/08.pdf", 1)) > 250


def test_a_page_stored_on_its_side_is_shown_upright() -> None:
    with pypdfium2.PdfDocument(SHIPPED / "statement/33.pdf") as pdf:
        assert pdf[0].get_rotation() == 90
        width, height = pdf[0].get_size()
    assert width < height


@pytest.mark.parametrize(
    ("missing", "says"), [("raqm", "install the system's libfribidi0"), ("font", "pip install fontpkg-amiri")]
)
def test_without_what_joins_letters_it_refuses(
    missing: str, says: str, maker: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "raqm":
        monkeypatch.setattr(maker.features, "check", lambda name: False)
    else:
        monkeypatch.setattr(maker.features, "check", lambda name: True)
        monkeypatch.setattr(maker, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=says):
        maker.font_files()


def _faults(validators: dict[str, Validator], line: JsonObject) -> Iterator[ValidationError]:
    return validators[line["task"]].iter_errors(line["reply"])


def _pixels(name: str, page: int) -> bytes:
    with pypdfium2.PdfDocument(SHIPPED / name) as pdf:
        return bytes(pdf[page].render(scale=0.5, grayscale=True).to_pil().tobytes())
