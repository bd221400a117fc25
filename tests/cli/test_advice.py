"""An error's advice, taken through the command line: what follows works, or says something else. And none is a dead end.

What is wrong with a file of rows is in tests/data/test_advice.py; here are recipes, tasks, layouts, models and runs.
"""

# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

import ast
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command

import command
from cli.place import ROWS, Place, trained_in
from cli.test_bad_input import a_run, halve
from gemtune.cli.app import app
from gemtune.files import read_json
from gemtune.models.families import write_tiny
from gemtune.pipeline import stages
from gemtune.recipe.schema import recipe_keys

SRC = Path(__file__).parents[2] / "src" / "gemtune"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run with base and tuned evaluated and two checkpoints, made once."""
    return trained_in(tmp_path_factory.mktemp("trained"), tiny_model, stages.run)


Make = Callable[[Place], Any]  # makes the input, and may return what is added to the command
# what is wrong -> (the input, words of the error that name a move, that move taken: a change, or words for the command)
Advice = tuple[Make, str, Make]


def recipe(**keys: Any) -> Make:
    return lambda place: place.recipe(**keys) and None


def say(*words: str) -> Make:
    return lambda place: list(words)


def text(words: str) -> Make:
    return lambda place: place.write("t.yaml", words.replace("MODEL", str(place.model))) and None


def chats(*turns: tuple[str, str, dict[str, Any]], **keys: Any) -> Make:
    def make(place: Place) -> None:
        rows = [[{"role": role, "content": f"{words} {i}", **more} for role, words, more in turns] for i in range(30)]
        place.jsonl([{"messages": row} for row in rows])
        place.recipe("e.jsonl", task="messages", **keys)

    return make


def rows(example: dict[str, str], task: str = "messages", **keys: Any) -> Make:
    def make(place: Place) -> None:
        place.jsonl(
            [
                {name: f"{value} {i}" if n == 0 else value for n, (name, value) in enumerate(example.items())}
                for i in range(30)
            ]
        )
        place.recipe("e.jsonl", task=task, **keys)

    return make


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (16, 16)).save(data, "PNG")
    return data.getvalue()


LONG = [(words, "☕" * 300) for words, _ in ROWS]
HEAD = "name: t\nmodel: MODEL\nruns_dir: runs\ndata: {source: e.csv}\ntrain: {device: cpu, max_length: 128}\n"
ANSWER = ("assistant", "fine", {})
PREPARE: dict[str, Advice] = {
    "unknown key": (text(f"{HEAD}task: emoji\nsplitt: {{val: 2}}\n"), "did you mean 'split", text(f"{HEAD}task: emoji\nsplit: {{val: 2}}\n")),
    "a key twice": (text(f"{HEAD}task: emoji\nname: u\n"), "keep one", text(f"{HEAD}task: emoji\n")),
    "unknown task": (text(f"{HEAD}task: emojis\n"), "did you mean 'emoji'", text(f"{HEAD}task: emoji\n")),
    "no source": (text("task: emoji\n"), "wanted `data` with a source of rows", text(f"{HEAD}task: emoji\n")),
    "override without =": (say("split.val"), "wanted key=value", say("split.val=2")),
    "a list of sources": (lambda p: (p.csv(ROWS[:20], "f.csv"), p.recipe(data=[{"source": "e.csv"}, {"source": "f.csv"}]), ["data.limit=9"])[2], "is a list; say data.0.limit=... for its first entry", say("data.0.limit=9")),
    "a shape that is no choice": (say("train.schedule=cosin"), "did you mean 'cosine'", say("train.schedule=cosine")),
    "all of it val": (say("split.val=40"), "); lower them or add rows", say("split.val=4")),
    "shares over one": (say("split.val=0.6", "split.test=0.6"), "must leave rows to train on", say("split.val=0.1", "split.test=0.1")),
    "bad rows fail": (lambda p: (p.csv([*ROWS, ("x", "yes")]), ["prepare.bad_rows=fail"])[1], "mend the row, or set prepare.bad_rows: drop", say("prepare.bad_rows=drop")),
    "too long, drop": (lambda p: (p.csv([*ROWS, *LONG[:3]]), ["prepare.over_length=fail"])[1], "raise it, or set prepare.over_length: drop", say("prepare.over_length=drop")),
    "too long, raise": (lambda p: p.csv(LONG) and None, "spell a control token; raise it, or mend the rows", say("train.max_length=4096")),
    "no such score": (say("evaluate.metric=bleu"), "evaluate.metric: task emoji has no score 'bleu'", say("evaluate.metric=f1")),
    "nf4 without adapters": (say("lora=none", "quantize=nf4"), "needs lora", say("lora=none", "quantize=none")),
    "best by metric without val": (say("split.val=0", "train.best_by=metric"), "or set train.best_by: loss", say("split.val=0", "train.best_by=loss")),
    "and with val": (say("split.val=0", "train.best_by=metric"), "raise split.val, or", say("split.val=4", "train.best_by=metric")),
    "a template without a column": (say("task=columns", "template.answer=fixed"), "template.answer names no column", say("task=columns", "template.prompt='{text}'", "template.answer='{emoji}'")),
    "braces without quotes": (say("task=columns", "template.prompt={text}"), "put it in quotes", say("task=columns", "template.prompt='{text}'", "template.answer='{emoji}'")),
    "a number for text": (text(f"{HEAD}task: emoji\nsplit: {{by: 5}}\n"), "put it in quotes", text(f"{HEAD}task: emoji\nsplit: {{by: 'text'}}\n")),
    "weight 0": (chats(("user", "hi", {}), ("assistant", "fine", {"weight": 0})), "prepare.ignore: [the field] uses them as they are", say("prepare.ignore=[weight]")),
    "a mark that says nothing": (chats(("user", "hi", {}), ("assistant", "fine", {"loss": "maybe"})), "set prepare.ignore: [loss] to leave it out", say("prepare.ignore=[loss]")),
    "turns of one role": (chats(("user", "hi", {}), ("user", "more", {}), ANSWER), "prepare.merge_turns: true", say("prepare.merge_turns=true")),
    "preferences": (rows({"prompt": "q", "chosen": "a", "rejected": "b"}), "set data.columns: {completion: chosen} and prepare.ignore: [rejected] to train on `chosen` alone", say("data.columns={completion: chosen}", "prepare.ignore=[rejected]")),
    "no known layout": (rows({"a": "q", "b": "x"}), "name yours in data.columns", say("data.columns={prompt: a, completion: b}")),
    "or a wording": (rows({"a": "q", "b": "x"}), "with task: columns", say("task=columns", "template.prompt='{a}'", "template.answer='{b}'")),
    "another layout": (rows({"prompt": "q", "completion": "x"}, data={"layout": "alpaca"}), "data.columns", say("data.columns={instruction: prompt, output: completion}")),
    "a tool's turn": (chats(("user", "hi", {}), ("tool", "x", {}), ANSWER), "write call and result as plain text", chats(("user", "hi", {}), ANSWER)),
    "split by nothing": (rows({"text": "q", "emoji": "☕", "topic": "a"}, "emoji", split={"by": "topics"}), "did you mean 'topic'", say("split.by=text")),
    "a folder of somebody's": (lambda p: p.write("runs/t/notes.txt", "mine") and None, "and no manifest.json); give another name= or runs_dir=, or move it", say("name=u")),
    "rows in the run": (lambda p: ["data.source=runs/t/e.csv"], "which is gemtune's; move it, or give another name=", say("data.source=e.csv")),
    "a file for a folder": (lambda p: [f"runs_dir={p / 'e.csv'}"], "a file is where a folder should be: choose another folder (runs_dir or pages.folder in a recipe)", lambda p: [f"runs_dir={p / 'there'}"]),
    "no such model": (lambda p: [f"model={p / 'nowhere'}"], "no such folder", lambda p: [f"model={p.model}"]),
    "a column to rename in none of two files": (lambda p: (p.csv(ROWS[:20], "d/e.csv"), p.csv(ROWS[20:], "d/f.csv"), p.recipe("d", data={"columns": {"text": "body"}}))[2] and None, "no file has a column body; mend or delete it", say("data.columns={}")),
    "split by an empty cell": (rows({"text": "q", "emoji": "☕", "topic": ""}, "emoji", split={"by": "topic"}, prepare={"bad_rows": "fail"}), "fill it, or split by another column", say("split.by=text")),
    "pictures for a model without eyes": (lambda p: (p.write("a.png", picture()), rows({"prompt": "<image> q", "completion": "a", "image": "a.png"})(p))[1], "and this model takes none; choose one that does", lambda p: [f"model={write_tiny('gemma3-vision', p / 'eyes')}"]),
    "another layout's column": (rows({"prompt": "q", "completion": "x"}, data={"layout": "sharegpt"}), "set data.layout: auto, or name it in data.columns", say("data.layout=auto")),
    "the parts of a split": (lambda p: (p.csv(ROWS[:20], "d/train.csv"), p.csv(ROWS[20:], "d/test.csv"), p.recipe("d"))[2] and None, "name each as a source of its own, data: [{source: ..., part: test}, {source: ..., part: train}], or", lambda p: p.recipe(data=[{"source": "d/train.csv", "part": "train"}, {"source": "d/test.csv", "part": "test"}]) and None),
    "or mixed": (lambda p: (p.csv(ROWS[:20], "d/train.csv"), p.csv(ROWS[20:], "d/test.csv"), p.recipe("d"))[2] and None, "or set data.train_on_test: true", say("data.train_on_test=true")),
    "a test split to train on": (say("data.source=u/bench", "data.format=hub", "data.hub_split=test"), "set data.part: test to score on it, or data.train_on_test: true", say("data.source=e.csv")),
}  # fmt: skip


@pytest.mark.parametrize("what", PREPARE)
def test_a_move_before_training_works(what: str, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    make, words, move = PREPARE[what]
    line = command.refusal(command.gemtune(capfd, "prepare", place / "t.yaml", *(make(place) or [])))
    assert words in line, line
    answer = command.gemtune(capfd, "prepare", place / "t.yaml", *(move(place) or []))
    assert answer.code == 0, answer.err


def at(name: str, change: Callable[[Path], Any] = halve) -> Callable[[Path], None]:
    return lambda run: change(run / name)


def once_more(path: Path) -> None:
    """Every line twice."""
    path.write_text(2 * path.read_text(encoding="utf-8"), encoding="utf-8")


def without(*names: str) -> Callable[[Path], None]:
    """Takes keys out of an object, or out of every line's; ("scores", "f1") takes f1 out of its scores.

    What is left has no digest, as what an older gemtune wrote.
    """

    def change(path: Path) -> None:
        values = (
            [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            if path.suffix == ".jsonl"
            else [read_json(path)]
        )
        for value in values:
            if names[:1] == ("scores",):
                del value["scores"][names[1]]
            else:
                for name in names:
                    del value[name]
            value.pop("seal", None)
        path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")

    return change


def forget(run: Path) -> None:
    """Removes the replies of base and tuned."""
    for name in ("base", "tuned"):
        (run / "eval" / f"{name}.jsonl").unlink()


# what is wrong with a trained run -> (what spoils it, a command, words of its error, commands that then work in this order)
Command = tuple[str, ...]
RUNS: dict[str, tuple[Callable[[Path], Any], Command, str, tuple[Command | Callable[[Path], Any], ...]]] = {
    "another recipe": (lambda run: None, ("train", "RECIPE", "train.max_steps=1"), "; give another name= (--fresh would remove its trained weights)", (("train", "RECIPE", "train.max_steps=1", "name=u"),)),
    "no such checkpoint": (lambda run: None, ("evaluate", "RUN", "--checkpoint", "9"), "there are step-1, step-2", (("evaluate", "RUN", "--checkpoint", "1"),)),
    "nothing to answer": (lambda run: None, ("generate", "RUN"), "give a prompt", (("generate", "RUN", "hi"),)),
    "rows instead": (lambda run: None, ("generate", "RUN"), "--input FILE", (("generate", "RUN", "--input", "ROWS"),)),
    "two things to answer": (lambda run: None, ("generate", "RUN", "hi", "--input", "ROWS"), "give one of them", (("generate", "RUN", "--input", "ROWS"),)),
    "output of a prompt": (lambda run: None, ("generate", "RUN", "hi", "--output", "o"), "--input FILE", (("generate", "RUN", "--input", "ROWS", "--output", "OUT"),)),
    "an adapter cut": (at("adapter/adapter_model.safetensors"), ("generate", "RUN", "hi"), "is not what was written; train again, or name another checkpoint", (("train", "RECIPE"), ("generate", "RUN", "hi"))),
    "an adapter gone": (at("adapter", shutil.rmtree), ("generate", "RUN", "hi"), "`gemtune train` writes it", (("train", "RECIPE"), ("generate", "RUN", "hi"))),
    "a checkpoint cut": (at("checkpoints/step-1/weights.safetensors"), ("evaluate", "RUN", "--checkpoint", "1"), "train again, or name another checkpoint", (("evaluate", "RUN", "--checkpoint", "2"),)),
    "replies of base cut": (at("eval/base.jsonl"), ("report", "RUN"), "run the stage that wrote it again", (("evaluate", "RUN"), ("report", "RUN"))),
    "replies of tuned cut": (at("eval/tuned.jsonl"), ("report", "RUN"), "run the stage that wrote it again", (("evaluate", "RUN"), ("report", "RUN"))),
    "a summary cut": (at("eval/summary.json"), ("report", "RUN"), "run the stage that wrote it again", (("evaluate", "RUN"), ("report", "RUN"))),
    "a summary of another shape": (at("eval/summary.json", lambda path: path.write_text("[]")), ("report", "RUN"), "not a version 1 file of gemtune; run the stage that wrote it again", (("evaluate", "RUN"), ("report", "RUN"))),
    "the manifest of the data cut": (at("data/manifest.json"), ("report", "RUN"), "run the stage that wrote it again", (("prepare", "RECIPE"), ("report", "RUN"), ("evaluate", "RUN"))),
    "no manifest": (at("manifest.json", Path.unlink), ("evaluate", "RUN"), "`gemtune run RECIPE.yaml` makes one", (("run", "RECIPE", "name=u"),)),
    "no run": (lambda run: None, ("evaluate", "RUN-9"), "`gemtune new emoji` writes a recipe", (("new", "emoji", "OUT"),)),
    "replies of tuned to other rows": (at("eval/tuned.jsonl", once_more), ("evaluate", "RUN", "--base"), "evaluate both together, or set evaluate.limit back", (("evaluate", "RUN"),)),
    "replies to other rows": (at("eval/tuned.jsonl", once_more), ("report", "RUN"), "hold different rows; `gemtune evaluate", (("evaluate", "RUN"), ("report", "RUN"))),
    "scores of another task": (at("eval/tuned.jsonl", without("scores", "f1")), ("evaluate", "RUN"), "if it does, a file is damaged: remove both, then evaluate", (forget, ("evaluate", "RUN"))),
    "replies with other scores": (at("eval/tuned.jsonl", without("scores", "f1")), ("report", "RUN"), "its reply has no score 'f1'; remove the replies of both, then `gemtune evaluate`", (forget, ("evaluate", "RUN"), ("report", "RUN"))),
    "a reply that is no object": (at("eval/tuned.jsonl", lambda path: path.write_text("[]\n")), ("report", "RUN"), "found an array, wanted an object; run the stage", (("evaluate", "RUN"), ("report", "RUN"))),
    "a field that is missing": (at("eval/summary.json", without("rows")), ("report", "RUN"), "rows: is missing; run the stage that wrote it again", (("evaluate", "RUN"), ("report", "RUN"))),
    "a count of rows that was changed": (at("data/manifest.json", lambda path: path.write_text(path.read_text().replace('"rows_read": 40', '"rows_read": 41'))), ("report", "RUN"), "is not what was written; run `gemtune prepare` again", (("prepare", "RECIPE"), ("report", "RUN"))),
    "another version": (at("manifest.json", lambda path: path.write_text('{"version": 7}')), ("report", "RUN"), "use another run name or the gemtune that made it", (("train", "RECIPE", "name=u"),)),
    "no manifest of gemtune's": (at("manifest.json", lambda path: path.write_text("[]")), ("report", "RUN"), "not a manifest; start again under another run name", (("train", "RECIPE", "name=u"),)),
    "a bit of the manifest": (at("manifest.json", lambda path: path.write_text(path.read_text().replace('"planned_steps": 2', '"planned_steps": 3'))), ("evaluate", "RUN"), "is not what was written; start again under another run name, or delete its `seal` if it was you", (at("manifest.json", without()), ("evaluate", "RUN"), ("train", "RECIPE", "name=u"))),
    "no recipe": (at("manifest.json", without("recipe")), ("evaluate", "RUN"), "no recipe in it; start again under another run name", (("train", "RECIPE", "name=u"),)),
    "replies over the rows": (lambda run: None, ("generate", "RUN", "--input", "ROWS", "--output", "ROWS"), "would take the place of the rows; give another --output", (("generate", "RUN", "--input", "ROWS", "--output", "OUT"),)),
    "replies over a folder": (lambda run: None, ("generate", "RUN", "--input", "ROWS", "--output", "RUN"), "wanted a file for the replies; give another --output", (("generate", "RUN", "--input", "ROWS", "--output", "OUT"),)),
    "a GPU that is not there": (lambda run: None, ("train", "RECIPE", "name=u", "train.device=mps"), "set train.device: auto", (("train", "RECIPE", "name=u", "train.device=cpu"),)),
    "metrics cut": (at("metrics.jsonl"), ("report", "RUN"), "` restores it", (("train", "RUN"), ("report", "RUN"))),
    "a folder for the report": (at("report.html", lambda path: (path.unlink(missing_ok=True), path.mkdir())), ("report", "RUN"), "a folder is where the file should be: remove it, or give another name", (lambda run: (run / "report.html").rmdir(), ("report", "RUN"))),
    "replies in a file": (lambda run: None, ("generate", "RUN", "--input", "ROWS", "--output", "ROWS/o.jsonl"), "; give another --output", (("generate", "RUN", "--input", "ROWS", "--output", "OUT"),)),
    "a target that is no layer": (lambda run: None, ("train", "RECIPE", "name=u", "lora.target_modules=[query]"), "no linear layer is called 'query'; there are ", (("train", "RECIPE", "name=u", "lora.target_modules=[q_proj]"),)),
    "rows that weigh nothing": (lambda run: None, ("train", "RECIPE", "name=u", "train.epochs=0.001", "data.weight=0.001"), "raise data.weight, or train.epochs", (("train", "RECIPE", "name=u"),)),
}  # fmt: skip


@pytest.mark.parametrize("what", RUNS)
def test_a_move_in_a_run_works(what: str, place: Place, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, wrong, words, moves = RUNS[what]
    run = a_run(place, trained)
    names = {"RUN": run, "RECIPE": place / "t.yaml", "ROWS": place / "e.csv", "OUT": place / "out"}
    spoil(run)

    def gemtune(args: Command) -> command.Answer:
        return command.gemtune(capfd, *(re.sub("|".join(names), lambda m: str(names[m[0]]), arg) for arg in args))

    line = command.refusal(gemtune(wrong))
    assert words in line, line
    for move in moves:
        if callable(move):
            move(run)
            continue
        answer = gemtune(move)
        assert answer.code == 0, (move, answer.err)


def test_the_newest_checkpoint_without_its_list_is_passed_over(
    place: Place, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = a_run(place, trained)
    shutil.rmtree(run / "adapter")
    halve(run / "checkpoints/step-2/whole.json")
    answer = command.gemtune(capfd, "train", place / "t.yaml")
    assert answer.code == 0, answer.err
    assert "Resuming from step 1 of 2." in answer.err


# ---- that no advice names what is not there, over every message of the source


def messages() -> Iterator[tuple[str, str]]:
    """(place, text) of every string of the source that is no docstring; `{...}` stands for what is put in."""
    for path in sorted(SRC.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            where = f"{path.relative_to(SRC)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                yield where, "".join(map(str, parts))
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and not {id(node)} & (docstrings | inside)
            ):
                yield where, node.value


SECTIONS = sorted({key.split(".")[0] for key in recipe_keys() if "." in key})
KEY = re.compile(rf"(?<![\w./])(?:{'|'.join(SECTIONS)})\.([a-z_]+)(?=[=:; ,)]|$)")


def test_every_key_that_a_message_names_is_one() -> None:
    named = [(where, match[0]) for where, words in messages() for match in KEY.finditer(words) if " " in words]
    assert len(named) > 60
    assert [(where, key) for where, key in named if key not in recipe_keys()] == []


def test_every_command_and_option_that_a_message_names_is_one() -> None:
    verbs = {
        name: {option for p in verb.params for option in p.opts} for name, verb in get_command(app).commands.items()
    }  # type: ignore[attr-defined]
    options = {"--help", "--version", *(option for verb in verbs.values() for option in verb)}
    named = [(where, match[1]) for where, words in messages() for match in re.finditer(r"`gemtune (\w+)", words)]
    assert len(named) > 8 and [(where, verb) for where, verb in named if verb not in verbs] == []
    given = [
        (where, match[0])
        for where, words in messages()
        if not words.startswith("-") and not where.startswith("launch_files/")  # whose words are for other programs
        for match in re.finditer(r"(?<![\w-])--[a-z][a-z-]+", words)
    ]
    foreign = {"--force-reinstall", "--index-url", "--version", "--head"}  # pip's and Ray's
    assert len(given) > 4 and [(where, option) for where, option in given if option not in options | foreign] == []
