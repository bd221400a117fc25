"""Progress goes to stderr, never acts on a terminal, and is silent when it is to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gemtune.cli.progress import Progress


def use(progress: Progress) -> None:
    with progress:
        progress.say("row \x1b[31m 7 [bold]says[/bold] this")
        progress.tick("rows", 3, 0)
        progress.train({"step": 5, "steps": 9, "loss": 1.5, "tokens_per_s": 800.0})
        progress.train({"step": 5, "steps": 9, "eval_loss": 1.25, "probe_loss": 0.75})
        progress.train({"step": 9, "steps": 9, "probe_loss": 0.5})


def test_what_is_said_goes_to_stderr_and_does_not_act(capsys: pytest.CaptureFixture[str]) -> None:
    use(Progress())
    out, err = capsys.readouterr()
    assert out == "" and "\x1b" not in err
    assert err.splitlines() == [
        "row ␛[31m 7 [bold]says[/bold] this",
        "step 5 of 9: val loss 1.2500, train probe 0.7500",
        "step 9 of 9: train probe 0.5000",
    ]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    use(Progress(quiet=True))
    assert capsys.readouterr() == ("", "")


def test_a_job_reports_here(write_recipe: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    job = progress.job(str(write_recipe()), ["train.epochs=2"])
    job.say("hello")
    job.tick("rows", 4, 9)
    assert job.recipe.train.epochs == 2 and capsys.readouterr().err == "hello\n"
    assert [(task.description, task.completed, task.total) for task in progress.bars.tasks] == [("rows", 4, 9)]
