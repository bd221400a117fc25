"""The artifacts of a run as a table, in the report and on the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gemtune.artifact_files import Agreement, Artifact, Parting, Verification
from gemtune.files import write_json
from gemtune.metrics.statistics import Difference, Interval
from gemtune.reporting import report
from gemtune.reporting.artifacts import artifact_lines
from gemtune.run_files import Comparison
from gemtune.runs import Run

SIDE = Interval(0.41, 0.3, 0.52)
GAP = Difference(mean=-0.09, low=-0.1, high=0.0, p_value=0.2, method="permutation", wins=1, losses=3, ties=28)
AGREEMENT = Agreement(
    prompts=32,
    prompts_cut_alike=32,
    tokens=1234,
    tokens_agreed=1200,
    replies_equal=31,
    reference_stopped=32,
    stopped=32,
    partings=[Parting(where="e.csv:7", token=3, margin=0.03)],
)
FOUND = Verification(
    key="k",
    runtime="llama.cpp (xllamacpp 1)",
    reference="transformers 5",
    part="test",
    agreement=AGREEMENT,
    metric="f1",
    score=Comparison(base=Interval(0.5, 0.4, 0.6), tuned=SIDE, difference=GAP),
    seconds=3.0,
    passed=False,
    why="f1 0.410 against 0.500; a loss of up to 0.05 passes",
)
GGUF = Artifact(
    version=1,
    format="gguf-q8_0",
    weights="tuned",
    key="k",
    bytes=292_000_000,
    modules="126 of 126 adapters",
    seconds=28.04,
    peak_memory_gb=0.57,
    verification=FOUND,
)
MERGED = replace(GGUF, format="merged", verification=None, logits_difference=0.0123)


def test_every_format_is_a_row_with_its_verdict_and_why() -> None:
    lines = list(artifact_lines([GGUF, MERGED]))
    assert lines[1].split("  ")[0] == "gguf-q8_0" and "1,200 of 1,234" in lines[1] and lines[1].endswith("FAILED")
    assert (
        "31 of 32" in lines[1] and "292 MB  28 s        0.57 GB" in lines[1] and "f1 0.410 [0.300, 0.520]" in lines[1]
    )
    assert lines[2].endswith("not verified")
    assert lines[-2] == "gguf-q8_0: 126 of 126 adapters; f1 0.410 against 0.500; a loss of up to 0.05 passes."
    assert lines[-1].endswith("logits within 0.0123 of the unmerged model's; not verified yet.")
    unseen = replace(GGUF, verification=replace(FOUND, passed=None))
    assert next(line for line in artifact_lines([unseen]) if line.startswith("gguf")).endswith("not shown")


def test_the_report_has_them_or_says_how_to_make_them(run: Run) -> None:
    page = report.write_report(run)
    assert f"gemtune export {run.root} merged" in page.read_text()
    for artifact in (GGUF, MERGED):
        write_json(run.verify_file(artifact.format), artifact.to_json())
    page = report.write_report(run)
    for text in (page.read_text(), run.report_markdown.read_text()):
        assert "FAILED" in text and "1,200 of 1,234" in text and "a loss of up to 0.05 passes" in text
        assert f"gemtune export {run.root} merged" not in text
    table = [line for line in run.report_markdown.read_text().splitlines() if line.startswith("| gguf-q8")]
    assert len(table) == 1 and table[0].count("|") == 11


def test_hostile_text_in_a_note_is_harmless(run: Run, tmp_path: Path) -> None:
    write_json(run.verify_file("merged"), replace(MERGED, modules="<script>\x1b[31m").to_json())
    text = report.write_report(run).read_text()
    assert "<script>\x1b" not in text and "&lt;script&gt;" in text
    assert "\x1b" not in "".join(artifact_lines(run.artifacts()))
