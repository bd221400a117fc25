"""The fields beside question and answer that change what is trained: one table, of which docs/formats.md has a copy.

A field is found by its name in any spelling: `systemInstruction`, `system_instruction` and `System Instruction` are
one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from gemtune.data.cells import is_empty, truth
from gemtune.data.formats import Row
from gemtune.errors import RowError

NO_TOOLS = "Gemma 3's chat template has no tool turns; write call and result as plain text, or leave the row out"
WHOLE_ANSWERS = "gemtune trains a whole answer or none of it"
NO_MEDIA = "Gemma 3 takes no audio or video; leave the row out"

Kind = Literal["system", "history", "images", "tools", "media", "calls", "mark", "label", "detail", "answers"]
Place = Literal["row", "message"]


@dataclass(frozen=True)
class Field:
    """One row of the table; `trained` reads a value as whether the answer is to be trained, None where that is unclear.

    `pattern` is of more spellings than `names` lists, in letters and digits alone.
    """

    kind: Kind
    names: tuple[str, ...]
    places: tuple[Place, ...]
    becomes: str
    trained: Callable[[object], bool | None] = lambda value: True
    unclear: str = ""
    pattern: str = ""


def _unless(value: object) -> bool | None:
    masked = truth(value)
    return None if masked is None else not masked


def _mask(value: object) -> bool | None:
    """A number could mean both: masked from the loss, or what the loss is multiplied by."""
    if isinstance(value, str) and value.strip().casefold() in ("user", "human"):  # NeMo: the role that is masked
        return True
    return None if not isinstance(value, bool) and str(value).strip() in ("0", "1", "0.0", "1.0") else _unless(value)


def _label(value: object) -> bool | None:
    """Yes or no says whether the answer is good (KTO); 0 and 1 may as well be classes; anything else is a class."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().casefold(), None if value in ("0", "1") else True)
    return None if isinstance(value, int | float) and value in (0, 1) else True


def _rejected(value: object) -> bool | None:
    """`rejected: true` marks the answer; a number is its score; a text or a list is another answer."""
    return not value if isinstance(value, bool) else True if isinstance(value, int | float) else None


def _chosen(value: object) -> bool | None:
    return value if isinstance(value, bool) else True if isinstance(value, int | float) else None


_BOTH: tuple[Place, ...] = ("row", "message")
_MASKED = "context, not trained; for a whole row, it is left out"
_NEITHER = "wanted true, false, 1 or 0: an answer is trained or it is not"
_ONE_ANSWER = "gemtune trains on one right answer per row"
_ANSWER = "(?:response|answer|output|completion|message|reply|text|conversation)s?"
_WORSE = f"(?:rejected|reject|non?preferred|notchosen|unchosen|dispreferred|unpreferred)(?:{_ANSWER}|images?)?"
_BAD = f"(?:negative|losing|worse|bad){_ANSWER}"

FIELDS: tuple[Field, ...] = (
    Field(
        "system",
        ("system", "system_prompt", "system_message", "systemInstruction"),
        ("row",),
        "the system message, where the conversation has none of its own",
    ),
    Field(
        "history",
        ("history",),
        ("row",),
        "before the question: `[question, answer]` pairs or messages, trained like the others; beside a list of "
        "messages the row is refused",
    ),
    Field("images", ("images", "image"), ("row",), "images of the question, where `<image>` or a part names them"),
    Field("tools", ("tools", "functions"), ("row",), "left out; a row in which a turn uses one is refused"),
    Field("calls", ("tool_calls", "function_call"), ("message",), "the row is refused: Gemma 3 has no tool turns"),
    Field(
        "media",
        ("audio", "audios", "input_audio", "video", "videos", "video_url"),
        _BOTH,
        "the row is refused: Gemma 3 takes none",
    ),
    Field(
        "mark",
        ("weight", "loss", "loss_weight", "loss_mask", "train", "trained", "trainable", "training"),
        _BOTH,
        f"false or 0: {_MASKED}; true or 1: trained; any other value: the row is refused",
        truth,
        _NEITHER,
    ),
    Field("mark", ("masked",), _BOTH, f"true or 1: {_MASKED}; false or 0: trained", _unless, _NEITHER),
    Field(
        "mark",
        ("mask",),
        _BOTH,
        f"true: {_MASKED}; false, or `User` beside the messages: trained; a number: the row is refused",
        _mask,
        "which could mean both; call it `masked` or `loss_mask`",
    ),
    Field(
        "detail",
        ("train_detail", "training_detail"),
        ("message",),
        "the row is refused",
        lambda value: None,
        f"which masks a part of an answer; {WHOLE_ANSWERS}",
    ),
    Field(
        "label",
        ("label",),
        _BOTH,
        f"false: {_MASKED}; true, or a class: no change; 0 or 1: the row is refused",
        _label,
        "a class, or whether the answer is right? call that kto_tag, as with data.columns: {kto_tag: label}",
    ),
    Field("label", ("kto_tag",), _BOTH, f"false or 0: {_MASKED}; true or 1: no change", truth, "wanted true or false"),
    Field(
        "answers",
        ("rejected", "rejected_response", "non_preferred_output", "dispreferred"),
        _BOTH,
        f"a text or messages: the row is refused; true: {_MASKED}",
        _rejected,
        f"which holds a second answer; {_ONE_ANSWER}",
        f"{_WORSE}|{_ANSWER}{_WORSE}|{_BAD}",
    ),
    Field(
        "answers",
        ("chosen", "preferred_output"),
        _BOTH,
        "a text or messages: the row is refused; name it in `data.columns` to train on it",
        _chosen,
        f"which holds a second answer; {_ONE_ANSWER}",
        f"(?:chosen|preferred)(?:{_ANSWER}|images?)?|positive{_ANSWER}|{_ANSWER}(?:chosen|preferred)",
    ),
)
_FIELD_OF = {name: field for field in FIELDS for name in (re.sub(r"[\W_]", "", n).casefold() for n in field.names)}


def field_of(name: str) -> Field | None:
    """The field that a key names, in any spelling.

    >>> [field and field.names[0] for field in map(field_of, ("System-Prompt", "rejectedAnswer", "rejected_score"))]
    ['system', 'rejected', None]
    """
    letters = re.sub(r"[\W_]", "", name).casefold()
    patterns = (field for field in FIELDS if field.pattern and re.fullmatch(field.pattern, letters))
    return _FIELD_OF.get(letters) or next(patterns, None)


@lru_cache(4096)
def _fields_of(names: tuple[str, ...], place: Place) -> tuple[tuple[str, Field], ...]:
    """Those of a row's or a message's keys that name a field: looked up once for all with the same keys."""
    pairs = ((name, field_of(name)) for name in names)
    return tuple((name, field) for name, field in pairs if field and place in field.places)


def fields_in(holder: Row, place: Place) -> Iterator[tuple[str, object, Field]]:
    """Yields (key, value, field) of what a row or a message holds beside its text; what is empty says nothing."""
    for name, field in _fields_of(tuple(holder), place):
        if not is_empty(value := holder[name]):
            yield name, value, field


def values_of(row: Row, kind: Kind) -> dict[str, object]:
    """The row's fields of one kind that are not empty."""
    return {name: value for name, value, field in fields_in(row, "row") if field.kind == kind}


def second_answers(row: Row) -> list[str]:
    """The columns that hold an answer beside the right one.

    >>> second_answers({"prompt": "hi", "chosen": "ho", "rejected": None, "rejectedText": "no", "rejected_score": 1.0})
    ['chosen', 'rejectedText']
    """
    fields = fields_in(row, "row")
    return [name for name, value, field in fields if field.kind == "answers" and field.trained(value) is None]


def refuse_unsupported(holder: Row, place: Place, where: str = "") -> None:
    """RowError where a row or a message has what Gemma 3 does not take; `where` is the message."""
    for name, _, field in fields_in(holder, place):
        if field.kind == "media":
            raise RowError("audio or video", f"{_named(where, name)} is set; {NO_MEDIA}")
        if field.kind == "calls":
            raise RowError("tool calls", f"{where} is a tool call or its result; {NO_TOOLS}")


def refuse_untrained(row: Row) -> None:
    """RowError where a row says of its answer that it is not to be trained, or what it says is not clear."""
    for name, value, field in fields_in(row, "row"):
        if _trained(name, value, field, f"`{name}`"):
            continue
        if field.kind == "mark":
            raise RowError("not trained", f"`{name}` is {value!r}: the row says that its answer is not trained")
        raise RowError("marked wrong", f"`{name}` is {value!r}: the row says that its answer is wrong")


def is_trained(message: Row, where: str) -> bool:
    """Whether nothing in an assistant's message says that it is not to be trained; RowError where that is unclear."""
    fields = fields_in(message, "message")
    return all([_trained(name, value, field, _named(where, name)) for name, value, field in fields])


def _named(where: str, name: str) -> str:
    return f"{where}.{name}" if where else f"`{name}`"


def _trained(name: str, value: object, field: Field, where: str) -> bool:
    trained = field.trained(value)
    if trained is not None:
        return trained
    if field.kind == "answers":
        raise RowError("preference data", f"{where} is set, {field.unclear}; {ignoring(name)}")
    raise RowError("unclear field", f"{where} is {str(value)[:40]!r}, {field.unclear}; {ignoring(name)}")


def ignoring(*names: str) -> str:
    """The next move for fields that mean nothing here.

    >>> ignoring("label")
    'set prepare.ignore: [label] to leave it out'
    """
    return f"set prepare.ignore: [{', '.join(names)}] to leave {'it' if len(names) == 1 else 'them'} out"
