"""notebooks/colab.ipynb from top to bottom, on the CPU with the tiny model: shell lines run, and files come down."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from safetensors import safe_open

ROOT = Path(__file__).parents[1]
PATH = ROOT / "notebooks" / "colab.ipynb"
NOTEBOOK: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
QUICK = "data.limit=240 train.max_steps=3 evaluate.limit=6 evaluate.max_new_tokens=8"


class Notebook:
    """What IPython does with a cell, as far as this notebook asks for it, in a folder."""

    def __init__(self, folder: Path, names: dict[str, object]):
        self.folder, self.names = folder, {"__shell__": self.shell, **names}
        self.said: list[str] = []

    def run(self, cell: str) -> None:
        lines = [re.sub(r"^!(.*)", lambda shell: f"__shell__(f{shell[1]!r})", line) for line in cell.splitlines()]
        exec(compile("\n".join(lines), cell, "exec"), self.names)

    def shell(self, line: str) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        self.said.append(done.stdout)


def test_it_is_a_notebook_without_outputs() -> None:
    assert NOTEBOOK["nbformat"] == 4
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(
        cell["outputs"] == [] and cell["execution_count"] is None
        for cell in NOTEBOOK["cells"]
        if cell["cell_type"] == "code"
    )


def test_the_install_line_names_this_project_and_its_extras() -> None:
    install = re.fullmatch(r'%pip install --quiet "(\w+)\[([\w,]+)\] @ git\+REPOSITORY"', CODE[0])
    assert install
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert install[1] == project["name"]
    assert set(install[2].split(",")) <= set(project["optional-dependencies"])


def test_every_cell_runs_and_both_models_come_down(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: list[Path] = []
    shown: list[str] = []

    def module(name: str, **names: object) -> None:
        made = ModuleType(name)
        vars(made).update(names)
        monkeypatch.setitem(sys.modules, name, made)

    module("IPython")
    module("IPython.display", HTML=lambda text: text, display=shown.append)
    module("google")
    module("google.colab", files=SimpleNamespace(download=lambda path: downloads.append(tmp_path / path)))
    monkeypatch.chdir(tmp_path)
    notebook = Notebook(tmp_path, {})
    for cell in CODE[1:]:
        cell = re.sub(r'^MODEL = ".*"', f"MODEL = {str(tiny_model)!r}", cell, flags=re.MULTILINE)
        notebook.run(re.sub(r'^OPTIONS = ""', f'OPTIONS = "{QUICK}"', cell, flags=re.MULTILINE))
    assert [path.name for path in downloads] == ["emoji-adapter.zip", "report.html", "sql-adapter.zip", "report.html"]
    for path in downloads:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(tmp_path / path.stem)
            with safe_open(tmp_path / path.stem / "adapter_model.safetensors", "pt") as weights:
                assert list(weights.keys())
        else:
            assert path.is_file()
    assert len(shown) == 2 and all("<!doctype html>" in page.lower() for page in shown)
    assert notebook.names["MODEL"] == str(tiny_model)
