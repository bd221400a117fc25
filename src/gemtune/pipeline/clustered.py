"""A stage's work on the workers of a Ray cluster: Ray places them and starts them again, gemtune resumes.

The run directory lies where every node sees it under the same path. There is the newest whole checkpoint, from which
the successors of a killed worker go on; Ray keeps none of its own.
"""

from __future__ import annotations

import os
import shutil
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from gemtune.errors import GemtuneError, MissingExtra, RunError
from gemtune.files import JsonObject
from gemtune.pipeline.job import Job
from gemtune.pipeline.orders import RESTARTS, Outcome, Progress, Work, obey, order_of

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

POLL = 0.2  # seconds between two looks at the messages
PATIENCE = 600.0  # seconds that a cluster may be too small: nodes are started again meanwhile, or added
SCRATCH = ".ray"  # in the run directory: what Ray's controller writes while it works


class Places(NamedTuple):
    """How many workers a cluster has, what each of them takes, and why."""

    workers: int
    cpus: int
    gpus: int
    why: str


def places_of(nodes: list[dict[str, float]], wanted: int | str, device: str) -> Places:
    """The workers of nodes with such resources, by `scale.workers` and `train.device`.

    >>> places_of([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}], "auto", "auto")
    Places(workers=8, cpus=2, gpus=1, why='each of 8 GPUs has one')
    >>> places_of([{"CPU": 4.0}, {"CPU": 2.0}, {"memory": 1e9}], "auto", "auto")
    Places(workers=2, cpus=2, gpus=0, why='each of 2 nodes has one')
    """
    nodes = [node for node in nodes if node.get("CPU")]
    if not nodes:
        raise RunError("scale.engine: ray: the cluster has no node with a CPU to work on; add one with `ray start`")
    gpus, cpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("GPU", "CPU"))
    on_gpus = bool(gpus) and device != "cpu"
    most, kind = (gpus, "GPUs") if on_gpus else (len(nodes), "nodes")
    workers, why = (most, f"each of {most} {kind} has one") if wanted == "auto" else (int(wanted), "the recipe says so")
    if on_gpus and workers > gpus:
        raise RunError(f"scale.workers: {wanted}, and {gpus} GPUs are in the cluster; set scale.workers: auto")
    each = cpus // gpus if on_gpus else min(cpus // workers, *(int(node["CPU"]) for node in nodes))
    return Places(workers, max(1, each), int(on_gpus), why)


def room_for(places: Places, nodes: list[dict[str, float]]) -> int:
    """How many of the workers nodes with such resources have room for.

    >>> room_for(Places(2, 2, 0, ""), [{"CPU": 3.0}, {"CPU": 1.0}])
    1
    """
    rooms = (
        min(node.get("CPU", 0) // places.cpus, node.get("GPU", 0) // places.gpus if places.gpus else places.workers)
        for node in nodes
    )
    return min(places.workers, int(sum(rooms)))


def on_cluster(job: Job, work: Work, progress: Progress, arguments: JsonObject) -> Any:
    """What `work(job, progress, **arguments)` returns on the first worker of the cluster at scale.address."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("scale.engine: ray", "ray") from error

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("TRAIN_ENABLE_SHARE_CUDA_VISIBLE_DEVICES", "0")  # a worker sees its own GPU alone
    is_ours = not ray.is_initialized()
    if is_ours:
        try:
            ray.init(job.recipe.scale.address, log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise RunError(
                f"scale.address: no cluster of Ray at {job.recipe.scale.address!r}; start one with `ray start --head`, "
                "or leave scale.address out"
            ) from error
    try:
        return _fit(job, work, progress, arguments)
    finally:
        shutil.rmtree(job.run.root / SCRATCH, ignore_errors=True)
        if is_ours:
            ray.shutdown()


def _fit(job: Job, work: Work, progress: Progress, arguments: JsonObject) -> Any:
    """Runs Ray's trainer in a thread, and hears in this one what its workers send."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    places = places_of(_nodes(), job.recipe.scale.workers, job.recipe.train.device)
    job.run.decide("workers", (places.workers, f"{places.why}; Ray has placed them"))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(_Mailbox).remote()
    order = {"order": order_of(job, work, arguments), "work": work, "folder": os.getcwd(), "mailbox": mailbox}
    outcome, since = Outcome(), time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        fitting = pool.submit(_trainer(job, places, order).fit)
        try:
            while not fitting.done():
                time.sleep(POLL)
                for message in ray.get(mailbox.take.remote()):
                    outcome.hear(message, job, progress)
                if (room := room_for(places, _nodes())) == places.workers:
                    since = time.monotonic()
                elif time.monotonic() - since > PATIENCE:
                    raise RunError(
                        f"scale.engine: ray: for {PATIENCE / 60:.0f} minutes the cluster has had room for {room} of "
                        f"{places.workers} workers with {places.cpus} CPUs and {places.gpus} GPUs each; add nodes, or "
                        "lower scale.workers; the same command goes on from the newest checkpoint"
                    )
        finally:
            if not fitting.done():
                ray.shutdown()  # Ctrl-C, or no room: it ends the workers, and with them the thread
    for message in ray.get(mailbox.take.remote()):
        outcome.hear(message, job, progress)
    outcome.require_accepted()
    if fitting.exception():
        raise RuntimeError(f"in a worker:\n{outcome.bug or fitting.exception()}")
    return outcome.answer


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _trainer(job: Job, places: Places, order: JsonObject) -> TorchTrainer:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from gemtune.training.ranks import TIMEOUT, backend_of

    return TorchTrainer(
        _as_worker,
        train_loop_config=order,
        scaling_config=ScalingConfig(
            num_workers=places.workers,
            use_gpu=bool(places.gpus),
            resources_per_worker={"CPU": places.cpus, **({"GPU": places.gpus} if places.gpus else {})},
        ),
        run_config=RunConfig(
            name=job.recipe.name,
            storage_path=str((job.run.root / SCRATCH).absolute()),
            failure_config=FailureConfig(max_failures=RESTARTS),
        ),
        torch_config=TorchConfig(backend=backend_of("cuda" if places.gpus else "cpu"), timeout_s=int(TIMEOUT)),
    )


def _as_worker(order: JsonObject) -> None:
    """What a worker does among ranks that are together. After a refusal Ray starts it again, with nothing to do."""
    import ray

    mailbox = order["mailbox"]
    if ray.get(mailbox.is_refused.remote()):
        return
    os.chdir(order["folder"])

    def send(kind: str, value: Any) -> None:
        ray.get(mailbox.put.remote({"kind": kind, "value": value}))

    try:
        obey(order["order"], order["work"], send)
    except GemtuneError:  # it was sent
        raise
    except Exception:  # Ray raises it again
        send("bug", traceback.format_exc())
        raise


class _Mailbox:
    """What workers have sent, on the node of the parent."""

    def __init__(self) -> None:
        self.messages: list[JsonObject] = []
        self.refused = False

    def put(self, message: JsonObject) -> None:
        self.messages.append(message)
        self.refused |= message["kind"] == "refusal"

    def take(self) -> list[JsonObject]:
        messages, self.messages = self.messages, []
        return messages

    def is_refused(self) -> bool:
        return self.refused
