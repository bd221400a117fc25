"""Workers on a Ray cluster of two nodes: the losses of one worker; where they go is said with the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gemtune.errors import RunError
from gemtune.pipeline import stages
from gemtune.pipeline.clustered import places_of
from rank_trainings import curve, largest_difference, prepared, twin

WriteRecipe = Callable[..., Path]


def test_more_workers_than_gpus_are_refused() -> None:
    with pytest.raises(RunError, match=r"scale\.workers: 3, and 2 GPUs are in the cluster; set scale.workers: auto"):
        places_of([{"CPU": 8.0, "GPU": 2.0}], 3, "auto")
    with pytest.raises(RunError, match="has no node with a CPU to work on; add one with `ray start`"):
        places_of([{"memory": 1e9}], "auto", "auto")


@pytest.fixture
def cluster() -> Iterator[str]:
    """A head without a place for workers, and two nodes with one each; its address."""
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20})
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


def test_two_nodes_have_the_losses_of_one_worker(write_recipe: WriteRecipe, cluster: str) -> None:
    alone = prepared(write_recipe(train={"max_steps": 6, "learning_rate": 1e-3}))
    there = twin(alone, "there", engine="ray", address=cluster, workers="auto")
    stages.train(there)
    stages.train(alone)
    assert largest_difference(curve(alone), curve(there)) < 1e-6
    training = there.run.training
    assert training and training.workers == 2 and not (there.run.root / ".ray").exists()
