"""Documents to rows: what a row holds, what is left out and why, and that nothing is done or paid for twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from documents.distilled_place import EXAMPLES, TRUTH, Place, replies, three_letters
from gemtune.documents.manifest import DistillManifest
from gemtune.documents.teacher import Answer, Request, TeacherError, Usage
from gemtune.errors import DataError, GemtuneError, RecipeError

sys.path.insert(0, str(Path(__file__).parents[2]))  # the package benchmarks

from benchmarks.scripted_teacher import ScriptedTeacher, truth_of
from benchmarks.studies.distill_kills import outcome

COARSE = ["pages.dpi=60", "pages.least_side=0", "pages.workers=1"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return three_letters(tmp_path)


def test_a_row_has_all_that_its_task_needs(place: Place) -> None:
    place.distill()
    rows = place.rows()
    places = [(row["document"], row["number"], row["task"]) for row in rows]
    assert places == sorted(places) and {place[2] for place in places} == {"content", "fields"}
    truth = {
        (line["document"], line["page"], line["task"]): line["reply"]
        for line in map(json.loads, TRUTH.read_text(encoding="utf-8").splitlines())
    }
    for row in rows:
        assert json.loads(row["answer"]) == truth["letter/" + row["document"], row["number"], row["task"]]
        assert "\\u" not in row["answer"] and "\n" not in row["answer"]
        assert (place.folder.root / row["image"]).is_file()
        assert row["prompt"] and row["schema"]["properties"] and row["reference"]


def test_the_manifest_says_what_is_left_out(place: Place) -> None:
    manifest = place.distill()
    assert manifest.rows == len(place.rows()) == sum(manifest.tasks.values())
    assert [(one.document, one.number) for one in manifest.left_out] == [("08.pdf", 2)]  # an empty page
    assert "nothing is drawn on it" in manifest.left_out[0].why
    assert manifest == DistillManifest.from_json(json.loads(place.folder.manifest_file.read_text()), "manifest.json")


def test_a_page_without_a_reply_is_left_out_with_the_reason(place: Place, tmp_path: Path) -> None:
    given = replies(tmp_path, "02.pdf")
    manifest = place.distill()
    unanswered = [one for one in manifest.left_out if one.task]
    assert {one.document for one in unanswered} == {"01.pdf", "08.pdf"}
    assert unanswered[0].why.endswith(f"no reply to it in {given}")
    assert {row["document"] for row in place.rows()} == {"02.pdf"}


def test_no_row_at_all_is_one_line_that_says_why(place: Place, tmp_path: Path) -> None:
    replies(tmp_path, "nothing.pdf")
    with pytest.raises(
        DataError, match=r"none of \d+ pages has a row; 01.pdf page 1, content: files: no reply to it in"
    ):
        place.distill()
    assert not place.folder.manifest_file.exists()


def test_a_recipe_without_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="teacher: is missing; name a model that labels the pages"):
        Place(tmp_path, teacher=[]).distill()


# --- a model on this machine ------------------------------------------------------------------------------------------


def here(text_of: Any) -> Any:
    """A local teacher that answers as a function of the request says."""
    return lambda teacher: lambda request: Answer(text_of(request), Usage(10, 5))


def minutes(request: Request, title: str = "محضر") -> str:
    return json.dumps({"elements": [{"type": "title", "markdown": f"# {title} {request.document} {request.page}"}]})


LOCAL = {"provider": "local", "model": "somewhere/model"}


def test_samples_that_agree_make_a_row_and_others_do_not(tmp_path: Path) -> None:
    source = [str(EXAMPLES / "letter" / name) for name in ("01.pdf", "02.pdf")]
    teacher = {**LOCAL, "samples": 2, "temperature": 0.5}
    place = Place(tmp_path, pages={"source": source}, teacher=teacher, documents={"tasks": ["content"]})

    def answer(request: Request) -> str:
        return minutes(request, "محضر" if request.document == "01.pdf" else "محضر اجتماع اللجنة" * request.sample)

    manifest = place.distill(local=here(answer))
    assert {row["document"] for row in place.rows()} == {"01.pdf"}
    assert {one.document for one in manifest.left_out} == {"02.pdf"}
    assert all(one.why.startswith("two replies of somewhere/model are 0.") for one in manifest.left_out)
    assert manifest.teachers[0].answered == 2 * (manifest.rows + len(manifest.left_out))


def test_documents_that_share_a_page_are_one_group(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("one.pdf", "two.pdf"):
        (tmp_path / "in" / name).write_bytes((EXAMPLES / "letter" / "01.pdf").read_bytes() + name.encode())
    (tmp_path / "in" / "three.pdf").write_bytes((EXAMPLES / "letter" / "02.pdf").read_bytes())
    place = Place(tmp_path, pages={"source": str(tmp_path / "in")}, teacher=LOCAL, documents={"tasks": ["content"]})
    manifest = place.distill(local=here(minutes))
    groups = {row["document"]: row["group"] for row in place.rows()}
    assert groups == {
        "one.pdf": "one.pdf + two.pdf",
        "two.pdf": "one.pdf + two.pdf",
        "three.pdf": "three.pdf",
    }
    [line] = place.folder.groups_file.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["shared"][0]["distance"] == 0
    assert (manifest.groups, manifest.merged) == (2, 1)


# --- a teacher elsewhere ----------------------------------------------------------------------------------------------


REMOTE = {"privacy": {"findings": "allow", "unscanned": "allow", "ocr": False}}


def test_a_teacher_that_stops_is_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    place = Place(tmp_path, pages={"source": str(EXAMPLES / "letter" / "0[12].pdf")}, **REMOTE)
    truth = truth_of(replies(tmp_path, "01.pdf", "02.pdf"), place.folder.root)
    teacher = {"model": "m", "concurrency": 1}
    with ScriptedTeacher(truth, lambda page, count: "quota" if len(server.served) == 2 else "") as server:
        remote = f"teacher={json.dumps({**teacher, 'url': server.url})}"
        with pytest.raises(TeacherError) as error:
            place.distill(remote)
        assert "quota" in str(error.value) and "\n" not in str(error.value)
        assert not place.folder.rows_file.exists()
        manifest = place.distill(remote)
        asked = [(line.page, line.task) for line in server.served if line.charged]
        assert len(asked) == len(set(asked)) == manifest.rows
        sent = place.folder.audit_file.read_text(encoding="utf-8").splitlines()
        assert len(server.served) == manifest.rows + 1
    assert len(sent) == len(server.served), "a line a request, none for what was not sent"
    assert {json.loads(line)["host"].split(":")[0] for line in sent} == {"127.0.0.1"}


def test_a_page_that_privacy_skips_says_what_was_found(tmp_path: Path) -> None:
    privacy = {"findings": "allow", "unscanned": "skip", "ocr": False}
    place = Place(tmp_path, pages={"source": str(EXAMPLES / "letter" / "01.pdf")}, privacy=privacy)
    wanted = "01.pdf page 1: skipped by `privacy`: unscanned; it has no text layer, and privacy.ocr is off"
    with ScriptedTeacher(truth_of(TRUTH, place.folder.root)) as server, pytest.raises(DataError, match=wanted):
        place.distill(f"teacher={json.dumps({'url': server.url, 'model': 'm'})}")
    assert server.served == []


def test_a_key_that_is_wrong_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, pages={"source": str(EXAMPLES / "letter" / "01.pdf")}, **REMOTE)
    monkeypatch.setenv("SOME_KEY", "sk-wrong")
    truth = truth_of(replies(tmp_path, "01.pdf"), place.folder.root)
    with ScriptedTeacher(truth, key="sk-right") as server, pytest.raises(GemtuneError) as error:
        place.distill(f"teacher={json.dumps({'url': server.url, 'model': 'm', 'key': 'SOME_KEY'})}")
    assert "SOME_KEY" in str(error.value) and "sk-wrong" not in str(error.value) and "\n" not in str(error.value)


def test_killed_on_the_way_the_rows_are_the_same_and_nothing_is_paid_twice_unlisted(tmp_path: Path) -> None:
    outcomes = []
    for kills in (0, 2):
        (tmp_path / str(kills)).mkdir()
        outcomes.append(outcome(tmp_path / str(kills), "letter/0[1-4].pdf", kills, changes=COARSE))
    plain, killed = outcomes
    assert (plain.kills, killed.kills) == (0, 2)
    assert plain.rows == killed.rows
    assert not (plain.faults or killed.faults or plain.twice or killed.twice)
    assert plain.adds_up and killed.adds_up
