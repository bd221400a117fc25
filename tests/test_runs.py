"""The run directory: created, opened, locked, versioned; what it keeps survives a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import command
from gemtune.errors import GemtuneError, RunError
from gemtune.files import read_json, write_json, write_text
from gemtune.recipe.loader import parse_recipe
from gemtune.runs import VERSIONS, Run, step_name, step_of
from run_folders import TEXT, accepted, place_others, recipe_in


def test_a_run_keeps_the_recipe_as_written_and_as_resolved(run: Run) -> None:
    assert run.recipe_file.read_text() == TEXT
    assert run.manifest["version"] == VERSIONS["manifest"]
    assert run.manifest["recipe"]["train"]["epochs"] == 3.0


def test_nothing_is_written_before_a_run_is_accepted(tmp_path: Path) -> None:
    run = Run.of(recipe_in(tmp_path))
    with run.lock():
        assert run.decide("device", ("cpu", "no GPU is here")) == "cpu"
        assert run.manifest == {} and run.decided("device") == "cpu"
    assert not run.root.exists(), "made for the lock alone"
    run.accept(recipe_in(tmp_path), TEXT)
    run.decide("precision", ("fp32", "this CPU has no native bf16"))
    assert {name: decision["value"] for name, decision in run.manifest["decisions"].items()} == {
        "device": "cpu",
        "precision": "fp32",
    }


def test_a_reader_of_a_run_keeps_no_decision(run: Run) -> None:
    run.decide("device", ("cpu", "here"))
    before = read_json(run.manifest_file)
    reader = Run.open(run.root)
    assert reader.decided("device") == "cpu"
    assert reader.decide("device", ("cuda", "elsewhere")) == reader.decided("device") == "cuda"
    assert read_json(run.manifest_file) == before


def test_accepting_again_keeps_what_is_there(tmp_path: Path, run: Run) -> None:
    run.note("training", {"steps": 3})
    again = accepted(recipe_in(tmp_path), TEXT + "# more\n")
    assert again.manifest["training"] == {"steps": 3}
    assert again.recipe_file.read_text().endswith("# more\n")


NOT_A_RUN = {
    "nothing there": (None, "not a run directory (no manifest.json); `gemtune run RECIPE.yaml` makes one"),
    "another version": (
        {"version": 99},
        f"version 99, this gemtune reads {VERSIONS['manifest']}; use another run name",
    ),
    "no version": ({}, "version None"),
    "a list": ([], "not a manifest; start again under another run name"),
}


@pytest.mark.parametrize("what", NOT_A_RUN)
def test_a_folder_that_is_no_run(what: str, tmp_path: Path) -> None:
    value, wanted = NOT_A_RUN[what]
    if value is not None:
        write_json(tmp_path / "manifest.json", value)
    with pytest.raises(RunError) as error:
        Run.open(tmp_path)
    assert wanted in str(error.value) and str(tmp_path) in str(error.value)


def test_a_manifest_of_another_version_is_left_alone(tmp_path: Path, run: Run) -> None:
    write_json(run.manifest_file, {"version": 99, "future": True})
    with pytest.raises(RunError, match="version 99"):
        accepted(recipe_in(tmp_path), "changed")
    assert read_json(run.manifest_file) == {"version": 99, "future": True}
    assert run.recipe_file.read_text() == TEXT


def test_a_damaged_manifest_is_named(run: Run) -> None:
    write_text(run.manifest_file, '{"version": 1,\n')
    with pytest.raises(RunError, match=r"manifest\.json:2: broken JSON"):
        Run.open(run.root)
    write_json(run.manifest_file, {"version": VERSIONS["manifest"]})
    with pytest.raises(RunError, match=r"manifest\.json: no recipe in it"):
        _ = Run.open(run.root).recipe


def test_runs_dir_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GemtuneError, match="a file is where a folder should be"):
        accepted(recipe_in(tmp_path, runs_dir=str(tmp_path / "file" / "runs")))


def test_one_process_at_a_time_and_the_kernel_lets_go_of_the_dead(tmp_path: Path, run: Run) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", command.HOLD, str(run.root)], stdin=-1, stdout=-1, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        before = read_json(run.manifest_file)
        with pytest.raises(RunError, match="another gemtune process is working in it"), run.lock():
            pass
        assert (read_json(run.manifest_file), run.recipe_file.read_text()) == (before, TEXT)
        holder.kill()
    with run.lock():
        pass


def test_a_lock_is_let_go_after_an_error(run: Run) -> None:
    with pytest.raises(KeyError), run.lock():
        raise KeyError
    with run.lock():
        pass


def test_a_lock_where_there_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GemtuneError, match="file"), Run(tmp_path / "file").lock():
        pass


def test_a_decision_is_kept_with_its_reason_and_written_once(run: Run) -> None:
    assert run.decide("device", ("cpu", "no GPU is here")) == "cpu"
    assert run.decide("precision", ("fp32", "no native bf16")) == "fp32"
    assert run.manifest["decisions"]["device"] == {"value": "cpu", "why": "no GPU is here"}
    written = run.manifest_file.stat().st_mtime_ns
    run.decide("device", ("cpu", "no GPU is here"))
    assert run.manifest_file.stat().st_mtime_ns == written
    run.decide("device", ("cuda", "a GPU is here"))
    assert run.manifest["decisions"].keys() == {"device", "precision"}


def test_a_damaged_copy_of_the_recipe_is_written_again(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path)
    run = Run.of(recipe)
    for damaged in (b"name: t\n", b"name: \xff\n", b""):
        run.root.mkdir(exist_ok=True, parents=True)
        run.recipe_file.write_bytes(damaged)
        run.accept(recipe, "name: é\n")
        assert run.recipe_file.read_text(encoding="utf-8") == "name: é\n"


def test_metrics_after_a_step_go_and_a_torn_line_with_them(run: Run) -> None:
    for step in range(5):
        run.log({"step": step, "loss": step / 10})
    with run.metrics_file.open("a") as out:
        out.write('{"step": 5, "lo')
    with pytest.raises(RunError, match=r"metrics\.jsonl:6"):
        run.metrics()
    run.keep_metrics(until_step=2)
    assert [line["step"] for line in run.metrics()] == [0, 1, 2]
    run.keep_metrics(until_step=-1)
    assert run.metrics() == []


def test_what_is_not_there_yet_is_nothing(run: Run) -> None:
    assert run.metrics() == [] and run.steps() == [] and run.decisions == {}
    assert run.summary() is run.data_manifest() is run.training is None
    run.keep_metrics(until_step=3)
    assert run.metrics() == []


def test_a_line_of_metrics_is_one_line_of_json(run: Run) -> None:
    run.log({"step": 0, "a\nb\u2028c": 1.5})
    assert [json.loads(line) for line in run.metrics_file.read_bytes().splitlines()] == run.metrics()


def test_paths_are_inside_the_run(run: Run) -> None:
    paths = [path for path in vars(run).values() if isinstance(path, Path)]
    paths += [run.part("val"), run.table("val"), run.checkpoint(7), run.replies("base"), run.summary_file]
    mine = run.evaluation("/elsewhere/mine.csv")
    paths += [mine.replies("base"), mine.summary_file(), mine.summary_file("step-7")]
    assert all(path.is_relative_to(run.root) for path in paths)
    assert len(set(paths)) == len(paths)


def test_checkpoints_are_listed_by_step_and_not_by_name(run: Run) -> None:
    for step in (9, 100, 20):
        run.checkpoint(step).mkdir(parents=True)
    (run.checkpoints / ".step-300.tmp").mkdir()
    assert run.steps() == [100, 20, 9] == [step_of(run.checkpoint(step)) for step in run.steps()]
    assert run.checkpoint_named(step_name(20)) == run.checkpoint(20)


@pytest.mark.parametrize(
    "marker", [None, '{"name": "a web app", "version": "1.0"}', '{"version": 1}', "[]", "not json"]
)
def test_a_folder_that_gemtune_did_not_make_is_no_run(marker: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "t"
    place_others(folder)
    if marker is not None:
        (folder / "manifest.json").write_text(marker)
    before = command.tree(tmp_path)
    with pytest.raises(GemtuneError, match=r"runs/t"):
        Run.of(recipe_in(tmp_path))
    assert command.tree(tmp_path) == before


def test_an_empty_folder_becomes_a_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "t").mkdir(parents=True)
    assert accepted(recipe_in(tmp_path)).manifest_file.is_file()


SOURCES = {
    "rows": {"source": "runs/t/data/e.csv"},
    "a folder of rows": {"source": "runs/t"},
    "a glob": {"source": "runs/t/*.csv"},
    "rows by another way": {"source": "runs/u/../t/e.csv"},
    "images": {"source": "e.csv", "images": ["runs/t/data/images"]},
}


@pytest.mark.parametrize("what", SOURCES)
def test_a_source_in_the_run_directory_is_refused(what: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "t").mkdir(parents=True)
    text = json.dumps({"name": "t", "task": "emoji", "runs_dir": str(tmp_path / "runs"), "data": SOURCES[what]})
    with pytest.raises(RunError, match=r"lies in the run directory .*move it, or give another name="):
        Run.of(parse_recipe(text, tmp_path / "t.yaml"))


def test_a_source_behind_a_link_into_the_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs" / "t").mkdir(parents=True)
    (tmp_path / "rows").symlink_to(tmp_path / "runs" / "t")
    text = json.dumps({"name": "t", "task": "emoji", "runs_dir": str(tmp_path / "runs"), "data": "rows/e.csv"})
    with pytest.raises(RunError, match="lies in the run directory"):
        Run.of(parse_recipe(text, tmp_path / "t.yaml"))


def test_a_checkpoint_is_a_folder_that_gemtune_names(run: Run) -> None:
    for name in ("step-x", "step-", "step-²", "step-07", "step-3.bak", "step-9"):
        (run.checkpoints / name).mkdir(parents=True)
    assert run.steps() == [9]
