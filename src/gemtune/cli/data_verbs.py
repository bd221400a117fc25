"""The verbs from documents and rows to what is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gemtune.cli.arguments import JSON, OVERRIDES, RECIPE, TRUST
from gemtune.cli.terminal import tell, tell_json
from gemtune.errors import visible
from gemtune.models.families import TINY
from gemtune.recipe.scaffold import recipe_names


def new(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(recipe_names())}.", show_default=False)],
    folder: Annotated[str, typer.Argument(help="Where to write it.")] = ".",
) -> None:
    """Writes a commented recipe and its example data to start from."""
    from gemtune.recipe.scaffold import write_example

    written = list(write_example(recipe, folder))
    tell(*(f"wrote {path}" for path in written), f"next: gemtune run {written[0]}")


def distill(
    recipe: Annotated[str, RECIPE],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    llamafactory: Annotated[
        bool, typer.Option("--llamafactory", help="Write the rows as a data set of LLaMA-Factory, too.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Makes rows of documents: draws pages, looks for personal data, asks the teacher; resumes where it stopped.

    Whatever was drawn, read and paid for is kept, and never done again. The budget of `teacher.budget` is not passed.
    """
    from gemtune.cli.output import distilled_lines
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import distilling

    with Progress(quiet=as_json) as progress:
        job = progress.job(recipe, overrides)
        manifest = distilling.distill(job)
        exported = distilling.export_llamafactory(job) if llamafactory else None
    if as_json:
        tell_json({**manifest.to_json(), "llamafactory": str(exported[0]) if exported else None})
    else:
        tell(*distilled_lines(manifest, distilling.folder_of(job)))
        if exported:
            tell(f"wrote {exported[0]}: {', '.join(f'{part} {rows}' for part, rows in exported[1].items())} rows")
        tell(f"next: gemtune run {recipe}")


def import_(
    source: Annotated[Path, typer.Argument(help="A training YAML of LLaMA-Factory.", metavar="FILE")],
    output: Annotated[Path | None, typer.Option(help="Where the recipe goes; beside FILE when not given.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Makes a recipe of a LLaMA-Factory training YAML, and says what each of its keys became."""
    from gemtune.pipeline.distilling import import_llamafactory

    target, imported = import_llamafactory(source, output)
    if as_json:
        tell_json({"recipe": str(target), "keys": [vars(key) for key in imported.keys]})
    else:
        tell(*map(str, imported.keys), f"wrote {target}", f"next: gemtune run {target}")


def prepare(
    recipe: Annotated[str, RECIPE],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    as_json: Annotated[bool, JSON] = False,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Reads rows into conversations: what is kept, what is dropped and why, the split, the leak audit, the lengths."""
    from gemtune.cli.output import prepared_lines
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages

    with Progress(quiet=as_json) as progress:
        job = progress.job(recipe, overrides, trust_task=trust_task)
        manifest = stages.prepare(job)
    if as_json:
        tell_json(manifest)
    else:
        tell(*prepared_lines(job.run))


def show(
    recipe: Annotated[str, RECIPE],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 2,
    part: Annotated[Literal["train", "val", "test"], typer.Option(help="Of which part.")] = "train",
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Prints rows as the model sees them (green is trained) and writes an HTML page of them.

    Of documents it first writes one of their pages, before and after every step.
    """
    from rich.console import Console
    from rich.text import Text

    from gemtune.cli.progress import Progress
    from gemtune.pipeline import distilling, stages
    from gemtune.rendering.preview import terminal_text, write_page

    with Progress() as progress:
        job = progress.job(recipe, overrides, trust_task=trust_task)
        sheet = distilling.contact_sheet(job)
        pairs = stages.examples(job, part, count) if distilling.has_rows(job.recipe) else []
    if sheet:
        tell(f"pages: {sheet}")
    if not pairs:
        tell(f"next: gemtune distill {recipe}")
        return
    console = Console(highlight=False)
    for conversation, example in pairs:
        title = f"{visible(conversation.where)}  {len(example.input_ids)} tokens"
        console.rule(Text(title), align="left")
        console.print(terminal_text(job.renderer, example), soft_wrap=True)
    write_page(job.run.show_page, job.run.data, job.renderer, pairs)
    tell(f"page: {job.run.show_page}")


def check(
    recipe: Annotated[str, RECIPE],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    as_json: Annotated[bool, JSON] = False,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Checks the batch contract before anything expensive."""
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages

    with Progress(quiet=as_json) as progress:
        job = progress.job(recipe, overrides, trust_task=trust_task)
        findings = stages.check(job)
    if as_json:
        tell_json([vars(finding) for finding in findings])
    else:
        tell(*findings)


def plan(
    recipe: Annotated[str, RECIPE],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    as_json: Annotated[bool, JSON] = False,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Memory and time on this machine, and what fits a T4, L4, A100 and H100."""
    from gemtune.cli.output import plan_lines
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages

    with Progress(quiet=as_json) as progress:
        job = progress.job(recipe, overrides, trust_task=trust_task)
        plans = stages.plan(job)
    if as_json:
        tell_json(plans)
    else:
        tell(*plan_lines(plans))


def tiny(
    family: Annotated[str, typer.Argument(help=f"One of {', '.join(TINY)}.")],
    folder: Annotated[str, typer.Argument(help="Where to write it.")],
) -> None:
    """Writes a tiny random-weight model of a family, for dry runs of a recipe in seconds: model=FOLDER."""
    from gemtune.models.families import write_tiny

    tell(write_tiny(family, Path(folder)))
