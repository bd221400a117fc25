"""Conversation, Message and Part: what a task turns a row into, and what a model is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gemtune.errors import RowError, RunError
from gemtune.files import JsonObject, read_jsonl

Role = Literal["system", "user", "assistant"]
MOST_TEXT = 1_000_000  # characters of a row: twice what fits into the 131,072 tokens of Gemma 3


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
    """What one role says; an answer that is not `trained` is context for those after it.

    >>> Message.of("user", "hello").text
    'hello'
    """

    role: Role
    parts: tuple[Part, ...]
    trained: bool = True

    @classmethod
    def of(cls, role: Role, text: str) -> Message:
        return cls(role, (Part(text=text),))

    @property
    def text(self) -> str:
        return "".join(part.text or "" for part in self.parts)

    @property
    def is_empty(self) -> bool:
        return not any(part.image or (part.text or "").strip() for part in self.parts)

    def to_json(self) -> JsonObject:
        marks = {} if self.trained else {"trained": False}
        return {"role": self.role, "content": [part.to_json() for part in self.parts], **marks}


@dataclass(frozen=True)
class Conversation:
    """Messages with what a split, a score and an error message need to know about them; the last one is an answer.

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
            "messages": [message.to_json() for message in self.messages],
            "task": self.task,
            "key": self.key,
            "group": self.group,
            "where": self.where,
            "weight": self.weight,
            "meta": self.meta,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Conversation:
        messages = tuple(
            Message(m["role"], tuple(_part(part) for part in m["content"]), m.get("trained", True))
            for m in value["messages"]
        )
        return cls(messages, **{name: value[name] for name in ("task", "key", "group", "where", "weight", "meta")})


def _part(value: JsonObject) -> Part:
    if value["type"] == "text":
        return Part(text=value["text"])
    return Part(image=value["image"], size=tuple(value["size"]) if value["size"] else None)


def validate(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages, or RowError: an optional system message, then user and assistant in turn, ending in an answer.

    A system message that says nothing is left out.

    >>> validate((Message.of("user", "hi"), Message.of("user", "there")))
    Traceback (most recent call last):
    gemtune.errors.RowError: message 2 is from 'user'; wanted 'assistant': after an optional system message, user and \
assistant take turns
    """
    has_system = bool(messages) and messages[0].role == "system"
    _check_order(messages[1:] if has_system else messages, first=2 if has_system else 1)
    for number, message in enumerate(messages, 1):
        _check_content(message, f"message {number} ({message.role})")
    return messages[1:] if has_system and messages[0].is_empty else messages


def _check_order(turns: tuple[Message, ...], first: int) -> None:
    for index, message in enumerate(turns):
        role = ("user", "assistant")[index % 2]
        if message.role != role:
            raise RowError(
                "roles out of order",
                f"message {index + first} is from {message.role!r}; wanted {role!r}: after an optional system "
                "message, user and assistant take turns",
            )
    if not turns or turns[-1].role != "assistant":
        raise RowError("no answer", "the last message is not the assistant's; there is nothing to train on")
    if not turns[-1].trained:
        raise RowError("not trained", "the last answer is not to be trained; end with the last one that is")


def _check_content(message: Message, place: str) -> None:
    if message.role != "user" and any(part.image is not None for part in message.parts):
        raise RowError("bad message", f"{place} holds an image; only the user may show one")
    if error := _lone_surrogate(message.text):
        raise RowError(
            "bad unicode",
            f"{place}: half a character (a lone surrogate) at {error.start}; was it cut inside an emoji?",
        )
    if message.is_empty and message.role != "system":
        reason = "empty answer" if message.role == "assistant" else "empty prompt"
        raise RowError(reason, f"{place} is empty")


def check_size(texts: Iterable[str]) -> None:
    """RowError where texts of one row are longer, together, than any model reads.

    >>> check_size(["a" * 999_999, "bc"])
    Traceback (most recent call last):
    gemtune.errors.RowError: 1,000,001 characters of text; no model reads more than 1,000,000: cut it, or split it
    """
    length = sum(map(len, texts))
    if length > MOST_TEXT:
        raise RowError(
            "too much text",
            f"{length:,} characters of text; no model reads more than {MOST_TEXT:,}: cut it, or split it",
        )


def _lone_surrogate(text: str) -> UnicodeEncodeError | None:
    """Half of a surrogate pair, which JSON can spell but no tokenizer and no UTF-8 file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error
    return None


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Yields the conversations of a file that prepare wrote; RunError when a line is none."""
    for number, value in enumerate(read_jsonl(path), 1):
        try:
            conversation = Conversation.from_json(value)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"{path}:{number}: no conversation ({error!r}); run `gemtune prepare` again") from error
        yield conversation
