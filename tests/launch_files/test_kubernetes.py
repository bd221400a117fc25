"""Manifests by Kubernetes' own schemas, and KubeRay's custom resource definition made strict (see NOTICE)."""

from __future__ import annotations

import copy
import gzip
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from gemtune.launch_files.kubernetes import RAY, USER
from gemtune.launch_files.order import Size
from launch_files.orders import ODD, shape, text_of

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]


def of_kubernetes(manifest: Any) -> None:
    kubernetes_validate.validate(manifest, "1.37", strict=True)


@cache
def ray_schema() -> jsonschema.Draft202012Validator:
    def strict(schema: Any) -> Any:
        if isinstance(schema, list):
            return [strict(inner) for inner in schema]
        if not isinstance(schema, dict):
            return schema
        made = {name: strict(inner) for name, inner in schema.items()}
        is_open = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
        if isinstance(made.get("properties"), dict) and not is_open:
            made["additionalProperties"] = False
        return made

    schema = json.loads(gzip.decompress((HERE / "kuberay_rayjob_v1.json.gz").read_bytes()))
    schema["properties"]["metadata"] = {"type": "object"}  # which Kubernetes itself checks
    return jsonschema.Draft202012Validator(strict(schema))


def of_kuberay(manifest: Any) -> None:
    ray_schema().validate(manifest)


CHECKS = {"k8s": of_kubernetes, "ray": of_kuberay}
BROKEN = (kubernetes_validate.ValidationError, jsonschema.ValidationError)


@pytest.mark.parametrize("gpus", [0, 1, 8])
@pytest.mark.parametrize("to", CHECKS)
def test_the_systems_schema_takes_it(to: str, gpus: int, here: Path) -> None:
    CHECKS[to](yaml.safe_load(text_of(here, to, "r.yaml", Size(gpus=gpus))))


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key that a schema has to know."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        is_free = at and at[-1] in ("labels", "requests", "limits", "rayStartParams", "emptyDir", "metadata")
        if isinstance(key, str) and not is_free:
            yield (*at, key)
        yield from places(inner, (*at, key))


@pytest.mark.parametrize("to", CHECKS)
def test_the_schema_sees_a_misspelt_key(to: str, here: Path) -> None:
    """So that what it takes above means something."""
    manifest = yaml.safe_load(text_of(here, to))
    for *parents, key in list(places(manifest["spec"], ("spec",)))[::5]:
        wrong = copy.deepcopy(manifest)
        inner: Any = wrong
        for parent in parents:
            inner = inner[parent]
        inner[f"{key}x"] = inner.pop(key)
        with pytest.raises(BROKEN):
            CHECKS[to](wrong)


@pytest.mark.parametrize("file", ODD)
@pytest.mark.parametrize("to", CHECKS)
def test_a_name_is_text_whatever_it_says(to: str, file: str, here: Path) -> None:
    manifest, plain = (yaml.safe_load(text_of(here, to, name)) for name in (file, "r.yaml"))
    assert shape(manifest) == shape(plain)
    CHECKS[to](manifest)
    given = f"./{file}" if file.startswith("-") else file
    if to == "k8s":
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        assert [word.replace("$$", "$") for word in container["command"]] == ["gemtune", "run", given]
        assert not re.search(r"(?<!\$)(\$\$)*\$\(", "".join(container["command"])), "Kubernetes would put a value in"
    else:
        script = manifest["spec"]["entrypoint"].replace("/work", ".").replace("exec gemtune", r"printf '%s\0'")
        seen = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=here).stdout
        assert seen.split("\0") == ["run", given, ""] and not (here / "pwned").exists()


def test_names_are_those_that_kubernetes_takes(here: Path) -> None:
    for to in CHECKS:
        name = yaml.safe_load(text_of(here, to))["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", name), name  # KubeRay takes 47 characters


def test_the_image_is_the_one_that_the_manifests_want() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"\nARG RAY={RAY}\n" in dockerfile and f"\nARG USER={USER}\n" in dockerfile
