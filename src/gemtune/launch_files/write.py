"""A recipe as the file with which a system runs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gemtune.errors import GemtuneError
from gemtune.files import write_text
from gemtune.hardware import gemtune_version
from gemtune.launch_files.kubernetes import job_manifest, ray_job
from gemtune.launch_files.order import Order, Size, from_here, require_within
from gemtune.launch_files.sky import sky_task
from gemtune.launch_files.slurm import sbatch_script
from gemtune.launch_files.vertex import custom_job
from gemtune.recipe.loader import load_recipe


@dataclass(frozen=True)
class System:
    """What runs jobs: how its file is written and called, and what it takes."""

    text: Callable[[Order], str]
    suffix: str
    shared: re.Pattern[str]  # the disk's name there
    wanted: str
    usual: str | None = None  # where none is given
    rents: bool = False  # GPUs by their name
    has_image: bool = True


_CLAIM, _BUCKET = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]"
_A_CLAIM = "the name of a PersistentVolumeClaim"
SYSTEMS = {
    "slurm": System(
        sbatch_script, ".sbatch", re.compile("/.*", re.DOTALL), "a folder that all nodes share", has_image=False
    ),
    "k8s": System(job_manifest, ".k8s.yaml", re.compile(_CLAIM), _A_CLAIM, "gemtune"),
    "ray": System(ray_job, ".ray.yaml", re.compile(_CLAIM), _A_CLAIM, "gemtune"),
    "sky": System(sky_task, ".sky.yaml", re.compile(f"(s3|gs|r2)://{_BUCKET}"), "a bucket, s3://NAME", rents=True),
    "vertex": System(custom_job, ".vertex.yaml", re.compile(f"gs://{_BUCKET}"), "a bucket, gs://NAME", rents=True),
}


def launch_text(
    file: Path,
    to: str,
    size: Size,
    *,
    overrides: Sequence[str] = (),
    gpu: str | None = None,
    image: str | None = None,
    shared: str | None = None,
) -> str:
    """The file of a system as text; GemtuneError where the job could not run there."""
    if file.is_dir():
        raise GemtuneError(f"{file}: a folder; give the recipe file")
    system, recipe = SYSTEMS[to], load_recipe(file, overrides)
    if size.nodes > 1:
        raise GemtuneError(f"--nodes {size.nodes}: gemtune trains on the GPUs of one machine; give --gpus instead")
    if gpu and not system.rents:
        raise GemtuneError(f"--gpu {gpu}: {to} takes the GPUs of its nodes, whatever they are; leave it out")
    if image and not system.has_image:
        raise GemtuneError(f"--image {image}: {to} runs the gemtune that is on its nodes; leave it out")
    disk = shared or system.usual or (str(Path.cwd()) if to == "slurm" else "")
    if not system.shared.fullmatch(disk):
        found = f"found --shared {disk!r}" if disk else "found no --shared"
        raise GemtuneError(f"--to {to}: {found}; give one: {system.wanted}, where the project's folder is")
    if system.has_image:
        require_within(recipe, file)
    size = replace(size, gpu=gpu or size.gpu)
    name = image or f"gemtune:{gemtune_version()}"
    return system.text(Order(recipe, from_here(file), tuple(overrides), size, name, disk))


def write_launch_file(text: str, to: str, recipe: Path, output: Path | None = None) -> Path:
    """Writes it where no file is yet: beside the recipe, or as `output`."""
    target = output or recipe.with_suffix(SYSTEMS[to].suffix)
    if target.exists():
        raise GemtuneError(f"{target}: is there already; remove it, or give another --output")
    write_text(target, text)
    return target
