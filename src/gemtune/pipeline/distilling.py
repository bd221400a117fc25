"""Documents -> rows, and what is made of them: the verbs `distill` and `import` as functions, before a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.documents.folder import DistilledFolder
from gemtune.errors import ModelError, RecipeError, RunError
from gemtune.files import read_jsonl, write_text
from gemtune.pipeline.job import Job
from gemtune.recipe.llamafactory_recipe import Imported, import_recipe
from gemtune.recipe.schema import Recipe

if TYPE_CHECKING:
    from gemtune.documents.manifest import DistillManifest


def distill(job: Job) -> DistillManifest:
    """The recipe's documents -> rows.jsonl in the folder of `pages`; nothing is done when nothing has changed."""
    from gemtune.documents.distill import distill
    from gemtune.pipeline.local_teacher import local_teacher

    return distill(job.recipe, DistilledFolder.of(job.recipe), job.say, job.tick, local_teacher(job))


def folder_of(job: Job) -> DistilledFolder:
    """Where the recipe's rows and pages are."""
    return DistilledFolder.of(job.recipe)


def distils(recipe: Recipe) -> bool:
    """Whether a recipe trains on the rows that `distill` writes."""
    sources = [data.source for data in recipe.data]
    return recipe.pages is not None and str(DistilledFolder.of(recipe).rows_file) in sources


def has_rows(recipe: Recipe) -> bool:
    """False where the rows of documents are not there yet."""
    return not distils(recipe) or DistilledFolder.of(recipe).rows_file.is_file()


def require_rows(recipe: Recipe) -> None:
    """RunError where the rows of documents are not there yet: making them may cost money, so that it is asked for."""
    if not has_rows(recipe):
        rows = DistilledFolder.of(recipe).rows_file
        raise RunError(
            f"{rows}: not there yet; `gemtune distill RECIPE` makes it of the documents, as `gemtune run` does"
        )


def export_llamafactory(job: Job) -> tuple[Path, dict[str, int]]:
    """The rows as a data set of LLaMA-Factory, divided as `prepare` does: its folder, and the rows of each part."""
    from gemtune.documents.llamafactory import TEMPLATES, write_llamafactory
    from gemtune.models.hub import hub_id
    from gemtune.preparation.split import parts_by_name

    recipe, folder = job.recipe, DistilledFolder.of(job.recipe)
    family = job.family.name
    if family not in TEMPLATES:
        raise ModelError(f"model {recipe.model}: LLaMA-Factory trains no {family}; it does {', '.join(TEMPLATES)}")
    column = recipe.split.by or "group"
    groups = [str(row.get(column) or "") for row in read_jsonl(folder.rows_file)]
    if "" in groups:
        raise RecipeError(f"split.by: {folder.rows_file} has no column {column!r}; take group or document")
    model = hub_id(recipe.model) or str(Path(recipe.model).absolute())
    counts = write_llamafactory(folder, recipe, parts_by_name(recipe.split, groups), model, TEMPLATES[family])
    return folder.llamafactory, counts


def contact_sheet(job: Job) -> Path | None:
    """The pages before and after their steps as an HTML page, drawn where they are not yet; None without documents."""
    from gemtune.documents.contact_sheet import write_contact_sheet
    from gemtune.documents.pages import draw_pages

    if job.recipe.pages is None:
        return None
    folder = DistilledFolder.of(job.recipe)
    write_contact_sheet(folder, draw_pages(job.recipe, folder, job.say, job.tick))
    return folder.contact_sheet


def import_llamafactory(source: Path, output: Path | None = None) -> tuple[Path, Imported]:
    """A LLaMA-Factory YAML as a gemtune recipe beside it, and what each of its keys became."""
    imported = import_recipe(source)
    target = output or source.with_name(f"{source.stem}.gemtune.yaml")
    if target.exists():
        raise RecipeError(f"{target}: is there already; remove it, or give another --output")
    write_text(target, imported.text)
    return target, imported
