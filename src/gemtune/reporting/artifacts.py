"""The artifacts of a run in words: size, agreement, score and verdict of each, for the report and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gemtune.artifact_files import Artifact
from gemtune.reporting.text import count, interval, number, visible

VERDICTS = {True: "passed", False: "FAILED", None: "not shown"}
HEAD = (
    "format",
    "of",
    "size",
    "written in",
    "peak memory",
    "runtime",
    "tokens agreed",
    "replies equal",
    "score",
    "verdict",
)


def artifact_rows(artifacts: Iterable[Artifact]) -> list[tuple[str, ...]]:
    """A row of cells under HEAD for each artifact."""
    return [_row(artifact) for artifact in artifacts]


def artifact_lines(artifacts: Sequence[Artifact]) -> Iterator[str]:
    """The same as a table for the terminal, and why each passes or fails."""
    table = [HEAD, *artifact_rows(artifacts)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield visible("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    yield ""
    yield from (visible(f"{artifact.format}: {sentence_of(artifact)}") for artifact in artifacts)


def sentence_of(artifact: Artifact) -> str:
    """What was put into an artifact, and what was found when it was verified."""
    found = artifact.verification
    made = f"{artifact.modules}"
    if artifact.logits_difference is not None:
        made += f", logits within {number(artifact.logits_difference)} of the unmerged model's"
    return f"{made}; {found.why if found else 'not verified yet'}."


def _row(artifact: Artifact) -> tuple[str, ...]:
    found = artifact.verification
    made = (
        artifact.format,
        artifact.weights,
        f"{number(artifact.bytes / 1e6)} MB",
        "" if artifact.seconds is None else f"{number(artifact.seconds)} s",
        "" if artifact.peak_memory_gb is None else f"{number(artifact.peak_memory_gb)} GB",
    )
    if found is None:
        return *made, "", "", "", "", "not verified"
    agreement = found.agreement
    score = f"{found.metric} {interval(found.score.tuned)}" if found.score else ""
    return (
        *made,
        found.runtime,
        f"{count(agreement.tokens_agreed)} of {count(agreement.tokens)}",
        f"{count(agreement.replies_equal)} of {count(agreement.prompts)}",
        score,
        VERDICTS[found.passed],
    )
