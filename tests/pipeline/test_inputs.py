"""Files that only ask, for `generate --input` and `evaluate --data`: every task, layout, format and renamed column."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import command
from gemtune.data.conversation import Conversation
from gemtune.errors import DataError
from gemtune.pipeline import stages
from gemtune.pipeline.inputs import conversations_of, with_images, without_answers
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Recipe
from gemtune.tasks import TASKS
from made_pdfs import LINES, make_pdf
from tasks.test_questions import ANSWERED, ROWS, TEMPLATE, made, without_answer

ALL = {
    **{name: (name, row) for name, row in ANSWERED.items()},
    **{what: ("messages", row) for what, row in ROWS.items()},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, color in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (32, 32), color).save(tmp_path / name)
    return tmp_path


def as_csv(row: dict[str, Any]) -> str:
    """The row with lists as JSON text in their cells."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(row))
    writer.writeheader()
    writer.writerow({name: json.dumps(v) if isinstance(v, list) else v for name, v in row.items()})
    return out.getvalue()


FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "csv": as_csv,
    "jsonl": lambda row: json.dumps(row) + "\n",
    "json": lambda row: json.dumps([row], indent=1),
}
# How the recipe and the file call the columns.
NAMES = {"as the task": ("{}", "{}"), "otherwise": ("my {}", "my {}"), "the recipe otherwise": ("my {}", "{}")}


def job_of(task: str, folder: Path, columns: dict[str, str]) -> Job:
    template = {"template": TEMPLATE} if task == "columns" else {}
    source = {"source": str(folder / "train.csv"), "columns": columns, "images": [str(folder)]}
    recipe = Recipe(name="t", task=task, data=[source], runs_dir=str(folder / "runs"), **template)  # type: ignore[list-item]
    return Job(recipe, say=lambda text: None)


def texts(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in conversation.messages[:-1]]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("what", ALL)
def test_a_file_without_the_answer_asks_what_one_with_it_asks(what: str, names: str, suffix: str, folder: Path) -> None:
    task, row = ALL[what]
    answers = set(made(task).unanswered)
    asking = without_answer(row) if task == "messages" else {k: v for k, v in row.items() if k not in answers}
    in_recipe, in_file = NAMES[names]
    columns = {name: in_recipe.format(name) for name in row} if names != "as the task" else {}
    files = {}
    for kind, values in (("answered", row), ("asking", asking)):
        files[kind] = folder / f"{kind}.{suffix}"
        renamed = {in_file.format(name): value for name, value in values.items()}
        files[kind].write_text(FORMATS[suffix](renamed), encoding="utf-8")
    job = job_of(task, folder, columns)
    (reference,) = conversations_of(job, str(files["answered"]))
    for file in files.values():
        (question,) = conversations_of(job, str(file), answered=False)
        assert texts(question) == texts(reference)
        assert [part.image for part in question.images] == [part.image for part in reference.images]
    assert without_answers(job, str(files["answered"])) is None
    assert without_answers(job, str(files["asking"]))


def test_every_task_is_here() -> None:
    assert {task for task, _ in ALL.values()} == set(TASKS)


@pytest.mark.parametrize("answered", [True, False])
def test_a_column_of_the_question_is_still_needed(answered: bool, folder: Path) -> None:
    (folder / "x.csv").write_text("said,label\nhi,👋\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.csv:2: column 'text' is missing; found said, label"):
        conversations_of(job_of("emoji", folder, {}), str(folder / "x.csv"), answered)
    with pytest.raises(DataError, match=r"x\.csv:2: column 'body' is missing; found said, label; mend data\.columns"):
        conversations_of(job_of("emoji", folder, {"text": "body"}), str(folder / "x.csv"), answered)


def test_a_hand_made_file_is_answered_and_not_scored(
    write_recipe: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"good morning {i},☕\n" for i in range(30))
    (tmp_path / "rows.csv").write_text(f"said,label\n{rows}", encoding="utf-8")
    source = {"source": str(tmp_path / "rows.csv"), "columns": {"text": "said", "emoji": "label"}}
    recipe = write_recipe(data=source, train={"max_steps": 1})
    stages.train(Job(recipe, say=lambda text: None))
    asking = tmp_path / "asking.csv"
    asking.write_text("said\nhello\nbye\n", encoding="utf-8")
    answer = command.gemtune(capfd, "evaluate", recipe, "--data", asking)
    assert answer.code == 0, answer.err
    assert "asking.csv:2: no label in it: these rows have no answers" in answer.err
    replies = tmp_path / "runs/t/eval/asking"
    for name in ("base", "tuned"):
        lines = [json.loads(line) for line in (replies / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [(line["prompt"], line["gold"], line["scores"]) for line in lines] == [
            ("hello", "", {}),
            ("bye", "", {}),
        ]
    output = tmp_path / "out.jsonl"
    assert command.gemtune(capfd, "generate", recipe, "--input", asking, "--output", output).code == 0
    assert len(output.read_text(encoding="utf-8").splitlines()) == 2


def pages_job(folder: Path) -> Job:
    pages = {"source": str(folder), "dpi": 60, "least_side": 0, "steps": [{"resize": 100}, "gray"]}
    recipe = Recipe.model_validate({"name": "t", "task": "documents", "pages": pages, "runs_dir": str(folder / "runs")})
    return Job(recipe, say=lambda text: None)


def test_a_run_of_documents_sees_a_document_as_its_pages(folder: Path) -> None:
    job = pages_job(folder)
    pdf = make_pdf(folder / "letter.pdf", *(LINES[:number] for number in (3, 9)))
    asked = with_images(job, job.task.asked("Read."), [str(pdf)], page=2)
    (part,) = asked.images
    with Image.open(job.run.data / str(part.image)) as image:
        assert (image.format, image.mode, max(image.size)) == ("PNG", "L", 100) and part.size == image.size
    with pytest.raises(DataError, match=r"letter\.pdf: it has 2 pages, wanted one; add --page N"):
        with_images(job, job.task.asked("Read."), [str(pdf)])


def test_a_page_is_of_a_document(folder: Path) -> None:
    job = job_of("product", folder, {})
    with pytest.raises(DataError, match="--page 2: is of a document, by --image, for a run with `pages`"):
        with_images(job, job.task.asked("What is it?"), [str(folder / "a.png")], page=2)
