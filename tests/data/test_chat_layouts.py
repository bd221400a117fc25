"""Layouts: which one a row is of, the messages it becomes, and the reason a row that cannot be one is counted under."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.chat_rows import BRIEF, HI, PART, openai, said, sharegpt
from gemtune.data.chat_layouts import LAYOUTS, PAIRS, layout_of, to_messages
from gemtune.data.chat_turns import ROLES, Reading
from gemtune.data.conversation import Message
from gemtune.errors import DataError, GemtuneError, RowError
from gemtune.recipe.schema import DataSource

READ: dict[str, tuple[str, dict[str, Any], list[tuple[str, str]]]] = {  # what -> layout, row, its messages
    "openai": ("messages", openai(*BRIEF), BRIEF),
    "developer is system": ("messages", openai(("developer", "be brief"), *HI), BRIEF),
    "parts": ("messages", openai(("user", PART), ("assistant", "ho")), HI),
    "several turns": ("messages", openai(*HI, *HI), HI + HI),
    "unused tools": ("messages", openai(*HI, tools=[{"type": "function"}], tool_choice="auto"), HI),
    "unused tools as text": ("sharegpt", sharegpt(("human", "hi"), ("gpt", "ho"), tools='[{"name": "f"}]'), HI),
    "empty system": ("messages", openai(("system", ""), *HI), HI),
    "null system": ("messages", openai(("system", None), *HI), HI),
    "blank system of parts": ("messages", openai(("system", [{"type": "text", "text": " \n"}]), *HI), HI),
    "empty system, system column": ("messages", openai(("system", " "), *HI, system="be brief"), BRIEF),
    "sharegpt, empty system": ("sharegpt", sharegpt(("system", ""), ("human", "hi"), ("gpt", "ho")), HI),
    "roles in capitals": ("messages", openai(("SYSTEM", "be brief"), ("User", "hi"), (" Assistant", "ho")), BRIEF),
    "JSON text in a cell": ("messages", {"messages": json.dumps(openai(*BRIEF)["messages"])}, BRIEF),
    "texts as parts": ("messages", openai(("user", ["h", "i"]), HI[1], system=["be ", "brief"]), BRIEF),
    "an object of lists": ("sharegpt", {"conversations": {"from": ["human", "gpt"], "value": ["hi", "ho"]}}, HI),
    "JSON text, ShareGPT": (
        "sharegpt",
        {"conversations": json.dumps(sharegpt(("human", "hi"), ("gpt", "ho"))["conversations"])},
        HI,
    ),
    "every message JSON text": ("messages", {"messages": [json.dumps(m) for m in openai(*BRIEF)["messages"]]}, BRIEF),
    "Python's text in a cell": (
        "messages",
        {"messages": str(openai(("user", "it's"), HI[1])["messages"])},
        [("user", "it's"), HI[1]],
    ),
    "JSON text, TRL": (
        "prompt_completion",
        {"prompt": json.dumps(openai(HI[0])["messages"]), "completion": json.dumps(openai(HI[1])["messages"])},
        HI,
    ),
    "a prompt that is JSON": (
        "prompt_completion",
        {"prompt": json.dumps(openai(HI[0])["messages"]), "completion": "ho"},
        [("user", json.dumps(openai(HI[0])["messages"])), HI[1]],
    ),
    "vertex": (
        "vertex",
        {
            "systemInstruction": {"role": "system", "parts": [{"text": "be brief"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "h"}, {"text": "i"}]},
                {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "ho"}]},
            ],
        },
        BRIEF,
    ),
    "vertex, as text": (
        "vertex",
        {
            "system_instruction": "be brief",
            "contents": '[{"role":"user","parts":[{"text":"hi"}]},{"role":"model","parts":[{"text":"ho"}]}]',
        },
        BRIEF,
    ),
    "empty columns of another layout": ("alpaca", {"messages": None, "instruction": "hi", "output": "ho"}, HI),
    "system_prompt": ("prompt_completion", {"prompt": "hi", "completion": "ho", "system_prompt": "be brief"}, BRIEF),
    "query, context": (
        "prompt_completion",
        {"query": "a", "context": "b", "response": "c"},
        [("user", "a\nb"), ("assistant", "c")],
    ),
    "a prompt that has its context": (
        "prompt_completion",
        {"prompt": "b: a", "context": "b", "response": "c"},
        [("user", "b: a"), ("assistant", "c")],
    ),
    "empty tools": ("messages", openai(*HI, tools="[]", images=[]), HI),
    "no tools": ("messages", openai(*HI, tools=None, images=None, image=None), HI),
    "no calls": ("messages", openai(HI[0], {"role": "assistant", "content": "ho", "tool_calls": None}), HI),
    "weight 1": ("messages", openai(HI[0], {"role": "assistant", "content": "ho", "weight": 1}), HI),
    "system column": ("messages", openai(*HI, system="be brief"), BRIEF),
    "system twice": ("messages", openai(*BRIEF, system="another"), BRIEF),
    "messages before the rest": ("messages", openai(*HI, prompt="a", completion="b", conversations=1), HI),
    "sharegpt": ("sharegpt", sharegpt(("system", "be brief"), ("human", "hi"), ("gpt", "ho")), BRIEF),
    "sharegpt, other names": ("sharegpt", sharegpt(("user", "hi"), ("model", "ho")), HI),
    "sharegpt, openai keys": ("sharegpt", {"conversations": openai(*HI)["messages"]}, HI),
    "sharegpt, system column": ("sharegpt", sharegpt(("human", "hi"), ("gpt", "ho"), system="be brief"), BRIEF),
    "sharegpt, marker alone": (
        "sharegpt",
        sharegpt(("human", "<image>?"), ("gpt", "ho")),
        [("user", "<image>?"), HI[1]],
    ),
    "alpaca": ("alpaca", {"instruction": "a", "input": "b", "output": "c"}, [("user", "a\nb"), ("assistant", "c")]),
    "alpaca, no input": ("alpaca", {"instruction": "hi", "input": "", "output": "ho"}, HI),
    "alpaca, null input": ("alpaca", {"instruction": "hi", "input": None, "output": "ho", "history": None}, HI),
    "alpaca, input alone": ("alpaca", {"instruction": "", "input": "hi", "output": "ho"}, HI),
    "alpaca, placeholders": (
        "alpaca",
        {"instruction": "hi", "output": "I am {{name}}"},
        [("user", "hi"), ("assistant", "I am {{name}}")],
    ),
    "alpaca, history": (
        "alpaca",
        {"instruction": "hi", "output": "ho", "system": "be brief", "history": [["1", "2"], ["3", "4"]]},
        [BRIEF[0], ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), *HI],
    ),
    "prompt, completion": ("prompt_completion", {"prompt": "hi", "completion": "ho"}, HI),
    "prompt, response": ("prompt_completion", {"prompt": "hi", "response": "ho", "system": ""}, HI),
    "query, response": ("prompt_completion", {"query": "hi", "response": "ho"}, HI),
    "dolly": (
        "prompt_completion",
        {"instruction": "a", "context": "b", "response": "c", "category": "qa"},
        [("user", "a\nb"), ("assistant", "c")],
    ),
    "trl, conversational": (
        "prompt_completion",
        {"prompt": openai(*BRIEF[:2])["messages"], "completion": openai(BRIEF[2])["messages"]},
        BRIEF,
    ),
    "a list and a text": ("prompt_completion", {"prompt": openai(*BRIEF[:2])["messages"], "completion": "ho"}, BRIEF),
}


@pytest.mark.parametrize("what", READ)
def test_every_layout_is_recognised_and_read(what: str) -> None:
    layout, row, messages = READ[what]
    assert layout_of(row) == layout
    assert said(row) == messages
    assert said(json.loads(json.dumps(row)), layout) == messages


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {  # what -> row, the reason it is counted under, what is said
    "null content with a call": (
        openai(HI[0], {"role": "assistant", "content": None, "tool_calls": [CALL]}),
        "tool calls",
        "messages[2] is a tool call or its result; Gemma 3's chat template has no tool turns; write call and result",
    ),
    "text with a call": (
        openai(HI[0], {"role": "assistant", "content": "ho", "tool_calls": [CALL]}),
        "tool calls",
        "messages[2]",
    ),
    "old style call": (
        openai(HI[0], {"role": "assistant", "content": None, "function_call": CALL}),
        "tool calls",
        "messages[2]",
    ),
    "tool role": (openai(*HI, ("tool", "{}")), "tool calls", "messages[3]"),
    "function role": (openai(*HI, ("function", "{}")), "tool calls", "messages[3]"),
    "function_call from": (sharegpt(("human", "a"), ("function_call", "{}")), "tool calls", "conversations[2]"),
    "observation from": (sharegpt(("observation", "a"), ("gpt", "b")), "tool calls", "conversations[1]"),
    "a tool role in capitals": (openai(*HI, ("Tool", "{}"), tools=[CALL]), "tool calls", "messages[3]"),
    "a part that calls": (
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": [{"functionCall": {}}]}]},
        "tool calls",
        "contents[2] holds a part of type 'functionCall'",
    ),
    "an image too many": (
        sharegpt(("human", "<image> and"), ("gpt", "b"), images=["a.jpg", "b.jpg"]),
        "images do not match",
        "the row has 2 images, 1 of them named; write <image>",
    ),
    "an image too few": (
        sharegpt(("human", "<image><image>"), ("gpt", "b"), images=["a.jpg"]),
        "missing image",
        "conversations[1] names image 2; the row has 1",
    ),
    "image part": (openai(("user", [{"type": "image"}]), HI[1]), "missing image", "messages[1] names image 1"),
    "an image as answer": (
        sharegpt(("human", "Draw it."), ("gpt", "<image>"), images=["a.png"]),
        "bad message",
        "message 2 (assistant) holds an image; only the user may show one",
    ),
    "empty image": (openai(*HI, images=[{"bytes": None}]), "missing image", "images[1] is empty; wanted a path"),
    "audio part": (openai(("user", [{"type": "input_audio"}]), HI[1]), "audio or video", "no audio or video"),
    "videos column": (sharegpt(("human", "a"), ("gpt", "b"), videos=["a.mp4"]), "audio or video", "`videos` is set"),
    "every answer masked": (
        openai(HI[0], {"role": "assistant", "content": "ho", "weight": 0}),
        "not trained",
        "every answer is marked as one that is not trained",
    ),
    "content of a truth": (openai(("user", True), HI[1]), "bad message", "messages[1] is true or false; wanted text"),
    "null content": (openai(HI[0], ("assistant", None)), "bad message", "messages[2] is null; wanted text"),
    "no content": (openai(HI[0], {"role": "assistant"}), "bad message", "messages[2] is null; wanted text"),
    "part of a number": (openai(("user", [5]), HI[1]), "bad message", "messages[1] holds a number as a part"),
    "unknown part": (openai(("user", [{"type": "refusal"}]), HI[1]), "bad message", "a part of type 'refusal'; wanted"),
    "part without text": (openai(("user", [{"type": "text"}]), HI[1]), "bad message", "messages[1] is null"),
    "no role": (openai({"content": "hi"}), "bad message", "messages[1] has no role; wanted one of system"),
    "role of a number": (openai((5, "hi")), "bad message", "messages[1] has the role 5"),
    "role of a list": (openai((["user"], "hi")), "bad message", "messages[1] has the role ['user']"),
    "unknown role": (openai(("alien", "hi")), "bad message", "messages[1] has the role 'alien'; wanted one of"),
    "message of text": (openai("hi"), "bad message", "messages[1] is a string; wanted an object with role and content"),
    "an object of uneven lists": (
        {"messages": {"role": ["user"], "content": ["hi", "ho"]}},
        "bad message",
        "messages is an object; wanted a list of messages",
    ),
    "messages of text": ({"messages": "[{"}, "bad message", "messages is a string; wanted a list of messages, or"),
    "no messages in a text": ({"messages": "[]"}, "no answer", "nothing to train on"),
    "conversations of null": ({"conversations": None}, "bad message", "conversations is null; wanted a list"),
    "history of text": (
        {"instruction": "a", "output": "b", "history": "c"},
        "bad message",
        "history is a string; wanted a list of [question, answer] pairs",
    ),
    "history of one": ({"instruction": "a", "output": "b", "history": [["c"]]}, "bad message", "history is an array"),
    "history of truths": (
        {"instruction": "a", "output": "b", "history": [["c", True]]},
        "bad message",
        "history[1] is true or false",
    ),
    "input of a truth": (
        {"instruction": "a", "input": True, "output": "b"},
        "bad message",
        "input is true or false; wanted text",
    ),
    "null output": ({"instruction": "a", "output": None}, "bad message", "output is null; wanted text"),
    "system of numbers": (openai(*HI, system=[1]), "bad message", "system holds a number as a part"),
    "half an emoji": (openai(("user", "ab\ud83d"), HI[1]), "bad unicode", "message 1 (user): half a character"),
    "half an emoji in a part": (openai(("user", [{"type": "text", "text": "\udc00"}]), HI[1]), "bad unicode", "at 0"),
    "half an emoji in alpaca": (
        {"instruction": "\ud83d", "output": "b"},
        "bad unicode",
        "message 1 (user): half a character",
    ),
    "half an emoji in system": (openai(*HI, system="\ud83d"), "bad unicode", "message 1 (system): half a character"),
    "nothing": (openai(), "no answer", "nothing to train on"),
    "ends in a question": (openai(*HI, HI[0]), "no answer", "the last message is not the assistant's"),
    "two questions": (openai(HI[0], *HI), "two turns of one role", "message 2 is from 'user'"),
    "late system": (openai(*HI, ("system", "be brief")), "roles out of order", "message 3 is from 'system'"),
    "empty answer": ({"prompt": "a", "completion": " "}, "empty answer", "message 2"),
    "empty prompt": ({"instruction": None, "input": "", "output": "b"}, "empty prompt", "message 1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_row_that_is_no_conversation_is_counted_under_its_reason(what: str) -> None:
    row, reason, detail = REFUSED[what]
    with pytest.raises(RowError) as error:
        to_messages(row, layout_of(row))
    assert error.value.reason == reason
    assert detail in str(error.value)
    assert "\n" not in str(error.value)


def test_a_row_without_the_layouts_column_is_a_bad_message() -> None:
    for layout, column in {"messages": "messages", "sharegpt": "conversations", "alpaca": "instruction"}.items():
        with pytest.raises(RowError, match=f"column '{column}' is missing; found a, b") as error:
            to_messages({"a": 1, "b": 2}, layout)
        assert error.value.reason == "bad message"
    with pytest.raises(RowError, match="column 'completion' is missing; found prompt"):
        to_messages({"prompt": "a"}, "prompt_completion")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"text": "", "emoji": ""},
            ["columns text, emoji; wanted messages or conversations or instruction + output", "task: columns"],
        ),
        (
            {"question": "", "answer": ""},
            ["question, answer", "data.columns, {prompt: <column>, completion: <column>}"],
        ),
        ({}, ["(none)"]),
        ({"text": "once upon a time"}, ["plain text", "a question and its answer"]),
        ({"text": "once", "id": 1, "meta": {}}, ["plain text"]),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            ["preference data", "data.columns: {completion: chosen} and prepare.ignore: [rejected]"],
        ),
        (
            {"prompt": "a", "chosen": openai(*HI)["messages"], "rejected": openai(*HI)["messages"]},
            ["preference data", "data.columns: {messages: chosen} and prepare.ignore: [rejected]"],
        ),
        (openai(*HI, chosen="a", rejected="b"), ["preference data", "prepare.ignore: [chosen, rejected]"]),
    ],
)
def test_a_row_of_no_known_layout_is_an_error_that_says_what_to_do(row: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        layout_of(row)
    for word in words:
        assert word in str(error.value)


def test_tables_agree() -> None:
    pairs = (dict.fromkeys((pair.prompt, pair.answer), "a") for pair in PAIRS)
    assert {layout_of(row) for row in pairs} == {"prompt_completion"}
    assert set(ROLES.values()) == {"system", "user", "assistant"}
    assert get_args(DataSource.model_fields["layout"].annotation) == ("auto", *LAYOUTS)


KEYS = ["role", "content", "from", "value", "type", "text", "weight", "parts", "mask", "label", "inlineData", "image"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text("ab\ud83d", max_size=3)
    | st.sampled_from([*ROLES, "tool", "text"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=20,
)
COLUMNS = [
    "messages",
    "conversations",
    "instruction",
    "input",
    "output",
    "history",
    "system",
    "prompt",
    "completion",
    "tools",
    "contents",
    "systemInstruction",
    "images",
    "label",
    "loss",
]


IN_CELLS = JSON | JSON.map(str) | JSON.map(json.dumps)


@settings(deadline=None)  # the machine may be busy
@given(
    st.dictionaries(st.sampled_from(COLUMNS), IN_CELLS),
    st.sampled_from(sorted(LAYOUTS)),
    st.builds(Reading, st.just(()), st.booleans(), st.booleans()),
)
def test_any_row_becomes_messages_or_one_line(row: dict[str, Any], layout: str, reading: Reading) -> None:
    try:
        messages = to_messages(row, layout, reading)
    except RowError as error:
        assert error.reason and "\n" not in str(error)
    else:
        assert messages[-1].role == "assistant" and all(isinstance(message, Message) for message in messages)
        assert messages[-1].trained


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.sampled_from([*COLUMNS, "text", "chosen", "rejected"]), JSON))
def test_any_row_has_a_layout_or_one_line(row: dict[str, Any]) -> None:
    try:
        assert layout_of(row) in LAYOUTS
    except GemtuneError as error:
        assert isinstance(error, DataError) and "\n" not in str(error)
