"""A run made again: the same bytes on the same machine; otherwise what is other is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

import command
from gemtune.errors import VerificationError
from gemtune.files import read_json, read_jsonl, write_json, write_jsonl
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.pipeline.reproducing import Reproduction, compared, reproduce
from gemtune.run_files import Lock
from gemtune.runs import Run

ROWS = [f"good morning number {i} of them,☕🌅" for i in range(40)]


def rows(text: list[str]) -> str:
    return "\n".join(["text,emoji", *text, ""])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project with a run that has been made again: runs/t and runs/t-again."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "e.csv").write_text(rows(ROWS), encoding="utf-8")
    recipe = {
        "name": "t",
        "task": "emoji",
        "model": str(tiny_model),
        "data": "e.csv",
        "train": {"max_steps": 3, "batch_size": 8, "max_length": 128, "precision": "fp32", "device": "cpu"},
        "evaluate": {"limit": 2, "max_new_tokens": 3},
    }
    (folder / "t.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stages.run(Job("t.yaml", say=lambda text: None))
        reproduce("runs/t", say=lambda text: None)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it at another place, in which the user is."""
    folder = Path(shutil.copytree(made, tmp_path / "project"))
    monkeypatch.chdir(folder)
    return folder


def pair() -> Reproduction:
    return compared(Job("runs/t"), Job("runs/t-again"))


def rewritten(path: Path, **values: object) -> None:
    """A lock of another machine, sealed by it."""
    lock = {**read_json(path), **values, "seal": None}
    write_json(path, Lock.from_json(lock, path).to_json())


def test_the_same_machine_gives_the_same_bytes(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The run that was made again is there already, so that nothing is trained: what is compared was made in `made`."""
    answer = command.gemtune(capfd, "reproduce", "runs/t")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        "losses: the same to the last bit in 3 steps",
        f"adapter: the same bytes in {len(read_json(Path('runs/t/adapter/whole.json')))} files",
        "replies of base: 2 of 2 replies are the same",
        "replies of tuned: 2 of 2 replies are the same",
        answer.out.splitlines()[4],
        "made from the same: recipe, rows, model, packages, hardware, decisions",
        "runs/t-again is runs/t again: the same bytes",
    ]
    assert answer.out.splitlines()[4].startswith("scores: f1 was ")


def test_a_changed_row_is_named_and_nothing_is_trained(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    row = next(read_jsonl(Path("runs/t/data/train.jsonl")))
    number = int(row["where"].rpartition(":")[2]) - 2  # the header is the file's first line
    here = f"data.0.source={project / 'e.csv'}"
    changed = [text.replace("them", "those") if at == number else text for at, text in enumerate(ROWS)]
    (project / "e.csv").write_text(rows(changed), encoding="utf-8")
    answer = command.gemtune(capfd, "reproduce", "runs/t", "name=other", here)
    assert answer.code == 4
    assert f"row 1 of train ({row['where']}) has changed: " in answer.err
    assert "those" in answer.err and "nothing was trained: bring the rows back" in answer.err
    assert not Path("runs/other/metrics.jsonl").exists()
    (project / "e.csv").write_text(rows(ROWS[:-1]), encoding="utf-8")
    with pytest.raises(VerificationError, match=r"is gone|has changed"):
        reproduce("runs/t", ["name=third", here], say=lambda text: None)


def test_another_seed_is_named(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answer = command.gemtune(capfd, "reproduce", "runs/t", "train.seed=1", "name=seed", "--json")
    found = json.loads(answer.out)
    assert answer.code == 4 and found["verdict"] == "neither"
    assert "recipe: train.seed was 0, is 1" in found["differences"]
    assert all(difference.startswith(("recipe: train.seed", "decisions: ")) for difference in found["differences"])
    assert "runs/seed is not runs/t again: losses differ by up to" in answer.err


def test_another_split_is_named_by_its_key(project: Path) -> None:
    with pytest.raises(VerificationError, match=r"recipe: split\.seed was 0, is 5"):
        reproduce("runs/t", ["split.seed=5", "name=split"], say=lambda text: None)


def test_another_package_and_machine_are_named_beside_the_same_bytes(project: Path) -> None:
    lock = read_json(Path("runs/t-again/gemtune.lock"))
    assert {"gemtune", "torch", "transformers", "numpy"} <= lock["packages"].keys()
    assert not {"pytest", "ruff"} & lock["packages"].keys(), "what gemtune does not need says nothing"
    packages, hardware = {**lock["packages"], "torch": "1.0"}, {**lock["hardware"], "name": "an abacus"}
    rewritten(Path("runs/t-again/gemtune.lock"), packages=packages, hardware=hardware)
    found = pair()
    assert found.verdict == "bytes"
    assert found.differences == [
        f"packages: torch was {lock['packages']['torch']}, is 1.0",
        f"hardware: name was {lock['hardware']['name']}, is an abacus",
    ]


def moved(by: float) -> Reproduction:
    """The second run with losses that are a little different."""
    run = Run(Path("runs/t-again"))
    lines = [{**line, **({"loss": line["loss"] * (1 + by)} if "loss" in line else {})} for line in run.metrics()]
    write_jsonl(run.metrics_file, iter(lines))
    run.note_metrics()
    return pair()


@pytest.mark.parametrize(("by", "verdict"), [(1e-6, "metrics"), (1e-2, "neither")])
def test_rounding_is_no_other_result(by: float, verdict: str, project: Path) -> None:
    found = moved(by)
    assert found.verdict == verdict
    assert found.results[0].found.startswith(f"differ by up to {by:.0e}".replace("e-0", ".0e-0"))


def test_a_run_without_a_lock_and_a_run_over_itself_are_one_line(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = command.refusal(command.gemtune(capfd, "reproduce", "runs/t", "name=t"))
    assert refused.endswith("a run is not made again over itself; give another name=")
    Path("runs/t/gemtune.lock").unlink()
    refused = command.refusal(command.gemtune(capfd, "reproduce", "runs/t"))
    assert refused == "runs/t: no finished training with a gemtune.lock; `gemtune run` makes one"
