"""What the command line prints: the answers of the stages as lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gemtune.files import JsonObject, read_jsonl
from gemtune.pipeline.compare import Standing, Standings
from gemtune.reporting.alarms import alarm_lines
from gemtune.reporting.comparison import Score, summary_lines
from gemtune.reporting.text import interval, one_line, visible
from gemtune.run_files import DataManifest, PartLengths, Summary
from gemtune.runs import PARTS, Run

if TYPE_CHECKING:
    from gemtune.documents.folder import DistilledFolder
    from gemtune.documents.manifest import DistillManifest
    from gemtune.exporting.hub import HubFile

MOST_LEFT_OUT = 8  # pages without a row
MOST_REASONS = 4  # why rows are not counted in a score
LEFT_OUT = {
    "over_length": "left out: longer than train.max_length = {limit}",
    "shortened": "with a shortened prompt, to fit train.max_length = {limit}",
    "control_token": "left out: the text spells a control token of the model",
}


def pushed_lines(files: Sequence[HubFile], repo: str, address: str | None, public: bool) -> Iterator[str]:
    """What was sent to the Hub, or would be: path, bytes, SHA-256 and whether LFS takes it; and where it lies."""
    for file in files:
        yield f"{file.path}  {file.size:,}  {file.sha256}  {'LFS' if file.is_large else 'plain'}"
    seen = "public" if public else "private"
    yield address or f"nothing was sent; without --dry-run it goes to {repo}, {seen}"


def prepared_lines(run: Run) -> Iterator[str]:
    """The data manifest in words: large losses, what was read, dropped and why, the parts, their lengths, the leaks."""
    data = run.prepared_data()
    kept, dropped = sum(data.kept.values()), sum(data.dropped.values())
    yield from alarm_lines(run)
    yield f"{data.rows_read} rows read = {kept} kept + {dropped} dropped"
    for reason, count in sorted(data.dropped.items(), key=lambda entry: -entry[1]):
        yield f"  dropped {count}: {reason}"
    for part in PARTS:
        lengths = data.token_lengths.of(part)
        yield (
            f"  {part}: {data.kept.get(part, 0)} rows in {data.groups.get(part, 0)} groups; "
            f"tokens {lengths.min} to {lengths.max}, median {lengths.median}, 95 % within {lengths.p95}"
        )
        if lengths.images:
            yield f"    {_images_line(lengths)}"
        for name, words in LEFT_OUT.items():
            if count := getattr(lengths, name):
                yield f"    {count} {words.format(limit=data.token_lengths.max_length)}"
    yield from _scored_lines(run, data)
    where = f"; see {run.leaks_file}" if data.leaks else ""
    yield f"leak audit: {data.leaks} pairs of similar questions on both sides of the split{where}"
    if data.losses:
        yield f"every dropped row: {run.dropped_file}"


def _images_line(lengths: PartLengths) -> str:
    """How finely a part's images are seen.

    >>> zeros = dict.fromkeys(["rows", "min", "median", "p95", "max", "tokens"], 0)
    >>> zeros |= dict.fromkeys(["over_length", "shortened", "control_token"], 0)
    >>> page = {"images": 90, "image_pixels": 3_740_000, "seen_pixels": 802_816, "image_tokens": 256}
    >>> _images_line(PartLengths(**zeros, **page, characters=2.5, most_characters=4.25))
    '90 images of 3.74 megapixels, seen at 0.80; 256 tokens a row, 2.5 characters read per token, at most 4.2 in 95 %'
    """
    stored, seen = lengths.image_pixels / 1e6, lengths.seen_pixels / 1e6
    return (
        f"{lengths.images} images of {stored:.2f} megapixels, seen at {seen:.2f}; {lengths.image_tokens} tokens a row, "
        f"{lengths.characters:.1f} characters read per token, at most {lengths.most_characters:.1f} in 95 %"
    )


def _scored_lines(run: Run, data: DataManifest) -> Iterator[str]:
    """How many rows each score counts for, and why it does not for the others."""
    if counts := ", ".join(f"{name} {rows}" for name, rows in data.scored.items()):
        yield f"  scores, and the rows of val and test that each counts for: {counts}"
    reasons = {True: Counter[tuple[str, str]](), False: Counter[tuple[str, str]]()}  # of train, and of what is scored
    first: dict[tuple[bool, str, str], str] = {}
    for line in read_jsonl(run.unscored_file) if data.unscored else ():
        is_trained = line.get("part") == "train"
        reasons[is_trained][line["score"], line["reason"]] += 1
        first.setdefault((is_trained, line["score"], line["reason"]), line["where"])
    for is_trained, words in ((False, "without"), (True, "of train whose own answer does not get full marks in")):
        for (score, reason), rows in reasons[is_trained].most_common(MOST_REASONS):
            where = first[is_trained, score, reason]
            yield visible(f"    {rows} {words} {score}: {one_line(reason, 120)} ({where})")
    if first:
        yield f"    every one of them: {run.unscored_file}"


def distilled_lines(manifest: DistillManifest, folder: DistilledFolder) -> Iterator[str]:
    """The manifest of distilled rows in words: what there is, what is left out and why, what it has cost."""
    tasks = ", ".join(f"{task} {rows}" for task, rows in manifest.tasks.items())
    yield f"{manifest.rows} rows of {manifest.pages} pages of {manifest.documents} documents: {folder.rows_file}"
    yield f"  {tasks}"
    if manifest.merged:
        several = f"{manifest.merged} of {manifest.groups} groups are several documents"
        yield f"  {several}, which share a page or belong together: {folder.groups_file}"
    if manifest.references:
        yield f"  {manifest.references} pages have a true text beside their document"
    for left_out in manifest.left_out[:MOST_LEFT_OUT]:
        yield visible(f"  left out: {one_line(str(left_out), 200)}")
    if len(manifest.left_out) > MOST_LEFT_OUT:
        yield f"  and {len(manifest.left_out) - MOST_LEFT_OUT} more: {folder.manifest_file}"
    for teacher in manifest.teachers:
        cost = f", {teacher.cost:,.2f} in all" if teacher.cost else ""
        yield (
            f"teacher {teacher.model}: {teacher.requests} requests, {teacher.answered} answered; "
            f"{teacher.input:,} tokens in, {teacher.output:,} out{cost}"
        )
        if teacher.perhaps:
            yield f"  {teacher.perhaps} of them may have been charged without a reply: {folder.ledger_file}"


def evaluation_lines(summary: JsonObject | None) -> Iterator[str]:
    """Base against tuned; without a summary, what is missing."""
    if summary is None:
        yield "Nothing is compared; `gemtune evaluate RUN` compares base and tuned on rows that have answers."
    else:
        yield from summary_lines(Summary.from_json(summary, "summary"))


def standing_lines(standings: Standings) -> Iterator[str]:
    """Each model's score and its difference to the first, and what that proves."""
    first, *others = standings.models
    head = ("model", standings.metric, f"difference to {first.model}", "", "better, same, worse", "cut")
    table = [head, (first.model, interval(first.score.tuned), "", "", "", str(first.cut))]
    for other in others:
        score = _score_of(standings, other)
        gap = score.difference
        rows = f"{gap.wins}, {gap.ties}, {gap.losses}"
        table.append((other.model, interval(score.tuned), interval(gap, sign=True), score.p, rows, str(other.cut)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield visible("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    yield ""
    for other in others:
        outcome = _score_of(standings, other).outcome
        words = "shows no sure difference to" if outcome == "undecided" else f"is {outcome} than"
        yield visible(f"{other.model} {words} {first.model} in {standings.metric}, on {standings.rows} rows.")
    if standings.left_out:
        yield f"{standings.left_out} rows are left out: one of the runs was trained on them, or chosen by them."


def _score_of(standings: Standings, model: Standing) -> Score:
    score = model.score
    return Score(standings.metric, standings.rows, score.base, score.tuned, score.difference, score.direction)


def _together(plan: JsonObject) -> Iterator[str]:
    """The memory of a process and, where several workers share the machine's, of all of them.

    >>> plan = {"memory_gb": {"weights": 1.5}, "free_gb": 20.0, "workers": 2, "device": "cpu"}
    >>> for line in _together(plan):
    ...     print(line)
      together       1.50 GB a worker
      2 workers      3.00 GB of 20.0 GB free
    """
    each, workers, free = sum(plan["memory_gb"].values()), plan["workers"], f"of {plan['free_gb']:.1f} GB free"
    if workers == 1:
        yield f"  {'together':<12} {each:6.2f} GB {free}"
    elif plan["device"] == "cpu":
        yield f"  {'together':<12} {each:6.2f} GB a worker"
        yield f"  {f'{workers} workers':<12} {workers * each:6.2f} GB {free}"
    else:
        yield f"  {'together':<12} {each:6.2f} GB {free}, on each of {workers} GPUs"


def plan_lines(plan: JsonObject) -> Iterator[str]:
    """The plan of this machine by what needs the memory, then the table of Gemma 3 sizes and devices."""
    how = ", blocks computed twice to keep less of them" if plan["checkpointing"] else ""
    yield f"{plan['model']} on this machine ({plan['device']}, {plan['precision']}{how}):"
    for name, value in plan["memory_gb"].items():
        yield f"  {name:<12} {value:6.2f} GB"
    yield from _together(plan)
    yield f"  {plan['steps']} steps, {plan['tokens']} tokens: about {plan['seconds'] / 60:.1f} min ({plan['why']})"
    if plan["caution"]:
        yield f"  {plan['caution']}"
    yield ""
    yield "The same recipe elsewhere, in GB (h: hours at 40 % of the data sheet's speed; ckpt: blocks computed twice;"
    yield "-: does not fit):"
    yield f"  {'':<14}" + "".join(f"{name:>21}" for name in plan["elsewhere"][0]["devices"])
    for row in plan["elsewhere"]:
        yield f"  {row['model']:<14}" + "".join(f"{cell:>21}" for cell in row["devices"].values())
