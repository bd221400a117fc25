"""Is `prepare` as quick and as small as at an earlier commit? CPU time and peak memory on the same rows, in turn.

    python -m benchmarks.studies.prepare_against 7694740 --rows 1000000 --times 2

The earlier commit is checked out into a git worktree beside, which is removed again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.studies.growth import job_of

# In a process of its own, with the package of one of the two trees.
PREPARE = """
import json, resource, sys
from gemtune.pipeline.job import Job
from gemtune.preparation.prepare import prepare
job = Job(sys.argv[1])
manifest = prepare(job.recipe, job.run)
use = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu_s": round(use.ru_utime + use.ru_stime, 1), "peak_gb": round(use.ru_maxrss * 1024 / 1e9, 3),
                  "kept": sum(manifest.kept.values()), "dropped": manifest.dropped, "leaks": manifest.leaks}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what to measure against")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job_of(args.rows, folder)
        other = folder / "other"
        git("worktree", "add", "--detach", str(other), args.commit)
        try:
            for _ in range(args.times):
                for label, tree in ((args.commit, other), ("this tree", ROOT)):
                    print(label, json.dumps(measured(tree, folder / "r.yaml")), flush=True)
        finally:
            git("worktree", "remove", "--force", str(other))


def measured(tree: Path, recipe: Path) -> dict[str, object]:
    """What `prepare` takes with the package of a tree; the run it makes is removed for the next one."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    command = [sys.executable, "-c", PREPARE, str(recipe)]
    out = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True, check=True).stdout  # noqa: S603
    shutil.rmtree(recipe.parent / "r")
    figures: dict[str, object] = json.loads(out.splitlines()[-1])
    return figures


def git(*args: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *args], check=True, capture_output=True)  # noqa: S603, S607


if __name__ == "__main__":
    main()
