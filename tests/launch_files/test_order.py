"""What a launch file is made from: names of secrets and never a value, and a project that the job can see."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemtune.errors import GemtuneError, RecipeError
from gemtune.launch_files.order import Order, Size, remark
from gemtune.launch_files.write import launch_text
from gemtune.recipe.schema import Recipe
from launch_files.orders import DISKS

CANARIES = {
    name: f"canary-{number}"
    for number, name in enumerate(
        ("HF_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY", "TEACHER", "WANDB_API_KEY", "PGPASSWORD", "MYSQL_PWD", "PDF")
    )
}
ALL = """
task: sql
data: e.csv
pages: {source: a.pdf, passwords: {a.pdf: PDF}}
teacher:
- {model: a}
- {model: b, provider: gemini}
- {model: c, url: "http://here/v1", key: TEACHER}
- {model: d, url: "http://here/v1"}
track: [wandb]
sql: {engine: "ENGINE"}
"""


def order_of(**keys: object) -> Order:
    recipe = Recipe.model_validate({"name": "x", "task": "emoji", "data": "e.csv", **keys})
    return Order(recipe, "r.yaml", (), Size(), "gemtune:0", "/a")


@pytest.mark.parametrize(
    ("engine", "password"), [("postgresql://me@here/db", "PGPASSWORD"), ("mysql://me@here/db", "MYSQL_PWD")]
)
@pytest.mark.parametrize("to", DISKS)
def test_tokens_are_named_and_never_written(
    to: str, engine: str, password: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    (here / "r.yaml").write_text(ALL.replace("ENGINE", engine))
    text = launch_text(here / "r.yaml", to, Size(), shared=DISKS[to])
    assert "canary" not in text
    other = {"PGPASSWORD", "MYSQL_PWD"} - {password}
    assert {name for name in CANARIES if name in text} == CANARIES.keys() - other


@pytest.mark.parametrize("key", ["sk-canary", "hf_canary", "canary", "A B", "a\nb"])
def test_a_key_in_the_place_of_its_name_is_not_shown(key: str) -> None:
    with pytest.raises(RecipeError, match=r"teacher\.key: wanted the name of an environment variable") as caught:
        _ = order_of(pages={"source": "a.pdf"}, teacher={"model": "m", "key": key}).secrets
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("data: /elsewhere/e.csv", r"data\.source /elsewhere/e\.csv: lies outside"),
        ("data: {source: e.csv, images: [/elsewhere]}", r"data\.images /elsewhere: lies outside"),
        ("data: e.csv\nruns_dir: ../runs", r"runs_dir \.\./runs: lies outside"),
        ("data: e.csv\npages: {source: /elsewhere/a.pdf}", r"pages\.source /elsewhere/a\.pdf: lies outside"),
        ("data: e.csv\nmodel: /usr", r"model /usr: lies outside"),
    ],
)
def test_what_a_container_would_not_see_is_named(keys: str, what: str, here: Path) -> None:
    (here / "r.yaml").write_text(f"name: x\ntask: emoji\n{keys}\n")
    with pytest.raises(GemtuneError, match=what):
        launch_text(here / "r.yaml", "k8s", Size())
    assert "gemtune run r.yaml" in launch_text(here / "r.yaml", "slurm", Size()), "nodes of Slurm share this disk"


def test_a_remark_is_a_remark_to_its_end() -> None:
    assert remark("a\nrm -rf /", "b\r\u2028c") == "# a rm -rf /\n# b␍⟨U+2028⟩c\n"
