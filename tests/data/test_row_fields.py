"""Fields beside question and answer: what they say is done, or the row is refused with the move that helps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemtune.data.chat_layouts import LAYOUTS, layout_of, to_messages
from gemtune.data.chat_turns import Reading
from gemtune.data.conversation import Conversation, Message
from gemtune.data.row_fields import FIELDS, field_of
from gemtune.data.sources import read_rows
from gemtune.errors import DataError, RowError
from gemtune.recipe.schema import DataSource, Recipe
from gemtune.tasks import task_of

SAID = (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
FALSE: dict[str, tuple[Any, ...]] = {  # names whose false value says that an answer is not trained
    **dict.fromkeys(field_of("loss").names, (False, 0, 0.0, "false", "False", "0")),  # type: ignore[union-attr]
    "masked": (True, 1, "true"),
    "mask": (True, "true"),
    "label": (False, "false", "False"),
    "kto_tag": (False, 0, "false"),
    "rejected": (True,),
    "Loss": (False,),
    "lossMask": (0,),
    "loss-weight": (0,),
}
TRUE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(field_of("loss").names, (True, 1, 1.0, "true", None, "", float("nan"))),  # type: ignore[union-attr]
    "masked": (False, 0, None),
    "mask": (False, "User", "human"),
    "label": (True, "true", "sports", 3, 0.5, "quality:4", None),
    "kto_tag": (True, 1),
    "rejected": (False, None, ""),
    "rejected_score": (0.3, 0),
    "score_chosen": (1,),
    "name": ("Ann",),
}


def turns(role: str, content: str, names: dict[str, str], **first: Any) -> list[dict[str, Any]]:
    """The turns of SAID as a layout writes them; `first` stands on the first answer."""
    written = [
        {role: names.get(who, who), content: [{"text": text}] if content == "parts" else text} for who, text in SAID
    ]
    written[1] |= first
    return written


SHAREGPT, VERTEX = {"user": "human", "assistant": "gpt"}, {"assistant": "model"}
LISTS: dict[str, Callable[..., dict[str, Any]]] = {  # what -> a row of SAID with fields on its first answer
    "messages": lambda **first: {"messages": turns("role", "content", {}, **first)},
    "messages as text": lambda **first: {"messages": json.dumps(turns("role", "content", {}, **first))},
    "sharegpt": lambda **first: {"conversations": turns("from", "value", SHAREGPT, **first)},
    "vertex": lambda **first: {"contents": turns("role", "parts", VERTEX, **first)},
    "trl": lambda **first: {
        "prompt": (written := turns("role", "content", {}, **first))[:-1],
        "completion": written[-1:],
    },
    "history": lambda **first: {
        "query": "c",
        "response": "d",
        "history": turns("role", "content", {}, **first)[:2],
    },
}
ROWS: dict[str, dict[str, Any]] = {
    **{name: row() for name, row in LISTS.items()},
    "alpaca": {"instruction": "c", "output": "d", "history": [["a", "b"]]},
    **{
        f"{prompt} + {answer}": {prompt: "c", answer: "d", "history": '[["a", "b"]]'}
        for prompt, answer in LAYOUTS["prompt_completion"].columns
    },
}


def read(row: dict[str, Any], **reading: Any) -> tuple[Message, ...]:
    return to_messages(row, layout_of(row, Reading(**reading)), Reading(**reading))


def said(row: dict[str, Any], **reading: Any) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in read(row, **reading)]


def refused(row: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        to_messages(row, layout_of({name: value for name, value in row.items() if not field_of(name)}))
    assert "\n" not in str(caught.value)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize("what", ROWS)
def test_what_came_before_is_put_in_front_in_every_layout(what: str) -> None:
    assert said(ROWS[what]) == list(SAID)
    assert all(message.trained for message in read(ROWS[what]))


@pytest.mark.parametrize("what", LISTS)
@pytest.mark.parametrize("name", FALSE)
def test_an_answer_that_is_not_to_be_trained_is_context(what: str, name: str) -> None:
    for value in FALSE[name]:
        messages = read(LISTS[what](**{name: value}))
        assert [(m.role, m.text) for m in messages] == list(SAID)
        assert [m.trained for m in messages] == [True, False, True, True], value


@pytest.mark.parametrize("what", LISTS)
@pytest.mark.parametrize("name", TRUE)
def test_an_answer_that_is_to_be_trained_is_trained(what: str, name: str) -> None:
    for value in TRUE[name]:
        assert all(message.trained for message in read(LISTS[what](**{name: value})))


@pytest.mark.parametrize("what", ROWS)
@pytest.mark.parametrize("name", FALSE)
def test_a_row_that_is_not_to_be_trained_is_left_out(what: str, name: str) -> None:
    for value in FALSE[name]:
        reason, detail = refused({**ROWS[what], name: value})
        assert reason in ("not trained", "marked wrong") and f"`{name}` is {value!r}" in detail


@pytest.mark.parametrize("what", ROWS)
@pytest.mark.parametrize("name", TRUE)
def test_a_row_that_is_to_be_trained_stays(what: str, name: str) -> None:
    for value in TRUE[name]:
        assert said({**ROWS[what], name: value}) == list(SAID)


UNCLEAR: dict[str, tuple[Any, ...]] = {
    "weight": (0.5, 2, "heavy", [1]),
    "loss": (1.7, "high"),
    "masked": ("Assistant",),
    "mask": (0, 1, "1", "Assistant"),
    "label": (0, 1, "0"),
    "kto_tag": ("good",),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_is_not_clear_is_refused_until_it_is_said_to_mean_nothing(name: str) -> None:
    for value in UNCLEAR[name]:
        for row in ({**ROWS["alpaca"], name: value}, LISTS["sharegpt"](**{name: value})):
            reason, detail = refused(row)
            assert reason == "unclear field" and f"set prepare.ignore: [{name}]" in detail
            assert said(row, ignored=[name]) == list(SAID)


def test_a_part_of_an_answer_cannot_be_masked() -> None:
    detail = [{"begin_offset": 0, "end_offset": 1, "train": False}]
    in_parts = LISTS["messages"]()
    in_parts["messages"][1]["content"] = [{"type": "text", "text": "b", "train": False}]
    for row, name in ((LISTS["sharegpt"](train_detail=detail), "train_detail"), (in_parts, "train")):
        assert refused(row)[0] == "unclear field"
        assert "a whole answer or none of it" in refused(row)[1]
        assert said(row, ignored=[name]) == list(SAID)


SECOND = (
    "rejected",
    "Rejected",
    "rejected_response",
    "rejectedResponse",
    "response_rejected",
    "rejected-answer",
    "rejected_messages",
    "non_preferred_output",
    "nonPreferredOutput",
    "dispreferred",
    "worse_answer",
    "chosen",
    "preferred_output",
)


@pytest.mark.parametrize("what", ROWS)
@pytest.mark.parametrize("name", SECOND)
def test_a_second_answer_is_refused_in_any_spelling_and_the_move_helps(what: str, name: str) -> None:
    for value in ("no", [{"role": "assistant", "content": "no"}]):
        row = {**ROWS[what], name: value}
        with pytest.raises(DataError, match="preference data") as caught:
            layout_of(row)
        assert f"set prepare.ignore: [{name}]" in str(caught.value)
        assert refused(row)[0] == "preference data"
        assert said(row, ignored=[name]) == list(SAID)


@pytest.mark.parametrize("name", ["rejected", "chosen"])
def test_a_second_answer_on_a_message_is_refused(name: str) -> None:
    row = LISTS["messages"](**{name: "no"})
    assert refused(row)[0] == "preference data"
    assert said(row, ignored=[name]) == list(SAID)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}], "rejected": [{"role": "assistant"}]},
        {"prompt": "a", "chosen": turns("role", "content", {})[:2], "rejected": turns("role", "content", {})[:2]},
        {"chosen": turns("role", "content", {})[:2], "rejected": turns("role", "content", {})[:2]},
        {"messages": turns("role", "content", {})[:2], "chosen": "b", "rejected": "c"},
        {"prompt": "a", "completion": "b", "rejected": "c"},
    ],
)
def test_the_move_for_preference_data_trains_on_the_better_answer(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        layout_of(row)
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps(row))
    move = str(caught.value).split("; ")[-1]
    columns = dict([move.split("data.columns: {")[1].split("}")[0].split(": ")]) if "data.columns" in move else {}
    ignored = move.split("prepare.ignore: [")[1].split("]")[0].split(", ")
    recipe = Recipe(
        task="messages",
        data=[{"source": str(file), "columns": columns}],
        prepare={"ignore": ignored},  # type: ignore[arg-type]
    )
    ((where, read_row),) = read_rows(recipe.data[0])
    messages = task_of(recipe).conversation(read_row, where).messages
    assert [(m.role, m.text) for m in messages] == list(SAID[:2])


def test_a_label_of_numbers_marks_answers_when_it_is_called_so(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"prompt": "a", "completion": "b", "label": 1}\n{"prompt": "a", "completion": "c", "label": 0}\n')
    rows = [row for _, row in read_rows(DataSource(source=str(file), columns={"kto_tag": "label"}))]
    assert said(rows[0]) == list(SAID[:2])
    assert refused(rows[1])[0] == "marked wrong"


def test_what_follows_the_last_trained_answer_is_left_out() -> None:
    row = {"messages": turns("role", "content", {})}
    row["messages"][3]["weight"] = 0
    assert said(row) == list(SAID[:2])
    row["messages"][1]["weight"] = 0
    assert refused(row)[0] == "not trained"


@pytest.mark.parametrize("what", LISTS)
def test_a_question_is_asked_whatever_is_said_of_answers(what: str) -> None:
    row = LISTS[what](weight=0.5) | {"label": 0, "rejected": "no", "loss": False}
    assert said(row, asks=True) == [*SAID[:3], ("assistant", "?")]


def test_history_beside_messages_is_refused() -> None:
    for what in ("messages", "sharegpt", "vertex", "trl"):
        assert refused({**ROWS[what], "history": [["x", "y"]]})[0] == "unclear field"
        assert said({**ROWS[what], "history": "[]"}) == list(SAID)


def test_two_systems_that_differ_are_refused() -> None:
    row = {"prompt": "a", "completion": "b", "system": "be brief"}
    assert said({**row, "system_prompt": "be brief"}) == [("system", "be brief"), *SAID[:2]]
    assert "system and system_prompt differ" in refused({**row, "system_prompt": "be kind"})[1]


def test_messages_of_one_role_are_joined_on_request() -> None:
    row = {"messages": [{"role": who, "content": text} for who, text in (("user", "a"), ("user", "b"), ("gpt", "c"))]}
    assert "prepare.merge_turns: true" in refused(row)[1]
    assert said(row, merges=True) == [("user", "a\nb"), ("assistant", "c")]
    twice = {"messages": [*row["messages"], {"role": "gpt", "content": "d"}, {"role": "gpt", "content": "e"}]}
    assert said(twice, merges=True)[-1] == ("assistant", "c\nd\ne")
    twice["messages"][-1]["weight"] = 0
    with pytest.raises(RowError, match="message 5 says otherwise than the one before it"):
        read(twice, merges=True)


def test_joined_messages_keep_their_images_in_place() -> None:
    row = {
        "messages": [{"role": "user", "content": text} for text in ("<image>a", "b", "c<image>", "d")]
        + [{"role": "assistant", "content": "e"}],
        "images": ["1.png", "2.png"],
    }
    parts = read(row, merges=True)[0].parts
    assert [part.text or part.image for part in parts] == ["1.png", "a\nb\nc", "2.png", "d"]


def test_a_mask_is_kept_in_the_stored_conversation_and_only_there() -> None:
    messages = read(LISTS["messages"](loss=False))
    conversation = Conversation(messages, "t", "k", "g", "w")
    stored = conversation.to_json()
    assert [m.get("trained") for m in stored["messages"]] == [None, False, None, None]
    assert Conversation.from_json(json.loads(json.dumps(stored))) == conversation


def test_every_field_is_found_by_its_own_names() -> None:
    assert all(field_of(name) is field for field in FIELDS for name in field.names)


def test_names_that_only_look_alike_mean_nothing() -> None:
    names = ("weights", "lossy", "preferred_language", "negative", "labels", "bad", "chosen_by", "training_set")
    assert [name for name in names if field_of(name)] == []
