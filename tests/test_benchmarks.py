"""The benchmarks: every script starts, every page names its study and machine, the house is counted right."""

from __future__ import annotations

import doctest
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from gemtune.files import read_json, write_json, write_jsonl
from gemtune.models.families import family_of
from gemtune.models.loading import load_tokenizer, special_ids

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path.stem for path in (ROOT / "benchmarks" / "studies").glob("*.py"))
PAGES = sorted((ROOT / "benchmarks" / "results").glob("*/*.md"))
README = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("script", [*(f"studies.{name}" for name in STUDIES), "compare.bench", "gpu"])
def test_every_script_starts_and_says_what_it_answers(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as end:
        module(script, monkeypatch).main()
    assert end.value.code == 0
    assert "?" in capsys.readouterr().out or script == "compare.bench"


def test_the_arm_of_gemtune_finds_what_it_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = module("compare.arms.gemtune", monkeypatch)
    ablated = set(module("studies.ablations", monkeypatch).VARIANTS) - {"gemtune", "without bf16", "without packing"}
    assert ablated == set(arm.VARIANTS)
    source = Path(arm.__file__).read_text(encoding="utf-8")
    replaced = re.findall(r'setattr\(([\w.]+), "(\w+)"', source)
    assert len(replaced) >= len(arm.VARIANTS)
    for owner, name in replaced:
        assert hasattr(eval(owner, vars(arm)), name), f"{owner} has no {name}"


@pytest.fixture
def workload(tmp_path: Path, tiny_model: Path) -> Path:
    """Two steps of two rows for the tiny model, as compare/workloads.py writes them."""
    config = LoraConfig(r=16, lora_alpha=32, target_modules=list(family_of(tiny_model).linear), task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
    model.save_pretrained(tmp_path / "init_adapter", save_embedding_layers=False)
    row = {"input_ids": [2, 9, 8, 7], "labels": [-100, -100, 8, 7]}
    write_jsonl(tmp_path / "train.jsonl", iter([row] * 4))
    tokenizer, family = load_tokenizer(tiny_model), family_of(tiny_model)
    meta = {"model": str(tiny_model), "special_ids": special_ids(tokenizer, family), "token_ids": {}}
    meta |= {"batch_size": 2, "learning_rate": 2e-4, "max_grad_norm": 1.0, "seed": 0}
    write_json(tmp_path / "meta.json", {**meta, "tokens": [8, 8], "labelled": [4, 4]})
    return tmp_path


@pytest.mark.parametrize("variant", ["", "products in turn"])
def test_the_arm_of_gemtune_trains_a_workload(variant: str, workload: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = workload / "output"
    output.mkdir()
    monkeypatch.setattr(sys, "argv", ["gemtune", str(workload), str(output), *filter(None, [variant])])
    module("compare.arms.gemtune", monkeypatch).main()
    times = read_json(output / "times.json")
    assert len(times["steps"]) == len(times["losses"]) == 2
    assert (output / "adapter" / "adapter_model.safetensors").is_file()
    assert len(times["products"]) == 2 if variant else times["plan"]["peak_gb"] > 0


def test_the_examples_in_the_docstrings_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "machine",
        "studies.growth",
        "studies.learns_to_read",
        "gpu_steps.results",
        "gpu_steps.pack",
        "gpu_steps.speed",
    ):
        result = doctest.testmod(module(name, monkeypatch))
        assert result.attempted and not result.failed


def test_every_study_is_in_the_readme() -> None:
    assert sorted(re.findall(r"^\| `python -m benchmarks\.studies\.(\w+)[` ]", README, re.MULTILINE)) == STUDIES


@pytest.mark.parametrize("page", PAGES, ids=[f"{page.parent.name}/{page.name}" for page in PAGES])
def test_every_page_names_its_study_and_its_machine(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    command = "make bench" if page.stem == "compare" else f"python -m benchmarks.studies.{page.stem}"
    assert lines[0] == f"<!-- Written by `{command}`. -->"
    assert page.stem in [*STUDIES, "compare"]
    fields = [name.replace("_", " ") for name in module("machine", monkeypatch).Heading.__dataclass_fields__]
    names, _, values = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:7])
    assert names == fields
    assert all(values)


PACKAGE = {
    "src/demo/__init__.py": "from demo.first import area\n\n__all__ = ['area']\n",
    "src/demo/first.py": '''\
"""Areas."""
from typing import Any

from . import second

def area(width: int, height) -> int:
    """
    >>> area(2, 3)
    6
    """
    found = width * height  # square metres
    return found if found else 0

class Box:
    def __init__(self, *sides: Any):
        self.sides = [side for side in sides if side or None]
''',
    "src/demo/second.py": "import demo.first\n",
    "tests/test_demo.py": "def test_area():\n    assert True\n",
    "tests/golden/losses.json": "{}",
    "CHANGELOG.md": "",
}
COUNTED = {
    "files / lines": "3 / 20",
    "file, median / longest": "3 / 16",
    "function, median / p90 / longest": "2.5 / 3 / 3",
    "functions over 40 lines": "0 %",
    "branches per function, p90": "3",
    "most parameters": "2",
    "public names with a docstring": "50.0 %",
    "doctest lines": "1",
    "parameters / returns annotated": "66.7 % / 50.0 %",
    "`Any` per 1,000 lines": "100.0",
    "locals that are bare participles or pronouns": "50.0 %",
    "comments per 1,000 lines": "50.0",
    "modules flat in the package / folders beside": "2 / 0",
    "import cycles": "demo.first < demo.second < demo.first",
    "test functions": "1",
    "test lines : source lines": "0.10",
    "golden losses": "yes",
    "changelog / contributing": "yes / no",
    "CI workflows": "0",
    "pre-commit": "no",
    "names importable from the package": "1",
}


def test_the_house_is_counted_as_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    house = module("studies.house", monkeypatch)
    checkout = house.Checkout.of(str(tmp_path))
    assert {name: measure(checkout) for name, measure in house.ROWS.items()} == COUNTED
