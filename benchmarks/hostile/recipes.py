"""Recipes and overrides."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from benchmarks.hostile.place import REFUSED, USUAL, Command, Kind, Place, prepare

LEAST = "name: t\ntask: emoji\ndata: {source: rows.csv}\n"
ALIASES = "a: &a [x, x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in pairwise("abcdefghi"))
MERGED = "a: &a {x0: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]}}\n"
    for old, new in pairwise("abcdefghi")
)
OVERFLOWS = [
    *(
        "train.epochs=1e9",
        "train.epochs=.inf",
        "train.epochs=.nan",
        "train.max_steps=1e12",
        "train.max_steps=10000000000",
    ),
    *(
        "split.val=.inf",
        "data.0.weight=.inf",
        "data.0.limit=1000000000000000000000000",
        "split.seed=-1",
        "lora.r=1000000000",
    ),
    *("train.seed=100000000000000000000000", "lora.target_modules=[]", "train.epochs=2024-13-01", "data.².limit=1"),
    *("x=" + "[" * 5000, "train.epochs=" + "x" * 100_000, 'data.0.encoding="a\\0b"', "model=" + "x" * 300),
]
PLACES = [
    "runs_dir=~nobodyx/runs",
    'runs_dir="a\\0b"',
    'data.0.source="\\ud83d.csv"',
    "data.0.source=" + "x" * 300 + ".csv",
]


def recipe(text: str) -> Kind:
    """A recipe that begins well."""

    def commands(place: Place) -> Iterator[Command]:
        place.emoji()
        place.write("t.yaml", LEAST + text)
        yield prepare()

    return Kind("", commands)


def overrides(values: list[str]) -> Kind:
    """Each beside a good recipe."""

    def commands(place: Place) -> Iterator[Command]:
        place.emoji()
        place.recipe(data=[{"source": "rows.csv"}])
        yield from map(prepare, values)

    return Kind("", commands)


def files(texts: list[str]) -> Kind:
    def commands(place: Place) -> Iterator[Command]:
        for number, text in enumerate(texts):
            place.write(f"{number}.yaml", text)
            yield ("import", f"{number}.yaml")

    return Kind("", commands)


def kinds() -> Iterator[Kind]:
    for what, made, then in (
        ("YAML: aliases of aliases, nine levels", recipe(ALIASES), "no end; 1,400 MB after 40 s"),
        ("YAML: merge keys, eight levels of eight", recipe(MERGED), "over 30 s"),
        ("YAML: 100,000 brackets", recipe("track: " + "[" * 100_000), ""),
        ("YAML: a number of 5,000 digits", recipe("train: {seed: " + "9" * 5000 + "}\n"), "traceback"),
        (
            "override: aliases, six levels",
            overrides(["x=" + "[&a [x, x], " + "*a, " * 2000 + "]"]),
            "5.2 s, an error line of 10 MB",
        ),
        ("override: a number of 5,000 digits", overrides(["train.seed=" + "9" * 5000]), "traceback"),
        (f"override: {len(OVERFLOWS)} values that overflow, or are none", overrides(OVERFLOWS), "tracebacks, 4 hangs"),
        (
            "LLaMA-Factory's YAML: aliases, brackets, digits",
            files([ALIASES, "a: " + "[" * 100_000, "a: " + "9" * 5000]),
            "",
        ),
    ):
        yield Kind(what, made.commands, then=then)
    either = f"{REFUSED} or {USUAL}"  # a folder may be called ~nobody
    what = "override: ~nobody, NUL, half a character, 300 characters"
    yield Kind(what, overrides(PLACES).commands, either, "tracebacks")
