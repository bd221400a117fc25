"""Run directories: of strangers, damaged, moved, or somebody else's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from benchmarks.hostile.place import REFUSED, USUAL, Command, Kind, Place, edit, prepare
from gemtune.files import read_json

SHAPES = ["[]", "null", "[" * 100_000, '{"version": ' + "9" * 5000 + "}"]
READ_BY_REPORT = ("manifest.json", "metrics.jsonl", "data/manifest.json", "eval/summary.json", "eval/base.jsonl")
FLIPPED = (
    "manifest.json",
    "metrics.jsonl",
    "data/train-00000.arrow",
    "data/train.jsonl",
    "eval/base.jsonl",
    "adapter/adapter_model.safetensors",
)
TASK = """
from pathlib import Path
from gemtune.tasks.emoji import Emoji

Path(__file__).with_name("ran").touch()
T = Emoji
"""
Wrong = Callable[[Place], str]


def taken_over(place: Place) -> Iterator[Command]:
    """A run would be where the user's own files are."""
    place.emoji(name="t/data/rows.csv")
    place.write("t/model/mine.bin", "mine")
    place.recipe(source="t/data/rows.csv", runs_dir=".")
    yield prepare()
    yield ("train", "t.yaml", "--fresh")


def is_left(place: Place) -> str:
    there = (place / "t/data/rows.csv").is_file() and (place / "t/model/mine.bin").is_file()
    return "" if there else "files of the user's are gone"


def tree(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in paths}


def refused_command(place: Place) -> Iterator[Command]:
    """Verbs that are refused: the run is as it was."""
    before = tree(place.project_copy())
    for verb in ("prepare", "train", "run"):
        yield (verb, "t.yaml", "train.max_steps=3")
    if tree(place / "runs/t") != before:
        place.write("changed", "")


def spoiled(names: tuple[str, ...]) -> Callable[[Place], Iterator[Command]]:
    """JSON of another shape in one file after the other."""

    def commands(place: Place) -> Iterator[Command]:
        run = place.project_copy()
        for name in names:
            before = (run / name).read_bytes()
            for text in SHAPES:
                (run / name).write_text(text)
                yield ("report", "runs/t")
            (run / name).write_bytes(before)

    return commands


def unsealed(place: Place) -> Iterator[Command]:
    run = place.project_copy()
    for text in SHAPES:
        (run / "adapter/whole.json").write_text(text)
        yield ("generate", "runs/t", "hi")


def flipped(place: Place) -> Iterator[Command]:
    """A bit of one file after the other: said, or the same bytes again."""
    for name in FLIPPED:
        path = place.project_copy() / name
        before = path.read_bytes()
        data = bytearray(before)
        data[len(data) * 2 // 3] ^= 1
        path.write_bytes(data)
        yield ("run", "t.yaml")
        if path.read_bytes() not in (bytes(data), before):
            place.write("changed", name)


def stranger(place: Place) -> Iterator[Command]:
    """Its manifest names a program beside it."""
    run = place.project_copy()
    (run / "x.py").write_text(TASK)
    manifest = read_json(run / "manifest.json")
    manifest["recipe"]["task"] = manifest["trained_on"]["recipe"]["task"] = "x.py:T"
    edit(run / "manifest.json", **{**manifest, "seal": None})
    yield ("generate", "runs/t", "hi")
    yield ("evaluate", "runs/t")


def moved(place: Place) -> Iterator[Command]:
    """Where it was made there is nothing any more."""
    place.project_copy()
    away = place.made.project.rename(place.made.project.with_name("away"))
    try:
        yield ("train", "t.yaml")
        yield ("evaluate", "runs/t")
    finally:
        away.rename(place.made.project)


def long_prompt(place: Place) -> Iterator[Command]:
    place.project_copy()
    yield ("generate", "runs/t", "-")


def cacheless(place: Place) -> Iterator[Command]:
    """The cache would be below a file, and there is no compiler: PyTorch does the work."""
    place.emoji()
    place.recipe()
    yield ("check", "t.yaml")


def swept(place: Place) -> Iterator[Command]:
    """What a killed process left."""
    run = place.project_copy()
    for name in (".prepare-a1b2c3d4/data/train.jsonl", ".report.html.a1b2c3d4", "checkpoints/.step-2.tmp/x"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    yield prepare()


def is_swept(place: Place) -> str:
    left = [path.name for path in (place / "runs/t").rglob(".*") if path.name != ".lock"]
    return f"left: {left}" if left else ""


def is_same(place: Place) -> str:
    return "a file of the run is another one" if (place / "changed").exists() else ""


def has_not_run(place: Place) -> str:
    return "its program ran" if (place / "runs/t/ran").exists() else ""


def kinds() -> Iterator[Kind]:
    either = f"{REFUSED} or {USUAL}"
    yield Kind("run: where a folder of the user's is", taken_over, REFUSED, "files were deleted", wrong=is_left)
    yield Kind("run: a command that is refused", refused_command, REFUSED, "the manifest changed", wrong=is_same)
    yield Kind(
        f"run: {len(READ_BY_REPORT)} of its files with JSON of another shape",
        spoiled(READ_BY_REPORT),
        either,
        "49 of 138 tracebacks",
    )
    yield Kind("run: the list of an adapter's files with JSON of another shape", unsealed, REFUSED, "traceback")
    yield Kind(
        f"run: a flipped bit in {len(FLIPPED)} of its files, and `run` again",
        flipped,
        either,
        "4 of 6 unnoticed in train.arrow",
        wrong=is_same,
    )
    yield Kind("run: of a stranger, with a program", stranger, REFUSED, "ran", wrong=has_not_run)
    yield Kind("run: in a project that was moved", moved, USUAL, "could not go on")
    yield Kind("run: a prompt of 200,000 characters", long_prompt, REFUSED, "no end", answers="word " * 40_000)
    yield Kind(
        "run: a cache that cannot be written, no compiler",
        cacheless,
        USUAL,
        "traceback",
        environment={"GEMTUNE_CACHE": "rows.csv/cache", "CXX": "/nowhere/c++"},
    )
    yield Kind("run: litter of killed processes", swept, USUAL, "stayed for ever", wrong=is_swept)
