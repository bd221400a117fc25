"""Conversation, Message and Part: what a task turns a row into, and what a model is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gemtune.errors import RowError
from gemtune.files import JsonObject, read_jsonl

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Part:
    """A piece of a message: text, or an image.

    A task gives an image as the row does: a path, URL, base64 text or bytes. prepare copies it into the data directory;
    from then on it is the path there, with `size` = (width, height) in pixels.
    """

    text: str | None = None
    image: str | bytes | None = None
    size: tuple[int, int] | None = None

    def to_json(self) -> JsonObject:
        if self.image is None:
            return {"type": "text", "text": self.text}
        return {"type": "image", "image": self.image, "size": self.size}


@dataclass(frozen=True)
class Message:
    """What one role says.

    >>> Message.of("user", "hello").text
    'hello'
    """

    role: Role
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: Role, text: str) -> Message:
        return cls(role, (Part(text=text),))

    @property
    def text(self) -> str:
        return "".join(part.text or "" for part in self.parts)


@dataclass(frozen=True)
class Conversation:
    """Messages with what a split, a score and an error message need to know about them.

    `key` is the text that two rows share when they ask the same question; `group` is what the split keeps whole;
    `where` is the file and row it came from; `meta` is what the task's score needs (gold SQL, schema, ...), as JSON.
    """

    messages: tuple[Message, ...]
    task: str
    key: str
    group: str
    where: str
    weight: float = 1.0
    meta: JsonObject = field(default_factory=dict)

    @property
    def answer(self) -> str:
        return self.messages[-1].text

    @property
    def images(self) -> list[Part]:
        """The image parts, in order."""
        return [part for message in self.messages for part in message.parts if part.image is not None]

    @property
    def image_paths(self) -> list[str]:
        """The paths of the images; once prepared, inside the data directory."""
        return [str(part.image) for part in self.images]

    def to_json(self) -> JsonObject:
        return {
            "messages": [{"role": m.role, "content": [part.to_json() for part in m.parts]} for m in self.messages],
            "task": self.task,
            "key": self.key,
            "group": self.group,
            "where": self.where,
            "weight": self.weight,
            "meta": self.meta,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Conversation:
        messages = tuple(Message(m["role"], tuple(_part(part) for part in m["content"])) for m in value["messages"])
        return cls(messages, **{name: value[name] for name in ("task", "key", "group", "where", "weight", "meta")})


def _part(value: JsonObject) -> Part:
    if value["type"] == "text":
        return Part(text=value["text"])
    return Part(image=value["image"], size=tuple(value["size"]) if value["size"] else None)


def validate(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages, or RowError: an optional system message, then user and assistant in turn, ending in an answer.

    >>> validate((Message.of("user", "hi"), Message.of("user", "there")))
    Traceback (most recent call last):
    gemtune.errors.RowError: message 2 is from 'user'; wanted 'assistant': after an optional system message, user and \
assistant take turns
    """
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    offset = len(messages) - len(turns)
    for index, message in enumerate(turns):
        role = ("user", "assistant")[index % 2]
        if message.role != role:
            raise RowError(
                "roles out of order",
                f"message {index + offset + 1} is from {message.role!r}; wanted {role!r}: after an optional system "
                "message, user and assistant take turns",
            )
    if not turns or turns[-1].role != "assistant":
        raise RowError("no answer", "the last message is not the assistant's; there is nothing to train on")
    for index, message in enumerate(messages):
        if message.role != "user" and any(part.image is not None for part in message.parts):
            raise RowError(
                "bad message", f"message {index + 1} ({message.role}) holds an image; only the user may show one"
            )
        if error := _lone_surrogate(message.text):
            raise RowError(
                "bad unicode",
                f"message {index + 1} ({message.role}): half a character (a lone surrogate) at {error.start}; was it "
                "cut inside an emoji?",
            )
        if not any(part.image or (part.text or "").strip() for part in message.parts):
            reason = "empty answer" if message.role == "assistant" else "empty prompt"
            raise RowError(reason, f"message {index + 1} ({message.role}) is empty")
    return messages


def _lone_surrogate(text: str) -> UnicodeEncodeError | None:
    """Half of a surrogate pair, which JSON can spell but no tokenizer and no UTF-8 file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error
    return None


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Yields the conversations of a file that prepare wrote."""
    for value in read_jsonl(path):
        yield Conversation.from_json(value)
