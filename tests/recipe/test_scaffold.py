"""`gemtune new`: what it writes runs as it is, and nothing of the user's is written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import tree
from gemtune.documents.distill import distill
from gemtune.documents.folder import DistilledFolder
from gemtune.errors import GemtuneError, RecipeError
from gemtune.preparation.prepare import prepare
from gemtune.recipe.loader import load_recipe
from gemtune.recipe.scaffold import shipped, write_example
from gemtune.runs import Run

# Pages that are drawn in seconds.
COARSE = ("pages.dpi=72", "pages.least_side=0", "pages.steps=[gray]", "privacy.ocr=false")
NAMES = sorted(path.stem for path in shipped("recipes").glob("*.yaml"))


def test_there_is_something_to_start_from() -> None:
    assert {"emoji", "sql"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_new_recipe_finds_its_data_and_prepares(name: str, tmp_path: Path) -> None:
    written = list(write_example(name, str(tmp_path / "new")))
    assert written[0] == tmp_path / "new" / f"{name}.yaml"
    assert sorted(written) == sorted((tmp_path / "new").iterdir())
    quick = ["data.0.limit=200"] if name != "documents" else [f"pages.folder={tmp_path}/distilled", *COARSE]
    recipe = load_recipe(written[0], [f"runs_dir={tmp_path}/runs", "split.val=0.1", "split.test=0.1", *quick])
    if recipe.pages:
        distill(recipe, DistilledFolder.of(recipe), lambda text: None, lambda *_: None)
        named = [*recipe.pages.source, *(teacher.replies for teacher in recipe.teacher)]
    else:
        named = [name for data in recipe.data for name in (data.source, *data.images)]
    paths = [Path(name or "") for name in named]
    assert all(path.exists() and any(path.is_relative_to(top) for top in written[1:]) for path in paths)
    manifest = prepare(recipe, Run.of(recipe))
    assert sum(manifest.kept.values()) > 100


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_its_lines_are_for(name: str, tmp_path: Path) -> None:
    text = next(iter(write_example(name, str(tmp_path)))).read_text(encoding="utf-8")
    assert f"gemtune run {name}.yaml" in text and "../" not in text


def test_the_data_is_the_shipped_one(tmp_path: Path) -> None:
    for path in list(write_example("emoji", str(tmp_path)))[1:]:
        assert path.read_bytes() == (shipped("examples") / path.name).read_bytes()


@pytest.mark.parametrize("there", ["emoji.yaml", "emoji.csv"])
def test_a_file_of_the_users_stays(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(GemtuneError, match=rf"{there} is already there; remove it, or give another folder"):
        list(write_example("emoji", str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_what_a_stopped_process_has_left_is_written_on(tmp_path: Path) -> None:
    recipe, *others = write_example("emoji", str(tmp_path / "whole"))
    there = tmp_path / "there" / recipe.name
    there.parent.mkdir()
    there.write_bytes(recipe.read_bytes())
    assert [path.name for path in write_example("emoji", str(there.parent))] == [recipe.name, *(p.name for p in others)]
    assert tree(there.parent) == tree(tmp_path / "whole")


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no recipe is called 'emojis'; there are documents, emoji, .*sql"):
        list(write_example("emojis", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GemtuneError, match="a file is where a folder should be"):
        list(write_example("emoji", str(tmp_path / "file" / "new")))
