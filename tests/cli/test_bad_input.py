"""Bad input through the real command line: one line that names the place and the next move, and nothing half-written."""

# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import command
from cli.place import ROWS, Place
from gemtune.files import read_json, write_json
from gemtune.pipeline import stages
from gemtune.run_contents import written_in

NO_TRACKER = next((name for name in ("trackio", "wandb") if find_spec(name) is None), None)
HALF = {"text": "cut \ud83d", "emoji": "☕"}  # half a surrogate pair, which JSON can spell


def changes(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """What is new, gone or different."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def is_prepared(name: str) -> bool:
    """Whole files that `prepare` leaves when a later stage refuses to go on."""
    data = (
        r"(/(train|val|test)(\.jsonl|\.index\.json|-\d{5}\.arrow)|/(manifest\.json|(leaks|dropped|unscored)\.jsonl))?"
    )
    return bool(re.fullmatch(rf"runs(/t(/manifest\.json|/recipe\.yaml|/data{data})?)?", name))


def refused(place: Place, capfd: pytest.CaptureFixture[str], *args: str | Path, prepared: bool = False) -> str:
    """The one line that a command refuses with, having left nothing behind (but whole prepared data, where said)."""
    before = command.tree(place.folder)
    line = command.refusal(command.gemtune(capfd, *args))
    left = changes(before, command.tree(place.folder))
    assert not {name for name in left if not (prepared and is_prepared(name))}
    return line


Case = tuple[Callable[[Place], Any], str]  # what makes it wrong (and may return overrides), the line


def _recipe(text: str | bytes) -> Callable[[Place], Any]:
    return lambda place: place.write("t.yaml", text)


def _source(name: str, text: str | bytes, **keys: Any) -> Callable[[Place], Any]:
    return lambda place: (place.write(name, text), place.recipe(name, **keys))


OLD_RECIPE = "name: t\ntask: emoji\ndata: {source: e.csv}\n"
RECIPES: dict[str, Case] = {
    "no such recipe": (lambda p: (p / "t.yaml").unlink(), r"t\.yaml: no such recipe .*`gemtune new emoji`"),
    "not YAML": (_recipe("name: [t\n"), r"t\.yaml:2: not YAML"),
    "a list": (_recipe("- name: t\n"), r"t\.yaml: found a list, wanted keys and values"),
    "not text": (_recipe(b"\xff\xfe\x00"), r"t\.yaml: cannot be read as a UTF-8 text file"),
    "unknown key": (_recipe(OLD_RECIPE + "trian: {epochs: 1}\n"), r"t\.yaml:4: unknown key 'trian'; did you mean 'train'"),
    "wrong type": (_recipe(OLD_RECIPE + "train:\n  epochs: lots\n"), r"t\.yaml:5: train\.epochs: wanted a valid number, found 'lots'"),
    "key twice": (_recipe(OLD_RECIPE + "name: u\n"), r"t\.yaml: line 4: key 'name' stands twice \(first on line 1\); keep one"),
    "override without =": (lambda p: ["train.epochs"], r"override 'train\.epochs': wanted key=value, for example"),
    "unknown override": (lambda p: ["train.epoch=2"], r"override: unknown key .* did you mean 'train\.epochs'"),
    "unknown task": (lambda p: ["task=emojis"], r"task: unknown task 'emojis'; did you mean 'emoji'"),
    "no task file": (lambda p: ["task=mine.py:Mine"], r"mine\.py: no such file; it should hold class Mine"),
    "no task class": (lambda p: [f"task={p.write('mine.py', 'Main = 1')}:Mine"], r"mine\.py: no such class; wanted `class Mine\(Task\)`"),
    "task file is broken": (lambda p: [f"task={p.write('mine.py', 'def (')}:Mine"], r"mine\.py: cannot be imported \(invalid syntax"),
    "a folder of one's own for a run": (lambda p: (p.write("mine/data/e.csv", "text,emoji\n"), ["name=mine", f"runs_dir={p.folder}"])[1], r"mine: a folder that gemtune did not make \(it holds data and no manifest\.json\); give another name= or runs_dir="),
    "rows in the run directory": (lambda p: (p.write("runs/t/data/e.csv", "text,emoji\n"), [f"data.source={p / 'runs/t/data/e.csv'}"])[1], r"runs/t: a folder that gemtune did not make"),
    "rows in a run directory that is to be": (lambda p: ["data.source=runs/t/e.csv"], r"runs/t/e\.csv: lies in the run directory .*move it, or give another name="),
    "runs_dir under a file": (lambda p: [f"runs_dir={p / 'e.csv'}/runs"], r"e\.csv/runs/t: Not a directory; a file is where a folder should be"),
    "nf4 without adapters": (lambda p: ["lora=none", "quantize=nf4"], r"quantize: nf4 needs lora"),
    "template without a column": (lambda p: ["task=columns", "template.answer=fixed"], r"template\.answer names no column"),
}  # fmt: skip


LONG = [(text, "☕" * 300) for text, _ in ROWS]
DATA: dict[str, Case] = {
    "no such file": (lambda p: p.recipe("f.csv"), r"f\.csv: no such file or folder; did you mean 'e\.csv'\?"),
    "an empty file": (_source("e.csv", ""), r"e\.csv: the file is empty; wanted at least one row"),
    "a header alone": (_source("e.csv", "text,emoji\n"), r"e\.csv: no rows in it; wanted at least one row"),
    "another encoding": (_source("e.csv", "text,emoji\ncafé,☕\n".encode("utf-16")), r"e\.csv: .*data\.encoding"),
    "a missing column": (_source("e.csv", "text,emojis\nhi,☕\n"), r"e\.csv:2: column 'emoji' is missing; found text, emojis; did you mean 'emojis'\? set data\.columns: \{emoji: emojis\}"),
    "a field too many": (_source("e.csv", "text,emoji\nhi, you,☕\n"), r"e\.csv:2: 3 fields, wanted 2 as in the header \(text, emoji\); put a value"),
    "a broken JSON line": (_source("e.jsonl", '{"text": "a", "emoji": "☕"}\n{"text": \n{"text": "b", "emoji": "☕"}\n'), r"e\.jsonl:2: the object that begins here: .*broken JSON .*data\.bad_rows: drop"),
    "JSON without names": (_source("e.jsonl", '["a", "☕"]\n'), r"e\.jsonl\[1\] is a string; wanted an object with named values"),
    "a list of lists": (_source("e.json", '[["a", "☕"]]'), r"e\.json\[1\]: column 'text' is missing; found 0, 1; set data\.columns: \{text: "),
    "half a JSON array": (_source("e.json", '[{"text": "a", "emoji": "☕"},'), r"e\.json:1: broken JSON .*the file ends too early"),
    "no Parquet": (_source("e.parquet", "text,emoji\n"), r"e\.parquet: damaged or not Parquet .*copy or download it again"),
    "no gzip": (_source("e.csv.gz", "text,emoji\n"), r"e\.csv\.gz: damaged or not gzip .*drop \.gz"),
    "a folder for a file": (lambda p: ((p / "x.csv").mkdir(), p.recipe("x.csv")), r"x\.csv: no file in it ends in one of \.csv"),
    "a path through a file": (lambda p: p.recipe("e.csv/more.csv"), r"e\.csv/more\.csv: "),
    "an unknown suffix": (_source("e.xlsx", "PK"), r"e\.xlsx: unknown suffix '\.xlsx'; .*save the sheet as `CSV UTF-8`"),
    "only empty answers": (lambda p: p.csv([(text, "") for text, _ in ROWS]), r"e\.csv: no row is left to train on: 40 read, 40 of them dropped as 'empty answer', the first at e\.csv:2"),
    "only answers without emoji": (lambda p: p.csv([(text, "yes") for text, _ in ROWS]), r"40 of them dropped as 'not emoji', the first at e\.csv:2 \(column 'emoji' holds 'yes'.*check `task` and `data\.columns`"),
    "roles out of order": (lambda p: (p.jsonl([{"messages": [{"role": "assistant", "content": "a"}]}] * 3), p.recipe("e.jsonl", task="messages")), r"3 of them dropped as 'roles out of order', the first at e\.jsonl:1"),
    "half a character": (lambda p: (p.jsonl([HALF] * 3), p.recipe("e.jsonl")), r"3 of them dropped as 'bad unicode', the first at e\.jsonl:1 \(message 2 \(user\): half a character"),
    "bad_rows: fail": (lambda p: (p.csv([*ROWS, ("x", "yes")]), ["prepare.bad_rows=fail"])[1], r"e\.csv:42: not emoji: .*mend the row, or set prepare\.bad_rows: drop"),
    "bad_rows: fail, an id twice": (lambda p: (p.jsonl([{"id": 1, "text": t, "emoji": e} for t, e in ROWS]), p.recipe("e.jsonl", data={"id": "id"}), ["prepare.bad_rows=fail"])[2], r"e\.jsonl:2: duplicate id: e\.jsonl:1 has this id and says something else"),
    "all of it val or test": (lambda p: ["split.val=40"], r"no row is left to train on: all \d+ that can be used are val or test"),
}  # fmt: skip


@pytest.mark.parametrize("what", [*RECIPES, *DATA])
def test_a_recipe_or_its_rows_are_refused(what: str, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    break_it, wanted = {**RECIPES, **DATA}[what]
    overrides = made if isinstance(made := break_it(place), list) else []
    assert re.search(wanted, line := refused(place, capfd, "prepare", place / "t.yaml", *overrides)), line


CONFIG = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'
MODELS: dict[str, Case] = {
    "no such model": (lambda p: [f"model={p / 'nowhere'}"], r"nowhere': no such folder; short names are gemma-3-270m"),
    "no config": (lambda p: [f"model={p.model_copy(config_json=None)}"], r"model: a folder without config\.json; wanted a model in the Hugging Face layout"),
    "a broken config": (lambda p: [f"model={p.model_copy(config_json='{')}"], r"model.*config\.json.* cannot be loaded"),
    "another family": (lambda p: [f"model={p.model_copy(config_json=CONFIG)}"], r"model: model type 'llama' is not supported; supported: gemma3_text"),
    "a broken tokenizer": (lambda p: [f"model={p.model_copy(tokenizer_json='{')}"], r"model: its tokenizer: cannot be loaded"),
    "no tokenizer": (lambda p: [f"model={p.model_copy(tokenizer_json=None, tokenizer_config_json=None)}"], r"model: its tokenizer: cannot be loaded|the tokenizer has no"),
    "weights cut short": (lambda p: [f"model={p.model_copy(model_safetensors=(p.model / 'model.safetensors').read_bytes()[:5000])}"], r"model\.safetensors: cannot be loaded"),
    "no weights": (lambda p: [f"model={p.model_copy(model_safetensors=None)}"], r"model: no model\.safetensors in it"),
    "an answer too long, over_length: fail": (lambda p: (p.csv(LONG), ["prepare.over_length=fail"])[1], r"e\.csv:\d+: \d+ tokens, train\.max_length is 128; raise it, or set prepare\.over_length: drop"),
    "every answer too long": (lambda p: p.csv(LONG), r"no example is left to train on[;:] .*train\.max_length"),
    "a target that is no layer": (lambda p: ["lora.target_modules=[query]"], r"lora\.target_modules: no linear layer is called 'query'; there are .*q_proj"),
    "a token row that is no token": (lambda p: ["lora.token_rows=['<nothing>']"], r"lora\.token_rows: '<nothing>' is not a token of this model"),
    "no score of that name": (lambda p: ["evaluate.metric=bleu"], r"evaluate\.metric: task emoji has no score 'bleu'; it has .*f1"),
}  # fmt: skip


@pytest.mark.parametrize("what", MODELS)
def test_a_model_or_what_it_is_asked_for_is_refused(what: str, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    break_it, wanted = MODELS[what]
    overrides = made if isinstance(made := break_it(place), list) else []
    late = what in ("weights cut short", "no weights")  # prepare needs none, so it goes well
    line = refused(place, capfd, "train", place / "t.yaml", *overrides, prepared=late)
    assert re.search(wanted, line), line


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    line = refused(place, capfd, "train", place / "t.yaml", "train.device=cuda")
    assert "train.device: cuda, but torch sees no CUDA device here; `gemtune doctor` says why" in line
    doctor = command.gemtune(capfd, "doctor")
    assert doctor.code == 0 and re.search("^GPU: .*PyTorch", doctor.out, re.MULTILINE), doctor.out


def test_rows_that_differ_under_one_id_are_counted(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": i, "text": text, "emoji": emoji} for i, (text, emoji) in enumerate(ROWS)]
    place.jsonl([*rows, {"id": 3, "text": "rain", "emoji": "🌧"}])
    place.recipe("e.jsonl", data={"id": "id"})
    answer = command.gemtune(capfd, "prepare", place / "t.yaml", "prepare.dedupe=exact", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["dropped"] == {"duplicate id": 1}
    dropped = (place / "runs/t/data/dropped.jsonl").read_text()
    assert json.loads(dropped)["where"] == "e.jsonl:41"


UNICODE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "emoji, the question": ("emoji", {"text": "hi", "emoji": "☕"}, HALF),
    "columns": ("columns", {"prompt": "a", "answer": "b"}, {"prompt": "a", "answer": "\udc00"}),
    "messages": ("messages", {"prompt": "a", "completion": "b"}, {"prompt": "\ud83d!", "completion": "b"}),
    "sql, the question": ("sql", {"question": "q", "schema": "CREATE TABLE t (a)", "sql": "SELECT a FROM t"}, {"question": "\ud83d", "schema": "CREATE TABLE t (a)", "sql": "SELECT a FROM t"}),
    "sql, the query": ("sql", {"question": "q", "schema": "CREATE TABLE t (a)", "sql": "SELECT a FROM t"}, {"question": "q", "schema": "CREATE TABLE t (a)", "sql": "SELECT '\ud83d' FROM t"}),
}  # fmt: skip


@pytest.mark.parametrize("what", UNICODE)
def test_half_a_character_is_counted_for_every_task(what: str, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    task, good, bad = UNICODE[what]
    first = next(iter(good))
    place.jsonl([*({**good, first: f"{good[first]} {i}"} for i in range(30)), bad])
    place.recipe("e.jsonl", task=task, prepare={"dedupe": "none"})
    answer = command.gemtune(capfd, "prepare", place / "t.yaml", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["dropped"] == {"bad unicode": 1}


# ---- the disk


FULL = {  # what is written when the disk is full: the bytes that a file may have, and the command
    "the example of a recipe": (2_000, ("new", "emoji", "PLACE/new")),
    "rows": (2_000, ("prepare", "PLACE/t.yaml")),
    "a tiny model's weights": (100_000, ("tiny", "gemma3", "PLACE/new")),
    "a checkpoint's weights": (100_000, ("train", "PLACE/t.yaml")),
}


@pytest.mark.parametrize("what", FULL)
def test_no_space_left(what: str, place: Place) -> None:
    """A limit on the size of a file stands in for a full disk: both are an OSError at a write."""
    most, args = FULL[what]
    limit = f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))"
    place.csv([(f"{text} and {i * 'x'}", emoji) for i, (text, emoji) in enumerate(ROWS)])
    before = command.tree(place.folder)
    answer = command.spawn(*(arg.replace("PLACE", str(place.folder)) for arg in args), first=limit)
    line = answer.err.splitlines()[-1]  # train has told its progress before
    assert answer.code == 2 and "Traceback" not in answer.err, answer.err
    assert re.search(r"gemtune: .*: File too large; free some space, or choose another folder", line), line
    left = changes(before, command.tree(place.folder))
    if args[0] == "train":
        assert not any(name.startswith(("runs/t/checkpoints/", "runs/t/adapter")) for name in left)
    else:
        assert not {name for name in left if not name.startswith("new")}


# ---- the run directory


def a_run(place: Place, trained: Path) -> Path:
    """A copy of the trained run in the place, with its recipe; the rows stay where they were."""
    text = (trained.parents[1] / "t.yaml").read_text(encoding="utf-8")
    place.write("t.yaml", text.replace(str(trained.parent), str(place / "runs")))
    return Path(shutil.copytree(trained, place / "runs" / "t"))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def _damaged(name: str) -> Callable[[Path], None]:
    return lambda run: halve(run / name)


def _asked_tuned(run: Path) -> None:
    """Replies of tuned as to another evaluate.limit."""
    stages.evaluate(stages.Job(run, say=lambda text: None), ["tuned"])
    replies = run / "eval/tuned.jsonl"
    replies.write_text(2 * replies.read_text(encoding="utf-8"), encoding="utf-8")


def _manifest(**sections: Any) -> Callable[[Path], None]:
    return lambda run: write_json(run / "manifest.json", {**read_json(run / "manifest.json"), **sections})


RUNS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], str]] = {
    "no run": (lambda run: shutil.rmtree(run), ("evaluate", "RUN"), r"runs/t: no such recipe or run directory"),
    "a folder that is none": (lambda run: (run / "manifest.json").unlink(), ("evaluate", "RUN"), r"runs/t: not a run directory \(no manifest\.json\)"),
    "another version": (_manifest(version=7), ("report", "RUN"), r"manifest\.json: version 7, this gemtune reads 1; use another run name"),
    "a manifest with another number": (lambda run: edited(run / "manifest.json", '"planned_steps": 2', '"planned_steps": 3'), ("evaluate", "RUN"), r"manifest\.json: is not what was written; start again under another run name, or delete its `seal`"),
    "a manifest cut in half": (_damaged("manifest.json"), ("evaluate", "RUN"), r"manifest\.json:\d+: broken JSON"),
    "a checkpoint cut in half": (_damaged("checkpoints/step-1/weights.safetensors"), ("evaluate", "RUN", "--checkpoint", "1"), r"step-1: weights\.safetensors is not what was written; train again, or name another checkpoint"),
    "no such checkpoint": (lambda run: None, ("evaluate", "RUN", "--checkpoint", "99"), r"step-99: no such folder"),
    "an adapter cut in half": (_damaged("adapter/adapter_model.safetensors"), ("evaluate", "RUN"), r"adapter: adapter_model\.safetensors is not what was written"),
    "the same, asked": (_damaged("adapter/adapter_model.safetensors"), ("generate", "RUN", "hello"), r"adapter: adapter_model\.safetensors is not what was written"),
    "an adapter without a file": (lambda run: (run / "adapter/adapter_config.json").unlink(), ("generate", "RUN", "hello"), r"adapter: adapter_config\.json is missing"),
    "nothing to answer": (lambda run: None, ("generate", "RUN"), r"nothing to answer; give a prompt, or --input FILE"),
    "two things to answer": (lambda run: None, ("generate", "RUN", "hello", "--input", "e.csv"), r"found a prompt and --input; give one of them"),
    "output of a prompt": (lambda run: None, ("generate", "RUN", "hello", "--output", "o.jsonl"), r"--output is for the replies to --input FILE"),
    "rows that are not there": (lambda run: None, ("generate", "RUN", "--input", "PLACE/f.csv"), r"f\.csv: no such file or folder; did you mean 'e\.csv'"),
    "rows of another table": (lambda run: (run / "../../o.csv").write_text("a,b\n1,2\n"), ("evaluate", "RUN", "--data", "PLACE/o.csv"), r"o\.csv:2: column 'text' is missing; found a, b"),
    "started again from rows that are not there": (lambda run: None, ("train", "PLACE/t.yaml", "--fresh", "data.source=f.csv"), r"f\.csv: no such file or folder"),
    "started again with a target that is no layer": (lambda run: None, ("run", "PLACE/t.yaml", "--fresh", "lora.target_modules=[query]"), r"no linear layer is called 'query'"),
    "started again with answers too long": (lambda run: None, ("train", "PLACE/t.yaml", "--fresh", "train.max_length=16"), r"no example is left to train on"),
    "another limit for a checkpoint that is not there": (lambda run: None, ("evaluate", "PLACE/t.yaml", "evaluate.limit=2", "--checkpoint", "99"), r"step-99: no such folder"),
    "base alone on other rows": (_asked_tuned, ("evaluate", "RUN", "--base"), r"eval/tuned\.jsonl: tuned was asked other rows; evaluate both together"),
    "another score": (lambda run: None, ("train", "PLACE/t.yaml", "evaluate.metric=bleu"), r"has no score 'bleu'"),
    "other rows": (lambda run: None, ("prepare", "PLACE/t.yaml", "data.limit=9"), r"begun with another recipe \(data\.0\.limit was None, is 9\)"),
    "other tokens": (lambda run: None, ("show", "PLACE/t.yaml", "train.max_length=64"), r"begun with another recipe \(train\.max_length was 128, is 64\)"),
    "another device": (lambda run: None, ("check", "PLACE/t.yaml", "train.device=mps"), r"begun with another recipe|train\.device: mps, but"),
    "the recipe has changed": (lambda run: None, ("train", "PLACE/t.yaml", "train.max_steps=3"), r"runs/t was begun with another recipe \(train\.max_steps was 2, is 3\); give another name= \(--fresh would remove its trained weights\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", RUNS)
def test_a_run_directory_is_refused(what: str, place: Place, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    break_it, args, wanted = RUNS[what]
    run = a_run(place, trained)
    break_it(run)
    paths = (arg.replace("RUN", str(run)).replace("PLACE", str(place.folder)) for arg in args)
    line = refused(place, capfd, *paths)
    assert re.search(wanted, line), line


def _model(**files: str | bytes | None) -> Callable[[Place], list[str]]:
    return lambda place: [f"model={place.model_copy(**files)}"]


def _without_numbers(place: Place) -> list[str]:
    """A copy of the model whose norms are NaN."""
    copy = place.model_copy()
    tensors = load_file(copy / "model.safetensors")
    save_file({k: v * torch.nan if "norm" in k else v for k, v in tensors.items()}, copy / "model.safetensors")
    return [f"model={copy}"]


AGAIN: dict[str, tuple[Callable[[Place], list[str]], str]] = {
    "no weights": (_model(model_safetensors=None), r"model: no model\.safetensors in it"),
    "damaged weights": (_model(model_safetensors=b"\x00" * 5000), r"model\.safetensors: cannot be loaded"),
    "weights without numbers": (_without_numbers, r"FAIL the base model's loss is finite"),
    "a GPU that is not here": (lambda place: ["train.device=mps"], r"train\.device: mps, but torch sees no Apple GPU here"),
    "a tracker that is not here": (lambda place: [f"track=[{NO_TRACKER}]"], rf"track: \[{NO_TRACKER}\] needs .* pip install 'gemtune\[{NO_TRACKER}\]'"),
}  # fmt: skip


@pytest.mark.parametrize("what", AGAIN)
def test_a_finished_run_is_kept_until_the_one_that_replaces_it_is_accepted(
    what: str, place: Place, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if (torch.backends.mps.is_available() and "GPU" in what) or (NO_TRACKER is None and "tracker" in what):
        pytest.skip("it is here")
    a_run(place, trained)
    overrides, wanted = AGAIN[what][0](place), AGAIN[what][1]
    line = refused(place, capfd, "train", place / "t.yaml", "--fresh", *overrides)
    assert re.search(wanted, line), line


REFUSED_BY_ALL = {
    "another recipe": ("train.max_steps=3", r"begun with another recipe \(train\.max_steps was 2, is 3\)"),
    "other rows": ("split.seed=1", r"begun with another recipe \(split\.seed was 0, is 1\)"),
    "no number": ("train.max_steps=many", r"train\.max_steps: wanted a valid integer"),
    "no such task": ("task=emojis", r"unknown task 'emojis'|begun with another recipe"),
    "a source in the run": ("data.source=runs/t/data/train.jsonl", r"lies in the run directory"),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["prepare", "show", "check", "plan", "train", "run", "evaluate", "generate", "report"])
def test_a_refusal_by_any_verb_leaves_the_run_as_it_was(
    verb: str, place: Place, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = a_run(place, trained)
    if verb in ("generate", "report"):  # these take no overrides: the recipe itself is wrong
        for text in ("task: emoji\n", "[", f"{{name: t, task: emoji, runs_dir: {run.parent}, data: {run}/data/x.csv}}"):
            place.write("t.yaml", text)
            refused(place, capfd, verb, place / "t.yaml", *(["hello"] if verb == "generate" else []))
        return
    for override, wanted in REFUSED_BY_ALL.values():
        line = refused(place, capfd, verb, place / "t.yaml", override)
        assert re.search(wanted, line), line
    if verb not in ("train", "run"):
        return
    for override, wanted in (("data.source=f.csv", "no such file"), ("lora.target_modules=[query]", "no linear layer")):
        assert wanted in refused(place, capfd, verb, place / "t.yaml", "--fresh", override)


def test_to_start_again_keeps_what_is_the_users(place: Place, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = a_run(place, trained)
    mine = {"notes.txt", "data/rows.csv", "eval/mine.csv", "adapter/README.txt", "model/x.bin", "checkpoints/old/a.txt"}
    for name in mine:
        place.write(f"runs/t/{name}", "mine")
    assert command.gemtune(capfd, "run", place / "t.yaml", "--fresh", "data.source=e.csv", "split.seed=1").code == 0
    assert {name for name in mine if (run / name).read_text() == "mine"} == mine
    assert command.gemtune(capfd, "evaluate", run).code == 0
    written = {path for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    known = {path for name in ("data", "adapter", "eval") for path in written_in(run / name)}
    own = ("manifest.json", "gemtune.lock", "recipe.yaml", "metrics.jsonl", "report.html", "report.md")
    known |= {run / name for name in own}
    known |= {path for step in (run / "checkpoints").glob("step-*") for path in written_in(step)}
    assert {path.relative_to(run).as_posix() for path in written - known} == mine, "all else is known to be gemtune's"


def test_rows_that_have_changed_since_the_run_began(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    assert command.gemtune(capfd, "train", place / "t.yaml").code == 0
    place.csv(ROWS[:-5])
    line = refused(place, capfd, "train", place / "t.yaml")
    assert "runs/t: its data has changed since it was begun; give another name=" in line


@pytest.mark.parametrize("verb", ["prepare", "train", "run"])
def test_a_run_that_another_process_works_in(verb: str, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    assert command.gemtune(capfd, "prepare", place / "t.yaml").code == 0
    with subprocess.Popen(
        [sys.executable, "-c", command.HOLD, str(place / "runs/t")], stdin=-1, stdout=-1, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        line = refused(place, capfd, verb, place / "t.yaml", "train.epochs=2")
        holder.kill()
    assert "runs/t: another gemtune process is working in it; wait for it or choose another name" in line


def test_an_answer_never_shows_a_token(
    place: Place, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    line = refused(place, capfd, "prepare", place / "t.yaml", "model=someone/not-here")
    assert "model someone/not-here: cannot be fetched from the Hub" in line and "hf_secret" not in line
    assert not any(
        "hf_secret" in path.read_text(errors="replace") for path in place.folder.rglob("*") if path.is_file()
    )
    assert os.environ["HF_TOKEN"]


def test_a_run_still_evaluates_after_a_refusal(place: Place, trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = a_run(place, trained)
    refused(place, capfd, "train", place / "t.yaml", "train.max_steps=3")
    assert command.gemtune(capfd, "evaluate", run).code == 0
    assert read_json(run / "manifest.json")["recipe"]["train"]["max_steps"] == 2
    refused(place, capfd, "train", place / "t.yaml", "train.max_steps=3")


def test_a_wrong_first_try_does_not_begin_a_run(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    """What is trained on is noted at the first step: a target that is no layer can be mended without --fresh."""
    assert command.gemtune(capfd, "prepare", place / "t.yaml").code == 0
    refused(place, capfd, "train", place / "t.yaml", "lora.target_modules=[query]")
    assert command.gemtune(capfd, "train", place / "t.yaml", "lora.target_modules=[q_proj]").code == 0
