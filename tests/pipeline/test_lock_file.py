"""gemtune.lock holds digests that anybody can check."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from gemtune.files import read_json
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_its_digests_are_those_of_the_files(write_recipe: Callable[..., Path], tiny_model: Path) -> None:
    path = write_recipe(train={"max_steps": 1, "seed": 7}, split={"seed": 3})
    job = Job(path, say=lambda text: None)
    stages.train(job)
    lock = read_json(job.run.root / "gemtune.lock")
    (source,) = job.recipe.data
    assert lock["sources"] == {f"1 {Path(source.source).name}": sha256(Path(source.source))}
    assert lock["data"] and lock["data"] == {name: sha256(job.run.data / name) for name in lock["data"]}
    assert {"train.jsonl", "train.index.json"} <= lock["data"].keys()
    assert lock["model"] == {path.name: sha256(path) for path in tiny_model.iterdir() if path.is_file()}
    assert lock["seeds"] == {"split": 3, "train": 7, "evaluate": 0}
    assert all(lock["packages"][name] == version(name) for name in ("torch", "gemtune", "numpy"))
    assert lock["decisions"]["precision"] == "fp32" and lock["hardware"]["threads"] >= 1


def test_the_hubs_cache_tells_a_digest_by_its_name(tmp_path: Path) -> None:
    from gemtune.pipeline.lock_file import _digest

    data, cache = b"weights", tmp_path / "blobs"
    name = hashlib.sha256(data).hexdigest()
    cache.mkdir()
    (cache / name).write_bytes(data)
    (tmp_path / "model.safetensors").symlink_to(cache / name)
    assert _digest(tmp_path / "model.safetensors") == name == sha256(tmp_path / "model.safetensors")
