"""The verbs of a tuned model: exported, served, on a page, sent to the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemtune.cli.arguments import JSON, RUN, TRUST
from gemtune.cli.outcomes import fail_where_it_answers_otherwise
from gemtune.cli.terminal import tell, tell_json
from gemtune.errors import GemtuneError
from gemtune.exporting.formats import DEFAULTS, FORMATS


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
    fail_where_it_answers_otherwise(artifacts)


def serve(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Run directories, or their recipes, with the same base model; or folders of GGUF artifacts.",
            metavar="RUN...",
            show_default=False,
        ),
    ],
    engine: Annotated[
        str | None,
        typer.Option(
            help="gemtune; llama.cpp, for GGUF artifacts; or vllm, for the merged one or several adapters.",
            show_default="gemtune; llama.cpp for an artifact",
        ),
    ] = None,
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
    from gemtune.pipeline import serving

    with Progress(quiet=True) as progress:
        named = [serving.run_and_format(run) for run in runs]
        models = [(progress.job(run, trust_task=trust_task), format_) for run, format_ in named]
        for job, _ in models:
            job.say = lambda line: tell(line, err=True)
        serving.serve(models, engine=engine, host=host, port=port, token_file=token_file, batch=batch, queue=queue)


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
    fail_where_it_answers_otherwise([artifact])
    tell(f"wrote {folder}: any web server can offer it over https")
    if serve:
        serve_web(folder, port, tell)


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
