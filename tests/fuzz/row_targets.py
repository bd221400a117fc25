"""Rows of every task, the files that hold them, and dataset_info.json."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from hypothesis import strategies as st

from fuzz import seeds
from fuzz.attempts import TURNS, Json, equal, recipe_for, refusals
from fuzz.harness import Target
from fuzz.inputs import File, as_bytes, mutants, spoiled, texts, values
from gemtune.data.conversation import Conversation
from gemtune.data.formats import FORMATS
from gemtune.data.image_sources import ImageSources
from gemtune.data.images import ImageStore
from gemtune.data.row_fields import FIELDS
from gemtune.data.sources import read_rows, source_files
from gemtune.preparation.prepare import prepare
from gemtune.preparation.row_store import RowStore
from gemtune.recipe.schema import DataSource
from gemtune.runs import Run
from gemtune.tasks import task_of

_CHAT_KEYS = [
    *("messages", "conversations", "contents", "parts", "role", "content", "from", "value", "type", "text", "author"),
    *("instruction", "input", "output", "prompt", "completion", "query", "response", "context", "image_url", "url"),
    *("inlineData", "fileData", "mimeType", "data", "fileUri", "thought", "name", "id", "index", "path", "bytes"),
    *(name for field in FIELDS for name in field.names),
]
_TASK_KEYS = {
    "emoji": ["text", "emoji"],
    "product": ["product", "category", "description", "image", "name", "keywords"],
    "documents": ["image", "prompt", "answer", "task", "schema", "document", "number", "reference", "ocr", "layer"],
    "multi_image": ["question", "output", "context", "input_image_path", "images", "image"],
    "columns": ["a", "b"],
    "messages": _CHAT_KEYS,
}
ROWS: dict[str, list[Json]] = {
    "emoji": [{"text": "to the beach", "emoji": "🏖️"}],
    "product": [{"product": "cup", "category": "kitchen", "description": "A cup.", "image": "a.png"}],
    "documents": [{"image": "a.png", "prompt": "Read.", "answer": '{"elements": []}', "task": "content"}],
    "multi_image": [{"question": "Which?", "output": "A", "input_image_path": ["a.png", "b.png"]}],
    "columns": [{"a": "x", "b": "y"}],
    "messages": [
        {"messages": TURNS},
        {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"}]}, TURNS[1]]},
        {"messages": json.dumps(TURNS), "system": "s", "history": [["a", "b"]], "images": ["a.png"]},
        {"conversations": [{"from": "human", "value": "<image>hi"}, {"from": "gpt", "value": "yes"}], "image": "a"},
        {"contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}]},
        {"instruction": "Say", "input": "x", "output": "y", "history": []},
        {"prompt": "a", "completion": "b", "weight": 1},
        {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": TURNS},
    ],
}
_LAYOUTS = ["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "vertex"]


def _rows_of(task: str) -> st.SearchStrategy[Json]:
    keys = _TASK_KEYS[task]
    made = st.dictionaries(st.sampled_from(keys), values(keys, st.binary(max_size=8)), max_size=5)
    return (spoiled(ROWS[task], keys) | made).filter(lambda row: isinstance(row, dict))


@st.composite
def _task_rows(draw: st.DrawFn) -> tuple[str, str, Json, str]:
    task = draw(st.sampled_from(sorted(_TASK_KEYS) + ["messages"] * 3))
    layout = draw(st.sampled_from(_LAYOUTS)) if task == "messages" else "auto"
    return task, layout, draw(_rows_of(task)), draw(texts())


def try_row(value: tuple[str, str, Json, str], folder: Path) -> None:
    """A row of any task becomes a conversation and a question, whose image is looked for, and a reply is scored."""
    name, layout, row, reply = value
    recipe = recipe_for(name)
    task = task_of(recipe, layout)
    store = ImageStore(folder, ImageSources(folder, []).read)
    for make in (task.conversation, task.question):
        with refusals():
            conversation = make(row, "f.jsonl:1")
            kept = json.loads(json.dumps(conversation.to_json())) if not _holds_bytes(conversation) else None
            task.score(conversation, reply)
            if kept:
                equal(Conversation.from_json(kept).to_json(), kept, "a conversation read back")
            conversation = store.resolve(conversation)
            with RowStore(folder, recipe) as rows, contextlib.suppress(UnicodeEncodeError):  # prepare drops that row
                rows.add(conversation, 0, task.scope(conversation), None)


def _holds_bytes(conversation: Conversation) -> bool:
    return any(isinstance(part.image, bytes) for part in conversation.images)


@st.composite
def _row_files(draw: st.DrawFn) -> tuple[str, list[Json]]:
    task = draw(st.sampled_from(sorted(_TASK_KEYS)))
    return task, draw(st.lists(_rows_of(task), min_size=1, max_size=5))


def try_prepare(value: tuple[str, list[Json]], folder: Path) -> None:
    """A file of rows goes through all of `prepare`."""
    name, rows = value
    lines = (json.dumps(row, default=lambda data: data.decode("latin-1")) + "\n" for row in rows)
    (folder / "f.jsonl").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    source = {"source": str(folder / "f.jsonl")}
    prepare(recipe_for(name, data=[source], split={"val": 0, "test": 0}), Run(folder / "run"))


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
    with refusals():
        source_files(data)
    for where, row in read_rows(data, load_dataset=lambda *args, **options: seeds.ROWS):
        with refusals():
            task_of(recipe_for("messages")).conversation(row, where)


TARGETS: dict[str, Target] = {
    "rows": Target(_task_rows(), try_row, 200),
    "prepare": Target(_row_files(), try_prepare, 30),
    "tables": Target(st.deferred(_tables), try_table, 700),
    "dataset_info": Target(
        st.tuples(
            spoiled(_INFO, _INFO_KEYS).map(as_bytes) | mutants([as_bytes(_INFO[0])]),
            spoiled([_TALK], ["talk", "who", "says", "s", "pictures"]),
            st.sampled_from(["a", "b", "b", "c", "d", "", "e", "a#b"]),
        ),
        try_dataset_info,
        120,
    ),
}
