"""TARGETS, the table of what is attacked: the functions of the library that a verb calls with somebody else's files.

A function takes an input and an empty folder, and does with it what the verb does. Raising GemtuneError is right.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fuzz import seeds
from fuzz.harness import Target, unreadable
from fuzz.inputs import File, as_bytes, mutants, spoiled, spoiled_files, texts, values
from gemtune.data.conversation import Conversation, read_conversations
from gemtune.data.formats import FORMATS
from gemtune.data.image_sources import ImageSources
from gemtune.data.images import ImageStore, check_image, open_rgb, size_of, thumbnail
from gemtune.data.row_fields import FIELDS
from gemtune.data.sources import read_rows, source_files
from gemtune.errors import GemtuneError, RowError
from gemtune.preparation.prepare import prepare
from gemtune.preparation.row_store import RowStore
from gemtune.recipe.loader import as_yaml, parse_recipe
from gemtune.recipe.schema import DataSource, Recipe, recipe_keys
from gemtune.reporting.report import write_report
from gemtune.runs import PARTS, Run
from gemtune.tasks import task_of
from gemtune.worker import Worker, WorkerError

Json = Any

# --- rows -------------------------------------------------------------------------------------------------------------

_CHAT_KEYS = [
    *("messages", "conversations", "contents", "parts", "role", "content", "from", "value", "type", "text", "author"),
    *("instruction", "input", "output", "prompt", "completion", "query", "response", "context", "image_url", "url"),
    *("inlineData", "fileData", "mimeType", "data", "fileUri", "thought", "name", "id", "index", "path", "bytes"),
    *(name for field in FIELDS for name in field.names),
]
_TASK_KEYS = {
    "emoji": ["text", "emoji"],
    "sql": ["question", "schema", "sql", "inserts", "db_id"],
    "product": ["product", "category", "description", "image", "name", "keywords"],
    "multi_image": ["question", "output", "context", "input_image_path", "images", "image"],
    "columns": ["a", "b"],
    "messages": _CHAT_KEYS,
}
_TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
_ROWS: dict[str, list[Json]] = {
    "emoji": [{"text": "to the beach", "emoji": "🏖️"}],
    "sql": [{"question": "How many?", "schema": "CREATE TABLE t (a INT)", "sql": "SELECT count(*) FROM t"}],
    "product": [{"product": "cup", "category": "kitchen", "description": "A cup.", "image": "a.png"}],
    "multi_image": [{"question": "Which?", "output": "A", "input_image_path": ["a.png", "b.png"]}],
    "columns": [{"a": "x", "b": "y"}],
    "messages": [
        {"messages": _TURNS},
        {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"}]}, _TURNS[1]]},
        {"messages": json.dumps(_TURNS), "system": "s", "history": [["a", "b"]], "images": ["a.png"]},
        {"conversations": [{"from": "human", "value": "<image>hi"}, {"from": "gpt", "value": "yes"}], "image": "a"},
        {"contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}]},
        {"instruction": "Say", "input": "x", "output": "y", "history": []},
        {"prompt": "a", "completion": "b", "weight": 1},
        {"prompt": _TURNS[:1], "chosen": _TURNS[1:], "rejected": _TURNS},
    ],
}
_LAYOUTS = ["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "vertex"]


def _rows_of(task: str) -> st.SearchStrategy[Json]:
    keys = _TASK_KEYS[task]
    made = st.dictionaries(st.sampled_from(keys), values(keys, st.binary(max_size=8)), max_size=5)
    return (spoiled(_ROWS[task], keys) | made).filter(lambda row: isinstance(row, dict))


def _recipe(task: str, **keys: Json) -> Recipe:
    template = {"template": {"prompt": "{a}", "answer": "{b}"}} if task == "columns" else {}
    return Recipe.model_validate({"name": "f", "task": task, "data": [{"source": "f.jsonl"}], **template, **keys})


@st.composite
def _task_rows(draw: st.DrawFn) -> tuple[str, str, Json, str]:
    task = draw(st.sampled_from(sorted(set(_TASK_KEYS) - {"sql"}) + ["messages"] * 3))
    layout = draw(st.sampled_from(_LAYOUTS)) if task == "messages" else "auto"
    return task, layout, draw(_rows_of(task)), draw(texts())


def try_row(value: tuple[str, str, Json, str], folder: Path) -> None:
    """A row of any task becomes a conversation and a question, whose image is looked for, and a reply is scored."""
    name, layout, row, reply = value
    recipe = _recipe(name)
    task = task_of(recipe, layout)
    store = ImageStore(folder, ImageSources(folder, []).read)
    for make in (task.conversation, task.question):
        with _refusals():
            conversation = make(row, "f.jsonl:1")
            kept = json.loads(json.dumps(conversation.to_json())) if not _holds_bytes(conversation) else None
            task.score(conversation, reply)
            if kept:
                _equal(Conversation.from_json(kept).to_json(), kept, "a conversation read back")
            conversation = store.resolve(conversation)
            with RowStore(folder, recipe) as rows, contextlib.suppress(UnicodeEncodeError):  # prepare drops that row
                rows.add(conversation, 0, task.scope(conversation), None)


def _holds_bytes(conversation: Conversation) -> bool:
    return any(isinstance(part.image, bytes) for part in conversation.images)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What follows is tried, too, where this was refused."""
    try:
        yield
    except GemtuneError as error:
        if fault := unreadable(error):
            raise fault from error


def _equal(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what} differs: {found!r:.500} from {wanted!r:.500}")


@st.composite
def _row_files(draw: st.DrawFn) -> tuple[str, list[Json]]:
    task = draw(st.sampled_from(sorted(set(_TASK_KEYS) - {"sql"})))
    return task, draw(st.lists(_rows_of(task), min_size=1, max_size=5))


def try_prepare(value: tuple[str, list[Json]], folder: Path) -> None:
    """A file of rows goes through all of `prepare`."""
    name, rows = value
    lines = (json.dumps(row, default=lambda data: data.decode("latin-1")) + "\n" for row in rows)
    (folder / "f.jsonl").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    source = {"source": str(folder / "f.jsonl")}
    prepare(_recipe(name, data=[source], split={"val": 0, "test": 0}), Run(folder / "run"))


# --- files of rows ----------------------------------------------------------------------------------------------------

_ENCODINGS = [
    "utf-8-sig",
    "utf-8",
    "utf-16",
    "cp1252",
    "utf-7",
    "idna",
    "punycode",
    "base64",
    "rot13",
    "raw-unicode-escape",
]


@st.composite
def _tables(draw: st.DrawFn) -> tuple[File, str, str]:
    name = draw(st.sampled_from(sorted(seeds.tables())))
    encoding = draw(st.sampled_from(_ENCODINGS)) if not draw(st.integers(0, 4)) else "utf-8-sig"
    known = draw(st.sampled_from(["auto", *FORMATS])) if not draw(st.integers(0, 4)) else "auto"
    seed = seeds.tables()[name]
    return File(name, draw(mutants([seed])), seed), known, encoding


def try_table(value: tuple[File, str, str], folder: Path) -> None:
    """A file of rows is read to its end."""
    file, known, encoding = value
    (folder / file.name).write_bytes(file.data)
    for _ in read_rows(DataSource(source=str(folder / file.name), format=known, encoding=encoding)):
        pass


_INFO = [
    {
        "a": {"file_name": "rows.jsonl", "columns": {"prompt": "text", "response": "emoji"}},
        "b": {
            "file_name": "chat.json",
            "formatting": "sharegpt",
            "columns": {"messages": "talk", "system": "s", "images": "pictures"},
            "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "u", "assistant_tag": "a"},
            "num_samples": 5,
        },
        "c": {"hf_hub_url": "user/name", "subset": "x", "split": "train"},
        "d": {"script_url": "x", "ranking": True},
    }
]
_INFO_KEYS = [
    *_INFO[0],
    "file_name",
    "formatting",
    "columns",
    "tags",
    "num_samples",
    "subset",
    "split",
    "folder",
    "prompt",
]
_TALK = [{"talk": [{"who": "u", "says": "hi"}, {"who": "a", "says": "ho"}], "s": "x", "pictures": ["a.png"]}]


def try_dataset_info(value: tuple[bytes, Json, str], folder: Path) -> None:
    """LLaMA-Factory's dataset_info.json, and rows of the file that an entry names."""
    info, talk, name = value
    (folder / "dataset_info.json").write_bytes(info)
    (folder / "rows.jsonl").write_bytes(seeds.tables()["rows.jsonl"])
    (folder / "chat.json").write_bytes(as_bytes(talk))
    data = DataSource(source=f"{folder}/dataset_info.json#{name}" if name else str(folder))
    with _refusals():
        source_files(data)
    for where, row in read_rows(data, load_dataset=lambda *args, **options: seeds.ROWS):
        with _refusals():
            task_of(_recipe("messages")).conversation(row, where)


# --- recipes ----------------------------------------------------------------------------------------------------------

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
    with _refusals():
        task_of(recipe)
    _equal(parse_recipe(as_yaml(recipe), path), recipe, "a recipe written and read")
    with _refusals():
        Run.of(recipe)
    for data in recipe.data:
        with _refusals():
            for _ in islice(read_rows(data, load_dataset=lambda *args, **options: seeds.ROWS), 3):
                pass


# --- archives and images ----------------------------------------------------------------------------------------------


def try_archive(value: File, folder: Path) -> None:
    """An archive of images, every one of which is read."""
    (folder / value.name).write_bytes(value.data)
    sources = ImageSources(folder, [value.name])
    for member in ["a/PNG-RGB.png", "a/JPEG-RGB.jpg", *islice(sources._members, 50)]:
        with _refusals():
            sources.read(member)


def try_image(value: File, folder: Path) -> None:
    """A picture is checked; what is accepted can be opened, as it is at training, and has the size that was found."""
    suffix, size = check_image(value.data)
    path = folder / f"image{suffix}"
    path.write_bytes(value.data)
    try:
        _equal(size_of(path), size, "the size of a picture")
        _equal(open_rgb(path).size, size, "the size of a picture that was opened")
        thumbnail(path)
    except RowError as error:
        raise AssertionError(f"what is accepted cannot be opened: {error}") from error


# --- models -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _replaced(folder: Path, file: File) -> Iterator[None]:
    """A file in a folder with other bytes, for a while."""
    path = folder / file.name
    path.write_bytes(file.data)
    try:
        yield
    finally:
        path.write_bytes(file.seed)


@st.composite
def _model_files(draw: st.DrawFn, patterns: tuple[str, ...]) -> tuple[str, File]:
    name = draw(st.sampled_from(["gemma3", "gemma3-vision"]))
    return name, draw(spoiled_files(lambda: seeds.files_of(seeds.models()[name], *patterns)))


def try_config(value: tuple[str, File], folder: Path) -> None:
    """The config of a model folder, and the model that it describes."""
    from gemtune.models.families import config_of, family_of
    from gemtune.models.loading import empty_model

    name, file = value
    with _replaced(seeds.models()[name], file):
        config_of(seeds.models()[name])
        family_of(seeds.models()[name])
        empty_model(seeds.models()[name])


def try_tokenizer(value: tuple[str, File], folder: Path) -> None:
    """The tokenizer and image processor of a model folder, and what is asked of them."""
    from gemtune.models.families import config_of, family_of
    from gemtune.models.image_tokens import ImageTokenizer
    from gemtune.models.loading import load_image_processor, load_tokenizer, special_ids
    from gemtune.models.token_rows import known_tokens
    from gemtune.rendering.renderer import Renderer

    name, file = value
    model = seeds.models()[name]
    with _replaced(model, file):
        family = family_of(model)
        tokenizer = load_tokenizer(model)
        special_ids(tokenizer, family), known_tokens(tokenizer, family)
        images = None
        if family.vision:
            processor = load_image_processor(model)
            images = ImageTokenizer(config_of(model), processor, family.vision, _recipe("emoji").vision)
        renderer = Renderer(tokenizer, family, "all", images)
        renderer.example(task_of(_recipe("emoji")).conversation(_ROWS["emoji"][0], "f"))


def try_weights(value: bytes, folder: Path) -> None:
    """The weights of a model folder, in one file or by an index."""
    from gemtune.models.loading import load_model

    model = seeds.models()["gemma3"]
    for path in model.iterdir():
        shutil.copyfile(path, folder / path.name)
    (folder / "model.safetensors").write_bytes(value)
    load_model(folder, say=lambda line: None)


def _weight_files() -> list[bytes]:
    return [(seeds.models()["gemma3"] / "model.safetensors").read_bytes()]


@st.composite
def _weights(draw: st.DrawFn) -> bytes:
    """A file of weights whose header is spoiled in places, or a mutant of header and bytes."""
    data = _weight_files()[0]
    size = int.from_bytes(data[:8], "little")
    if draw(st.booleans()):
        return draw(mutants([data[: size + 8]])) + data[size + 8 :]
    header = as_bytes(draw(spoiled([json.loads(data[8 : size + 8])], ["dtype", "shape", "data_offsets"])))
    return len(header).to_bytes(8, "little") + header + data[size + 8 :]


def try_index(value: bytes, folder: Path) -> None:
    """The index of weights in several files."""
    from gemtune.models.weights import stored_tensors

    (folder / "model.safetensors.index.json").write_bytes(value)
    shutil.copyfile(seeds.models()["gemma3"] / "model.safetensors", folder / "a.safetensors")
    stored_tensors(folder)


_INDEX = {"metadata": {"total_size": 5}, "weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}


@cache
def _base_model() -> Any:
    from gemtune.models.loading import load_model

    return load_model(seeds.models()["gemma3"], say=lambda line: None)


def try_adapter(value: File, folder: Path) -> None:
    """An adapter of somebody else's, on a model that is whole."""
    from gemtune.models.adapters import load_adapter

    adapter = seeds.run_folder() / "adapter"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, folder / name)
    (folder / value.name).write_bytes(value.data)
    load_adapter(_base_model(), folder).unload()


def _adapter_files() -> dict[str, bytes]:
    return seeds.files_of(seeds.run_folder() / "adapter", "adapter_*", most=10**6)


_TEMPLATES = [
    "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}\n{{ m.content | trim }}<end>\n{% endfor %}",
    "{%- if messages[0]['role'] == 'system' -%}{{ messages[0].content }}{%- set rest = messages[1:] -%}{%- endif -%}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 3000000000 }}{{ messages | tojson(indent=9) }}{{ raise_exception('x') }}{{ strftime_now('%Y') }}",
    "{{ ''.__class__.__mro__ }}{{ messages.__class__ }}{{ cycler.__init__.__globals__ }}{{ lipsum() }}",
    "{% set ns = namespace(n=0) %}{% generation %}{{ ns.n }}{% endgeneration %}{{ 2 ** 99999 }}{{ '%d' % 10 ** 5000 }}",
]


@cache
def _template_worker() -> Worker:
    from gemtune.rendering import stock_template

    return Worker(f"{stock_template.__name__}:render", seconds=1.0, memory=stock_template.MEMORY)


def try_template(value: bytes, folder: Path) -> None:
    """A chat template is rendered in the child process that `check` renders it in."""
    request = {
        "template": value.decode("utf-8", "replace"),
        "conversations": [_TURNS],
        "special_tokens": {"bos_token": "<bos>", "eos_token": "<eos>"},
    }
    with contextlib.suppress(WorkerError):  # `check` says it in a line
        _template_worker()(request)


# --- SQL --------------------------------------------------------------------------------------------------------------

_SQL_SEEDS = [
    "SELECT count(*), max(a) FROM t WHERE b LIKE 'x%' GROUP BY b HAVING count(*) > 1 ORDER BY 1 DESC LIMIT 5 OFFSET 2",
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 9) SELECT n FROM c JOIN t ON t.a = c.n",
    "SELECT CASE WHEN a IN (1, NULL) THEN CAST(b AS DECIMAL(3, 1)) ELSE date('now') END, row_number() OVER w FROM t "
    "WINDOW w AS (PARTITION BY b ORDER BY a)",
    "CREATE TABLE t (a INT PRIMARY KEY, b TEXT DEFAULT 'x' CHECK (b <> ''), c REFERENCES u(a)); CREATE TABLE u (a);",
    "INSERT INTO t VALUES (1, 'x', 2.5), (2, 'y', NULL); UPDATE t SET b = replace(b, 'x', 'y'); DELETE FROM t",
    "CREATE TABLE `t` (`id` int(11) NOT NULL AUTO_INCREMENT, KEY `k` (`id`)) ENGINE=InnoDB /* c */ -- d\n",
    "```sql\nSELECT [a b], \"c\", `d`, x'ff', $1, :n, @v FROM t;\n```",
]
_SQL_PIECES = [
    *("DATE(" * 12, "(" * 200, "CASE WHEN " * 30, "a" * 3000, "instr(b,b)+" * 50, "ATTACH 'x' AS y", "PRAGMA", "\0"),
    *(
        "load_extension('x')",
        "writefile('x', b)",
        "randomblob(1e9)",
        "printf('%1000000s', a)",
        "zeroblob(9e9)",
        "VACUUM",
    ),
    *("UNION ALL SELECT * FROM t " * 40, "sqlite_master", "STRUCT<a INT>", "OBJECT(" * 8, "\ud83d", "%" * 500),
]
_SQL_WORDS = [*re.findall(r"\w+|\S", " ".join(_SQL_SEEDS)), *_SQL_PIECES]


def _sql() -> st.SearchStrategy[str]:
    words = st.lists(st.sampled_from(_SQL_WORDS), max_size=15).map(" ".join)
    mutant = mutants([seed.encode() for seed in _SQL_SEEDS]).map(lambda data: data.decode("utf-8", "replace"))
    return st.sampled_from(_SQL_SEEDS) | words | mutant | texts()


@st.composite
def _sql_rows(draw: st.DrawFn) -> tuple[Json, str, str]:
    row: Json = dict(_ROWS["sql"][0])
    for key in ("question", "schema", "sql", "inserts", "db_id"):
        if draw(st.booleans()):
            row[key] = draw(_sql() | st.lists(_sql(), max_size=3) | values())
    dialect = draw(st.sampled_from(["sqlite"] * 4 + ["mysql", "postgres", "bigquery", "tsql", "snowflake", "duckdb"]))
    return row, draw(_sql()), dialect


def try_sql(value: tuple[Json, str, str], folder: Path) -> None:
    """A row of SQL becomes a conversation, which is shortened, and a reply is scored; nothing is left on the disk."""
    row, reply, dialect = value
    task = task_of(_recipe("sql", sql={"dialect": dialect}))
    before = os.listdir(folder)
    with _refusals():
        task.question(row, "f.jsonl:1")
    conversation = task.conversation(row, "f.jsonl:1")
    scores = task.score(conversation, reply)
    if not all(0 <= score <= 1 for score in scores.values()):
        raise AssertionError(f"scores {scores}")
    task.shorten(conversation, 0.5)
    _equal(os.listdir(folder), before, "the folder")


# --- run directories --------------------------------------------------------------------------------------------------

_RUN_FILES = (
    *("manifest.json", "metrics.jsonl", "recipe.yaml", "eval/*", "data/*.json*", "data/*.arrow"),
    *("adapter/whole.json", "checkpoints/*/whole.json"),
)


def _run_files() -> dict[str, bytes]:
    return seeds.files_of(seeds.run_folder(), *_RUN_FILES)


def try_run(value: File, folder: Path) -> None:
    """A file of a run directory that is not what was written, and everything that reads it."""
    from gemtune.pipeline.job import Job
    from gemtune.rendering.token_table import ExampleTable
    from gemtune.training.checkpoint import newest_whole, require_whole

    root = seeds.run_folder()
    readers: list[Callable[[Run], object]] = [
        lambda run: Job(run.root).task,
        lambda run: (run.decisions, run.training, run.metrics(), run.summary(), run.data_manifest()),
        lambda run: [list(read_conversations(run.part(part))) for part in PARTS],
        lambda run: [[table[i] for i in range(len(table))] for table in map(ExampleTable, map(run.table, PARTS))],
        lambda run: [run.evaluation().evaluations(name) for name in ("base", "tuned")],
        lambda run: newest_whole(run, lambda line: None),
        lambda run: require_whole(run.adapter),
        write_report,
    ]
    with _replaced(root, value):
        for read in readers:
            with _refusals():
                read(Run.open(root))


# --- the table --------------------------------------------------------------------------------------------------------

TARGETS: dict[str, Target] = {
    "rows": Target(_task_rows(), try_row, 400),
    "prepare": Target(_row_files(), try_prepare, 30),
    "tables": Target(st.deferred(_tables), try_table, 400),
    "dataset_info": Target(
        st.tuples(
            spoiled(_INFO, _INFO_KEYS).map(as_bytes) | mutants([as_bytes(_INFO[0])]),
            spoiled([_TALK], ["talk", "who", "says", "s", "pictures"]),
            st.sampled_from(["a", "b", "b", "c", "d", "", "e", "a#b"]),
        ),
        try_dataset_info,
        200,
    ),
    "recipes": Target(_recipes(), try_recipe, 80),
    "archives": Target(spoiled_files(seeds.archives), try_archive, 300),
    "images": Target(spoiled_files(seeds.images), try_image, 300),
    "configs": Target(_model_files(("config.json",)), try_config, 30),
    "tokenizers": Target(
        _model_files(("tokenizer*.json", "preprocessor_config.json", "processor_config.json")), try_tokenizer, 15
    ),
    "weights": Target(_weights(), try_weights, 15),
    "indexes": Target(spoiled([_INDEX], list(_INDEX)).map(as_bytes) | mutants([as_bytes(_INDEX)]), try_index, 100),
    "adapters": Target(spoiled_files(_adapter_files), try_adapter, 15),
    "templates": Target(mutants([seed.encode() for seed in _TEMPLATES]), try_template, 20, seconds=10.0),
    "sql": Target(_sql_rows(), try_sql, 60, seconds=30.0),
    "runs": Target(spoiled_files(_run_files), try_run, 30),
}
