import json
from pathlib import Path

from documents.drawn_pages import page_named
from gemtune.documents.audit import record_sent
from gemtune.documents.folder import DistilledFolder
from gemtune.documents.redaction import Redaction, Sendable
from gemtune.recipe.document_sections import Teacher

TEACHER = Teacher(url="https://user:secret@models.example.org:8443/v1", model="large")


def lines_of(folder):
    return [json.loads(line) for line in folder.audit_file.read_text().splitlines()]


def test_a_line_says_which_image_of_which_page_went_where(tmp_path):
    folder = DistilledFolder(tmp_path / "new")
    redaction = Redaction("phone", "01228762033", ((1, 2, 3, 4),))
    sendable = Sendable(page_named("images/ab/ab.png", number=3), Path("redacted/cd/cdef.png"), (redaction,))
    record_sent(folder, [sendable], TEACHER)
    (line,) = lines_of(folder)
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "document": "letter.pdf",
        "number": 3,
        "image": "cdef",
        "host": "models.example.org:8443",
        "model": "large",
        "redacted": [{"kind": "phone", "boxes": [[1, 2, 3, 4]]}],
    }
    assert "secret" not in folder.audit_file.read_text() and "01228762033" not in folder.audit_file.read_text()


def test_lines_are_only_added_also_after_a_torn_one(tmp_path):
    folder = DistilledFolder(tmp_path)
    sendable = Sendable(page_named("images/ab/ab.png"), Path("images/ab/ab.png"))
    record_sent(folder, [sendable, sendable], TEACHER)
    whole = folder.audit_file.read_bytes()
    folder.audit_file.write_bytes(whole[:-20])  # a kill
    record_sent(folder, [sendable], Teacher(provider="gemini", model="g"))
    text = folder.audit_file.read_bytes()
    assert text.startswith(whole[:-20] + b"\n")
    assert json.loads(text.splitlines()[-1])["host"] == "generativelanguage.googleapis.com"
