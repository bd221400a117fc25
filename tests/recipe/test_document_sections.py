"""The sections for documents: their files start at the recipe, and a wrong value is one line with the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemtune.errors import RecipeError
from gemtune.recipe.loader import parse_recipe
from gemtune.recipe.schema import Recipe

LEAST = "task: documents\npages:\n  source: pdfs\n"


def parsed(text: str, *overrides: str) -> Recipe:
    return parse_recipe(text, Path("/srv/r.yaml"), overrides)


def test_files_of_the_sections_start_at_the_recipe() -> None:
    recipe = parsed(
        LEAST.replace("pdfs", "[pdfs, ~/x.pdf, '*.tif']") + "teacher: {provider: files, replies: r.jsonl}\n"
    )
    assert recipe.pages is not None
    assert recipe.pages.source == ["/srv/pdfs", str(Path.home() / "x.pdf"), "/srv/*.tif"]
    assert [teacher.replies for teacher in recipe.teacher] == ["/srv/r.jsonl"]
    assert parsed(LEAST + "documents: {tasks: [content, invoice.json]}\n").documents.tasks == [
        "content",
        "/srv/invoice.json",
    ]


def test_rows_and_split_of_the_users_own_are_kept() -> None:
    recipe = parsed(LEAST + "data: mine.jsonl\nsplit: {by: document}\n")
    assert [data.source for data in recipe.data] == ["/srv/mine.jsonl"]
    assert recipe.split.by == "document"


def test_one_teacher_needs_no_list_and_is_overridden_without_one() -> None:
    recipe = parsed(LEAST + "teacher:\n  model: m\n", "teacher.0.attempts=2")
    assert [(teacher.model, teacher.attempts) for teacher in recipe.teacher] == [("m", 2)]


WRONG = {
    "no source": ("task: documents\npages: {dpi: 100}\n", "r.yaml: key 'pages.source' is missing; PDFs, TIFFs"),
    "unknown key": (LEAST + "  dip: 100\n", "r.yaml:4: unknown key 'pages.dip'; did you mean 'pages.dpi'?"),
    "unknown choice": (LEAST + "privacy: {findings: alow}\n", "found 'alow'; did you mean 'allow'?"),
    "in a list": (LEAST + "teacher: [{modle: m}]\n", "unknown key 'teacher.0.modle'; did you mean 'teacher.model'?"),
    "unknown step": (LEAST + "  steps: [flatten, deskw]\n", "no step is called 'deskw'; did you mean 'deskew'?"),
    "a step without its setting": (LEAST + "  steps: [resize]\n", "resize needs its setting (pixels of the longest"),
    "a setting for none": (LEAST + "  steps: [{gray: 3}]\n", "gray takes no setting, found 3; write `- gray`"),
    "a setting out of bounds": (LEAST + "  steps: [{resize: 10}]\n", "from 64 to 20000; found 10"),
    "two steps in one": (LEAST + "  steps: [{resize: 900, crop: 3}]\n", "give each step a `-` of its own"),
    "page range": (LEAST + "  select: {a.pdf: 3-1}\n", "'a.pdf': '3-1' runs backward; the smaller page comes first"),
    "no pages": (LEAST + "  select: {a.pdf: last}\n", "wanted pages such as `1-3,7`, `5-` or `-2-`, found 'last'"),
    "no source in a list": ("task: documents\npages: {source: []}\n", "wanted files, folders or globs"),
    "twice": (
        LEAST + "teacher: [{model: m}, {model: m, url: http://x/v1}]\n",
        "wanted models that differ, found one twice",
    ),
    "no prices": (LEAST + "teacher: {model: m, budget: 1}\n", "wanted input_price and output_price for a budget"),
    "samples alike": (LEAST + "teacher: {model: m, samples: 2}\n", "wanted a temperature above 0 for several samples"),
    "out of bounds": (
        LEAST + "teacher: {agreement: 2}\n",
        "teacher.0.agreement: wanted less than or equal to 1, found 2",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_key_or_value_is_one_line(what: str) -> None:
    text, wanted = WRONG[what]
    with pytest.raises(RecipeError) as error:
        parsed(text)
    assert wanted in str(error.value)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(RecipeError, match="wanted the name of an environment variable") as error:
        parsed(LEAST + "  passwords: {a.pdf: open-sesame!}\n")
    assert "sesame" not in str(error.value)


def test_one_page_may_be_a_number() -> None:
    assert parsed(LEAST + "  select: {a.pdf: 3}\n").pages.select == {"a.pdf": "3"}  # type: ignore[union-attr]
