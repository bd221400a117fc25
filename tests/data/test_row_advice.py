"""What the error about a row, or about a file of pictures, advises is done; then the row is a conversation."""

# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gemtune.data.archives import members_of
from gemtune.data.cells import Unreadable
from gemtune.data.conversation import Conversation, check_size
from gemtune.errors import DataError, RowError
from gemtune.preparation.prepare import image_store
from gemtune.recipe.schema import Recipe
from gemtune.runs import Run
from gemtune.tasks import task_of

Row = dict[str, Any]
Keys = dict[str, Any]


def picture(width: int = 16, height: int = 16, kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new("1" if kind == "PNG" else "RGB", (width, height)).save(data, kind)
    return data.getvalue()


def chat(*contents: object, first: str = "user", **more: Any) -> Row:
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return {"messages": [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)], **more}


def pair(answer: object = "a", **more: Any) -> Row:
    return {"prompt": "q", "completion": answer, **more}


def shown(image: object, **more: Any) -> Row:
    return {"question": "?", "output": "A", "images": [image], **more}


PNG = "https://example.org/a.png"
TEXT = {"type": "text", "text": "hi"}
# what is wrong -> (task, row, words of the error, row after it was done, keys of the source then)
ROWS: dict[str, tuple[str, Row, str, Row, Keys]] = {
    "messages are no list": ("messages", {"messages": 5}, "messages is a number; wanted a list of messages, or its JSON text", chat("hi", "ho"), {}),
    "a message is text": ("messages", {"messages": ["hi"]}, "wanted an object with role and content", chat("hi", "ho"), {}),
    "content is no text": ("messages", chat(True, "ho"), "messages[1] is true or false; wanted text", chat("yes", "ho"), {}),
    "an unknown role": ("messages", {"messages": [{"role": "alien", "content": "hi"}]}, "messages[1] has the role 'alien'; wanted one of", chat("hi", "ho"), {}),
    "a part that is a number": ("messages", chat([5], "ho"), "as a part; wanted {'type': 'text', 'text': ...}", chat([TEXT], "ho"), {}),
    "a part of an unknown type": ("messages", chat([{"type": "smell"}], "ho"), "holds a part of type 'smell'; wanted {'type': 'text', 'text': ...}", chat([TEXT], "ho"), {}),
    "a tool's turn": ("messages", {"messages": [{"role": "tool", "content": "1"}]}, "write call and result as plain text, or leave the row out", chat("hi", "ho"), {}),
    "a picture in a bucket": ("messages", {"contents": [{"role": "user", "parts": [{"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}]}, {"role": "model", "parts": [{"text": "ho"}]}]}, "is in a bucket; copy it here, name its path", chat([{"type": "image", "image": "a.png"}], "ho"), {}),
    "marks for some pictures": ("messages", chat("<image> hi", "ho", images=["a.png", "a.png"]), "write <image> where each of them belongs", chat("<image> <image> hi", "ho", images=["a.png", "a.png"]), {}),
    "history is no pairs": ("messages", pair(history=[["a"]]), "wanted a list of [question, answer] pairs", pair(history=[["a", "b"]]), {}),
    "the assistant begins": ("messages", chat("hi", "ho", first="assistant"), "after an optional system message, user and assistant take turns", chat("hi", "ho"), {}),
    "turns of one role": ("messages", {"messages": [{"role": "user", "content": "a"}, *chat("b", "c")["messages"]]}, "prepare.merge_turns: true joins such messages", chat("a b", "c"), {}),
    "too much text": ("messages", pair("a" * 1_000_001), "cut it, or split it", pair("a" * 900_000), {}),
    "an answer that is not emoji": ("emoji", {"text": "hi", "emoji": "hi"}, "wanted emoji and nothing else", {"text": "hi", "emoji": "👋"}, {}),
    "no SQL": ("sql", {"question": "?", "schema": "", "sql": "the pets"}, "column 'sql' holds 'the pets'; wanted one statement", {"question": "?", "schema": "", "sql": "SELECT 1"}, {}),
    "a list in a cell": ("columns", pair() | {"answer": ["a"]}, "column 'answer' holds a list; wanted text", pair() | {"answer": "a"}, {}),
    "a date that Python has none for": ("columns", pair() | {"answer": Unreadable("a date after the year 9999")}, "column 'answer' is a date after the year 9999; wanted text", pair() | {"answer": "9999-12-31"}, {}),
    "a picture without a place": ("multi_image", shown(5), "wanted a path, a URL, base64 text or bytes", shown("a.png"), {}),
    "a data URL that is not base64": ("multi_image", shown("data:image/png,xx"), "wanted data:image/...;base64,...", shown("a.png"), {}),
    "a picture on the network": ("multi_image", shown(PNG), "set data.download_images: true", shown("a.png"), {}),
    "a picture that leads out": ("multi_image", shown("../other/b.png"), "list its folder in data.images", shown("b.png"), {"images": ["../other"]}),
    "a file that is too large": ("multi_image", shown(bytes(70_000_000)), "70 MB; wanted at most 67 MB", shown("a.png"), {}),
    "a picture of too many pixels": ("multi_image", shown("huge.png"), "wanted at most 50 million", shown("a.png"), {}),
    "a picture of far too many": ("multi_image", shown("bomb.png"), "wanted at most 100 million pixels", shown("a.png"), {}),
    "a picture that is too small": ("multi_image", shown("small.png"), "2 x 2 pixels; wanted at least 8 each way", shown("a.png"), {}),
    "a picture that is a line": ("multi_image", shown("line.png"), "a model would see a line: cut it into pieces", shown("a.png"), {}),
    "a link in a tar": ("multi_image", shown("link.png"), "is a link; wanted a picture", shown("a.png"), {"images": ["m.tar"]}),
    "a member packed in another way": ("multi_image", shown("lzma.png"), "zip it with deflate", shown("a.png"), {"images": ["m.zip"]}),
    "a member that grows": ("multi_image", shown("grows.png"), "(a zip bomb?); wanted at most 200-fold", shown("a.png"), {"images": ["m.zip"]}),
}  # fmt: skip
IMAGES = {"link.png": "m.tar", "lzma.png": "m.zip", "grows.png": "m.zip"}  # where the wrong row's are


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's pictures, in a folder and in archives."""
    path = tmp_path_factory.mktemp("pictures")
    sides = {"a": (16, 16), "small": (2, 2), "line": (8, 2000), "huge": (8000, 8000), "bomb": (20000, 20000)}
    for name, side in sides.items():
        (path / f"{name}.png").write_bytes(picture(*side))
    (path.parent / "other").mkdir()
    (path.parent / "other" / "b.png").write_bytes(picture())
    with tarfile.open(path / "m.tar", "w") as tar:
        tar.add(path / "a.png", "a.png")
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "a.png"
        tar.addfile(link)
    with zipfile.ZipFile(path / "m.zip", "w") as archive:
        archive.write(path / "a.png", "a.png")
        archive.write(path / "a.png", "lzma.png", zipfile.ZIP_LZMA)
        archive.writestr("grows.png", bytes(3_000_000), zipfile.ZIP_DEFLATED)
    (path / "rows.jsonl").write_text("{}")
    return path


def conversation_of(folder: Path, out: Path, task: str, row: Row, keys: Keys) -> Conversation:
    """A row as `prepare` takes it."""
    keys = {"source": str(folder / "rows.jsonl"), **keys}
    recipe = Recipe.model_validate(
        {"name": "t", "task": task, "runs_dir": str(out), "data": [keys], **TEMPLATE.get(task, {})}
    )
    conversation = task_of(recipe).conversation(row, "rows.jsonl:1")
    check_size([message.text for message in conversation.messages])
    return image_store(Run.of(recipe), recipe.data[0], None).resolve(conversation)


TEMPLATE = {"columns": {"template": {"prompt": "{prompt}", "answer": "{answer}"}}}


@pytest.mark.parametrize("what", ROWS)
def test_a_move_for_a_row_works(folder: Path, tmp_path: Path, what: str) -> None:
    task, row, words, mended, keys = ROWS[what]
    archive = IMAGES.get(str((row.get("images") or [""])[0])[:20])
    where = {"images": [archive]} if archive else {}
    with pytest.raises(RowError) as error:
        conversation_of(folder, tmp_path, task, row, where)
    assert words in str(error.value), str(error.value)
    assert conversation_of(folder, tmp_path, task, mended, keys).answer


# data.images that cannot be -> words of the error -> what then works
ARCHIVES: dict[str, tuple[str, str, str]] = {
    "a compressed tar": ("m.tar.gz", "unpack it, or zip it", "m.tar"),
    "no archive": ("rows.jsonl", "neither a folder nor a zip or tar archive", "m.zip"),
    "a zip that was cut": ("cut.zip", "cannot be read as an archive", "m.zip"),
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_a_move_for_an_archive_works(folder: Path, tmp_path: Path, what: str) -> None:
    wrong, words, right = ARCHIVES[what]
    with tarfile.open(folder / "m.tar.gz", "w:gz") as tar:
        tar.add(folder / "a.png", "a.png")
    (folder / "cut.zip").write_bytes((folder / "m.zip").read_bytes().replace(b"PK\1\2", b"PK\0\0"))
    with pytest.raises(DataError) as error:
        conversation_of(folder, tmp_path, "multi_image", shown("a.png"), {"images": [wrong]})
    assert words in str(error.value), str(error.value)
    assert conversation_of(folder, tmp_path, "multi_image", shown("a.png"), {"images": [right]}).answer


def test_an_archive_of_too_many_members_is_split(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too many members; at most 2 are read: split it"):
        members_of(folder / "m.zip", most=2)
    for name in ("a.png", "small.png"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.write(folder / name, name)
        assert list(members_of(tmp_path / f"{name}.zip", most=2)) == [name]
