"""The command line: one function a verb, which parses, calls and prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gemtune.cli.bug import report_bug
from gemtune.cli.processor import share_processor
from gemtune.cli.terminal import prepare_terminal, tell, tell_json
from gemtune.errors import DivergedError, GemtuneError, VerificationError, visible
from gemtune.exporting.formats import DEFAULTS, FORMATS
from gemtune.files import require_temporary_folder
from gemtune.models.families import TINY
from gemtune.recipe.scaffold import recipe_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemtune.artifact_files import Artifact
    from gemtune.files import JsonObject
    from gemtune.runs import Run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune Gemma, and prove that it does your task.",
)

RECIPE = typer.Argument(help="A recipe file, or a run directory.", metavar="RECIPE", show_default=False)
OVERRIDES = typer.Argument(
    help="Recipe keys for this time, for example train.epochs=3.", metavar="[KEY=VALUE]...", show_default=False
)
RUN = typer.Argument(help="A run directory, or its recipe.", metavar="RUN", show_default=False)
JSON = typer.Option("--json", help="Print the answer as JSON.")
TRUST = typer.Option("--trust-task", help="Run the task's Python file that came with a run directory.")
FRESH = typer.Option("--fresh", help="Start again instead of resuming.")


def main() -> None:
    """Runs the command line; a GemtuneError is one line on stderr and its exit code: 2, 3 if training diverged, 4 if an
    artifact answers otherwise than its model.

    Anything else is a bug: one line, a file that can be sent without sending data, and exit code 1.
    """
    prepare_terminal()
    share_processor(os.environ)
    try:
        app()
    except GemtuneError as error:
        tell(f"gemtune: {error}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == 130:  # what typer makes of Ctrl-C
            tell("gemtune: stopped; the same command goes on from the newest checkpoint", err=True)
        raise
    finally:
        sys.excepthook = report_bug  # typer has set its own


def _print_version(wanted: bool) -> None:
    from gemtune.hardware import gemtune_version

    if wanted:
        tell(f"gemtune {gemtune_version()}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options of gemtune itself, before a verb."""
    require_temporary_folder()


@app.command()
def new(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(recipe_names())}.", show_default=False)],
    folder: Annotated[str, typer.Argument(help="Where to write it.")] = ".",
) -> None:
    """Writes a commented recipe and its example data to start from."""
    from gemtune.recipe.scaffold import write_example

    written = list(write_example(recipe, folder))
    tell(*(f"wrote {path}" for path in written), f"next: gemtune run {written[0]}")


@app.command()
def run(
    recipe: Annotated[str, RECIPE],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    fresh: Annotated[bool, FRESH] = False,
    as_json: Annotated[bool, JSON] = False,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Prepares, checks, trains, evaluates base and tuned, and reports; resumes where it stopped.

    Rows of documents are distilled first, where `gemtune distill` has not.
    """
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages
    from gemtune.reporting.page import report_lines

    with Progress(quiet=as_json) as progress:
        job = progress.job(recipe, overrides, fresh=fresh, trust_task=trust_task)
        page = stages.run(job, progress.train)
    if as_json:
        tell_json({"run": str(job.run.root), "report": str(page), "summary": _summary(job.run)})
    else:
        tell(*report_lines(job.run))
    _fail_where_diverged(job.run)
    _fail_where_it_answers_otherwise([note for note in job.run.artifacts() if note.format in job.recipe.export])


@app.command()
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


@app.command("import")
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


@app.command()
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


@app.command()
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


@app.command()
def tiny(
    family: Annotated[str, typer.Argument(help=f"One of {', '.join(TINY)}.")],
    folder: Annotated[str, typer.Argument(help="Where to write it.")],
) -> None:
    """Writes a tiny random-weight model of a family, for dry runs of a recipe in seconds: model=FOLDER."""
    from gemtune.models.families import write_tiny

    tell(write_tiny(family, Path(folder)))


@app.command()
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


@app.command()
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


@app.command()
def train(
    recipe: Annotated[str, RECIPE],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    fresh: Annotated[bool, FRESH] = False,
    as_json: Annotated[bool, JSON] = False,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Prepares, checks and trains; resumes from the newest whole checkpoint."""
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages

    with Progress(quiet=as_json) as progress:
        job = progress.job(recipe, overrides, fresh=fresh, trust_task=trust_task)
        training = stages.train(job, progress.train)
    if as_json:
        tell_json(training)
    else:
        tell(*(f"{name}: {value}" for name, value in training.items()))
    _fail_where_diverged(job.run)
    if not as_json:
        tell(f"next: gemtune evaluate {job.run.root}")


@app.command()
def evaluate(
    run: Annotated[str, RUN],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    base: Annotated[bool, typer.Option("--base", help="Only the base model.")] = False,
    checkpoint: Annotated[int | None, typer.Option(help="The checkpoint of this step instead of the best.")] = None,
    data: Annotated[str | None, typer.Option(help="Rows of this file instead of the test part.")] = None,
    as_json: Annotated[bool, JSON] = False,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Scores base and tuned on the same prompts, with intervals and p-values."""
    from gemtune.cli.output import evaluation_lines
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages
    from gemtune.runs import step_name

    names = ["base"] if base else ["base", "tuned"] if checkpoint is None else ["base", step_name(checkpoint)]
    with Progress(quiet=as_json) as progress:
        job = progress.job(run, overrides, trust_task=trust_task)
        summary = stages.evaluate(job, names, data)
    if as_json:
        tell_json(summary)
    else:
        tell(*evaluation_lines(summary))


@app.command()
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Runs, RUN@base, RUN@last, RUN@50 (a checkpoint), artifacts; the others are held to the first.",
            metavar="MODEL...",
            show_default=False,
        ),
    ],
    data: Annotated[str | None, typer.Option(help="Rows of this file instead of the first run's test part.")] = None,
    as_json: Annotated[bool, JSON] = False,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Scores models on the same rows, each against the first, with intervals and p-values."""
    from gemtune.cli.output import standing_lines
    from gemtune.cli.progress import Progress
    from gemtune.pipeline.compare import compare

    with Progress(quiet=as_json) as progress:
        standings = compare(models, data, trust_task=trust_task, say=progress.say, tick=progress.tick)
    if as_json:
        tell_json(standings.to_json())
    else:
        tell(*standing_lines(standings))


@app.command()
def generate(
    run: Annotated[str, RUN],
    prompt: Annotated[
        str | None, typer.Argument(help="What to ask; - is what comes on standard input.", show_default=False)
    ] = None,
    source: Annotated[str | None, typer.Option("--input", help="A file of the task's rows to answer instead.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", help="Where its replies go, one JSON object a line.")
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model.")] = False,
    image: Annotated[list[str] | None, typer.Option("--image", help="A picture to ask about; may be repeated.")] = None,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Answers a prompt, or every row of a file in its order."""
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages

    if source and prompt:
        raise GemtuneError("found a prompt and --input; give one of them")
    if image and source:
        raise GemtuneError("found --image and --input; the rows of the file name their own images")
    if output and not source:
        raise GemtuneError("--output is for the replies to --input FILE, which is not given; a single reply is printed")
    with Progress(quiet=True) as progress:
        job = progress.job(run, trust_task=trust_task)
        name = "base" if base else "tuned"
        if source:
            tell(f"wrote {stages.answer_file(job, source, output, name)}")
        else:
            question = _standard_input() if prompt == "-" else prompt
            for piece in stages.stream_reply(job, question, name, image or []):
                tell(piece, end="", raw=not sys.stdout.isatty())
            tell("")


@app.command()
def export(
    run: Annotated[str, RUN],
    formats: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Some of {', '.join([*FORMATS, *DEFAULTS])}; those of the recipe's `export` when none is given.",
            metavar="[FORMAT]...",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="base, best, last, or the step of a checkpoint.")] = "best",
    limit: Annotated[int | None, typer.Option(min=1, help="Test rows to verify it on, 32 when not given.")] = None,
    as_json: Annotated[bool, JSON] = False,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Writes the tuned model as a device runs it, and proves there that it answers the same."""
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages
    from gemtune.reporting.artifacts import artifact_lines

    with Progress(quiet=as_json) as progress:
        job = progress.job(run, trust_task=trust_task)
        wanted = formats or job.recipe.export
        if not wanted:
            raise GemtuneError(f"no format to export to; give some of {', '.join([*FORMATS, *DEFAULTS])}")
        artifacts = stages.export(job, wanted, checkpoint, limit)
    if as_json:
        tell_json([artifact.to_json() for artifact in artifacts])
    else:
        tell(*artifact_lines(artifacts), *(f"wrote {job.run.artifact(artifact.format)}" for artifact in artifacts))
    _fail_where_it_answers_otherwise(artifacts)


@app.command()
def serve(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Run directories, or their recipes, with the same base model.", metavar="RUN...", show_default=False
        ),
    ],
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 is any that is free.")] = 8000,
    token_file: Annotated[
        str | None, typer.Option("--token-file", help="Requests need the token in this file, which only you can read.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=1_000, help="Replies generated side by side, of one model.")] = 8,
    queue: Annotated[int, typer.Option(min=1, max=100_000, help="Requests that may wait; one more is refused.")] = 64,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Serves runs as OpenAI's chat completions: the model by its run's name, and `base`."""
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import served

    served.require_packages()
    with Progress(quiet=True) as progress:
        jobs = [progress.job(run, trust_task=trust_task) for run in runs]
        for job in jobs:
            job.say = lambda line: tell(line, err=True)
        served.serve(jobs, host=host, port=port, token_file=token_file, batch=batch, queue=queue)


@app.command()
def web(
    run: Annotated[str, RUN],
    assets: Annotated[
        Path | None,
        typer.Option(help="A folder with the two npm packages of the engine, for no network.", metavar="FOLDER"),
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Show the page to browsers on this machine.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; 0 takes a free one.")] = 8000,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Writes a static page, in which the tuned model answers in the visitor's browser."""
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages
    from gemtune.serving.web_server import serve_web

    with Progress() as progress:
        job = progress.job(run, trust_task=trust_task)
        artifact, folder = stages.web(job, assets)
    _fail_where_it_answers_otherwise([artifact])
    tell(f"wrote {folder}: any web server can offer it over https")
    if serve:
        serve_web(folder, port, tell)


@app.command()
def push(
    run: Annotated[str, RUN],
    repo: Annotated[
        str, typer.Argument(help="Where to: user/name on the Hub.", metavar="USER/NAME", show_default=False)
    ],
    what: Annotated[
        str | None,
        typer.Argument(
            help="The adapter, or a format that the run was exported to.", metavar="[WHAT]", show_default=False
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it; otherwise it is private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be sent, and send nothing.")] = False,
    as_json: Annotated[bool, JSON] = False,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Sends the tuned model to the Hub with a card of what it is; the same again sends only what is missing there."""
    from gemtune.cli.output import pushed_lines
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import pushing

    with Progress(quiet=as_json) as progress:
        job = progress.job(run, trust_task=trust_task)
        files, address = pushing.push(job, repo, what, public=public, dry_run=dry_run)
    if as_json:
        tell_json({"files": [file.to_json() for file in files], "url": address})
    else:
        tell(*pushed_lines(files, repo, address, public))


@app.command()
def report(run: Annotated[str, RUN], as_json: Annotated[bool, JSON] = False) -> None:
    """Writes report.html and report.md from what is in the run directory."""
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages
    from gemtune.reporting.page import report_lines

    job = Progress(quiet=True).job(run)
    page = stages.report(job)
    if as_json:
        tell_json({"report": str(page), "summary": _summary(job.run)})
    else:
        tell(*report_lines(job.run))


@app.command()
def doctor(as_json: Annotated[bool, JSON] = False) -> None:
    """What this machine can do, what is missing and how to get it."""
    from gemtune.cli.doctor import diagnose

    findings = diagnose()
    if as_json:
        tell_json([{"what": what, "found": found, "move": move} for what, found, move in findings])
    else:
        tell(*(f"{what}: {found}{f'; {move}' if move else ''}" for what, found, move in findings))


def _standard_input() -> str:
    """The text on standard input, of which a line's end is no part."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise GemtuneError(f"standard input: byte {error.start} is not UTF-8 text; convert it first") from error


def _fail_where_diverged(run: Run) -> None:
    training = run.training
    if training and training.diverged:
        raise DivergedError(f"{run.root} {training.stopped}")


def _fail_where_it_answers_otherwise(artifacts: Sequence[Artifact]) -> None:
    failed = [(note.format, note.verification) for note in artifacts if note.verification]
    for name, verification in failed:
        if verification.passed is False:
            raise VerificationError(
                f"{name} does not answer as the model it was made from: {verification.why}; export another format"
            )


def _summary(run: Run) -> JsonObject | None:
    summary = run.summary()
    return summary.to_json() if summary else None
