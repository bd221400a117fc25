"""README and docs against the code: commands parse, recipes load, code runs, tables hold, links lead somewhere."""

from __future__ import annotations

import fnmatch
import json
import re
import runpy
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import typer
import yaml

from command import gemtune
from gemtune.cli.app import app
from gemtune.evaluation.summary import summarise
from gemtune.exporting.formats import DEFAULTS
from gemtune.exporting.formats import FORMATS as EXPORTS
from gemtune.files import read_json, read_jsonl, write_jsonl
from gemtune.models.families import family_of
from gemtune.models.loading import load_tokenizer
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.recipe.loader import parse_recipe, read_yaml, recipe_of
from gemtune.recipe.scaffold import write_example
from gemtune.recipe.schema import Recipe
from gemtune.rendering.preview import write_page
from gemtune.rendering.renderer import Renderer
from gemtune.runs import PARTS, EvaluationFolder, Run
from gemtune.serving.chat import ChatRequest
from gemtune.tasks import TASKS as BUILT_IN
from gemtune.tasks import task_of

ROOT = Path(__file__).parents[1]
FROM_PYTHON = ROOT / "examples" / "from_python.py"
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (
        *ROOT.glob("*.md"),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "src").rglob("*.md")),
        ROOT / "benchmarks" / "README.md",
    )
}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
FORMATS, TASKS = TEXTS["docs/formats.md"], TEXTS["docs/tasks.md"]

# (the comment above it, the language, the text) of every fenced block
_BLOCK = re.compile(r"(?:<!-- ([^\n]*?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


def blocks(text: str, language: str, mark: str = "") -> list[str]:
    """The blocks of a language, all of them or those below a comment."""
    return [body for said, kind, body in _BLOCK.findall(text) if kind == language and said.startswith(mark)]


def by_page(language: str, mark: str = "") -> list[Any]:
    """The blocks of all pages as parameters of a test."""
    found = [
        (name, number, body) for name, text in TEXTS.items() for number, body in enumerate(blocks(text, language, mark))
    ]
    return [pytest.param(body, id=f"{name}-{number}") for name, number, body in found]


def rows(text: str, mark: str) -> list[str]:
    """What stands in code in the first column of the table below a comment."""
    table = re.search(rf"<!-- {re.escape(mark)} -->\n((?:\|.*\n)+)", text)
    assert table, f"no table below <!-- {mark} -->"
    return _first_column(table[1].splitlines()[2:])


def _first_column(lines: Iterable[str]) -> list[str]:
    return [name for line in lines for name in _CODE.findall(line.split("|")[1])]


# --- commands ---------------------------------------------------------------------------------------------------------


def commands() -> Iterator[Any]:
    """Every `gemtune ...` in a shell block or in code in the text."""
    for page, text in TEXTS.items():
        lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
        inline = _CODE.findall(_BLOCK.sub("", text))
        for line in dict.fromkeys(lines + inline):
            for command in line.split(" && "):
                if command.startswith("gemtune "):
                    yield pytest.param(command, id=f"{page}-{command}")


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_parses(command: str) -> None:
    group: Any = typer.main.get_command(app)
    words = shlex.split(command, comments=True)[1:]
    if words[0].startswith("--"):  # an option of gemtune itself answers, and that is all
        with pytest.raises(typer.Exit):
            group.make_context("gemtune", words)
        return
    context = group.make_context("gemtune", list(words))
    name, verb, rest = group.resolve_command(context, words)
    if rest or not any(parameter.required for parameter in verb.params):  # `gemtune run` alone is talk of the verb
        parsed = verb.make_context(name, rest, parent=context)
        overrides = parsed.params.get("overrides") or []
        parse_recipe(
            (ROOT / "recipes" / "emoji.yaml").read_text(encoding="utf-8"), ROOT / "recipes" / "x.yaml", overrides
        )


def test_the_readme_has_every_verb_and_no_other() -> None:
    table = TEXTS["README.md"].split("| verb | does |\n|---|---|\n")[1].split("\n\n")[0]
    verbs = [name.split()[1] for name in _first_column(table.splitlines()) if name.startswith("gemtune ")]
    assert sorted(verbs) == sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for text in (*TEXTS.values(), (ROOT / ".ci" / "run").read_text(encoding="utf-8")):
        for line in [*_CODE.findall(text), *text.splitlines()]:
            if match := re.match(r"make (?:\w+=\S+ )*([\w-]+)$", line):
                assert match[1] in targets


# --- recipes and code -------------------------------------------------------------------------------------------------


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: merged(base[key], over[key])
        for key in base.keys() & over
        if isinstance(base[key], dict) and isinstance(over[key], dict)
    }
    return {**base, **over, **both}


@pytest.mark.parametrize("body", by_page("yaml"))
def test_every_recipe_loads_and_every_piece_of_one_has_known_keys(body: str) -> None:
    value = read_yaml(body)
    if not {"name", "task", "data"} <= value.keys():
        value = merged({"name": "x", "task": "emoji", "data": {"source": "emoji.csv"}}, value)
    parse_recipe(yaml.safe_dump(value, allow_unicode=True), ROOT / "docs" / "x.yaml")


@pytest.mark.parametrize("body", by_page("python"))
def test_every_piece_of_python_compiles(body: str) -> None:
    compile(body, "<docs>", "exec")


def quick(tiny_model: Path) -> tuple[str, ...]:
    """Overrides with which any recipe runs in seconds."""
    keys = {
        "model": tiny_model,
        "train.max_steps": 2,
        "train.precision": "fp32",
        "train.device": "cpu",
        "evaluate.limit": 4,
    }
    return tuple(f"{key}={value}" for key, value in {**keys, "evaluate.max_new_tokens": 2, "runs_dir": "runs"}.items())


def on_the_tiny_model(code: str, tiny_model: Path) -> str:
    """Code of the docs with a recipe that runs in seconds."""
    train = {"max_steps": 2, "max_length": 128, "precision": "fp32", "device": "cpu"}
    keys = f'model={str(tiny_model)!r}, train={train}, evaluate={{"limit": 4, "max_new_tokens": 2}})'
    quick_code, count = re.subn(
        r'train=\{"epochs": 1.*?\)\)?$', lambda m: keys + ")" * (m[0].count("))")), code, flags=re.M
    )
    assert count == 1
    return quick_code


@pytest.mark.parametrize(
    "body", [*by_page("python", "run"), pytest.param(FROM_PYTHON.read_text("utf-8"), id="example")]
)
def test_the_python_examples_run(body: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    list(write_example("emoji", "."))
    exec(compile(on_the_tiny_model(body, tiny_model), "<docs>", "exec"), {"__file__": str(FROM_PYTHON)})
    assert Path("runs/emoji/report.html").is_file()


@pytest.mark.parametrize("recipe", ["reviews.yaml", "routing.yaml", "shouting.yaml"])
def test_the_example_tasks_run(recipe: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for said, _, body in _BLOCK.findall(TASKS):
        if said.startswith("file: "):
            Path(said.removeprefix("file: ")).write_text(body, encoding="utf-8")
    job = Job(recipe, quick(tiny_model), say=lambda text: None)
    stages.run(job)
    assert job.run.report_page.is_file() and not list(read_jsonl(job.run.dropped_file))
    assert "I want my money back" in job.task.asked("I want my money back").messages[-2].text
    assert isinstance("".join(stages.stream_reply(job, "I want my money back")), str)


def test_the_documents_page_leads_from_pdfs_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    (block,) = blocks(TEXTS["docs/documents.md"], "sh", "run")
    for line in block.splitlines():
        coarse = ["pages.dpi=72", "pages.least_side=0"] if "documents.yaml" in line else []  # drawn in seconds
        answer = gemtune(capfd, *shlex.split(line)[1:], *coarse)
        assert answer.code == 0, f"{line}: {answer.err}"
    assert Path("distilled/documents/pages.html").is_file() and Path("runs/documents/report.html").is_file()
    seen = read_json(Path("runs/documents/data/manifest.json"))["lengths"]["train"]
    assert seen["images"] > 100 and seen["characters"] > 1


# --- pages and what they lead to --------------------------------------------------------------------------------------


def test_the_recipe_page_is_current() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_recipe_page.py"))["page"]()
    assert TEXTS["docs/recipe.md"] == made, "write it again: make recipe-page"


def test_the_tables_of_the_formats_page_are_current() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_formats_tables.py"))["page"](FORMATS)
    assert made == FORMATS, "write it again: make formats-page"


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", TEXTS[page])):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (PAGES[page].parent / name).resolve() if name else PAGES[page]
        assert target.exists(), f"{page}: {link} is not there"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page}: {link}: no such heading"


@pytest.mark.parametrize("page", PAGES)
def test_no_number_is_left_to_be_measured(page: str) -> None:
    left = re.findall(r"MEASURED-HERE[\w-]*", TEXTS[page])
    assert not left, f"{page}: put the measured numbers in: {', '.join(left)}"


# --- prompts and scores -----------------------------------------------------------------------------------------------


def example(name: str) -> tuple[Any, dict[str, Any]]:
    """The task of a page and the row it shows."""
    (row,) = blocks(TEXTS[f"docs/{name}.md"], "json", "row")
    return task_of(Recipe.model_validate({"name": "x", "task": name, "data": [{"source": "x.csv"}]})), json.loads(row)


@pytest.mark.parametrize("name", ["emoji", "sql"])
def test_the_prompt_on_the_page_is_what_the_model_sees(name: str, tiny_model: Path) -> None:
    task, row = example(name)
    tokenizer = load_tokenizer(tiny_model)
    ids = Renderer(tokenizer, family_of(tiny_model)).example(task.conversation(row, "x:1")).input_ids
    (shown,) = blocks(TEXTS[f"docs/{name}.md"], "text", "rendered")
    assert tokenizer.decode(ids) == shown


@pytest.mark.parametrize("name", ["emoji", "sql"])
def test_the_scores_on_the_page_are_those_of_the_task(name: str) -> None:
    task, row = example(name)
    table = TEXTS[f"docs/{name}.md"].split("## Score\n")[1].split("|---|---|\n")[1].split("\n\n")[0]
    assert sorted(_first_column(table.splitlines())) == sorted(task.score(task.conversation(row, "x:1"), ""))


def test_the_fields_of_a_request_are_on_the_page() -> None:
    assert set(rows(TEXTS["docs/serve.md"], "fields: request")) == set(ChatRequest.model_fields)


def test_the_scores_of_columns_are_on_the_page() -> None:
    task = task_of(Recipe.model_validate({"name": "x", "task": "columns", "data": [{"source": "x.csv"}]}))
    conversation = task.conversation({"prompt": "a", "answer": "b"}, "x:1")
    assert rows(TASKS, "scores: reviews.yaml") == list(task.score(conversation, "b"))


# --- the field tables of docs/formats.md, both ways -------------------------------------------------------------------

QUESTION = "Muddy shoes by the door"  # a row of the examples; asked again in a source of its own it is a leak


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    """A run that has been through every stage, with drops, a leak, scores on val and a checkpoint's replies."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "test.csv").write_text(f"text,emoji\n{QUESTION},👟\nnot an emoji,hello\n", encoding="utf-8")
    sources = [{"source": str(ROOT / "examples" / "emoji.csv"), "limit": 60}, {"source": "test.csv", "part": "test"}]
    train = {"epochs": 1, "max_length": 128, "precision": "fp32", "device": "cpu", "best_by": "metric", "eval_steps": 2}
    recipe = {
        "name": "t",
        "task": "emoji",
        "model": str(tiny_model),
        "runs_dir": str(folder),
        "data": sources,
        "train": train,
    }
    recipe |= {"evaluate": {"max_new_tokens": 4}, "split": {"val": 4, "test": 4, "seed": 1}}
    (folder / "t.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    job = Job(folder / "t.yaml", say=lambda text: None)
    stages.run(job)
    write_page(job.run.show_page, job.run.data, job.renderer, stages.examples(job, "train", 1))
    stages.evaluate(job, ["base", f"step-{job.run.manifest['training']['best_step']}"])
    (folder / "mine.csv").write_text("text,emoji\nhello,👋\n", encoding="utf-8")
    stages.evaluate(job, data=str(folder / "mine.csv"))
    stages.export(job, ["merged"], limit=2)
    return job.run


IN_FP16_ALONE = {"skipped_steps"}  # tests/training/test_precisions.py trains in it
OF_SEVERAL_WORKERS = {"exchange_seconds", "exchange_bytes"}  # tests/pipeline/test_launching.py starts them


def same(mark: str, written: Iterable[str]) -> None:
    """Every field that is written is in the table, and the other way round."""
    scores = ("f1", "valid", "exact", "precision", "recall")
    documented = {n.replace("<score>", s) for n in rows(FORMATS, f"fields: {mark}") for s in scores}
    assert documented == set(written)


def test_every_file_of_a_run_is_in_the_table(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    recipe = recipe_of(
        run.recipe,
        run.manifest_file,
        (f"runs_dir={tmp_path}", "lora=none", "track=[tensorboard]", "train.max_steps=1", "train.best_by=loss"),
    )
    full = Job(recipe, say=lambda text: None)
    stages.train(full)
    written = [
        path.relative_to(r.root).as_posix() for r in (run, full.run) for path in r.root.rglob("*") if path.is_file()
    ]
    written += [f"eval/{name}.jsonl" for task in BUILT_IN.values() for name in task.beside]  # of rows that these lack
    patterns = {name: re.sub(r"<\w+>", "*", name) for name in rows(FORMATS, "files")}
    for name in written:
        assert any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.values()), (
            f"{name} is not in docs/formats.md"
        )
    for name, pattern in patterns.items():
        assert fnmatch.filter(written, pattern), f"{name} of docs/formats.md is never written"


def test_the_fields_of_the_manifest(run: Run) -> None:
    same("manifest", run.manifest)
    same("manifest.training", run.manifest["training"])


def test_the_fields_of_the_metrics(run: Run) -> None:
    lines = run.metrics()
    training, evaluations = ([line for line in lines if ("loss" in line) is kind] for kind in (True, False))
    assert all(line.keys() == training[0].keys() for line in training)
    elsewhere = IN_FP16_ALONE | OF_SEVERAL_WORKERS
    same("metrics.train", {*training[0], *elsewhere})
    assert not elsewhere & training[0].keys()
    assert all(line.keys() == evaluations[0].keys() for line in evaluations)
    same("metrics.evaluation", evaluations[0])


@pytest.mark.parametrize(
    ("mark", "file"),
    [
        ("conversation", lambda run: run.part("train")),
        ("dropped", lambda run: run.dropped_file),
        ("leaks", lambda run: run.leaks_file),
        ("replies", lambda run: run.replies("base")),
        ("replies", lambda run: run.replies("tuned")),
    ],
    ids=["conversation", "dropped", "leaks", "base", "tuned"],
)
def test_the_fields_of_the_line_files(run: Run, mark: str, file: Callable[[Run], Path]) -> None:
    found = list(read_jsonl(file(run)))
    assert found
    for line in found:
        same(mark, line)


def test_the_fields_of_the_summary(run: Run) -> None:
    summary = read_json(run.summary_file)
    same("summary", summary)
    for metric in summary["metrics"].values():
        assert metric.keys() == {"direction", "base", "tuned", "difference"}
        assert metric["base"].keys() == metric["tuned"].keys() == {"mean", "low", "high"}
        same("summary.difference", metric["difference"])


def test_the_fields_a_summary_names_in_its_text(run: Run, tmp_path: Path) -> None:
    job, folder = Job(run.root, say=lambda text: None), EvaluationFolder(tmp_path)
    for name, score in (("base", 1.0), ("tuned", 0.0)):
        replies = [{**line, "scores": {"f1": score}, "seal": None} for line in read_jsonl(run.replies("base"))]
        write_jsonl(folder.replies(name), iter(replies))
    summary = summarise(folder, job.recipe, job.task).to_json()
    table = FORMATS.split("<!-- fields: summary -->\n")[1].split("\n\n")[0].splitlines()
    said = {_CODE.findall(line)[0]: set(_CODE.findall(line)[1:]) for line in table[2:]}
    assert said["regressions"] == summary["regressions"][0].keys()
    assert said["decoding"] == summary["decoding"].keys()
    assert said["cut"] == summary["cut"].keys()


def test_the_fields_of_an_artifact(run: Run) -> None:
    note = read_json(run.verify_file("merged"))
    same("artifact", note)
    same("artifact.verification", note["verification"])
    same("artifact.verification.agreement", note["verification"]["agreement"])


def test_the_formats_of_the_page_are_those_of_the_table() -> None:
    names = rows(TEXTS["docs/export.md"], "formats")
    assert names == [*EXPORTS, *DEFAULTS]


def test_the_fields_of_the_data(run: Run) -> None:
    manifest = read_json(run.data_manifest_file)
    same("data", manifest)
    lengths = manifest["lengths"]
    assert lengths.keys() == {"key", "max_length", "special_ids", "token_ids", "tables", *PARTS}
    for part in PARTS:
        same("data.lengths", lengths[part])
        index = read_json(run.table(part))
        same("table.index", index)
        for number, shard in enumerate(index["shards"]):
            same("table.shard", shard)
            with pa.memory_map(str(run.shard(part, number))) as source:
                same("table", pa.ipc.open_file(source).schema.names)


def test_the_files_of_a_checkpoint(run: Run) -> None:
    for folder in run.checkpoints.iterdir():
        same("checkpoint", [path.name for path in folder.iterdir()])


def test_every_reason_a_row_is_dropped_for_is_in_the_table() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    raised = set(re.findall(r'RowError\(\s*"([^"]+)"', source)) | {
        "duplicate",
        "near duplicate",
    }
    raised |= set(re.findall(r'reason = "(empty \w+)" if .* else "empty \w+"', source)) | set(
        re.findall(r'else "(empty \w+)"', source)
    )
    assert set(rows(FORMATS, "reasons")) == raised
