"""LLaMA-Factory's dataset_info.json: which file or Hub data set an entry names, and its rows under standard keys."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.data.cells import unpacked
from gemtune.data.formats import Row, Rows
from gemtune.data.json_stream import reason
from gemtune.data.paths import is_there
from gemtune.data.row_fields import field_of
from gemtune.data.text_files import open_text
from gemtune.errors import DataError, did_you_mean, listed
from gemtune.files import JsonObject

if TYPE_CHECKING:
    from gemtune.recipe.schema import DataSource

INFO = "dataset_info.json"

# LLaMA-Factory's name for a column -> the standard key, and the file's column where the entry names none at all.
# As there, an entry that names some columns uses no others.
_EXTRAS = {key: (key, None) for key in ("system", "tools", "images", "videos", "audios", "kto_tag")}
COLUMNS: dict[str, dict[str, tuple[str, str | None]]] = {
    "alpaca": {
        "prompt": ("instruction", "instruction"),
        "query": ("input", "input"),
        "response": ("output", "output"),
        "history": ("history", None),
        **_EXTRAS,
    },
    "sharegpt": {"messages": ("conversations", "conversations"), **_EXTRAS},
    "openai": {"messages": ("messages", "messages"), **_EXTRAS},
}
REQUIRED = {"alpaca": ("prompt", "response"), "sharegpt": ("messages",), "openai": ("messages",)}

# LLaMA-Factory's name for a key or role inside a message -> the standard one, which is also the default.
TAGS = {
    "sharegpt": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "observation_tag": "observation",
        "function_tag": "function_call",
        "system_tag": "system",
    },
    "openai": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "observation_tag": "tool",
        "function_tag": "function",
        "system_tag": "system",
    },
}

# Keys of an entry that gemtune does not support, and the next move.
REFUSED = {
    "ranking": "it is preference data (chosen, rejected); gemtune trains on one right answer per row",
    "script_url": "gemtune never runs a data set's own code; write its rows to JSONL and name that as file_name",
    "cloud_file_name": "download the file and name it as file_name",
    "folder": "download that folder and name it as file_name",
    "revision": "download that revision and name its files as file_name",
}
# Keys of an entry that it does support -> their type.
TYPES: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("file_name", "hf_hub_url", "formatting", "subset", "split"), (str, "a name")),
    **dict.fromkeys(("columns", "tags"), (dict, "an object of names")),
    "num_samples": (int, "a whole number"),
}
_PREFERENCE = ("chosen", "rejected")


@dataclass(frozen=True)
class Entry:
    """One entry of a dataset_info.json: the layout of its rows."""

    where: str
    info: Path
    formatting: str
    columns: Mapping[str, str]  # LLaMA-Factory's name -> the file's column
    named: frozenset[str]  # the file's columns that the entry itself names
    tags: Mapping[str, str]


def entry_names(info: Path) -> list[str]:
    """The names of the entries, those whose file is there first; none when the file is another program's."""
    entries = {name: entry for name, entry in _load(info).items() if isinstance(entry, dict) and _source_keys(entry)}
    return sorted(entries, key=lambda name: not is_there(info.parent / str(entries[name].get("file_name", " "))))


def read_entry(info: Path, name: str, data: DataSource) -> tuple[Entry, DataSource]:
    """The entry called `name`, and `data` with the file or Hub data set the entry names as its source."""
    names = entry_names(info)
    where = f"{info.name}#{name}"
    if name not in names:
        raise DataError(f"{info}: no entry {name!r}{did_you_mean(name, names, f'it holds {listed(names)}')}")
    value = _load(info)[name]
    for key, why in REFUSED.items():
        if value.get(key):
            raise DataError(f"{where}: {key} is set: {why}")
    _check_types(value, where)
    return _entry(value, where, info), data.model_copy(update=_source(value, where, info, data))


def _check_types(value: JsonObject, where: str) -> None:
    for key, (kind, words) in TYPES.items():
        setting = value.get(key)
        is_right = isinstance(setting, kind) and not isinstance(setting, bool) and setting != ""
        if setting is not None and (not is_right or (isinstance(setting, int) and setting < 0)):
            raise DataError(f"{where}: {key} is {str(setting)[:40]!r}; wanted {words}")


def standard_rows(rows: Rows, entry: Entry, optional: Collection[str] = ()) -> Rows:
    """Yields the rows with the standard keys; DataError when a column the entry names is in none of them.

    `optional` are standard keys that rows may lack: those of the answer, where rows only ask.
    """
    table = COLUMNS[entry.formatting]
    absent = entry.named - {column for name, column in entry.columns.items() if table[name][0] in optional}
    columns: list[str] = []
    for where, row in rows:
        absent -= row.keys()
        columns = columns or list(row)
        yield where, standard_row(row, entry, where, optional)
    for column in sorted(absent):
        raise DataError(
            f"{entry.where}: column {column!r} is in no row; found {listed(columns)}"
            + did_you_mean(column, columns, f"mend `columns` in {entry.info}")
        )


def standard_row(row: Row, entry: Entry, where: str, optional: Collection[str] = ()) -> Row:
    """The row with standard keys, roles and contents; its other columns stay, for a split by them."""
    table = COLUMNS[entry.formatting]
    for name in REQUIRED[entry.formatting]:
        column = entry.columns[name]
        if column not in row and table[name][0] not in optional:
            raise DataError(
                f"{where}: column {column!r}, the {name} of {entry.where}, is missing; found {listed(row)}"
                + did_you_mean(column, row, f"mend `columns` in {entry.info}")
            )
    mapped = {table[name][0]: row[column] for name, column in entry.columns.items() if column in row}
    rest = {key: value for key, value in row.items() if key not in entry.columns.values() and not _is_standard(key)}
    key = table["messages"][0] if "messages" in table else None
    if key and isinstance(messages := unpacked(mapped[key]), list):
        mapped[key] = [_standard_message(unpacked(message), entry) for message in messages]
    return {**rest, **mapped}


def _is_standard(name: str) -> bool:
    """Whether a column would be read in a row without an entry: as there, one that the entry does not name is not.

    What says that an answer is not to be trained still does: `rejected`, `label`.
    """
    if field := field_of(name):
        return field.kind in ("system", "history", "images", "tools", "media")
    return name == "context" or any(name == key for table in COLUMNS.values() for key, _ in table.values())


def _standard_message(message: object, entry: Entry) -> object:
    if not isinstance(message, dict):  # the layout will say what is wrong with it
        return message
    standard, tags = TAGS[entry.formatting], entry.tags
    roles = {tags[tag].casefold(): standard[tag] for tag in tags if tag not in ("role_tag", "content_tag")}
    keys = {tags["role_tag"]: standard["role_tag"], tags["content_tag"]: standard["content_tag"]}
    message = {keys.get(key, key): value for key, value in message.items()}
    role = message.get(standard["role_tag"])
    if isinstance(role, str):
        message[standard["role_tag"]] = roles.get(role.casefold(), role)
    return message


def _entry(value: JsonObject, where: str, info: Path) -> Entry:
    formatting = value.get("formatting", "alpaca")
    if formatting not in COLUMNS:
        raise DataError(f"{where}: formatting {formatting!r}; wanted {', '.join(COLUMNS)}")
    mapping = {key: column for key, column in _strings(value, "columns", where) if column}
    if any(key in mapping for key in _PREFERENCE):
        raise DataError(f"{where}: {REFUSED['ranking']}")
    table = COLUMNS[formatting]
    defaults = {key: column for key, (_, column) in table.items() if column}
    columns = {key: column for key, column in mapping.items() if key in table} if mapping else defaults
    if "messages" in table:
        columns.setdefault("messages", table["messages"][0])
    for key in REQUIRED[formatting]:
        if key not in columns:
            raise DataError(
                f"{where}: `columns` names no {key}, only {listed(mapping)}"
                + did_you_mean(key, mapping, "a row needs a question and its answer; plain text alone is not supported")
            )
    tags = dict(TAGS.get(formatting, {}))
    tags.update({tag: name for tag, name in _strings(value, "tags", where) if name and tag in tags})
    return Entry(where, info, formatting, columns, frozenset(mapping.values()) & set(columns.values()), tags)


def _source(value: JsonObject, where: str, info: Path, data: DataSource) -> dict[str, object]:
    """The keys of `data` that the entry decides."""
    limits = [limit for limit in (data.limit, value.get("num_samples")) if limit]
    limit = min(limits) if limits else None
    if value.get("hf_hub_url"):
        config, split = value.get("subset") or data.hub_config, value.get("split") or data.hub_split
        hub = {"source": value["hf_hub_url"], "format": "hub", "hub_config": config, "hub_split": split}
        return {"limit": limit, **hub}
    if value.get("file_name"):
        return {"limit": limit, "source": str(info.parent / value["file_name"])}
    names = listed(_source_keys(value))
    raise DataError(f"{where}: only {names}; wanted file_name or hf_hub_url: download it and name the file")


def _source_keys(value: JsonObject) -> list[str]:
    return [key for key in value if key.endswith("_url") or key in ("file_name", "cloud_file_name")]


def _strings(value: JsonObject, key: str, where: str) -> Iterator[tuple[str, str | None]]:
    names = value.get(key) or {}
    if not isinstance(names, dict) or not all(isinstance(name, str | None) for name in names.values()):
        raise DataError(f"{where}: {key} is {names!r}; wanted an object of names")
    yield from names.items()


def _load(info: Path) -> JsonObject:
    with open_text(info, "utf-8", newline="") as text:
        try:
            value = json.load(text)
        except (ValueError, RecursionError) as error:
            line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            raise DataError(f"{info}{line}: broken JSON ({reason(error)}); mend it there") from error
    return value if isinstance(value, dict) else {}
