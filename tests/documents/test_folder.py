"""The folder of a recipe's documents, and what its lines hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemtune.documents.folder import DistilledFolder, Page
from gemtune.errors import RecipeError, RunError
from gemtune.recipe.loader import parse_recipe

PAGE = Page(
    document="a/b.pdf",
    number=2,
    image="images/ab/ab.png",
    drawn="images/cd/cd.png",
    size=(850, 1100),
    dpi=100.0,
    source="00",
    steps=[{"step": "deskew", "degrees": 1.5}],
    fingerprint="f" * 64,
    blank=False,
)


def test_a_recipe_reads_the_rows_of_its_own_folder(tmp_path: Path) -> None:
    text = f"name: letters\ntask: documents\npages: {{source: pdfs, folder: {tmp_path}/out}}\n"
    recipe = parse_recipe(text, tmp_path / "r.yaml")
    folder = DistilledFolder.of(recipe)
    assert folder.root == tmp_path / "out" / "letters"
    assert [data.source for data in recipe.data] == [str(folder.rows_file)]
    assert recipe.split.by == "group"


def test_a_recipe_without_documents_has_none() -> None:
    with pytest.raises(RecipeError, match="pages: is missing; `gemtune new documents` writes"):
        DistilledFolder.of(parse_recipe("task: emoji\ndata: e.csv\n", Path("r.yaml")))


def test_a_page_is_read_back_and_a_damaged_one_named() -> None:
    line = PAGE.to_json()
    assert Page.from_json({**line, "size": list(PAGE.size)}, "pages.jsonl:1") == PAGE
    with pytest.raises(RunError, match=r"pages.jsonl:1: number: wanted a valid integer, .* found 'two'; run the stage"):
        Page.from_json({**line, "number": "two"}, "pages.jsonl:1")
