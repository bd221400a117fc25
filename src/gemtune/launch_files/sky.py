"""A task for SkyPilot."""

from __future__ import annotations

import shlex

from gemtune.launch_files.order import Order, remark
from gemtune.launch_files.yaml_text import yaml_text

RUNS = "/runs"  # where the bucket is on the machine


def sky_task(order: Order) -> str:
    """The YAML that `sky jobs launch` takes."""
    size = order.size
    distilled = [f"pages.folder={RUNS}/distilled"] if order.recipe.pages else []  # replies that are paid for
    command = order.command(f"runs_dir={RUNS}", *distilled)
    task = {
        "name": order.name,
        "num_nodes": size.nodes,
        "workdir": ".",
        "resources": {
            **({"accelerators": f"{size.gpu}:{size.gpus}"} if size.gpus else {}),
            "cpus": f"{size.cpus}+",
            "memory": f"{size.memory}+",
            "image_id": f"docker:{order.image}",
            "use_spot": True,
            "job_recovery": {"strategy": "EAGER_NEXT_REGION"},
        },
        "file_mounts": {RUNS: {"source": order.shared, "mode": "MOUNT_CACHED"}},
        "secrets": dict.fromkeys(order.secrets),
        "run": f"timeout {size.seconds} {shlex.join(command)}\n",
    }
    given = " ".join(f"--secret {name}" for name in order.secrets)
    said = remark(
        f"Run it in the project's folder, which is sent along, with: sky jobs launch {given} FILE",
        f"Runs are in the bucket {order.shared}, mounted on every machine: the file system they share. A machine that "
        "is taken away is replaced, and gemtune goes on from its newest checkpoint.",
        "Tokens come from the environment in which sky is called, and are in no file.",
        "SkyPilot wants an image whose user is root: docker build --build-arg USER=0 ...",
    )
    return said + yaml_text(task)
