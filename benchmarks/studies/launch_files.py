"""What do the systems themselves say of the files that `gemtune launch` writes?

    python -m benchmarks.studies.launch_files slurm    # a real Slurm of two nodes, here, by root; needs its daemons:
                                                       # apt-get install slurmctld slurmd slurm-client munge
    python -m benchmarks.studies.launch_files sky --python PATH      # of an environment with `pip install skypilot`
    python -m benchmarks.studies.launch_files vertex --python PATH   # with `pip install google-cloud-aiplatform pyyaml`

Slurm: `sbatch --test-only` takes the script and refuses broken ones; then a tiny recipe is run to its end, and again
with its job put back into the queue and its node taken away while it trains: are the losses the same? SkyPilot's
loader and Google's types read files with odd names in them, and have to refuse misspelt keys.
"""

# ruff: noqa: S603 (the systems' own commands)

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import yaml

from gemtune.files import read_jsonl
from gemtune.launch_files.order import Size
from gemtune.launch_files.write import launch_text

MINUTES = 10  # that a job may take here
STEPS = 20
ODD = "a 'b' \"c\" $(touch pwned) `x` #: {d}\n- e.yaml"


# --- Slurm ------------------------------------------------------------------------------------------------------------

CONFIG = """\
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/%n
SlurmctldPidFile={root}/ctld.pid
SlurmdPidFile={root}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,sched_interval=5
MinJobAge=600
ReturnToService=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_1} CPUs=1 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_2} CPUs=1 RealMemory=8000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


class Slurm:
    """A Slurm of two nodes on this machine."""

    def __init__(self, root: Path):
        self.root = root
        self.environment = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __call__(self, *command: str, cwd: Path | None = None, check: bool = True) -> str:
        done = subprocess.run(command, env=self.environment, cwd=cwd, capture_output=True, text=True)
        if check and done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr}")
        return done.stdout + done.stderr

    def job(self, number: str) -> dict[str, str]:
        words = re.findall(r"(\w+)=(\S*)", self("scontrol", "show", "job", number))
        return dict(words)

    def lose(self, node: str, number: str) -> None:
        """A node that dies with all that runs there."""
        processes = [process for process in psutil.process_iter() if self._is_of(process, number)]
        parents = {process.parent() for process in processes}
        steps = {parent for parent in parents if parent and parent.name() == "slurmstepd"}
        self.daemons[node].kill()
        for process in {*processes, *steps}:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self("scontrol", "update", f"nodename={node}", "state=down", "reason=study")

    def _is_of(self, process: psutil.Process, number: str) -> bool:
        with suppress(psutil.Error):
            environment = process.environ()
            ours = environment.get("SLURM_CONF") == self.environment["SLURM_CONF"]
            return ours and environment.get("SLURM_JOB_ID") == number
        return False

    def until(self, number: str, *states: str) -> dict[str, str]:
        end = time.monotonic() + MINUTES * 60
        while time.monotonic() < end:
            job = self.job(number)
            if job["JobState"] in states:
                return job
            if job["JobState"] in ("FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"):
                break
            time.sleep(0.5)
        raise SystemExit(f"job {number} is {job['JobState']}, wanted {' or '.join(states)}")


@contextmanager
def slurm() -> Iterator[Slurm]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as daemons:
        root, host = Path(name), socket.gethostname().split(".")[0]
        root.chmod(0o755)
        (root / "state").mkdir()
        port, port_1, port_2 = free_ports(3)
        config = CONFIG.format(root=root, host=host, port=port, port_1=port_1, port_2=port_2)
        (root / "slurm.conf").write_text(config)
        (root / "munge.key").write_bytes(os.urandom(1024))
        (root / "munge.key").chmod(0o600)
        cluster = Slurm(root)

        def start(name: str, *command: str) -> None:
            log = daemons.enter_context((root / f"{name}.log").open("w"))
            process = subprocess.Popen(command, env=cluster.environment, stdout=log, stderr=log)
            daemons.callback(process.wait)
            daemons.callback(process.terminate)
            cluster.daemons[name] = process

        sockets = [f"--socket={root}/munge.socket", f"--pid-file={root}/munge.pid", f"--log-file={root}/munge.log"]
        start(
            "munge",
            "munged",
            "--foreground",
            "--force",
            f"--key-file={root}/munge.key",
            f"--seed-file={root}/seed",
            *sockets,
        )
        while not (root / "munge.socket").exists():
            time.sleep(0.1)
        start("control", "slurmctld", "-D", "-f", f"{root}/slurm.conf")
        for node in ("n1", "n2"):
            start(node, "slurmd", "-D", "-N", node, "-f", f"{root}/slurm.conf")
        daemons.callback(cluster, "scancel", "--user=root", check=False)
        while cluster("sinfo", "-h", "-N", "-o", "%t", check=False).split() != ["idle", "idle"]:
            time.sleep(0.5)
        yield cluster


def project(folder: Path) -> Path:
    """A recipe that trains the tiny model for some seconds."""
    subprocess.run([sys.executable, "-m", "gemtune", "tiny", "gemma3", str(folder / "tiny")], check=True)
    rows = [f'"good morning number {i}, coffee time",☕🌅\n' for i in range(400)]
    (folder / "e.csv").write_text("text,emoji\n" + "".join(rows), encoding="utf-8")
    train = {"max_steps": STEPS, "batch_size": 16, "save_steps": 2, "eval_steps": 10, "early_stopping": None}
    recipe = {
        "name": "calm",
        "task": "emoji",
        "data": "e.csv",
        "model": "tiny",
        "evaluate": {"limit": 2, "max_new_tokens": 4},
    }
    recipe |= {"train": {**train, "precision": "fp32", "device": "cpu", "max_length": 128}}
    path = folder / ODD
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_jsonl(run / "metrics.jsonl") if "loss" in line]


def ask_slurm() -> None:
    with tempfile.TemporaryDirectory(prefix="project-") as name, slurm() as cluster:
        folder = Path(name)
        recipe = project(folder)
        os.chdir(folder)
        bin_ = folder / "bin"
        bin_.mkdir()
        (bin_ / "gemtune").write_text(f'#!/bin/bash\nexec {sys.executable} -m gemtune "$@"\n')
        (bin_ / "gemtune").chmod(0o755)
        cluster.environment["PATH"] = f"{bin_}:{os.environ['PATH']}"
        print(cluster("sinfo", "-V").strip(), "with", cluster("sinfo", "-h", "-N", "-o", "%N %t").split())

        def script(run: str) -> str:
            text = launch_text(recipe, "slurm", Size(gpus=0, cpus=1, memory=4), overrides=[f"name={run}"])
            (folder / f"{run}.sbatch").write_text(text, encoding="utf-8")
            return f"{run}.sbatch"

        print("sbatch --test-only:", cluster("sbatch", "--test-only", script("calm")).strip())
        good = (folder / "calm.sbatch").read_text(encoding="utf-8")
        for right, wrong in (("--time=24:00:00", "--time=24h"), ("--nodes=1", "--nodes=3"), ("--mem=", "--memm=")):
            (folder / "broken").write_text(good.replace(right, wrong), encoding="utf-8")
            said = cluster("sbatch", "--test-only", "broken", check=False).strip().splitlines()[-1]
            print(f"  with {wrong}: {said}")

        def submit(run: str) -> str:
            return cluster("sbatch", "--parsable", script(run)).strip()

        def at_step(run: str, step: int) -> None:
            while (
                len(losses(folder / "runs" / run) if (folder / "runs" / run / "metrics.jsonl").exists() else []) < step
            ):
                time.sleep(0.2)

        calm = cluster.until(submit("calm"), "COMPLETED")
        print(f"to its end on {calm['NodeList']} in {calm['RunTime']}: {len(losses(folder / 'runs' / 'calm'))} losses")

        number = submit("queue")
        at_step("queue", STEPS // 4)
        cluster("scancel", "--signal=USR1", "--batch", number)  # as Slurm does before the end of the time
        cluster.until(number, "PENDING", "REQUEUED")
        cluster("scontrol", "update", f"jobid={number}", "starttime=now", check=False)  # not in two minutes
        queue = cluster.until(number, "COMPLETED")
        report(folder, "queue", "told that its time ends", queue)

        number = submit("node")
        at_step("node", STEPS // 4)
        node = cluster.job(number)["NodeList"]
        cluster.lose(node, number)
        cluster.until(number, "PENDING", "REQUEUED", "RUNNING")
        cluster("scontrol", "update", f"jobid={number}", "starttime=now", check=False)
        report(folder, "node", f"{node} taken away", cluster.until(number, "COMPLETED"))
        print("nothing else ran:", not (folder / "pwned").exists())


def report(folder: Path, run: str, what: str, job: dict[str, str]) -> None:
    calm, again = losses(folder / "runs" / "calm"), losses(folder / "runs" / run)
    print(
        f"{what}: {job['Restarts']} restart, to its end on {job['NodeList']}; {len(again)} losses, "
        f"{'the same' if again == calm else 'OTHER ONES'}; report: {(folder / 'runs' / run / 'report.html').exists()}"
    )


# --- environments of their own ----------------------------------------------------------------------------------------

# Reads YAML files, prints for each "takes it" or what it says; in SkyPilot's environment, then in Google's.
SKY = """
import json, sys, sky, yaml
for path in sys.argv[1:]:
    try:
        task = sky.Task.from_yaml(path)
        print(json.dumps(["takes it", sky.__version__, task.run]))
    except Exception as error:
        print(json.dumps([f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", sky.__version__, None]))
"""
VERTEX = """
import json, sys, yaml
from google.cloud.aiplatform import __version__
from google.cloud.aiplatform_v1.types import CustomJobSpec
from google.protobuf.json_format import ParseDict
for path in sys.argv[1:]:
    try:
        spec = CustomJobSpec.pb(CustomJobSpec())
        ParseDict(yaml.safe_load(open(path)), spec)
        print(json.dumps(["takes it", __version__, list(spec.worker_pool_specs[0].container_spec.args)]))
    except Exception as error:
        print(json.dumps([f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", __version__, None]))
"""
ASKED = {
    "sky": (
        SKY,
        "s3://bucket",
        [("resources:", "resourcess:"), ("accelerators:", "accelerator:"), ("MOUNT_CACHED", "X")],
    ),
    "vertex": (
        VERTEX,
        "gs://bucket",
        [("machineType:", "machinesType:"), ("strategy: SPOT", "strategy: X"), ('s"\n', '"\n')],
    ),
}


def ask(to: str, python: str) -> None:
    code, shared, mistakes = ASKED[to]
    with tempfile.TemporaryDirectory(prefix="project-") as name:
        folder = Path(name)
        os.chdir(folder)
        texts: dict[str, str] = {}
        for file in ("r.yaml", ODD):
            (folder / file).write_text("task: emoji\ndata: e.csv\n", encoding="utf-8")
            for gpus in (0, 1, 8):
                what = f"{'odd names' if file == ODD else 'r.yaml'}, {gpus} GPUs"
                texts[what] = launch_text(folder / file, to, Size(gpus=gpus), shared=shared)
        plain = texts["r.yaml, 1 GPUs"]
        texts |= {f"{wrong.strip()!r}": plain.replace(right, wrong) for right, wrong in mistakes}
        paths = [folder / f"{number}.launch.yaml" for number in range(len(texts))]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [python, "-c", code, *map(str, paths)], env={**os.environ, "HOME": name}, capture_output=True, text=True
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
        if len(lines) != len(texts):
            raise SystemExit(done.stderr)
        for what, line in zip(texts, lines, strict=True):
            said, version, command = json.loads(line)
            print(f"{to} {version}, {what}: {said}", f"{command}" if command and "odd" in what else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=["slurm", *ASKED])
    parser.add_argument("--python", default=sys.executable, help="of the environment that has the system's package")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # no daemon and no job is left
    if args.system == "slurm":
        ask_slurm()
    else:
        ask(args.system, args.python)


if __name__ == "__main__":
    main()
