"""The verb that hands a recipe to a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gemtune.cli.arguments import JSON, OVERRIDES
from gemtune.cli.terminal import tell, tell_json


def launch(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.", metavar="RECIPE", show_default=False)],
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    *,
    to: Annotated[
        Literal["slurm", "k8s", "ray", "sky", "vertex"],
        typer.Option("--to", help="Slurm, Kubernetes, KubeRay, SkyPilot or Vertex AI.", show_default=False),
    ],
    output: Annotated[Path | None, typer.Option(help="Where the file goes; beside RECIPE when not given.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, max=64, help="GPUs of a machine; 0 for none.")] = 1,
    gpu: Annotated[
        str | None, typer.Option(help="Their name where they are rented (sky, vertex); L4 when not given.")
    ] = None,
    cpus: Annotated[int, typer.Option(min=1, max=1024, help="Cores of a machine.")] = 8,
    memory: Annotated[int, typer.Option(min=1, max=65_536, help="Its main memory, in GiB.")] = 32,
    hours: Annotated[float, typer.Option(min=0.05, max=10_000, help="The most that it may take.")] = 24.0,
    image: Annotated[
        str | None, typer.Option(help="What the repository's Dockerfile made; gemtune:VERSION when not given.")
    ] = None,
    shared: Annotated[
        str | None,
        typer.Option(
            help="Where the project is on the cluster: a folder (slurm), a claim (k8s, ray) or a bucket (sky, vertex)."
        ),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Writes the file with which a cluster runs the recipe; nothing is sent, and no token is in it."""
    from gemtune.launch_files.order import Size
    from gemtune.launch_files.write import launch_text, write_launch_file

    size = Size(nodes=nodes, gpus=gpus, cpus=cpus, memory=memory, hours=hours)
    text = launch_text(recipe, to, size, overrides=overrides or [], gpu=gpu, image=image, shared=shared)
    target = write_launch_file(text, to, recipe, output)
    if as_json:
        tell_json({"file": str(target)})
    else:
        tell(f"wrote {target}; its first lines say how it is run")
