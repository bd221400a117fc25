"""The turns of a conversation: roles, texts and images, in the forms in which lists of messages are written."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from gemtune.data.cells import is_empty, kind_of, unpacked
from gemtune.data.conversation import Message, Part, Role
from gemtune.data.formats import Row
from gemtune.data.images import reference_of
from gemtune.data.row_fields import NO_MEDIA, NO_TOOLS, WHOLE_ANSWERS, is_trained, refuse_unsupported, values_of
from gemtune.errors import RowError

ROLES: dict[str, Role] = {  # in any case
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
}
TOOL_ROLES = ("tool", "function", "ipython", "observation", "function_call", "tool_call", "tool_response")
ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "parts")

_MARK = "<image>"  # the place of one of the row's `images` in a text

# What a part of a message may be called -> what becomes of it; a part without a `type` is of the first of these it has.
PART_TYPES: dict[str, str] = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "image": "image",
    "image_url": "image",
    "inlineData": "image",
    "inline_data": "image",
    "fileData": "image",
    "file_data": "image",
    "audio": "media",
    "audio_url": "media",
    "input_audio": "media",
    "video": "media",
    "video_url": "media",
    "functionCall": "call",
    "functionResponse": "call",
    "function_call": "call",
    "function_response": "call",
    "tool_use": "call",
    "tool_result": "call",
    "thinking": "thought",
    "thought": "thought",
    "reasoning": "thought",
}
PARTS_BECOME = {
    "text": "text, of its `text`",
    "image": "an image: its own, the one of its `index`, or the next of the row's",
    "media": "the row is refused: Gemma 3 takes no audio or video",
    "call": "the row is refused: Gemma 3 has no tool turns",
    "thought": "left out, as is a part with `thought: true`",
}
_IMAGE_KEYS = ("image", "image_url", "url", "path", "bytes", "base64")


@dataclass(frozen=True)
class Reading:
    """How rows are read: which fields mean nothing, whether turns of one role are joined, whether a row only asks."""

    ignored: Collection[str] = ()
    merges: bool = False
    asks: bool = False

    def without_ignored(self, holder: Row) -> Row:
        return {name: value for name, value in holder.items() if name not in self.ignored} if self.ignored else holder


class RowImages:
    """The images of a row's `images` or `image` column, taken where its messages name them."""

    def __init__(self, row: Row):
        cell = unpacked(next(iter(values_of(row, "images").values()), None))
        images = cell if isinstance(cell, list) else [] if is_empty(cell) else [cell]
        self.parts = [Part(image=reference_of(image, f"images[{number}]")) for number, image in enumerate(images, 1)]
        self.taken: set[int] = set()
        self.next = 0

    def take(self, place: str, index: object = None) -> Part:
        number = self.next if not isinstance(index, int) else index
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
        question = replace(messages[first], parts=(*self.parts, *messages[first].parts))
        return (*messages[:first], question, *messages[first + 1 :])


def turns(value: object, name: str, images: RowImages, reading: Reading) -> Iterator[Message]:
    """The messages of a list of {role, content} (OpenAI), {from, value} (ShareGPT) or {role, parts} (Vertex)."""
    value = _listed(_inside(unpacked(value)))
    if not isinstance(value, list):
        raise RowError("bad message", f"{name} is {kind_of(value)}; wanted a list of messages, or its JSON text")
    for number, turn in enumerate(map(unpacked, value), 1):
        place = f"{name}[{number}]"
        if not isinstance(turn, dict):
            raise RowError("bad message", f"{place} is {kind_of(turn)}; wanted an object with role and content")
        turn = reading.without_ignored(turn)
        refuse_unsupported(turn, "message", place)
        role, content = _role(turn, place), _first(turn, CONTENT_KEYS)
        if role == "system" and is_empty(content):
            continue
        trained = role != "assistant" or reading.asks or _is_trained(turn, content, place, reading)
        yield message_of(role, content, place, images, trained=trained)


def _inside(value: object) -> object:
    """The list in an object that holds it alone, as the JSON text of a whole row does.

    >>> _inside({"messages": '[{"role": "user"}]'}), _inside({"from": ["human"]})
    ([{'role': 'user'}], {'from': ['human']})
    """
    if isinstance(value, dict) and len(value) == 1:
        key = next(iter(value))
        return unpacked(value[key]) if key in ("messages", "conversations", "contents") else value
    return value


def _listed(value: object) -> object:
    """A list of objects that `datasets` gives as an object of lists.

    >>> _listed({"from": ["human", "gpt"], "value": ["hi", "ho"]})
    [{'from': 'human', 'value': 'hi'}, {'from': 'gpt', 'value': 'ho'}]
    """
    if not isinstance(value, dict) or not value or not all(isinstance(column, list) for column in value.values()):
        return value
    is_even = len({len(column) for column in value.values()}) == 1
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)] if is_even else value


def _is_trained(turn: Row, content: object, place: str, reading: Reading) -> bool:
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and not is_trained(reading.without_ignored(part), place):
            raise RowError("unclear field", f"{place} has a part that is not trained; {WHOLE_ANSWERS}")
    return is_trained(turn, place)


def role_of(turn: object) -> Role | None:
    """The role of a message in any spelling, None where there is none of these.

    >>> role_of({"from": "GPT", "value": "ho"}), role_of({"role": "alien"})
    ('assistant', None)
    """
    return _role_named(_first(turn, ROLE_KEYS)) if isinstance(turn, dict) else None


def _role_named(role: object) -> Role | None:
    return ROLES.get(role.strip().casefold()) if isinstance(role, str) else None


def message_of(role: Role, content: object, place: str, images: RowImages, *, trained: bool = True) -> Message:
    """A message of a string, in which `<image>` marks the places of the row's images, or of a list of parts."""
    if not isinstance(content, list):
        return Message(role, tuple(_texts(text_in(content, place), place, images)), trained)
    return Message(role, tuple(piece for part in content for piece in _parts(part, place, images)), trained)


def text_in(value: object, place: str, move: str = "") -> str:
    """A value that must be text, or a number, as a label is; `move` ends the message where it is not.

    >>> text_in("hi", "completion"), text_in(1, "completion")
    ('hi', '1')
    """
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and value == value:
        return str(value)
    if not isinstance(value, str):
        raise RowError("bad message", f"{place} is {kind_of(value)}; wanted text{move}")
    return value


def _first(turn: Row, keys: tuple[str, ...]) -> object:
    for key in keys:
        value = turn.get(key)
        if value is not None:
            return value
    return None


def _role(turn: Row, place: str) -> Role:
    written = _first(turn, ROLE_KEYS)
    role = _role_named(written)
    if role is None and isinstance(written, str) and written.strip().casefold() in TOOL_ROLES:
        raise RowError("tool calls", f"{place} is a tool call or its result; {NO_TOOLS}")
    if role is None:
        problem = "no role" if written is None else f"the role {written!r}"
        raise RowError("bad message", f"{place} has {problem}; wanted one of {', '.join(ROLES)}")
    return role


def _parts(part: object, place: str, images: RowImages) -> Iterator[Part]:
    if isinstance(part, str):
        part = {"type": "text", "text": part}
    if not isinstance(part, dict):
        raise RowError(
            "bad message", f"{place} holds {kind_of(part)} as a part; wanted {{'type': 'text', 'text': ...}}"
        )
    kind = part.get("type") or next((key for key in PART_TYPES if part.get(key) is not None), None)
    becomes = "thought" if part.get("thought") is True else PART_TYPES.get(str(kind))
    if becomes == "text":
        yield from _texts(text_in(_first(part, ("text", "value")), place), place, images)
    elif becomes == "image":
        image = _image(part, place)
        yield Part(image=reference_of(image, place)) if image else images.take(place, part.get("index"))
    elif becomes == "media":
        raise RowError("audio or video", f"{place} holds a part of type {kind!r}; {NO_MEDIA}")
    elif becomes == "call":
        raise RowError("tool calls", f"{place} holds a part of type {kind!r}; {NO_TOOLS}")
    elif becomes is None:
        raise RowError("bad message", f"{place} holds a part of type {kind!r}; wanted {{'type': 'text', 'text': ...}}")


def _texts(written: str, place: str, images: RowImages) -> Iterator[Part]:
    """The pieces of a text between its marks, and the images there."""
    pieces = written.split(_MARK) if images.parts else [written]
    for number, piece in enumerate(pieces):
        if number:
            yield images.take(place)
        if piece.strip() or len(pieces) == 1:
            yield Part(text=piece)


def _image(part: Row, place: str) -> object:
    """The image that a part brings with it, None where it names one of the row's."""
    data = _first(part, ("inlineData", "inline_data", "fileData", "file_data"))
    if not isinstance(data, dict):
        return next((part[key] for key in _IMAGE_KEYS if part.get(key)), None)
    kind, path = _first(data, ("mimeType", "mime_type")), _first(data, ("fileUri", "file_uri"))
    if not str(kind).startswith("image/"):
        raise RowError("audio or video", f"{place} holds data of type {kind!r}; Gemma 3 takes text and images")
    if str(path).startswith("gs://"):
        raise RowError("image not here", f"{place}: {str(path)[:100]} is in a bucket; copy it here, name its path")
    return path or f"data:{kind};base64,{data.get('data')}"
