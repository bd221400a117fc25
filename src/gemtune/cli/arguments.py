"""Arguments and options that several verbs take."""

import typer

RECIPE = typer.Argument(help="A recipe file, or a run directory.", metavar="RECIPE", show_default=False)
OVERRIDES = typer.Argument(
    help="Recipe keys for this time, for example train.epochs=3.", metavar="[KEY=VALUE]...", show_default=False
)
RUN = typer.Argument(help="A run directory, or its recipe.", metavar="RUN", show_default=False)
JSON = typer.Option("--json", help="Print the answer as JSON.")
TRUST = typer.Option("--trust-task", help="Run the task's Python file that came with a run directory.")
FRESH = typer.Option("--fresh", help="Start again instead of resuming.")
