"""A finished run is whole in its folder, whatever has become of its rows, its project and its weights since."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import command
from gemtune.files import read_json, write_json
from gemtune.pipeline import stages
from gemtune.runs import Run

ROWS = [f"good morning number {i} of them,☕🌅" for i in range(40)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project with its model, rows, a recipe of relative paths, and the run it made: base, tuned, checkpoints."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(tiny_model, folder / "model")
    (folder / "e.csv").write_text("\n".join(["text,emoji", *ROWS, ""]), encoding="utf-8")
    recipe = {
        "name": "t",
        "task": "emoji",
        "model": "model",
        "data": "e.csv",
        "train": {"max_steps": 2, "batch_size": 8, "max_length": 128, "precision": "fp32", "device": "cpu"},
        "evaluate": {"limit": 2, "max_new_tokens": 3},
    }
    (folder / "t.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stages.run(stages.Job("t.yaml", say=lambda text: None))
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it at another place, in which the user is."""
    folder = Path(shutil.copytree(made, tmp_path / "project"))
    monkeypatch.chdir(folder)
    return folder


def grow(project: Path) -> None:
    with (project / "e.csv").open("a", encoding="utf-8") as rows:
        rows.write("one more,☕\n")


def lose(project: Path) -> None:
    (project / "e.csv").unlink()


def rename(project: Path) -> None:
    (project / "e.csv").rename(project / "rows.csv")


def stay(project: Path) -> None:
    """The project has only moved."""


CHANGES: dict[str, Callable[[Path], None]] = {"moved": stay, "grown": grow, "gone": lose, "renamed": rename}
VERBS = (("evaluate",), ("evaluate", "--checkpoint", "2"), ("show",), ("check",), ("report",), ("generate", "hi"))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("named", ["t.yaml", "runs/t"])
def test_a_finished_run_needs_no_source(
    change: str, named: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    CHANGES[change](project)
    adapter = command.tree(project / "runs/t/adapter")
    replies = (project / "runs/t/eval/tuned.jsonl").read_bytes()
    for verb, *more in VERBS:
        answer = command.gemtune(capfd, verb, named, *more)
        assert answer.code == 0, (verb, answer.err)
    assert command.tree(project / "runs/t/adapter") == adapter
    assert (project / "runs/t/eval/tuned.jsonl").read_bytes() == replies


def test_it_is_found_from_any_folder_with_its_model(
    project: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its recipe calls the model `model`, which was in the folder that the command was given in."""
    monkeypatch.chdir(tmp_path)
    made.rename(made.with_name("away"))
    try:
        answer = command.gemtune(capfd, "generate", project / "runs/t", "hi")
        assert answer.code == 0, answer.err
        assert command.gemtune(capfd, "evaluate", project / "runs/t").code == 0
        assert "is already trained" in command.gemtune(capfd, "train", project / "runs/t").err
    finally:
        made.with_name("away").rename(made)


@pytest.mark.parametrize("verb", ["train", "run"])
def test_a_source_that_has_grown_is_refused_without_cost(
    verb: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    grow(project)
    before = command.tree(project)
    line = command.refusal(command.gemtune(capfd, verb, "t.yaml"))
    assert line == (
        "runs/t: its data has changed since it was begun; give another name= (--fresh would remove its trained weights)"
    )
    assert command.tree(project) == before
    assert command.gemtune(capfd, "prepare", "t.yaml", "name=another").code == 0


def test_rows_of_the_same_name_elsewhere_are_other_rows(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (project / "new").mkdir()
    (project / "new/e.csv").write_text("\n".join(["text,emoji", *ROWS[:30], ""]), encoding="utf-8")
    line = command.refusal(command.gemtune(capfd, "train", "t.yaml", "data.source=new/e.csv"))
    assert "its data has changed" in line
    shutil.copy(project / "e.csv", project / "new/e.csv")
    assert command.gemtune(capfd, "train", "t.yaml", "data.source=new/e.csv").code == 0


def test_a_model_is_known_by_its_weights(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (project / "model").rename(project / "base")
    assert command.gemtune(capfd, "evaluate", "runs/t", "model=base").code == 0
    config = read_json(project / "base/config.json")
    write_json(project / "base/config.json", {**config, "rms_norm_eps": 1e-5})
    line = command.refusal(command.gemtune(capfd, "evaluate", "runs/t", "model=base"))
    assert "was begun with another recipe (model was model, is base)" in line


def unfinished(project: Path) -> None:
    """The run as a kill after its first checkpoint would have left it."""
    run = project / "runs/t"
    Run(run).forget("training")
    shutil.rmtree(run / "adapter")
    shutil.rmtree(run / "checkpoints/step-2")


def test_an_unfinished_run_goes_on_without_its_source(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = (project / "runs/t/adapter/adapter_model.safetensors").read_bytes()
    unfinished(project)
    lose(project)
    answer = command.gemtune(capfd, "train", "t.yaml")
    assert answer.code == 0, answer.err
    assert "e.csv: no such file or folder; the run goes on with the rows that it has" in answer.err
    assert "Resuming from step 1 of 2." in answer.err
    assert (project / "runs/t/adapter/adapter_model.safetensors").read_bytes() == weights


def test_checkpoints_are_not_advised_away_but_a_run_without_any_begins_again(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    unfinished(project)
    line = command.refusal(command.gemtune(capfd, "train", "t.yaml", "train.max_steps=1"))
    assert "give another name= (--fresh would remove its checkpoints)" in line
    shutil.rmtree(project / "runs/t/checkpoints")
    answer = command.gemtune(capfd, "train", "t.yaml", "train.max_steps=1", "--json")
    assert (answer.code, json.loads(answer.out)["planned_steps"]) == (0, 1)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_damaged_adapter_is_made_again_from_the_checkpoints(
    name: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = command.tree(project / "runs/t/adapter")
    path = project / "runs/t/adapter" / name
    path.write_bytes(path.read_bytes()[:40])
    line = command.refusal(command.gemtune(capfd, "generate", "runs/t", "hi"))
    assert re.search(rf"adapter: {name} is not what was written; train again", line)
    answer = command.gemtune(capfd, "train", "t.yaml")
    assert answer.code == 0 and "is made again from the checkpoints" in answer.err
    assert command.tree(project / "runs/t/adapter") == before
    assert command.gemtune(capfd, "generate", "runs/t", "hi").code == 0


def test_rows_of_a_file_take_the_place_of_a_test_part(
    write_recipe: Callable[..., Path], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = write_recipe(split={"test": 0}, train={"max_steps": 1})
    assert command.gemtune(capfd, "train", recipe).code == 0
    line = command.refusal(command.gemtune(capfd, "evaluate", recipe))
    assert "no test row to evaluate on; give rows of a file, --data FILE" in line
    (tmp_path / "more.csv").write_text("text,emoji\nhello,👋\n", encoding="utf-8")
    assert command.gemtune(capfd, "evaluate", recipe, "--data", tmp_path / "more.csv").code == 0
