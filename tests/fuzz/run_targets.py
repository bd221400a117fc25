"""Recipes, and the files of a run directory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

from hypothesis import strategies as st

from fuzz import seeds
from fuzz.attempts import copied, equal, refusals
from fuzz.harness import Target
from fuzz.inputs import File, mutants, spoiled_files, texts
from gemtune.data.conversation import read_conversations
from gemtune.data.sources import read_rows
from gemtune.recipe.loader import as_yaml, parse_recipe
from gemtune.recipe.schema import recipe_keys
from gemtune.reporting.report import write_report
from gemtune.runs import PARTS, Run
from gemtune.tasks import task_of

_RECIPE = """name: f
task: columns
model: gemma-3-270m
data:
  - {source: f.jsonl, columns: {a: x}, limit: 5, images: [pictures, a.zip]}
  - source: g.csv
template: {prompt: "{a}", answer: "{b}"}
split: {val: 0.1, test: 10, by: id, seed: 1}
lora: {r: 8, alpha: 16.0, target_modules: all-linear}
train: {epochs: 3, learning_rate: 1e-4, max_steps: 5, early_stopping: {patience: 3}}
evaluate: {limit: 10, temperature: 0.5}
"""
_YAML = [
    *("1e999", ".inf", "-.inf", ".nan", "9" * 5000, "0x" + "f" * 400, "1_0", "1:2:3", "2024-13-01", "2024-01-01", "~"),
    *(
        "[]",
        "{}",
        "[[[[[1]]]]]",
        "&a [*a]",
        "*a",
        "!!python/name:os.system",
        "!!binary x",
        "!!set {a}",
        "<<: *a",
        "? a",
    ),
    *(
        '"\\ud83d"',
        '"\\0"',
        "~nobody/x",
        "'" + "a" * 500 + "'",
        "yes",
        "-1",
        "0",
        "1e9",
        "1e30",
        "1e-30",
        "@x",
        "%",
        "`",
    ),
    *("[" * 500, "{a: " * 500, "x.py:Task", ":", "a: b: c", "\t", "2147483648", "123456789012345678901234567890", "|"),
]


@st.composite
def _recipes(draw: st.DrawFn) -> tuple[str, list[str]]:
    if draw(st.booleans()):
        text = draw(mutants([_RECIPE.encode()])).decode("utf-8", "replace")
    else:
        lines = _RECIPE.splitlines(keepends=True)
        for _ in range(draw(st.integers(0, 3))):
            key, value = draw(st.sampled_from(sorted(recipe_keys()))), draw(st.sampled_from(_YAML) | texts())
            section, _, leaf = key.partition(".")
            lines = [line for line in lines if not line.startswith(f"{section}:")]
            lines.append(f"{section}: {{{leaf}: {value}}}\n" if leaf else f"{section}: {value}\n")
        text = "".join(lines)
    names = st.sampled_from(
        [*sorted(recipe_keys()), "data.0.limit", "data.0.source", "data.²", "data.-1.limit", "x.y.z"]
    )
    overrides = st.builds(lambda name, value: f"{name}={value}", names, st.sampled_from(_YAML) | texts()) | texts()
    return text, draw(st.lists(overrides, max_size=2))


def try_recipe(value: tuple[str, list[str]], folder: Path) -> None:
    """A recipe file with overrides; one that is accepted is written and read as the same."""
    text, overrides = value
    path = folder / "r.yaml"
    recipe = parse_recipe(text, path, overrides)
    with refusals():
        task_of(recipe)
    equal(parse_recipe(as_yaml(recipe), path), recipe, "a recipe written and read")
    with refusals():
        Run.of(recipe)
    for data in recipe.data:
        with refusals():
            for _ in islice(read_rows(data, load_dataset=lambda *args, **options: seeds.ROWS), 3):
                pass


_RUN_FILES = (
    *("manifest.json", "metrics.jsonl", "recipe.yaml", "eval/*", "data/*.json*", "data/*.arrow"),
    *("adapter/whole.json", "checkpoints/*/whole.json", "export/*/verify.json"),
)


def _run_files() -> dict[str, bytes]:
    return seeds.files_of(seeds.run_folder(), *_RUN_FILES)


def try_run(value: File, folder: Path) -> None:
    """A file of a run directory that is not what was written, and everything that reads it."""
    from gemtune.pipeline.job import Job
    from gemtune.pipeline.stages import examples
    from gemtune.rendering.token_table import ExampleTable
    from gemtune.training.checkpoint import newest_whole, require_whole

    root = copied(seeds.run_folder(), folder, value)
    readers: list[Callable[[Run], object]] = [
        lambda run: Job(run.root).task,
        lambda run: (run.decisions, run.training, run.metrics(), run.summary(), run.data_manifest(), run.artifacts()),
        lambda run: [list(read_conversations(run.part(part))) for part in PARTS],
        lambda run: examples(Job(run.root, say=lambda line: None), "test", 1),  # looks at the digests
        lambda run: [[table[i] for i in range(len(table))] for table in map(ExampleTable, map(run.table, PARTS))],
        lambda run: [run.evaluation().evaluations(name) for name in ("base", "tuned")],
        lambda run: newest_whole(run, lambda line: None),
        lambda run: require_whole(run.adapter),
        write_report,
    ]
    for read in readers:
        with refusals():
            read(Run.open(root))


TARGETS: dict[str, Target] = {
    "recipes": Target(_recipes(), try_recipe, 80),
    "runs": Target(spoiled_files(_run_files), try_run, 20, seconds=20.0),
}
