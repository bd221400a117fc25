"""The command line: how it begins and ends, and its verbs, each a function that parses, calls and prints."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gemtune.cli import artifact_verbs, cluster_verbs, data_verbs, model_verbs
from gemtune.cli.arguments import JSON
from gemtune.cli.bug import report_bug
from gemtune.cli.processor import share_processor
from gemtune.cli.terminal import prepare_terminal, tell, tell_json
from gemtune.errors import GemtuneError
from gemtune.files import require_temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune Gemma, and prove that it does your task.",
)


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


def doctor(as_json: Annotated[bool, JSON] = False) -> None:
    """What this machine can do, what is missing and how to get it."""
    from gemtune.cli.doctor import diagnose

    findings = diagnose()
    if as_json:
        tell_json([{"what": what, "found": found, "move": move} for what, found, move in findings])
    else:
        tell(*(f"{what}: {found}{f'; {move}' if move else ''}" for what, found, move in findings))


VERBS: dict[str, Callable[..., None]] = {
    "new": data_verbs.new,
    "run": model_verbs.run,
    "distill": data_verbs.distill,
    "import": data_verbs.import_,
    "prepare": data_verbs.prepare,
    "show": data_verbs.show,
    "tiny": data_verbs.tiny,
    "check": data_verbs.check,
    "plan": data_verbs.plan,
    "train": model_verbs.train,
    "evaluate": model_verbs.evaluate,
    "compare": model_verbs.compare,
    "generate": model_verbs.generate,
    "export": artifact_verbs.export,
    "serve": artifact_verbs.serve,
    "web": artifact_verbs.web,
    "push": artifact_verbs.push,
    "report": model_verbs.report,
    "launch": cluster_verbs.launch,
    "doctor": doctor,
}
for _name, _verb in VERBS.items():
    app.command(_name)(_verb)
