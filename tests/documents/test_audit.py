import json
from pathlib import Path

from documents.drawn_pages import page_named
from gemtune.documents.audit import recorder
from gemtune.documents.folder import DistilledFolder
from gemtune.documents.redaction import Redaction, Sendable
from gemtune.documents.teacher.exchange import Request
from gemtune.recipe.document_sections import Teacher

TEACHER = Teacher(url="https://user:secret@models.example.org:8443/v1", model="large")
IMAGE = Path("redacted/cd/cdef.png")
REQUEST = Request("letter.pdf", 3, "content", 0, IMAGE, "Read it.", None)
SENDABLE = Sendable(
    page_named("images/ab/ab.png", number=3), IMAGE, (Redaction("phone", "01228762033", ((1, 2, 3, 4),)),)
)


def lines_of(folder):
    return [json.loads(line) for line in folder.audit_file.read_text().splitlines()]


def test_a_line_says_which_image_of_which_page_went_where(tmp_path):
    folder = DistilledFolder(tmp_path / "new")
    recorder(folder, [SENDABLE], TEACHER)(REQUEST)
    (line,) = lines_of(folder)
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "document": "letter.pdf",
        "number": 3,
        "task": "content",
        "image": "cdef",
        "host": "models.example.org:8443",
        "model": "large",
        "redacted": [{"kind": "phone", "boxes": [[1, 2, 3, 4]]}],
    }
    assert "secret" not in folder.audit_file.read_text() and "01228762033" not in folder.audit_file.read_text()


def test_lines_are_only_added_also_after_a_torn_one(tmp_path):
    folder = DistilledFolder(tmp_path)
    record = recorder(folder, [SENDABLE], TEACHER)
    record(REQUEST)
    record(REQUEST)
    whole = folder.audit_file.read_bytes()
    folder.audit_file.write_bytes(whole[:-20])  # a kill
    recorder(folder, [SENDABLE], Teacher(provider="gemini", model="g"))(REQUEST)
    text = folder.audit_file.read_bytes()
    assert text.startswith(whole[:-20] + b"\n")
    assert json.loads(text.splitlines()[-1])["host"] == "generativelanguage.googleapis.com"
