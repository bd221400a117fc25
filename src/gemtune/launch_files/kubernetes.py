"""A Job for Kubernetes, and a RayJob for KubeRay."""

from __future__ import annotations

import shlex
from typing import Any

from gemtune.launch_files.order import Order, remark
from gemtune.launch_files.yaml_text import yaml_text

SECRET, WORK = "gemtune", "/work"  # the Secret with the tokens; where the claim is in a container
RAY = "2.60.0"  # of the image
USER = 1000  # of the image
RETRIES = 5  # after pods that were lost
FAILED = [3, 4]  # exit codes that another try does not change: a divergence, a failed proof

Plain = dict[str, Any]


def job_manifest(order: Order) -> str:
    """A `batch/v1` Job of one pod."""
    container = _container("gemtune", order) | {"command": list(map(_literal, order.command()))}
    codes = {"containerName": "gemtune", "operator": "In", "values": FAILED}
    lost = [{"type": "DisruptionTarget"}]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": order.name, "labels": {"app.kubernetes.io/name": "gemtune"}},
        "spec": {
            "backoffLimit": RETRIES,
            "activeDeadlineSeconds": order.size.seconds,
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onExitCodes": codes},
                    {"action": "Ignore", "onPodConditions": lost},
                ]
            },
            "template": {"spec": {"restartPolicy": "Never", **_pod(container, order)}},
        },
    }
    return _said(order, "Job", "A pod that is lost starts again") + yaml_text(job)


def ray_job(order: Order) -> str:
    """A RayJob `ray.io/v1`: a cluster of its own, on whose worker the recipe runs."""
    gpus = order.size.gpus
    head = _container("ray-head", order, is_worker=False)
    worker = _container("ray-worker", order)
    place = {"entrypointNumGpus": gpus} if gpus else {"entrypointNumCpus": order.size.cpus}
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": order.name, "labels": {"app.kubernetes.io/name": "gemtune"}},
        "spec": {
            "entrypoint": f"cd {WORK} && exec {shlex.join(order.command())}",
            **place,
            "submissionMode": "HTTPMode",  # one shell reads the entrypoint; by a submitter's pod it would be two
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "activeDeadlineSeconds": order.size.seconds,
            "backoffLimit": RETRIES,
            "rayClusterSpec": {
                "rayVersion": RAY,
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},
                    "template": {"spec": _pod(head, order)},
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": order.size.nodes,
                        "minReplicas": order.size.nodes,
                        "maxReplicas": order.size.nodes,
                        "rayStartParams": {},
                        "template": {"spec": _pod(worker, order)},
                    }
                ],
            },
        },
    }
    return _said(order, "RayJob", "A cluster that fails is made again") + yaml_text(job)


def _said(order: Order, kind: str, again: str) -> str:
    literals = " ".join(f"--from-literal={name}=..." for name in order.secrets)
    return remark(
        f"Run it with: kubectl create -f FILE. A {kind}; `metadata` takes the label of a queue.",
        f"The claim {order.shared!r} is a file system that all nodes share (ReadWriteMany), with the project's folder "
        f"at its top: the recipe, its rows and the runs. {again}, and gemtune goes on from its newest checkpoint.",
        f"Tokens are in the Secret {SECRET!r}, and in no file; those that are not needed may be left out: kubectl "
        f"create secret generic {SECRET} {literals}",
    )


def _pod(container: Plain, order: Order) -> Plain:
    return {
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "fsGroup": USER},
        "containers": [container],
        "volumes": [
            {"name": "work", "persistentVolumeClaim": {"claimName": order.shared}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},  # through which processes share tensors
        ],
    }


def _container(name: str, order: Order, is_worker: bool = True) -> Plain:
    size = order.size
    needs: Plain = {"cpu": str(size.cpus), "memory": f"{size.memory}Gi"} if is_worker else {"cpu": "2", "memory": "4Gi"}
    gpus: Plain = {"nvidia.com/gpu": str(size.gpus)} if is_worker and size.gpus else {}
    return {
        "name": name,
        "image": order.image,
        "workingDir": WORK,
        "env": [_secret(variable) for variable in order.secrets],
        "resources": {"requests": needs | gpus, "limits": {"memory": needs["memory"]} | gpus},
        "volumeMounts": [{"name": "work", "mountPath": WORK}, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
    }


def _secret(variable: str) -> Plain:
    """A token's name and where its value is; without it gemtune says what it misses."""
    reference = {"name": SECRET, "key": variable, "optional": True}
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _literal(word: str) -> str:
    """A word of a command in which Kubernetes replaces nothing.

    >>> _literal("$(HOME)/r.yaml")
    '$$(HOME)/r.yaml'
    """
    return word.replace("$", "$$")
