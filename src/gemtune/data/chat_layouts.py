"""The usual layouts of a conversation in a row, and how each becomes messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gemtune.data.conversation import Message, Part, Role, validate
from gemtune.data.formats import Row
from gemtune.data.images import reference_of
from gemtune.data.json_stream import kind_of
from gemtune.errors import DataError, RowError

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
TOOL_ROLES = ("tool", "function", "ipython", "observation", "function_call", "tool_call", "tool_response")
TOOL_KEYS = ("tool_calls", "function_call")

# Names that prompt and answer columns have together; the columns in third place, where a row has them, follow the
# prompt on a line of their own (Dolly's `context`).
PAIRS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("prompt", "completion", ()),
    ("prompt", "response", ()),
    ("query", "response", ()),
    ("instruction", "response", ("input", "context")),
    ("instruction", "completion", ("input", "context")),
)

_NO_TOOLS = "Gemma 3's chat template has no tool turns; write call and result as plain text, or leave the row out"
_OTHER_MEDIA = ("audio", "audios", "input_audio", "video", "videos", "video_url")
_NO_OTHER_MEDIA = "Gemma 3 takes no audio or video; leave the row out"
_IMAGE_PARTS = ("image", "image_url")
_MARK = "<image>"  # the place of one of the row's `images` in a text


class _Images:
    """The images of a row's `images` or `image` column, taken where its messages name them."""

    def __init__(self, row: Row):
        cell = row.get("images", row.get("image"))
        images = cell if isinstance(cell, list) else [cell] if cell not in (None, "", b"") else []
        self.parts = [Part(image=reference_of(image, f"images[{number}]")) for number, image in enumerate(images, 1)]
        self.taken: set[int] = set()
        self.next = 0

    def take(self, place: str, index: int | None = None) -> Part:
        number = self.next if index is None else index
        if not 0 <= number < len(self.parts):
            raise RowError("missing image", f"{place} names image {number + 1}; the row has {len(self.parts)}")
        self.taken.add(number)
        self.next = number + 1
        return self.parts[number]

    def place_in(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The messages; where they name no image, all of the row's images precede the first question, as in TRL."""
        if len(self.taken) == len(self.parts):
            return messages
        if self.taken:
            count = f"{len(self.parts)} images, {len(self.taken)} of them named"
            raise RowError("images do not match", f"the row has {count}; write {_MARK} where each of them belongs")
        first = next((index for index, message in enumerate(messages) if message.role == "user"), None)
        if first is None:
            return messages
        question = Message("user", (*self.parts, *messages[first].parts))
        return (*messages[:first], question, *messages[first + 1 :])


def layout_of(row: Row) -> str:
    """The layout that a row's keys belong to: messages, sharegpt, alpaca or prompt_completion.

    >>> layout_of({"instruction": "Say hi", "input": "", "output": "Hi!"})
    'alpaca'
    """
    keys = row.keys()
    if {"chosen", "rejected"} <= keys:
        move = "set data.columns: {completion: chosen} to train on `chosen` alone"
        if "messages" in keys:
            move = "set data.layout: messages to train on its `messages` alone"
        raise DataError(
            f"preference data (chosen, rejected) is not supported: gemtune trains on one right answer per row; {move}"
        )
    for layout, layout_keys in LAYOUT_KEYS:
        if keys >= layout_keys:
            return layout
    if keys <= {"text", "id", "meta", "metadata", "source", "url", "timestamp"} and "text" in keys:
        raise DataError("plain text (a `text` column alone) is not supported: a row needs a question and its answer")
    pairs = " or ".join(f"{prompt} + {answer}" for prompt, answer, _ in PAIRS[:2])
    raise DataError(
        f"no known layout has the columns {', '.join(list(row)[:20]) or '(none)'}; wanted messages, conversations, "
        f"instruction + output, or {pairs}: name yours in data.columns, {{prompt: <column>, completion: <column>}}, or "
        "write the wording yourself with task: columns"
    )


LAYOUT_KEYS: tuple[tuple[str, frozenset[str]], ...] = (
    ("messages", frozenset({"messages"})),
    ("sharegpt", frozenset({"conversations"})),
    ("alpaca", frozenset({"instruction", "output"})),
    *(("prompt_completion", frozenset(pair[:2])) for pair in PAIRS),
)


def to_messages(row: Row, layout: str) -> tuple[Message, ...]:
    """The row's messages, valid and ending in an answer; RowError when they cannot be.

    >>> [m.text for m in to_messages({"instruction": "Add.", "input": "1 + 1", "output": "2"}, "alpaca")]
    ['Add.\\n1 + 1', '2']
    """
    _refuse_tools_and_media(row)
    images = _Images(row)
    messages = images.place_in(tuple(LAYOUTS[layout](row, images)))
    system = _optional_text(row, "system")
    if system and (not messages or messages[0].role != "system"):
        messages = (Message.of("system", system), *messages)
    return validate(messages)


def _refuse_tools_and_media(row: Row) -> None:
    if row.get("tools") not in (None, "", "[]", "{}", [], {}):
        raise RowError("tool calls", f"`tools` is set; {_NO_TOOLS}")
    for key in _OTHER_MEDIA:
        if row.get(key) not in (None, "", []):
            raise RowError("audio or video", f"`{key}` is set; {_NO_OTHER_MEDIA}")


def _messages(row: Row, images: _Images) -> Iterator[Message]:
    return _turns(_column(row, "messages"), "messages", images)


def _sharegpt(row: Row, images: _Images) -> Iterator[Message]:
    return _turns(_column(row, "conversations"), "conversations", images)


def _alpaca(row: Row, images: _Images) -> Iterator[Message]:
    """As LLaMA-Factory does: instruction and input, where there is one, on lines of their own; history first."""
    history = row.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise RowError("bad message", f"history is {kind_of(history)}; wanted a list of [question, answer] pairs")
    for number, (question, answer) in enumerate(history, 1):
        yield _message("user", question, f"history[{number}]", images)
        yield _message("assistant", answer, f"history[{number}]", images)
    yield _message("user", _joined(row, ("instruction", "input")), "instruction", images)
    yield _message("assistant", _column(row, "output"), "output", images)


def _prompt_completion(row: Row, images: _Images) -> Iterator[Message]:
    pair = next((pair for pair in PAIRS if pair[0] in row and pair[1] in row), PAIRS[0])
    prompt, answer, context = pair
    if isinstance(_column(row, prompt), list):  # TRL's conversational form
        yield from _turns(row[prompt], prompt, images)
    else:
        yield _message("user", _joined(row, (prompt, *context)), prompt, images)
    if isinstance(_column(row, answer), list):
        yield from _turns(row[answer], answer, images)
    else:
        yield _message("assistant", row[answer], answer, images)


LAYOUTS: dict[str, Callable[[Row, _Images], Iterator[Message]]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
}


def _turns(turns: object, name: str, images: _Images) -> Iterator[Message]:
    """The messages of a list of {role, content} (OpenAI) or {from, value} (ShareGPT)."""
    if not isinstance(turns, list):
        raise RowError("bad message", f"{name} is {kind_of(turns)}; wanted a list of messages")
    for number, turn in enumerate(turns, 1):
        place = f"{name}[{number}]"
        if not isinstance(turn, dict):
            raise RowError("bad message", f"{place} is {kind_of(turn)}; wanted an object with role and content")
        role = turn.get("role", turn.get("from"))
        if role in TOOL_ROLES or any(turn.get(key) for key in TOOL_KEYS):
            raise RowError("tool calls", f"{place} is a tool call or its result; {_NO_TOOLS}")
        if not isinstance(role, str) or role not in ROLES:
            problem = "no role" if role is None else f"the role {role!r}"
            raise RowError("bad message", f"{place} has {problem}; wanted one of {', '.join(ROLES)}")
        if turn.get("weight") == 0:
            raise RowError("weight 0", f"{place} has weight 0; gemtune trains on every answer, or train.train_on: last")
        yield _message(ROLES[role], turn.get("content", turn.get("value")), place, images)


def _message(role: Role, content: object, place: str, images: _Images) -> Message:
    """A message of a string, in which `<image>` marks the places of the row's images, or of OpenAI's list of parts."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return Message(role, tuple(piece for part in parts for piece in _parts(part, place, images)))


def _parts(part: object, place: str, images: _Images) -> Iterator[Part]:
    if not isinstance(part, dict):
        raise RowError(
            "bad message", f"{place} holds {kind_of(part)} as a part; wanted {{'type': 'text', 'text': ...}}"
        )
    kind = part.get("type")
    if kind in _IMAGE_PARTS:
        image = next((part[key] for key in (*_IMAGE_PARTS, "url", "path", "bytes", "base64") if part.get(key)), None)
        yield Part(image=reference_of(image, place)) if image else images.take(place, part.get("index"))
    elif kind == "text":
        pieces = _text(part.get("text"), place).split(_MARK) if images.parts else [_text(part.get("text"), place)]
        for number, piece in enumerate(pieces):
            if number:
                yield images.take(place)
            if piece.strip() or len(pieces) == 1:
                yield Part(text=piece)
    elif kind in _OTHER_MEDIA:
        raise RowError("audio or video", f"{place} holds a part of type {kind!r}; {_NO_OTHER_MEDIA}")
    else:
        raise RowError("bad message", f"{place} holds a part of type {kind!r}; wanted {{'type': 'text', 'text': ...}}")


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise RowError("bad message", f"{place} is {kind_of(value)}; wanted text")
    return value


def _column(row: Row, name: str) -> object:
    if name not in row:
        raise RowError("bad message", f"column {name!r} is missing; found {', '.join(list(row)[:20])}")
    return row[name]


def _optional_text(row: Row, name: str) -> str:
    return "" if row.get(name) is None else _text(row[name], name)


def _joined(row: Row, names: tuple[str, ...]) -> str:
    """The columns that are not empty, each on a line of its own; the first one must be there."""
    _column(row, names[0])
    return "\n".join(text for text in (_optional_text(row, name) for name in names) if text)
