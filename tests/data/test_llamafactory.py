"""LLaMA-Factory: an entry of its dataset_info.json is a source; one that cannot be used says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.row_files import Hub, file, read, refused, source
from gemtune.data import llamafactory
from gemtune.data.chat_layouts import to_messages
from gemtune.data.sources import read_rows, source_files
from gemtune.errors import DataError, RowError


def info(folder: Path, entry: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> str:
    """Writes a dataset_info.json with the entry, and its rows to x.json; returns the source that names the entry."""
    if rows:
        file(folder / "x.json", json.dumps(rows))
    file(
        folder / "dataset_info.json", json.dumps({"mine": {"file_name": "x.json"} | entry, "other": {"file_name": "y"}})
    )
    return f"{folder}/dataset_info.json#mine"


def test_an_alpaca_entry_without_columns(tmp_path: Path) -> None:
    row = {"instruction": "hi", "input": "", "output": "{{name}}", "system": "unused, as there", "id": 7}
    path = info(tmp_path, {}, [row])
    assert read(path) == [("x.json[1]", {"instruction": "hi", "input": "", "output": "{{name}}", "id": 7})]
    assert source_files(source(path)) == [tmp_path / "dataset_info.json", tmp_path / "x.json"]
    assert read(f"{tmp_path}#mine") == read(path)


def test_an_alpaca_entry_with_columns(tmp_path: Path) -> None:
    columns = {"prompt": "q", "response": "a", "system": "s", "history": "h"}
    rows: list[dict[str, Any]] = [
        {"q": "how?", "a": "so", "s": "be brief", "h": [["hi", "ho"]], "input": "unused, as there", "topic": "x"},
        {"q": "why?", "a": "thus", "topic": "y"},
    ]
    found = [row for _, row in read(info(tmp_path, {"columns": columns}, rows))]
    assert found == [
        {"instruction": "how?", "output": "so", "system": "be brief", "history": [["hi", "ho"]], "topic": "x"},
        {"instruction": "why?", "output": "thus", "topic": "y"},
    ]
    renamed = read(info(tmp_path, {"columns": columns}, rows), columns={"question": "instruction", "sql": "output"})
    assert renamed[1][1] == {"question": "why?", "sql": "thus", "topic": "y"}


def test_a_sharegpt_entry_with_tags(tmp_path: Path) -> None:
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "bot"}
    turns = [("system", "s"), ("user", "u"), ("bot", "b"), ("observation", "o"), ("function_call", "f"), ("x", "y")]
    rows: list[dict[str, Any]] = [
        {"chat": [{"role": role, "content": text} for role, text in turns], "pics": ["a.jpg"]},
        {"chat": "?"},
    ]
    entry = {"formatting": "sharegpt", "columns": {"messages": "chat", "images": "pics"}, "tags": tags}
    found = [row for _, row in read(info(tmp_path, entry, rows))]
    roles = ["system", "human", "gpt", "observation", "function_call", "x"]
    assert found[0] == {
        "conversations": [{"from": role, "value": text} for role, (_, text) in zip(roles, turns, strict=True)],
        "images": ["a.jpg"],
    }
    assert found[1] == {"conversations": "?"}


def test_an_openai_entry(tmp_path: Path) -> None:
    turns = [{"who": "User", "says": "u"}, {"who": "AI", "says": "a", "tool_calls": []}, "?"]
    tags = {"role_tag": "who", "content_tag": "says", "user_tag": "User", "assistant_tag": "AI"}
    found = read(info(tmp_path, {"formatting": "openai", "tags": tags}, [{"messages": turns}]))[0][1]
    assert found == {
        "messages": [
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a", "tool_calls": []},
            "?",
        ]
    }


def test_a_hub_entry(tmp_path: Path) -> None:
    entry = {"hf_hub_url": "user/name", "subset": "en", "split": "test", "num_samples": 1, "columns": {}}
    hub = Hub([{"instruction": "a", "input": None, "output": "b"}] * 3)
    data = source(info(tmp_path, entry))
    assert len(list(read_rows(data, load_dataset=hub))) == 1
    assert hub.calls == [(("user/name", "en"), {"split": "test", "streaming": True})]
    assert source_files(data) == []


def test_an_entry_must_be_named(tmp_path: Path) -> None:
    info(tmp_path, {}, [{"instruction": "a", "output": "b"}])
    for path in (tmp_path / "dataset_info.json", tmp_path):
        said = refused(path)
        assert "dataset_info.json: holds several data sets; name one" in said and "#NAME, of mine, other" in said
    said = refused(f"{tmp_path}/dataset_info.json#mime")
    assert "dataset_info.json: no entry 'mime'; did you mean 'mine'? it holds mine, other" in said
    assert "no such file" in refused(f"{tmp_path}/nope/dataset_info.json#mine")
    assert "no such file" in refused(f"{tmp_path}/dataset_info.json#other")
    assert "no LLaMA-Factory entries" in refused(file(tmp_path / "not" / "dataset_info.json", '{"a": 1}'))
    assert "dataset_info.json:1: broken JSON" in refused(file(tmp_path / "bad" / "dataset_info.json", "{"))


def test_the_rows_of_an_entry_may_only_ask() -> None:
    entry = llamafactory.Entry("i#x", Path("i"), "alpaca", {"prompt": "q", "response": "a"}, frozenset("qa"), {})
    asked = [("x:1", {"q": "how?"})]
    assert list(llamafactory.standard_rows(iter(asked), entry, ("output",))) == [("x:1", {"instruction": "how?"})]
    with pytest.raises(DataError, match="column 'a', the response of i#x, is missing"):
        list(llamafactory.standard_rows(iter(asked), entry))


def test_an_entry_with_marked_answers(tmp_path: Path) -> None:
    columns = {"prompt": "q", "response": "a", "kto_tag": "label"}
    rows = [{"q": "how?", "a": "so", "label": True}, {"q": "why?", "a": "thus", "label": False}]
    read_rows = [row for _, row in read(info(tmp_path, {"columns": columns}, rows))]
    assert [row["kto_tag"] for row in read_rows] == [True, False]
    with pytest.raises(RowError, match="`kto_tag` is False"):
        to_messages(read_rows[1], "alpaca")


def test_what_an_entry_does_not_name_is_not_used_but_for_what_says_that_an_answer_is_wrong(tmp_path: Path) -> None:
    more = {"system_prompt": "s", "context": "c", "History": [["1", "2"]], "label": False, "rejected": "no", "id": 7}
    row = {"instruction": "hi", "output": "ho", **more}
    ((_, found),) = read(info(tmp_path, {}, [row]))
    assert found == {"instruction": "hi", "output": "ho", "label": False, "rejected": "no", "id": 7}


def test_an_entry_over_messages_in_text_and_roles_in_capitals(tmp_path: Path) -> None:
    tags = {"role_tag": "who", "content_tag": "says", "user_tag": "frage", "assistant_tag": "antwort"}
    messages = [{"who": "Frage", "says": "hi"}, {"who": "ANTWORT", "says": "ho", "weight": 1}]
    entry = {"formatting": "sharegpt", "columns": {"messages": "m"}, "tags": tags}
    ((_, row),) = read(info(tmp_path, entry, [{"m": json.dumps(messages)}]))
    assert [(m.role, m.text) for m in to_messages(row, "sharegpt")] == [("user", "hi"), ("assistant", "ho")]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"ranking": True}, "dataset_info.json#mine: ranking is set: it is preference data"),
        ({"columns": {"prompt": "p", "chosen": "c", "rejected": "r"}}, "preference data"),
        ({"columns": {"prompt": "text"}}, "`columns` names no response, only prompt"),
        ({"columns": {"prompt": "text", "respons": "a"}}, "only prompt, respons; did you mean 'respons'?"),
        ({"formatting": "chatml"}, "formatting 'chatml'; wanted alpaca, sharegpt, openai"),
        ({"file_name": None, "script_url": "x.py"}, "never runs a data set's own code"),
        ({"revision": "v2", "hf_hub_url": "a/b"}, "revision is set: download that revision"),
        ({"columns": ["prompt"]}, "columns is \"['prompt']\"; wanted an object of names"),
        ({"columns": {"prompt": 5}}, "columns is {'prompt': 5}; wanted an object of names"),
        ({"tags": "x"}, "tags is 'x'; wanted an object of names"),
        ({"formatting": {}}, "formatting is '{}'; wanted a name"),
        ({"num_samples": -1}, "num_samples is '-1'; wanted a whole number"),
        ({"num_samples": "9"}, "num_samples is '9'; wanted a whole number"),
        ({"file_name": None}, "only file_name; wanted file_name or hf_hub_url"),
        ({"file_name": None, "hf_hub_url": None}, "only file_name, hf_hub_url; wanted file_name or hf_hub_url"),
        ({"hf_hub_url": 5}, "hf_hub_url is '5'; wanted a name"),
        ({"hf_hub_url": ""}, "hf_hub_url is ''; wanted a name"),
        ({"hf_hub_url": "a/b", "split": []}, "split is '[]'; wanted a name"),
        ({"file_name": []}, "file_name is '[]'; wanted a name"),
        ({"file_name": "x" * 300}, "File name too long"),
        ({"file_name": "a\0b"}, "cannot be a path (a NUL byte)"),
        ({"columns": {"prompt": "q", "response": "a"}}, "x.json[1]: column 'q', the prompt of dataset_info.json#mine"),
        (
            {"columns": {"prompt": "instruction", "response": "output", "system": "sistem"}},
            "dataset_info.json#mine: column 'sistem' is in no row; found instruction, output, system; "
            "did you mean 'system'? mend `columns`",
        ),
    ],
)
def test_an_entry_that_cannot_be_used(tmp_path: Path, entry: dict[str, Any], said: str) -> None:
    assert said in refused(info(tmp_path, entry, [{"instruction": "a", "output": "b", "system": "c"}]))


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"mine": ' + "9" * 5000 + "}", '{"mine": 5}', "[]", "null", "{", b"\xff"]
)
def test_an_info_file_of_any_shape_is_one_line(tmp_path: Path, content: str | bytes) -> None:
    assert "dataset_info.json" in refused(f"{file(tmp_path / llamafactory.INFO, content)}#mine")


def test_an_entry_of_another_hub(tmp_path: Path) -> None:
    path = file(tmp_path / "dataset_info.json", '{"mine": {"ms_hub_url": "a/b"}}')
    assert "only ms_hub_url; wanted file_name or hf_hub_url" in refused(f"{path}#mine")
