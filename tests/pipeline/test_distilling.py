"""The verbs before a run: documents become rows, a LLaMA-Factory data set, a sheet of pages; recipes are imported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from gemtune.errors import RecipeError, RunError
from gemtune.models.families import write_tiny
from gemtune.pipeline import distilling, stages
from gemtune.pipeline.job import Job

EXAMPLES = Path(__file__).parents[2] / "examples" / "documents"


@pytest.fixture(scope="module")
def vision_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny("gemma3-vision", tmp_path_factory.mktemp("models") / "vision")


@pytest.fixture
def recipe(tmp_path: Path, vision_model: Path) -> Path:
    """Four pages of shipped letters, labelled by the replies that ship with them."""
    lines = map(json.loads, (EXAMPLES / "truth.jsonl").read_text(encoding="utf-8").splitlines())
    replies = [
        {**line, "document": line["document"].rpartition("/")[2]} for line in lines if "letter" in line["document"]
    ]
    (tmp_path / "replies.jsonl").write_text("\n".join(map(json.dumps, replies)))
    value = {
        "name": "letters",
        "task": "documents",
        "model": str(vision_model),
        "runs_dir": str(tmp_path / "runs"),
        "pages": {
            "source": str(EXAMPLES / "letter" / "0[1-4].pdf"),
            "folder": str(tmp_path),
            "dpi": 40,
            "least_side": 0,
        },
        "teacher": {"provider": "files", "replies": "replies.jsonl"},
        "privacy": {"ocr": False},
        "split": {"val": ["03.pdf"], "test": ["04.pdf"]},
        "train": {"max_steps": 1, "batch_size": 2, "max_length": 6000, "precision": "fp32", "device": "cpu"},
        "evaluate": {"limit": 2, "max_new_tokens": 4},
    }
    (tmp_path / "letters.yaml").write_text(yaml.safe_dump(value))
    return tmp_path / "letters.yaml"


def job(recipe: Path, said: list[str] | None = None) -> Job:
    return Job(recipe, say=(said if said is not None else []).append)


def test_rows_that_are_not_there_are_asked_for_by_name(recipe: Path) -> None:
    with pytest.raises(RunError, match=r"letters/rows.jsonl: not there yet; `gemtune distill RECIPE` makes it"):
        stages.prepare(job(recipe))
    assert not (recipe.parent / "runs").exists()


def test_a_run_distils_first_and_holds_out_the_documents_that_are_named(recipe: Path) -> None:
    said: list[str] = []
    page = stages.run(work := job(recipe, said))
    assert page.is_file()
    documents = {
        part: {line["group"] for line in map(json.loads, work.run.part(part).read_text(encoding="utf-8").splitlines())}
        for part in ("train", "val", "test")
    }
    assert documents == {"train": {"01.pdf", "02.pdf"}, "val": {"03.pdf"}, "test": {"04.pdf"}}
    assert not any("nothing has changed" in line for line in said)
    stages.run(job(recipe, said))
    assert any(line.endswith("rows of 4 documents, and nothing has changed") for line in said)
    shutil.rmtree(recipe.parent / "letters")
    stages.run(job(recipe, said))
    assert not (recipe.parent / "letters").exists()  # the run goes on with the rows that it has


def test_an_export_for_llamafactory_is_divided_as_the_run_is(recipe: Path) -> None:
    distilling.distill(job(recipe))
    folder, counts = distilling.export_llamafactory(job(recipe))
    manifest = stages.prepare(job(recipe))
    assert counts == manifest["kept"]
    assert yaml.safe_load((folder / "train.yaml").read_text())["template"] == "gemma3"


def test_pages_are_shown_before_anything_is_paid_for(recipe: Path) -> None:
    sheet = distilling.contact_sheet(job(recipe))
    assert sheet and "01.pdf" in sheet.read_text(encoding="utf-8")
    assert not distilling.has_rows(job(recipe).recipe)


def test_an_imported_recipe_does_not_replace_one_that_is_there(tmp_path: Path) -> None:
    source = tmp_path / "lf.yaml"
    source.write_text("model_name_or_path: a/b\ndataset: d\n")
    target, imported = distilling.import_llamafactory(source)
    assert target.name == "lf.gemtune.yaml" and target.read_text(encoding="utf-8") == imported.text
    with pytest.raises(RecipeError, match=r"lf.gemtune.yaml: is there already; remove it, or give another --output"):
        distilling.import_llamafactory(source)
