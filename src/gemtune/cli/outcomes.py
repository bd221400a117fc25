"""What a run has come to: its summary, and the exit code of one that went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemtune.errors import DivergedError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemtune.artifact_files import Artifact
    from gemtune.files import JsonObject
    from gemtune.pipeline.reproducing import Reproduction
    from gemtune.runs import Run


def fail_where_diverged(run: Run) -> None:
    """DivergedError, exit code 3, after a training whose loss was no number, or far above the base model's."""
    training = run.training
    if training and training.diverged:
        raise DivergedError(f"{run.root} {training.stopped}")


def fail_where_it_answers_otherwise(artifacts: Sequence[Artifact]) -> None:
    """VerificationError, exit code 4, where one of them was verified and failed."""
    failed = [(note.format, note.verification) for note in artifacts if note.verification]
    for name, verification in failed:
        if verification.passed is False:
            raise VerificationError(
                f"{name} does not answer as the model it was made from: {verification.why}; export another format"
            )


def fail_where_other(reproduction: Reproduction) -> None:
    """VerificationError, exit code 4, where a run that was made again has come to something else."""
    if reproduction.verdict == "neither":
        other = "; ".join(f"{result.what} {result.found}" for result in reproduction.results if not result.near)
        raise VerificationError(f"{reproduction.again} is not {reproduction.run} again: {other}")


def summary_of(run: Run) -> JsonObject | None:
    """What `--json` prints of an evaluation; None where there is none yet."""
    summary = run.summary()
    return summary.to_json() if summary else None
