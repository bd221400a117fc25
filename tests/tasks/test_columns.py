"""Columns: templates filled from a row's columns, and the scores of what comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.errors import RecipeError
from gemtune.tasks import task_of
from gemtune.tasks.columns import fill_template
from tasks.task_rows import made, recipe, refused


def test_columns_fills_the_template() -> None:
    template = {"system": "You write {tone} text.", "prompt": "{{{name}}} in {city}?", "answer": "{text}"}
    task = task_of(recipe("columns", template=template))
    assert task.columns == ("tone", "name", "city", "text")
    conversation = made(task, {"tone": "dry", "name": "A {city}", "city": 7, "text": "ok", "extra": "-"})
    assert [m.text for m in conversation.messages] == ["You write dry text.", "{A {city}} in 7?", "ok"]
    assert conversation.key == "{A {city}} in 7?"


@pytest.mark.parametrize("wording", ["{a} and {", "} {a}", '{"k": {a}}'])
def test_a_single_brace_is_refused(wording: str) -> None:
    with pytest.raises(RecipeError, match=r"template\.prompt: a single '[{}]' at character"):
        task_of(recipe("columns", template={"prompt": wording}))


def test_an_answer_without_a_column_is_refused() -> None:
    with pytest.raises(RecipeError, match="names no column"):
        task_of(recipe("columns", template={"answer": "yes"}))


@given(st.text(alphabet="ab{}.!:_", max_size=20), st.text(max_size=20))
def test_filling_gives_doubled_braces_back_and_reads_columns_only(text: str, value: str) -> None:
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert fill_template(doubled + "{x.__class__!r:>9}", {"x.__class__!r:>9": value}) == text + value.strip()


def test_columns_leaves_out_a_system_message_that_says_nothing() -> None:
    task = task_of(recipe("columns", template={"system": "{tone}", "prompt": "{name}", "answer": "{text}"}))
    for tone in ("", None, "  "):
        conversation = made(task, {"tone": tone, "name": "a", "text": "b"})
        assert [m.role for m in conversation.messages] == ["user", "assistant"]


def test_columns_scores() -> None:
    task = task_of(recipe("columns"))
    conversation = made(task, {"prompt": "Capital?", "answer": "New Delhi"})
    scores = task.score(conversation, "new delhi")
    assert scores["exact"] == scores["token_f1"] == 1.0
    assert scores["cer_similarity"] == pytest.approx(1 - 2 / 9)
    assert task.score(conversation, "x" * 200)["cer_similarity"] == 0.0


def test_columns_refuses_an_empty_answer() -> None:
    assert refused(task_of(recipe("columns")), {"prompt": "?", "answer": "  "}) == "empty answer"
