"""Messages: a row of any layout is the conversation that it holds."""

import pytest

from gemtune.errors import DataError, RowError
from gemtune.tasks import task_of
from tasks.task_rows import made, recipe


def test_messages_finds_the_layout_or_takes_the_sources() -> None:
    row = {"instruction": "Add.", "input": "1 + 1", "output": "2", "prompt": "Subtract.", "completion": "0"}
    assert made(task_of(recipe("messages")), row).key == "Add.\n1 + 1"
    assert made(task_of(recipe("messages"), "prompt_completion"), row).key == "Subtract."


def test_the_key_is_all_the_user_says_and_the_last_answer_is_scored() -> None:
    turns = [("human", "hi"), ("gpt", "hello"), ("human", "and you?"), ("gpt", "fine")]
    task = task_of(recipe("messages"))
    conversation = made(task, {"conversations": [{"from": name, "value": value} for name, value in turns]})
    assert conversation.key == "hi\nand you?"
    assert task.score(conversation, "fine") == {"exact": 1.0, "chrf": 1.0}
    assert task.score(conversation, "hello")["exact"] == 0.0


def test_every_row_has_its_own_layout() -> None:
    """Files of several layouts in a folder, and rows of several in a file."""
    task = task_of(recipe("messages"))
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    rows = [
        ("a.jsonl:1", {"messages": turns}),
        ("a.jsonl:2", {"messages": None, "prompt": "hi", "completion": "ho"}),
        ("b/b.json[1]", {"instruction": "hi", "output": "ho"}),
        ("c.csv:2", {"query": "hi", "response": "ho", "messages": ""}),
    ]
    for where, row in rows:
        assert [m.text for m in task.conversation(row, where).messages] == ["hi", "ho"]
    with pytest.raises(RowError, match="no known layout has the columns left") as caught:
        task.conversation({"left": 1}, "c.csv:3")
    assert caught.value.reason == "no layout"
    with pytest.raises(RowError, match=r"prepare\.ignore") as caught:
        task.conversation({"prompt": "hi", "completion": "ho", "rejected": "no"}, "c.csv:4")
    assert caught.value.reason == "preference data"
    with pytest.raises(DataError, match=r"^d\.jsonl:1: no known layout"):
        task.conversation({"left": 1}, "d.jsonl:1")


def test_a_row_of_no_known_layout_says_where() -> None:
    with pytest.raises(DataError, match=r"^t\.csv:2: "):
        made(task_of(recipe("messages")), {"left": 1, "right": 2})
