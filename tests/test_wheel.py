"""The wheel as somebody gets it: alone in an environment, in an empty folder, from `gemtune new` to the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from gemtune.kernels.native import compiled

pytestmark = pytest.mark.journey  # 40 s on two cores: pip fetches the build backend, and the kernels are compiled anew

ROOT = Path(__file__).parents[1]
OVERRIDES = ("model=tiny", "train.max_steps=2", "data.limit=60", "evaluate.limit=4", "evaluate.max_new_tokens=4")
# Imports every module of the package, and prints where each came from.
IMPORT_ALL = """
import importlib, json, pkgutil, gemtune
names = [module.name for module in pkgutil.walk_packages(gemtune.__path__, "gemtune.")]
print(json.dumps([gemtune.__file__, *(importlib.import_module(name).__file__ for name in names)]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, as `pip wheel` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@dataclass(frozen=True)
class Installation:
    """An environment of its own that holds the wheel, and an empty folder to work in."""

    environment: Path
    folder: Path

    def call(self, command: str, *args: str) -> str:
        """What a command of the environment prints; nothing of this process's Python paths reaches it."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        done = subprocess.run(
            [self.environment / "bin" / command, *args],
            cwd=self.folder,
            env={**inherited, "GEMTUNE_CACHE": str(self.folder / "cache"), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel installed beside the dependencies that this Python has; its editable gemtune stays out.

    A folder that a .pth file names is searched after the environment's own, and its own .pth files, through which an
    editable installation works, are not read.
    """
    place = Installation(tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("empty"))
    venv.create(place.environment, with_pip=False)
    python = place.environment / "bin" / "python"
    own = Path(sysconfig.get_path("purelib", vars={"base": str(place.environment)}))
    borrowed = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (own / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    installed = subprocess.run(install, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    return place


def files_below(folder: Path) -> set[str]:
    """The files below a folder, but for what Python and gemtune itself leave there."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if not {"__pycache__", "runs"} & set(path.parts)}


def test_the_wheel_holds_the_package_its_recipes_and_its_examples(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0].split("-")[0] for name in packed} == {"gemtune"}
    wanted = {"": ROOT / "src" / "gemtune", "recipes/": ROOT / "recipes", "examples/": ROOT / "examples"}
    for prefix, folder in wanted.items():
        assert files_below(folder) - {name.removeprefix(f"gemtune/{prefix}") for name in packed} == set()
    kinds = {Path(name).suffix for name in packed}
    assert {".py", ".jinja", ".cpp", ".h", ".yaml", ".csv", ".png", ".zip"} <= kinds


def test_every_module_of_the_wheel_imports_and_none_is_of_the_checkout(installation: Installation) -> None:
    origins = json.loads(installation.call("python", "-c", IMPORT_ALL))
    assert len(origins) > 40
    assert [path for path in origins if not Path(path).is_relative_to(installation.environment)] == []


def test_from_new_to_the_report_in_an_empty_folder(installation: Installation) -> None:
    assert installation.call("gemtune", "--version").startswith("gemtune ")
    assert (
        installation.call("gemtune", "new", "emoji")
        == "wrote emoji.yaml\nwrote emoji.csv\nnext: gemtune run emoji.yaml\n"
    )
    installation.call("gemtune", "tiny", "gemma3", "tiny")
    assert "report: runs/emoji/report.html" in installation.call("gemtune", "run", "emoji.yaml", *OVERRIDES)
    run = installation.folder / "runs" / "emoji"
    assert "<html" in (run / "report.html").read_text(encoding="utf-8")
    assert json.loads((run / "eval" / "summary.json").read_text(encoding="utf-8"))["rows"] == 4
    # The packed C++ sources and headers compile where those of the checkout do.
    assert any((installation.folder / "cache").glob("native-*.so")) == (compiled()[0] is not None)
