"""The cache of replies: what decides a key, and a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from documents.teacher.conftest import Pages
from gemtune.documents.teacher import Ledger
from gemtune.documents.teacher.reply_store import ReplyStore, key_of, pixels_of
from gemtune.errors import RunError
from gemtune.recipe.document_sections import Teacher


def test_a_key_is_what_decides_the_reply(pages: Pages) -> None:
    [request, other, _], teacher = pages.requests(), Teacher(model="m")
    key = key_of(request, teacher)
    same = [
        key_of(replace(request, document="b.pdf", page=7), teacher),
        key_of(request, Teacher(model="m", url="http://elsewhere/v1", max_tokens=9, timeout=1.0, attempts=1)),
    ]
    others = [
        key_of(other, teacher),
        key_of(replace(request, prompt="Read."), teacher),
        key_of(replace(request, schema=None), teacher),
        key_of(replace(request, schema={"type": "object"}), teacher),
        key_of(replace(request, sample=1), teacher),
        key_of(request, Teacher(model="n")),
        key_of(request, Teacher(model="m", temperature=0.5)),
    ]
    assert set(same) == {key} and len({key, *others}) == 1 + len(others)


def test_pixels_are_an_images_name_or_are_read(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", f"{'0' * 64}.png")]
    for path, level in zip(paths, (1, 9, 1), strict=True):
        Image.linear_gradient("L").save(path, compress_level=level)
    assert pixels_of(paths[0]) == pixels_of(paths[1]) and paths[0].read_bytes() != paths[1].read_bytes()
    assert pixels_of(paths[2]) == "0" * 64


def test_a_damaged_reply_is_named_and_not_bought_again(pages: Pages) -> None:
    store = ReplyStore(pages.folder.replies)
    store.path("ab12").parent.mkdir(parents=True)
    store.path("ab12").write_text('{"format": 1', encoding="utf-8")
    with pytest.raises(RunError, match=r"ab12.json:1: broken JSON .*; remove that file, and the page is asked for"):
        store.get("ab12")


FULL = """
import resource, signal, sys
from pathlib import Path
from documents.teacher.conftest import Pages
from gemtune.errors import GemtuneError
from gemtune.recipe.document_sections import Teacher
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
pages = Pages(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    pages.ask(Teacher(url=sys.argv[2], model="m", max_tokens=1000))
except GemtuneError as error:
    print(error)
"""


@pytest.mark.parametrize(("room", "requests"), [(10_000, 0), (30_000, 3)])
def test_a_full_disk_is_met_before_a_reply_is_paid_for(room: int, requests: int, pages: Pages, serve: object) -> None:
    server = serve()  # type: ignore[operator]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), pages.folder.root, server.url, str(room)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert len(server.served) == requests
    assert ("free some space" in done.stdout) == (requests == 0)
    assert len(Ledger(pages.folder.ledger_file).intents) == requests


def test_a_reply_that_was_stored_before_a_kill_is_settled_after(pages: Pages, serve: object) -> None:
    server = serve()  # type: ignore[operator]
    teacher = Teacher(url=server.url, model="m")
    pages.ask(teacher)
    lines = pages.folder.ledger_file.read_text(encoding="utf-8").splitlines(keepends=True)
    pages.folder.ledger_file.write_text("".join(lines[:-1]), encoding="utf-8")
    left = pages.folder.replies / "ab" / ".x.json"
    left.parent.mkdir(exist_ok=True)
    left.write_text("", encoding="utf-8")
    pages.ask(teacher)
    assert not Ledger(pages.folder.ledger_file).open_intents() and not left.exists()
    assert not any("may be paid for twice" in line for line in pages.said)
    pages.assert_the_ledger_is_right()
