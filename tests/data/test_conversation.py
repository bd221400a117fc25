"""Conversations: what is stored comes back, and what is no conversation is a row that is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.data.conversation import Conversation, Message, Part, read_conversations, validate
from gemtune.errors import DataError, GemtuneError, RowError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
PARTS = st.builds(Part, text=TEXT) | st.builds(Part, image=TEXT, size=st.tuples(st.integers(1), st.integers(1)))
MESSAGES = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.lists(PARTS, min_size=1).map(tuple))
CONVERSATIONS = st.builds(
    Conversation,
    st.lists(MESSAGES, min_size=1).map(tuple),
    TEXT,
    key=TEXT,
    group=TEXT,
    where=TEXT,
    weight=st.floats(0.1, 10),
    meta=st.dictionaries(TEXT, TEXT | st.integers()),
)


@given(st.lists(CONVERSATIONS, max_size=4))
def test_what_is_stored_comes_back(tmp_path_factory: pytest.TempPathFactory, conversations: list[Conversation]) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    path.write_text("".join(json.dumps(c.to_json()) + "\n" for c in conversations), encoding="utf-8")
    assert list(read_conversations(path)) == conversations


def turns(*roles: str) -> tuple[Message, ...]:
    return tuple(Message.of(role, f"{role} {number}") for number, role in enumerate(roles))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "roles",
    [("user", "assistant"), ("system", "user", "assistant"), ("user", "assistant", "user", "assistant")],
)
def test_a_conversation_ends_in_its_answer(roles: tuple[str, ...]) -> None:
    messages = validate(turns(*roles))
    conversation = Conversation(messages, "t", key="k", group="g", where="w")
    assert conversation.answer == messages[-1].text == f"assistant {len(roles) - 1}"


@pytest.mark.parametrize(
    "roles",
    [(), ("user",), ("assistant",), ("user", "user", "assistant"), ("user", "system", "assistant"), ("system", "user")],
)
def test_what_is_no_conversation_is_refused(roles: tuple[str, ...]) -> None:
    with pytest.raises(RowError):
        validate(turns(*roles))


@pytest.mark.parametrize("line", ["[]", "{}", '{"messages": 1}', '{"messages": [{"role": "user"}]}', "not json"])
def test_a_damaged_line_is_one_line_with_its_place(line: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(GemtuneError, match=r"rows\.jsonl:1: ") as error:
        list(read_conversations(tmp_path / "rows.jsonl"))
    assert "\n" not in str(error.value) and not isinstance(error.value, DataError)
