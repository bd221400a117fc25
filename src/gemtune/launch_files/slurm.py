"""A batch script for Slurm."""

from __future__ import annotations

import shlex

from gemtune.launch_files.order import Order, remark

WARNING = 120  # seconds before the end of its time at which a job is told, and puts itself into the queue again
RESTARTS = 20  # of one job

_SCRIPT = """\
set -euo pipefail
cd -- {folder}
command -v gemtune >/dev/null || {{ echo "gemtune is not on PATH: activate its environment, then sbatch" >&2; exit 2; }}

again() {{ # the time is nearly over: what runs is ended, and the job waits for its next turn
  kill "$step" 2>/dev/null || true
  wait "$step" || true
  if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {restarts} ]; then
    echo "not finished after {restarts} restarts; sbatch goes on from the newest checkpoint" >&2
    exit 1
  fi
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}}
trap again USR1

srun --kill-on-bad-exit=1 --cpus-per-task={cpus} {command} &
step=$!
wait "$step"
"""


def sbatch_script(order: Order) -> str:
    """The script that `sbatch` takes; #SBATCH lines hold names and numbers alone, which need no quoting."""
    size = order.size
    options = {
        "job-name": order.name,
        "nodes": size.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": size.cpus,
        "mem": f"{size.memory}G",
        **({"gres": f"gpu:{size.gpus}"} if size.gpus else {}),
        "time": _clock(size.seconds),
        "signal": f"B:USR1@{WARNING}",
        "output": "%x-%j.log",
    }
    directives = [f"#SBATCH --{name}={value}\n" for name, value in options.items()]
    directives += ["#SBATCH --requeue\n", "#SBATCH --open-mode=append\n"]
    script = _SCRIPT.format(
        folder=shlex.quote(order.shared),
        restarts=RESTARTS,
        cpus=size.cpus,
        command=shlex.join(order.command()),
    )
    said = remark(
        "Run it with: sbatch FILE. Options there, such as --partition or --account, come before those below.",
        "The project's folder has to lie on a file system that all nodes share: runs, checkpoints and log are in it.",
        "A node that fails, preemption and the end of the time put the job into the queue again; gemtune then goes on "
        "from its newest checkpoint.",
        f"Tokens come from the environment in which sbatch is called, and are in no file: {', '.join(order.secrets)}.",
    )
    return "#!/usr/bin/env bash\n" + "".join(directives) + said + "\n" + script


def _clock(seconds: int) -> str:
    """
    >>> _clock(90_061)
    '25:01:01'
    """
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
