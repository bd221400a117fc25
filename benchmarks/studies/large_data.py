"""What do rows cost as they grow to ten million: to prepare, to open, to draw an order of, to read one anywhere?

Every line is measured in a process of its own: `large_data prepare 10000` measures one. Ten million rows take 12 GB of
disk meanwhile, in the folder for temporary files. `large_data same 1000000` prepares twice, sorted by numpy and by
DuckDB, and compares every file.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.machine import ROOT, write_page
from benchmarks.studies.growth import job_of
from gemtune.files import sha256_of, write_json

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
TOKENS = 40  # a row of the tables that are read
BATCH, STEPS, DRAWN = 16, 2_000, 20_000  # rows a step, steps whose rows are computed, rows that are read
PASSES = 50  # 43 for near duplicates, and what is equal, in groups or in parts
BODY = """\
`prepare` of short rows of a CSV: duplicates, near duplicates, split, leak audit; without the tokens. Above
{threshold:,} rows DuckDB sorts. The peak is that of the whole process, which had {start:.0f} MB at the start.

| rows | rows/s | rows per s of processor | peak MB | bytes of jsonl a row |
| ---: | ---: | ---: | ---: | ---: |
{prepared}

Rows that share a 64-bit number brought together, as `prepare` does some {passes} times:

| rows | s | s of processor | peak MB |
| ---: | ---: | ---: | ---: |
{sorted}

A table of rows of {tokens} tokens (each shard a file of its own, read from the page cache) and its order over three
epochs of batches of {batch}: first the step in the middle, then {steps:,} steps, then {drawn:,} rows anywhere. Mapped
are pages of files, which the system takes back when it needs them; held is all other memory, of which the imports need
{imports:.0f} MB:

| rows | bytes a row | to open, ms | middle step, ms | order, us a row | a row, us | MB held | MB mapped |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{read}
"""

Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurement", nargs="?", choices=MEASUREMENTS, help="only this one, in this process")
    parser.add_argument("size", nargs="?", type=int, help="rows")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="of the page")
    args = parser.parse_args()
    if args.measurement is None:
        write_page(__file__, "Large data", _body(args.sizes))
    elif args.size is None:
        parser.error(f"how many? For example: {args.measurement} 10000")
    else:
        print(json.dumps(MEASUREMENTS[args.measurement](args.size)))


def _body(sizes: list[int]) -> str:
    from gemtune.preparation.scratch import IN_MEMORY

    prepared, ordered, read = ([measured(name, size) for size in sizes] for name in ("prepare", "sort", "read"))
    sorts = "| {rows:,.0f} | {seconds:.1f} | {processor:.1f} | {peak:.0f} |"
    cells = "| {rows:,.0f} | {per_s:,.0f} | {per_processor_s:,.0f} | {peak:.0f} | {bytes:.0f} |"
    reads = (
        "| {rows:,.0f} | {bytes:.0f} | {open:.1f} | {step:.1f} | {order:.1f} | {row:.0f} | {held:.0f} | {mapped:.0f} |"
    )
    return BODY.format(
        threshold=IN_MEMORY,
        tokens=TOKENS,
        batch=BATCH,
        steps=STEPS,
        drawn=DRAWN,
        start=prepared[0]["start"],
        imports=read[0]["imports"],
        passes=PASSES,
        sorted="\n".join(sorts.format(**figures) for figures in ordered),
        prepared="\n".join(cells.format(**figures) for figures in prepared),
        read="\n".join(reads.format(**figures) for figures in read),
    )


def measured(measurement: str, size: int) -> Figures:
    """The figures of one measurement, by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.studies.large_data", measurement, str(size)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603
    print(measurement, size, out.splitlines()[-1], flush=True)
    figures: Figures = json.loads(out.splitlines()[-1])
    return figures


def prepare_rows(size: int) -> Figures:
    """Rows per second of `prepare`, by the clock and by the processor, and the memory of this process."""
    from gemtune.preparation.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        job = job_of(size, Path(folder))
        start, began, processor = peak_mb(), time.perf_counter(), time.process_time()
        prepare(job.recipe, job.run)
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
        kept = sum(path.stat().st_size for path in job.run.data.glob("*.jsonl"))
        speeds = {"per_s": size / seconds, "per_processor_s": size / processor}
        return {"rows": size, **speeds, "start": start, "peak": peak_mb(), "bytes": kept / size}


def sort_rows(size: int) -> Figures:
    """What one pass over a number of every row takes, of which a tenth have the number of another."""
    from gemtune.preparation.candidates import mixed
    from gemtune.preparation.scratch import repeats

    def number(part: slice) -> np.ndarray:
        return mixed(np.arange(part.start, min(part.stop, size), dtype=np.uint64) % np.uint64(size * 9 // 10))

    with tempfile.TemporaryDirectory() as folder:
        rows, began, processor = np.ones(size, bool), time.perf_counter(), time.process_time()
        later, _ = repeats(number, rows, Path(folder))
        figures = {"seconds": time.perf_counter() - began, "processor": time.process_time() - processor}
    if len(later) != size - size * 9 // 10:
        raise ValueError(f"{len(later)} rows found")
    return {"rows": size, **figures, "peak": peak_mb()}


def read_rows(size: int) -> Figures:
    """What opening a table, its order and a row anywhere take."""
    from gemtune.rendering.token_table import ExampleTable
    from gemtune.runs import Run
    from gemtune.training.order import Order

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(  # noqa: S603 (in another process, whose memory is not counted)
            [
                sys.executable,
                "-c",
                f"from benchmarks.studies.large_data import write_shards; write_shards({size}, {folder!r})",
            ],
            cwd=ROOT,
            check=True,
        )
        run, imports = Run(Path(folder)), memory_mb("RssAnon")
        began = time.perf_counter()
        table = ExampleTable(run.table("train"))
        figures = {"rows": len(table), "imports": imports, "open": (time.perf_counter() - began) * 1e3}
        figures["bytes"] = sum(path.stat().st_size for path in run.data.iterdir()) / size
        began = time.perf_counter()
        order = Order(table.weights, batch_size=BATCH, epochs=3, seed=0)
        _ = order[len(order) // 2]
        figures["step"] = (time.perf_counter() - began) * 1e3
        first, steps = len(order) // 3, min(STEPS, len(order) // 2)
        began = time.perf_counter()
        rows = np.concatenate([order[first + step] for step in range(steps)])
        figures["order"] = (time.perf_counter() - began) / len(rows) * 1e6
        anywhere = np.random.default_rng(0).integers(0, size, DRAWN).tolist()
        began = time.perf_counter()
        tokens = sum(len(table[row].input_ids) for row in anywhere)
        figures["row"] = (time.perf_counter() - began) / DRAWN * 1e6
        if tokens != DRAWN * TOKENS:
            raise ValueError(f"{tokens} tokens read, wanted {DRAWN * TOKENS}")
        return {**figures, "held": memory_mb("RssAnon"), "mapped": memory_mb("RssFile")}


def write_shards(size: int, folder: str) -> None:
    """A table of `size` rows: a full shard is written once and copied, with one for the rest."""
    from gemtune.rendering.renderer import Example
    from gemtune.rendering.token_table import SHARD_ROWS, TableWriter
    from gemtune.run_files import TableIndex, WeightedRows
    from gemtune.runs import VERSIONS, Run, table_index

    run = Run(Path(folder))
    run.data.mkdir()
    writer, rng = TableWriter(run, "train"), np.random.default_rng(0)
    for row in range(min(size, SHARD_ROWS)):
        writer.add(Example([2, *rng.integers(300, 200_000, TOKENS - 1).tolist()], ((TOKENS - 8, TOKENS),)), 1.0, row)
    writer.finish()
    writer.put()
    shard = table_index(run.table("train")).shards[0]
    if size % shard.rows:
        raise ValueError(f"{size} rows are no whole number of shards of {shard.rows}")
    shards = [replace(shard, name=run.shard("train", number).name) for number in range(size // shard.rows)]
    for copy in shards[1:]:
        shutil.copyfile(run.data / shard.name, run.data / copy.name)
    weights = [WeightedRows(1.0, size, size * TOKENS)]
    write_json(run.table("train"), TableIndex(version=VERSIONS["tokens"], shards=shards, weights=weights).to_json())


def same_rows(size: int) -> Figures:
    """How many files `prepare` writes, which are the same by numpy and by DuckDB; ValueError where one differs."""
    from gemtune.preparation import scratch
    from gemtune.preparation.prepare import prepare

    digests = []
    for most in (size, 0):
        scratch.IN_MEMORY = most
        with tempfile.TemporaryDirectory() as folder:
            job = job_of(size, Path(folder))
            prepare(job.recipe, job.run)
            digests.append({path.name: sha256_of(path) for path in job.run.data.glob("*.jsonl")})
    if different := [name for name in digests[0] if digests[0][name] != digests[1].get(name)]:
        raise ValueError(f"not the same by DuckDB: {', '.join(different)}")
    return {"rows": size, "same_files": len(digests[0])}


def memory_mb(kind: str) -> float:
    """What this process has of a kind of memory now, as Linux names it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{kind}:")[1].split()[0]) * 1024 / 1e6


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


MEASUREMENTS: dict[str, Callable[[int], Figures]] = {
    "prepare": prepare_rows,
    "sort": sort_rows,
    "read": read_rows,
    "same": same_rows,
}

if __name__ == "__main__":
    main()
