"""The command line: what it costs to start, what scripts read from it, and every verb in one run directory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import command

VERBS = (
    "new",
    "run",
    "distill",
    "import",
    "prepare",
    "show",
    "check",
    "plan",
    "train",
    "evaluate",
    "generate",
    "serve",
    "push",
    "web",
    "report",
    "doctor",
)
WITHOUT_KEYS = ("new", "import", "generate", "serve", "push", "web", "report", "doctor")  # of a recipe
SLOW = {"torch", "transformers", "peft", "numpy", "pyarrow", "sqlglot", "huggingface_hub"}  # pydantic may be there
NAME_WHAT_IS_SLOW = f"""
import atexit, sys
atexit.register(lambda: sys.stderr.write(" ".join({SLOW!r} & sys.modules.keys())))
"""  # of what was imported, when the process ends
ROOT = Path(__file__).parents[2]
SECRET = "hf_secretsecretsecretsecret"


# ---- starting


@pytest.mark.parametrize("args", [(), *((verb,) for verb in VERBS)], ids=lambda args: " ".join(args) or "gemtune")
def test_help_works_and_imports_nothing_slow(args: tuple[str, ...]) -> None:
    answer = command.spawn(*args, "--help", first=NAME_WHAT_IS_SLOW)
    assert (answer.code, answer.err.split()) == (0, [])
    assert "Usage" in answer.out and "--help" in answer.out
    assert not args or "KEY=VALUE" in answer.out or args[0] in WITHOUT_KEYS


def test_help_lists_every_verb(capfd: pytest.CaptureFixture[str]) -> None:
    out = command.gemtune(capfd, "--help").out
    assert [verb for verb in VERBS if not re.search(rf"^\W*{verb} ", out, re.MULTILINE)] == []


@pytest.mark.parametrize("start", [("-c", command.MAIN), ("-m", "gemtune")], ids=" ".join)
def test_version_is_that_of_the_package(start: tuple[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    done = subprocess.run([sys.executable, *start, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gemtune {project['version']}\n", "")


def test_version_imports_nothing_slow() -> None:
    assert command.spawn("--version", first=NAME_WHAT_IS_SLOW).err == ""


def test_python_m_gemtune_is_the_command_line(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "gemtune", "run", "not-there.yaml"], capture_output=True, text=True, cwd=tmp_path
    )
    assert "not-there.yaml" in command.refusal(command.Answer(refused.returncode, refused.stdout, refused.stderr))


WRONG = {
    "no verb": ("frobnicate",),
    "no option": ("run", "t.yaml", "--frobnicate"),
    "no argument": ("run",),
    "no part": ("show", "t.yaml", "--part", "all"),
    "no rows": ("show", "t.yaml", "-n", "0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_command_that_is_none_exits_2_and_says_usage(what: str, capfd: pytest.CaptureFixture[str]) -> None:
    answer = command.gemtune(capfd, *WRONG[what])
    assert answer.code == 2 and "Usage" in answer.err and "Traceback" not in answer.err and not answer.out


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    """The recipe is a pipe that nobody writes to, so the command is sure to be waiting."""
    os.mkfifo(tmp_path / "t.yaml")
    args = [sys.executable, "-c", command.MAIN, "prepare", str(tmp_path / "t.yaml")]
    # A shell starts its background jobs with Ctrl-C ignored, and so would be what this test starts there.
    heard: Any = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heard) as process:
        writer = os.open(tmp_path / "t.yaml", os.O_WRONLY)  # returns when the command has opened it to read
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        os.close(writer)
    assert (process.returncode, out) == (130, "")
    assert err == "gemtune: stopped; the same command goes on from the newest checkpoint\n"


class Workshop:
    """A folder in which `gemtune new emoji` was called and, on the tiny model, `gemtune run` after it."""

    def __init__(self, folder: Path, model: Path):
        self.folder, self.model = folder, model
        self.recipe, self.run = folder / "emoji.yaml", folder / "runs" / "emoji"

    def shorten(self) -> None:
        """The recipe that `new` wrote, with the tiny model and few steps."""
        value = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))
        value |= {"model": str(self.model), "runs_dir": str(self.folder / "runs")}
        value["data"]["limit"] = 60
        value["train"] |= {
            "max_steps": 3,
            "batch_size": 8,
            "precision": "fp32",
            "device": "cpu",
            "learning_rate": 0.002,
        }
        value["evaluate"] = {"limit": 4, "max_new_tokens": 6}
        self.recipe.write_text(yaml.safe_dump(value), encoding="utf-8")

    def times(self) -> dict[str, int]:
        """When each file of the run was last written, but for the recipe and the lock."""
        files = (path for path in self.run.rglob("*") if path.is_file() and path.name not in (".lock", "recipe.yaml"))
        return {path.relative_to(self.run).as_posix(): path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("workshop"), tiny_model)
    new = command.spawn("new", "emoji", made.folder)
    assert (new.code, new.err) == (0, "")
    assert new.out == f"wrote {made.recipe}\nwrote {made.folder / 'emoji.csv'}\nnext: gemtune run {made.recipe}\n"
    made.shorten()
    ran = command.spawn("run", made.recipe, env={"HF_TOKEN": SECRET, "OMP_NUM_THREADS": "1"})
    assert ran.code == 0, ran.err
    assert f"report: {made.run / 'report.html'}" in ran.out
    assert SECRET not in ran.out + ran.err
    return made


def answer_of(capfd: pytest.CaptureFixture[str], *args: str | Path) -> Any:
    """The JSON a command prints."""
    answer = command.gemtune(capfd, *args, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_run_leaves_what_the_design_says(workshop: Workshop) -> None:
    for name in ("recipe.yaml", "manifest.json", "metrics.jsonl", "report.html", "report.md", "eval/summary.json"):
        assert (workshop.run / name).stat().st_size, name
    for name in ("adapter/adapter_model.safetensors", "eval/base.jsonl", "eval/tuned.jsonl", "data/train.jsonl"):
        assert (workshop.run / name).is_file(), name
    assert [path for path in workshop.run.rglob("*") if path.name.startswith(".") and path.name != ".lock"] == []


def test_no_file_of_a_run_holds_a_token(workshop: Workshop) -> None:
    files = [path for path in workshop.folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_second_run_does_nothing_again(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    made_once = {name for name in workshop.times() if not name.startswith("report.") and name not in ("manifest.json",)}
    before = workshop.times()
    page = (workshop.run / "report.md").read_text()
    answer = command.gemtune(capfd, "run", workshop.recipe)
    assert answer.code == 0 and f"{workshop.run} is already trained." in answer.err
    after = workshop.times()
    assert {name for name in made_once if before[name] != after[name]} == {"eval/summary.json"}
    assert after.keys() == before.keys()
    assert (workshop.run / "report.md").read_text() == page


def test_prepare_says_what_it_kept(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = answer_of(capfd, "prepare", workshop.recipe)
    assert manifest["rows_read"] == 60 == sum(manifest["kept"].values()) + sum(manifest["dropped"].values())
    lines = command.gemtune(capfd, "prepare", workshop.recipe).out.splitlines()
    assert (
        lines[0]
        == f"60 rows read = {sum(manifest['kept'].values())} kept + {sum(manifest['dropped'].values())} dropped"
    )
    assert any(line.startswith("leak audit: ") for line in lines)


def test_show_prints_rows_and_writes_a_page(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    answer = command.gemtune(capfd, "show", workshop.recipe, "-n", "1", "--part", "val")
    first = json.loads((workshop.run / "data/val.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert answer.code == 0 and first["where"] in answer.out and "<start_of_turn>" in answer.out
    assert first["where"] in (workshop.run / "show.html").read_text(encoding="utf-8")


def test_check_holds_and_each_clause_is_named(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    findings = answer_of(capfd, "check", workshop.recipe)
    assert len(findings) > 5 and all(finding["holds"] for finding in findings)
    lines = command.gemtune(capfd, "check", workshop.run).out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"ok   {finding['clause']}" for finding in findings]


def test_plan_adds_up(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    plan = answer_of(capfd, "plan", workshop.recipe)
    assert plan["steps"] == 3 and plan["seconds"] > 0 and len(plan["elsewhere"]) >= 4
    out = command.gemtune(capfd, "plan", workshop.recipe).out
    assert "H100" in out and "gemma-3-27b" in out and "on this machine (cpu, fp32)" in out


def test_train_again_is_done_already(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    weights = (workshop.run / "adapter/adapter_model.safetensors").stat().st_mtime_ns
    assert answer_of(capfd, "train", workshop.recipe)["steps"] == 3
    assert f"next: gemtune evaluate {workshop.run}" in command.gemtune(capfd, "train", workshop.run).out
    assert (workshop.run / "adapter/adapter_model.safetensors").stat().st_mtime_ns == weights


def test_evaluate_compares_and_reads_rows_of_a_file(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    summary = answer_of(capfd, "evaluate", workshop.run)
    assert summary == json.loads((workshop.run / "eval/summary.json").read_text()) and summary["rows"] == 4
    printed = command.gemtune(capfd, "evaluate", workshop.recipe).out
    assert printed.split()[:4] == ["metric", "base", "tuned", "difference"] and " in f1" in printed
    assert command.gemtune(capfd, "report", workshop.run).out.startswith(printed), "the same table, by both verbs"
    rows = workshop.folder / "mine.csv"
    rows.write_text("text,emoji\nlet's swim,🏊\ntea time,🍵\n", encoding="utf-8")
    assert answer_of(capfd, "evaluate", workshop.run, "--data", rows)["rows"] == 2
    assert (workshop.run / "eval/mine/tuned.jsonl").is_file()


def test_evaluate_a_checkpoint(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    assert command.gemtune(capfd, "evaluate", workshop.run, "--checkpoint", "3").code == 0
    assert (workshop.run / "eval/step-3.jsonl").is_file()


def test_generate_answers_a_prompt(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    answers = [
        command.gemtune(capfd, "generate", workshop.run, "let's go to the beach", *more) for more in ((), ("--base",))
    ]
    assert [(answer.code, answer.err) for answer in answers] == [(0, "")] * 2
    assert all(answer.out.endswith("\n") for answer in answers)


def test_generate_answers_what_comes_on_standard_input(workshop: Workshop) -> None:
    def piped(text: bytes) -> subprocess.CompletedProcess[bytes]:
        args = [sys.executable, "-c", command.MAIN, "generate", str(workshop.run), "-", "--base"]
        return subprocess.run(args, input=text, capture_output=True)

    given = command.spawn("generate", workshop.run, "let's go\nto the 🏖️", "--base")
    assert piped("let's go\nto the 🏖️\r\n".encode()).stdout.decode() == given.out
    for text, words in (
        (b"\n", "nothing to answer"),
        (b"\xff", "standard input: byte 0 is not UTF-8 text; convert it"),
    ):
        done = piped(text)
        assert words in command.refusal(command.Answer(done.returncode, done.stdout.decode(), done.stderr.decode()))


def test_generate_answers_a_file_in_its_order(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    rows = ["a " * 9, "tea", "the dog and the beach and the pizza", "b"]
    for number, row in enumerate(rows):
        (workshop.folder / f"{number}.csv").write_text(f"text,emoji\n{row},🏊\n", encoding="utf-8")
    (workshop.folder / "all.csv").write_text("text,emoji\n" + "".join(f"{row},🏊\n" for row in rows), encoding="utf-8")
    replies = []
    for name in (*map(str, range(len(rows))), "all"):
        output = workshop.folder / f"{name}.jsonl"
        files = ("--input", workshop.folder / f"{name}.csv", "--output", output)
        answer = command.gemtune(capfd, "generate", workshop.run, *files, "--base")
        assert (answer.code, answer.out) == (0, f"wrote {output}\n"), answer.err
        replies.append([json.loads(line)["reply"] for line in output.read_text(encoding="utf-8").splitlines()])
    assert replies[-1] == [reply for (reply,) in replies[:-1]]
    assert len(set(replies[-1])) > 1, "all replies are the same, so their order is not seen"


def test_report_takes_a_run_or_its_recipe(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    pages = [answer_of(capfd, "report", place) for place in (workshop.run, workshop.recipe)]
    assert pages[0] == pages[1] and pages[0]["summary"]["rows"] == 4
    assert "f1" in command.gemtune(capfd, "report", workshop.run).out


def test_overrides_of_a_run_are_for_this_time(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    assert answer_of(capfd, "evaluate", workshop.run, "evaluate.limit=2")["rows"] == 2
    assert answer_of(capfd, "evaluate", workshop.run)["rows"] == 4


def test_fresh_starts_again(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    refused = command.refusal(command.gemtune(capfd, "train", workshop.recipe, "train.max_steps=2"))
    assert "train.max_steps was 3, is 2" in refused and "--fresh" in refused
    done = answer_of(capfd, "run", workshop.recipe, "train.max_steps=2", "--fresh")
    assert done["run"] == str(workshop.run) and done["summary"]["rows"] == 4
    steps = [json.loads(line)["step"] for line in (workshop.run / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 2 and not (workshop.run / "checkpoints/step-3").exists()
