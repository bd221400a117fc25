"""The verbs of a run: train, score, answer, report."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gemtune.cli.arguments import FRESH, JSON, OVERRIDES, RECIPE, RUN, TRUST
from gemtune.cli.outcomes import (
    fail_where_diverged,
    fail_where_it_answers_otherwise,
    fail_where_other,
    summary_of,
)
from gemtune.cli.terminal import tell, tell_json
from gemtune.errors import GemtuneError


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
        tell_json({"run": str(job.run.root), "report": str(page), "summary": summary_of(job.run)})
    else:
        tell(*report_lines(job.run))
    fail_where_diverged(job.run)
    fail_where_it_answers_otherwise([note for note in job.run.artifacts() if note.format in job.recipe.export])


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
    fail_where_diverged(job.run)
    if not as_json:
        tell(f"next: gemtune evaluate {job.run.root}")


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


def reproduce(
    run: Annotated[str, typer.Argument(help="A run directory.", metavar="RUN", show_default=False)],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    fresh: Annotated[bool, FRESH] = False,
    as_json: Annotated[bool, JSON] = False,
    trust_task: Annotated[bool, TRUST] = False,
) -> None:
    """Makes a run again as RUN-again, and says whether bytes or metrics match, and what it was made from differs."""
    from gemtune.cli.output import reproduced_lines
    from gemtune.cli.progress import Progress
    from gemtune.pipeline.reproducing import reproduce

    with Progress(quiet=as_json) as progress:
        reproduction = reproduce(
            run,
            overrides or [],
            fresh=fresh,
            trust_task=trust_task,
            say=progress.say,
            tick=progress.tick,
            progress=progress.train,
        )
    if as_json:
        tell_json({**reproduction.to_json(), "verdict": reproduction.verdict})
    else:
        tell(*reproduced_lines(reproduction))
    fail_where_other(reproduction)


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
    image: Annotated[
        list[str] | None, typer.Option("--image", help="A picture or a document to ask about; may be repeated.")
    ] = None,
    page: Annotated[int | None, typer.Option("--page", min=1, help="Of a document by --image: which page.")] = None,
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
            for piece in stages.stream_reply(job, question, name, image or [], page):
                tell(piece, end="", raw=not sys.stdout.isatty())
            tell("")


def report(run: Annotated[str, RUN], as_json: Annotated[bool, JSON] = False) -> None:
    """Writes report.html and report.md from what is in the run directory."""
    from gemtune.cli.progress import Progress
    from gemtune.pipeline import stages
    from gemtune.reporting.page import report_lines

    job = Progress(quiet=True).job(run)
    page = stages.report(job)
    if as_json:
        tell_json({"report": str(page), "summary": summary_of(job.run)})
    else:
        tell(*report_lines(job.run))


def _standard_input() -> str:
    """The text on standard input, of which a line's end is no part."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise GemtuneError(f"standard input: byte {error.start} is not UTF-8 text; convert it first") from error
