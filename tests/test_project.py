"""What the project says about itself in more than one file: hooks, workflows, versions, forms."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / ".github/workflows").glob("*.yml")}
COMMANDS = [
    step["run"]
    for workflow in WORKFLOWS.values()
    for job in workflow["jobs"].values()
    for step in job["steps"]
    if "run" in step
]


def test_the_hooks_run_what_make_check_runs() -> None:
    recipe = re.search(r"^check: setup\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    lines = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == lines


def test_workflows_call_targets_and_variables_of_the_makefile() -> None:
    targets, variables = (set(re.findall(form, MAKEFILE, re.MULTILINE)) for form in (r"^([\w-]+):", r"^(\w+) \?="))
    calls = [command.split()[1:] for command in COMMANDS if command.startswith("make ")]
    assert {words[0] for words in calls} == {"check", "test", "journey"} <= targets
    assert {word.split("=")[0] for words in calls for word in words[1:]} <= variables


def test_the_workflows_try_the_lowest_python_that_is_allowed() -> None:
    matrix = WORKFLOWS["check.yml"]["jobs"]["test"]["strategy"]["matrix"]["include"]
    versions = {row["name"]: row["python"] for row in matrix}
    assert f">={versions['lowest Python']}" == PROJECT["requires-python"]
    minor = {name: int(version.removeprefix("3.")) for name, version in versions.items()}
    assert minor["newest Python"] == max(minor.values()) > minor["lowest Python"]


def test_the_lowest_versions_are_those_that_are_allowed_and_the_workflows_try_them() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    lowest = [line.replace("==", ">=") for line in lines if not line.startswith("#")]
    allowed = [requirement.split(",")[0] for requirement in PROJECT["dependencies"]]
    assert {line.split(">=")[0] for line in lowest} == {"accelerate", "peft", "torch", "transformers"}
    assert set(lowest) <= set(allowed)
    matrix = WORKFLOWS["check.yml"]["jobs"]["dependencies"]["strategy"]["matrix"]["include"]
    assert "constraints-lowest.txt" in [row.get("constraints") for row in matrix]


def test_the_changelog_has_this_version_and_what_comes_after_it() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", PROJECT["version"]]


def test_a_bug_report_asks_for_what_doctor_prints() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text(encoding="utf-8"))
    fields = {field["id"]: field for field in form["body"] if "id" in field}
    assert "`gemtune doctor`" in fields["doctor"]["attributes"]["description"]
    assert fields["doctor"]["validations"] == {"required": True}


@pytest.mark.parametrize("extra", sorted(PROJECT["optional-dependencies"]))
def test_the_page_of_installing_has_every_extra(extra: str) -> None:
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8").split("| extra | brings |\n")[1].split("\n\n")[0]
    assert f"`{extra}`" in table
