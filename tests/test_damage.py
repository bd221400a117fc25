"""The files of a run directory, damaged: what reads them sees it, says which one in one line, or makes it again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import command
from conftest import EXAMPLES
from gemtune.data.conversation import read_conversations
from gemtune.errors import GemtuneError, RunError
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.pipeline.resume import finished_training, refuse_another_recipe, refuse_other_tokens
from gemtune.preparation.prepare import prepare
from gemtune.recipe.schema import Recipe
from gemtune.rendering.token_table import ExampleTable
from gemtune.runs import PARTS, Run
from gemtune.training import checkpoint

# What a value or a whole file is replaced by: other types, numbers beyond those of a machine, nesting beyond Python's.
SHAPES: list[Any] = [[], {}, None, "x", -1, 1e308, 10**400, True, [[]], {"a": []}, json.loads("[" * 600 + "]" * 600)]
MOST_VARIANTS = int(os.environ.get("GEMTUNE_VARIANTS", "30"))  # of one file
TEXTS = {
    "nothing": b"",
    "no UTF-8": b"\xff\xfe\x00",
    "100,000 brackets": b"[" * 100_000,
    "a number of 5,000 digits": b'{"version": ' + b"9" * 5_000 + b"}",
    "a line end alone": b"\n",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run from its rows to its report, made once; its rows are copied, for what is prepared again."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(EXAMPLES / "emoji.csv", folder)
    train = {"max_steps": 2, "batch_size": 8, "max_length": 128, "precision": "fp32", "device": "cpu", "save_steps": 1}
    recipe = {
        "name": "t",
        "task": "emoji",
        "model": str(tiny_model),
        "runs_dir": str(folder / "runs"),
        "data": {"source": str(folder / "emoji.csv"), "limit": 60},
        "train": train,
        "evaluate": {"limit": 3, "max_new_tokens": 4},
    }
    (folder / "t.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return stages.run(Job(folder / "t.yaml", say=lambda text: None)).parent


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(finished, tmp_path / "t")))


def read_everything(root: Path) -> list[Callable[[], object]]:
    """What the stages read of a run that is there, each by itself."""

    def job() -> Job:
        return Job(root, say=lambda text: None)

    run = Run(root)
    return [
        lambda: stages.report(Job(root)),
        lambda: (refuse_another_recipe(job()), refuse_other_tokens(job(), "data", "x")),
        lambda: finished_training(job()),
        lambda: run.prepared_data().token_lengths,
        lambda: [run.evaluation().evaluations(name) for name in ("base", "tuned")],
        lambda: run.keep_metrics(1),
        lambda: [(list(read_conversations(run.part(part))), ExampleTable(run.table(part))) for part in PARTS],
        lambda: checkpoint.newest_whole(run, lambda text: None),
        lambda: checkpoint.require_whole(run.adapter),
    ]


def refused_or_read(root: Path) -> int:
    """Reads everything and returns how often that was refused, each time in one line."""
    refusals = 0
    for read in read_everything(root):
        try:
            read()
        except GemtuneError as error:
            refusals += 1
            assert "\n" not in str(error)
    return refusals


def variants(value: Any, depth: int) -> Iterator[Any]:
    """The value with one of its parts replaced by each shape, or left out."""
    yield from SHAPES
    if depth and isinstance(value, dict):
        for key, inner in value.items():
            yield {name: other for name, other in value.items() if name != key}
            yield from ({**value, key: other} for other in variants(inner, depth - 1))
    elif depth and isinstance(value, list) and value:
        yield from ([other, *value[1:]] for other in variants(value[0], depth - 1))


def with_variants(path: Path) -> list[str]:
    """Texts for a JSON file, or for one whose first line is JSON, each wrong in one place; some thirty of them all."""
    lines = path.read_text(encoding="utf-8").splitlines()
    is_lines = path.suffix == ".jsonl"
    value = json.loads(lines[0] if is_lines else "\n".join(lines))
    rest = lines[1:] if is_lines else []
    texts = ["\n".join([json.dumps(variant), *rest]) + "\n" for variant in variants(value, 3)]
    return texts[:: max(1, len(texts) // MOST_VARIANTS)]


NAMES = ("manifest.json", "metrics.jsonl", "data/manifest.json", "data/train.jsonl", "eval/base.jsonl")
NAMES += ("eval/summary.json", "checkpoints/step-2/whole.json", "adapter/whole.json")


@pytest.mark.parametrize("name", NAMES)
def test_json_of_another_shape_is_one_line(name: str, run: Run) -> None:
    path = run.root / name
    whole, refusals = path.read_bytes(), 0
    for text in with_variants(path):
        path.write_text(text, encoding="utf-8")
        refusals += refused_or_read(run.root)
    for data in (*TEXTS.values(), whole[: len(whole) // 2]):
        path.write_bytes(data)
        assert refused_or_read(run.root) or path.suffix == ".jsonl" or "step-2" in name
    assert refusals > 10


def flip(path: Path, place: float) -> None:
    """Turns one bit of a file over, at a share of its length."""
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0.0, 0.31, 0.5, 0.77, 1.0])
def test_a_bit_of_the_data_that_turned_over_is_prepared_again(place: float, run: Run) -> None:
    before = command.tree(run.data)
    for name in sorted(name for name in before if (run.data / name).stat().st_size):
        flip(run.data / name, place)
        stages.prepare(Job(run.root, say=lambda text: None))
        assert command.tree(run.data) == before, f"{name} was damaged"


def test_a_bit_of_the_manifest_that_turned_over_is_seen(run: Run) -> None:
    """Any bit of its bytes; one in the name `seal` alone leaves what an older gemtune wrote, and all of it is right."""
    path, whole = run.manifest_file, run.manifest
    data, unseen = path.read_bytes(), 0
    for at in range(0, len(data), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        try:
            read = Run.open(run.root).manifest
            assert all(read[name] == value for name, value in whole.items() if name != "seal")
        except RunError as error:
            assert "manifest.json" in str(error) and ";" in str(error) and "\n" not in str(error)
        else:
            unseen += 1
    assert unseen <= 2 and len(data) > 2_000


def test_what_is_noted_is_sealed_again(run: Run) -> None:
    before = run.manifest
    run.note("check", ["ok"])
    run.forget("digests")
    assert run.manifest["seal"] != before["seal"] and list(run.manifest)[-1] == "seal"
    run.note("digests", before["digests"])
    run.note("check", before["check"])
    assert run.manifest["seal"] == before["seal"]


@pytest.mark.parametrize("name", ["train-00000.arrow", "train.index.json", "test.jsonl"])
def test_a_trained_run_does_not_go_on_with_rows_that_are_damaged(name: str, run: Run) -> None:
    """Arrow ends the process over some tables, so nothing of one is read before its digest is looked at."""
    before = command.tree(run.data)
    for verb in (stages.plan, lambda job: stages.examples(job, "test", 1), stages.evaluate):
        flip(run.data / name, 0.5)
        verb(Job(run.root, say=lambda text: None))
        assert command.tree(run.data) == before


def test_a_picture_that_turned_over_or_is_gone_is_stored_again(tmp_path: Path) -> None:
    for number in range(6):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / f"{number}.png")
    rows = "".join(f"Cup {number},Kitchen,{number}.png,A cup of colour {number}.\n" for number in range(6))
    (tmp_path / "rows.csv").write_text(f"name,category,image,description\n{rows}", encoding="utf-8")
    data = {"source": str(tmp_path / "rows.csv")}
    recipe = Recipe(name="t", task="product", runs_dir=str(tmp_path / "runs"), data=[data], split={"test": 0.3})
    run = Run.of(recipe)
    assert prepare(recipe, run).images == 6
    before = command.tree(run.data)
    pictures = sorted(run.images.rglob("*.png"))
    for spoil in (lambda path: path.unlink(), lambda path: flip(path, 0.5), lambda path: path.write_bytes(b"")):
        for path in pictures:
            spoil(path)
            prepare(recipe, run)
            assert command.tree(run.data) == before


def test_a_table_or_rows_that_are_cut_or_gone_are_prepared_again(run: Run) -> None:
    before = command.tree(run.data)
    for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])):
        for name in sorted(name for name in before if (run.data / name).stat().st_size):
            spoil(run.data / name)
            stages.prepare(Job(run.root, say=lambda text: None))
            assert command.tree(run.data) == before, f"{name} was damaged"


def test_data_without_digests_of_an_older_gemtune_is_up_to_date(run: Run) -> None:
    manifest = json.loads(run.data_manifest_file.read_text())
    del manifest["files"], manifest["seal"], manifest["lengths"]["tables"]
    run.data_manifest_file.write_text(json.dumps(manifest))
    before = command.tree(run.data)
    stages.prepare(Job(run.root, say=lambda text: None))
    assert command.tree(run.data) == before


@pytest.mark.parametrize("place", [0.05, 0.33, 0.5, 0.81, 0.98])
def test_a_bit_of_a_reply_or_a_summary_that_turned_over_is_seen_and_made_again(place: float, run: Run) -> None:
    before = command.tree(run.eval)
    for name in ("base.jsonl", "tuned.jsonl", "summary.json"):
        flip(run.eval / name, place)
        if name == "summary.json":
            with pytest.raises(RunError, match=rf"eval/{name}.*(`gemtune evaluate`|stage that wrote it) again"):
                stages.report(Job(run.root))
        stages.evaluate(Job(run.root, say=lambda text: None))
        assert command.tree(run.eval) == before, f"{name} was damaged"


@pytest.mark.parametrize("place", [0.05, 0.33, 0.5, 0.81, 0.98])
def test_a_bit_of_the_metrics_that_turned_over_is_seen_and_comes_back_from_a_checkpoint(place: float, run: Run) -> None:
    before, said = run.metrics_file.read_bytes(), list[str]()
    flip(run.metrics_file, place)
    with pytest.raises(RunError, match=r"metrics\.jsonl: is not what was written; `gemtune train .*` restores it"):
        stages.report(Job(run.root))
    stages.train(Job(run.root, say=said.append))
    assert run.metrics_file.read_bytes() == before
    assert any("metrics.jsonl was damaged; it is restored from" in line for line in said)


def test_metrics_without_a_checkpoint_are_what_can_be_read_of_them(run: Run) -> None:
    shutil.rmtree(run.checkpoints)
    _, *others = run.metrics_file.read_text().splitlines()
    run.metrics_file.write_text("\n".join(["{", *others]) + "\n")
    stages.train(Job(run.root, say=lambda text: None))
    assert [line["step"] for line in run.metrics()] == [json.loads(line)["step"] for line in others]


def test_a_resumed_training_goes_on_from_the_metrics_of_its_checkpoint(run: Run) -> None:
    """A line that was lost in the middle would choose other weights."""
    before = {line["step"]: line.get("eval_loss") for line in run.metrics()}
    run.forget("training", "digests")
    shutil.rmtree(run.adapter)
    lines = run.metrics_file.read_text().splitlines()
    run.metrics_file.write_text("\n".join(lines[1:-1]) + "\n")
    stages.train(Job(run.root, say=lambda text: None))
    assert {line["step"]: line.get("eval_loss") for line in run.metrics()} == before


@pytest.mark.parametrize("name", ["whole.json", "weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(name: str, run: Run) -> None:
    said: list[str] = []
    assert checkpoint.newest_whole(run, said.append) == run.checkpoint(2)
    flip(run.checkpoint(2) / name, 0.5)
    assert checkpoint.newest_whole(run, said.append) == run.checkpoint(1)
    assert "step-2 is damaged" in said[0]


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-20], lambda data: b"\xff" + data[1:], lambda data: b"[]\n" + data]
)
@pytest.mark.parametrize("name", ["eval/base.jsonl", "eval/summary.json", "data/manifest.json", "data/train.jsonl"])
def test_the_stage_that_wrote_a_damaged_file_writes_it_again(
    name: str, spoil: Callable[[bytes], bytes], run: Run
) -> None:
    before = command.tree(run.root)
    (run.root / name).write_bytes(spoil((run.root / name).read_bytes()))
    stages.evaluate(Job(run.root, say=lambda text: None))
    assert command.tree(run.root)[name] == before[name]
