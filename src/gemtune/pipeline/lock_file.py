"""gemtune.lock: what a run was made from, by digest and version, so that it can be made again and compared."""

from __future__ import annotations

import re
from pathlib import Path

from gemtune.files import JsonObject, sha256_of, write_json
from gemtune.hardware import required_versions
from gemtune.pipeline.job import Job
from gemtune.run_files import Lock
from gemtune.runs import VERSIONS

_BLOB = re.compile(r"[0-9a-f]{64}")  # a file of the Hub's cache, called after its SHA-256


def write_lock(job: Job) -> None:
    """Writes it beside a run whose data, decisions and surroundings are known; just before the first step."""
    write_json(job.run.lock_file, _lock_of(job).to_json())


def _lock_of(job: Job) -> Lock:
    import torch

    run, recipe = job.run, job.recipe
    manifest, data = run.manifest, run.prepared_data()
    versions = required_versions()
    tables = {run.table(part).name: digest for part, digest in (data.token_lengths.tables or {}).items()}
    decisions: JsonObject = {name: decision.value for name, decision in run.decisions.items() if name != "model"}
    return Lock(
        version=VERSIONS["lock"],
        python=str(manifest["versions"]["python"]),
        packages=versions,
        sources={f"{n} {Path(source.source).name}": source.sha256 for n, source in enumerate(data.sources, 1)},
        data={**(data.files or {}), **tables},
        model={path.name: _digest(path) for path in sorted(job.weights_folder.iterdir()) if path.is_file()},
        seeds={"split": recipe.split.seed, "train": recipe.train.seed, "evaluate": recipe.evaluate.seed},
        hardware={**manifest["device"], "threads": torch.get_num_threads()},
        decisions=decisions,
    )


def _digest(path: Path) -> str:
    """The SHA-256 of a model's file; of one in the Hub's cache it is the name of what the file is a link to."""
    blob = path.resolve().name
    return blob if path.is_symlink() and _BLOB.fullmatch(blob) else sha256_of(path)
