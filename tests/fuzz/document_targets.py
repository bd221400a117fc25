"""Documents, what a teacher replies to them, personal data in them, and LLaMA-Factory's recipes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from fuzz import seeds
from fuzz.attempts import equal
from fuzz.harness import Target
from fuzz.inputs import File, as_bytes, mutants, spoiled, spoiled_files, texts
from gemtune.documents.folder import DistilledFolder
from gemtune.documents.pages import draw_pages
from gemtune.documents.personal_data.recognisers import matches
from gemtune.documents.personal_data.user_patterns import UserPatterns
from gemtune.documents.teacher.given_replies import given_replies
from gemtune.documents.teacher.repair import read_reply
from gemtune.recipe.llamafactory_recipe import import_recipe
from gemtune.recipe.loader import parse_recipe
from gemtune.tasks.documents.schemas import SCHEMAS
from made_pdfs import make_pdf, written_page


@cache
def _documents() -> dict[str, bytes]:
    """PDFs with text, one of them in object streams; a scan."""
    folder = seeds.home()
    make_pdf(folder / "a.pdf", ["Dear Sir,", "about 40 boxes"], ["a second page"], size=(200, 280))
    make_pdf(folder / "b.pdf", ["turned"], size=(200, 280), rotate=90, object_stream_mode=2)
    written_page(["a scan"], (200, 280)).save(folder / "c.tif", save_all=True, append_images=[Image.new("L", (90, 90))])
    return {name: (folder / name).read_bytes() for name in ("a.pdf", "b.pdf", "c.tif")}


def try_document(value: File, folder: Path) -> None:
    """A document is drawn and its text read, in the child processes that `distill` does it in."""
    (folder / value.name).write_bytes(value.data)
    pages = {"source": [str(folder)], "folder": str(folder / "pages"), "dpi": 36, "least_side": 0, "workers": 1}
    recipe = parse_recipe(json.dumps({"name": "f", "task": "documents", "pages": pages}), folder / "f.yaml")
    draw_pages(recipe, DistilledFolder.of(recipe), lambda line: None, lambda what, done, total: None)


_REPLY: Any = {"elements": [{"type": "heading", "markdown": "# عنوان"}, {"type": "table", "markdown": "| a |\n|---|"}]}
_WORDS = [
    json.dumps(_REPLY, ensure_ascii=False),
    f"Here it is:\n```json\n{json.dumps(_REPLY, indent=1)}\n```",
    '{"title": "a "quoted" word", "n": 01, "t": 1e999, "title": "twice",}',
    "# A page\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
]
_SCHEMAS = [None, {"type": "object"}, *SCHEMAS.values()]
_LINE = {"document": "a.pdf", "page": 1, "task": "content", "reply": "# A page", "sample": 0}


@st.composite
def _replies(draw: st.DrawFn) -> tuple[str, int, bytes]:
    words = draw(
        mutants([words.encode() for words in _WORDS]).map(lambda data: data.decode("utf-8", "replace")) | texts()
    )
    line = draw(spoiled([_LINE], list(_LINE)).map(as_bytes) | mutants([as_bytes(_LINE)]))
    return words, draw(st.integers(0, len(_SCHEMAS) - 1)), line


def try_reply(value: tuple[str, int, bytes], folder: Path) -> None:
    """What a teacher answered is read by a schema, and read again as the same; and a file of such answers."""
    words, number, line = value
    reading = read_reply(words, _SCHEMAS[number])
    if reading.value is not None:
        equal(read_reply(reading.text, _SCHEMAS[number]).value, reading.value, "a reply read again")
    elif not reading.text and not reading.faults:
        raise AssertionError("a reply without text or fault")
    (folder / "replies.jsonl").write_bytes(line)
    given_replies(folder / "replies.jsonl")


_PERSONAL = [
    "+20 100 123 4567",
    "SA03 8000 0000 6080 1016 7519",
    "a.b@c.org",
    "4111 1111 1111 1111",
    "الاسم: محمد",
    "2/1/1990",
]
_PERSONAL += [
    "29001011234567",
    "٠١٠٠١٢٣٤٥٦٧",
    "رقم الهوية",
    "\u202e7654 321 001",
    "@" * 300,
    "1 " * 3000,
    "+" * 3000,
    "Name: " * 300,
]
_PATTERNS = [
    "C-\\d{4}",
    "(a+)+$",
    "(?:x*)*y",
    "[",
    "(?P<a>",
    "\\",
    "(" * 300,
    "a{99999}{99999}",
    "(?<=a+)b",
    ".",
    "",
    "\0",
    "\ud83d",
]


@st.composite
def _personal(draw: st.DrawFn) -> tuple[str, str]:
    pieces = st.sampled_from(_PERSONAL) | texts()
    return draw(st.lists(pieces, max_size=6).map(" ".join)), draw(st.sampled_from(_PATTERNS) | texts())


def try_personal(value: tuple[str, str], folder: Path) -> None:
    """A text is searched for personal data, and for a pattern of the recipe's, in a child process."""
    text, pattern = value
    for match in matches(text, ["EG", "SA"]):
        if not 0 <= match.start < match.end <= len(text):
            raise AssertionError(f"{match} lies outside the text")
    recipe = {
        "name": "f",
        "task": "documents",
        "pages": {"source": ["a.pdf"]},
        "privacy": {"patterns": {"own": pattern}},
    }
    privacy = parse_recipe(json.dumps(recipe), folder / "f.yaml").privacy
    with UserPatterns(privacy.patterns, seconds=1.0) as patterns:
        matches(text, ["EG"], patterns)


_FACTORY: Any = {
    "model_name_or_path": "google/gemma-3-270m-it",
    "stage": "sft",
    "finetuning_type": "lora",
    "lora_rank": 8,
    "lora_target": "q_proj,v_proj",
    "dataset": "a,b",
    "dataset_dir": "data",
    "template": "gemma",
    "cutoff_len": 2048,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "learning_rate": "1.0e-4",
    "num_train_epochs": 3.0,
    "lr_scheduler_type": "cosine",
    "val_size": 0.1,
    "bf16": True,
    "report_to": ["none"],
    "quantization_bit": 4,
    "freeze": {"a": 1},
}


def try_import(value: bytes, folder: Path) -> None:
    """A training YAML of LLaMA-Factory's becomes a recipe, which can be read."""
    (folder / "train.yaml").write_bytes(value)
    imported = import_recipe(folder / "train.yaml")
    parse_recipe(imported.text, folder / "t.yaml")
    [str(key) for key in imported.keys]


_FACTORIES = spoiled([_FACTORY], list(_FACTORY)).map(as_bytes) | mutants(
    ["".join(f"{key}: {json.dumps(value)}\n" for key, value in _FACTORY.items()).encode()]
)

TARGETS: dict[str, Target] = {
    "documents": Target(spoiled_files(_documents), try_document, 4, seconds=60.0),
    "replies": Target(_replies(), try_reply, 150),
    "personal": Target(_personal(), try_personal, 12, seconds=20.0),
    "imports": Target(_FACTORIES, try_import, 80),
}
