"""The usual layouts of a conversation in a row, and how each becomes messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from gemtune.data.cells import is_empty, kind_of, unpacked
from gemtune.data.chat_turns import Reading, RowImages, message_of, role_of, text_in, turns
from gemtune.data.conversation import Message, validate
from gemtune.data.formats import Row
from gemtune.data.row_fields import field_of, ignoring, refuse_unsupported, refuse_untrained, second_answers, values_of
from gemtune.errors import DataError, RowError, listed

Turns = Callable[[Row, RowImages, Reading], Iterator[Message]]

ANSWER = Message.of("assistant", "?")  # stands for the answer of a row that only asks
_TRAINED_AS_IT_IS = Reading()


NO_INPUT = "<noinput>"  # what Alpaca's rows say for an empty `input`


@dataclass(frozen=True)
class Pair:
    """Columns that hold a question and its answer; those of `more` that a row has follow the question, each on a line.

    `repeats`: also where the question has their text already, as LLaMA-Factory does.
    """

    prompt: str
    answer: str
    more: tuple[str, ...] = ("input", "context")
    repeats: bool = True


ALPACA = (Pair("instruction", "output"),)
PAIRS = (
    Pair("prompt", "completion", repeats=False),
    Pair("prompt", "response", repeats=False),
    Pair("query", "response", repeats=False),
    Pair("instruction", "response"),
    Pair("instruction", "completion"),
)


@dataclass(frozen=True)
class Layout:
    """A layout: the columns of which a row has one set, of a question alone those of `asks`, and what is in them."""

    columns: tuple[tuple[str, ...], ...]
    asks: tuple[str, ...]
    read: Turns
    holds: str


def layout_of(row: Row, reading: Reading = _TRAINED_AS_IT_IS) -> str:
    """The layout that a row's keys belong to, the filled ones first: a file of several layouts has them all.

    >>> layout_of({"messages": None, "instruction": "Say hi", "input": "", "output": "Hi!"})
    'alpaca'
    """
    row = reading.without_ignored(row)
    filled = tuple(name for name, value in row.items() if not is_empty(value))
    layout = _layout_with(filled, reading.asks) or _layout_with(tuple(row), reading.asks)
    seconds = [] if reading.asks else second_answers(row)
    if seconds:
        raise DataError(
            f"preference data ({', '.join(seconds)}) is not supported: gemtune trains on one right answer per row; "
            + _preference_move(row, seconds, layout)
        )
    if layout:
        return layout
    if row.keys() <= {"text", "id", "meta", "metadata", "source", "url", "timestamp"} and "text" in row:
        raise DataError("plain text (a `text` column alone) is not supported: a row needs a question and its answer")
    sets = (" + ".join(columns) for known in LAYOUTS.values() for columns in known.columns)
    alone = dict.fromkeys(name for known in LAYOUTS.values() for name in known.asks)
    raise DataError(
        f"no known layout has the columns {listed(row) if row else '(none)'}; "
        f"wanted {' or '.join(alone if reading.asks else sets)}: name yours in data.columns, {{prompt: <column>, "
        "completion: <column>}, or write the wording yourself with task: columns"
    )


@lru_cache(4096)
def _layout_with(names: tuple[str, ...], asks: bool) -> str | None:
    for name, layout in LAYOUTS.items():
        sets = [(column,) for column in layout.asks] if asks else layout.columns
        if any(set(names).issuperset(columns) for columns in sets):
            return name
    return None


def _preference_move(row: Row, seconds: list[str], layout: str | None) -> str:
    """What trains on the better answer alone."""
    better = next((name for name in seconds if (field := field_of(name)) and "chosen" in field.names), None)
    if layout or better is None:
        return ignoring(*seconds)
    worse = [name for name in seconds if name != better]
    turn = next(iter(value), None) if isinstance(value := unpacked(row[better]), list) else None
    column = "completion" if role_of(turn) in ("assistant", None) else "messages"
    also = f" and prepare.ignore: [{', '.join(worse)}]" if worse else ""
    return f"set data.columns: {{{column}: {better}}}{also} to train on `{better}` alone"


def to_messages(row: Row, layout: str, reading: Reading = _TRAINED_AS_IT_IS) -> tuple[Message, ...]:
    """The row's messages, valid and ending in the last answer that is trained; RowError when they cannot be.

    >>> [m.text for m in to_messages({"instruction": "Add.", "input": "1 + 1", "output": "2"}, "alpaca")]
    ['Add.\\n1 + 1', '2']
    """
    row = reading.without_ignored(row)
    refuse_unsupported(row, "row")
    if not reading.asks:
        refuse_untrained(row)
    images = RowImages(row)
    messages = images.place_in(tuple(LAYOUTS[layout].read(row, images, reading)))
    messages = _with_system(row, messages, images)
    if reading.asks:
        messages = (*messages, ANSWER)
    return validate(_up_to_the_last_trained(tuple(_taking_turns(messages, reading.merges))))


def _with_system(row: Row, messages: tuple[Message, ...], images: RowImages) -> tuple[Message, ...]:
    """The messages behind a column's system message, where they have none."""
    if messages and messages[0].role == "system":
        return messages
    columns = values_of(row, "system")
    if not columns:
        return messages
    if len({str(value) for value in columns.values()}) > 1:
        names = list(columns)
        raise RowError("unclear field", f"{' and '.join(names)} differ; {ignoring(*names[1:])}")
    name, value = next(iter(columns.items()))
    value = unpacked(value)
    parts = value["parts"] if isinstance(value, dict) and "parts" in value else value
    return (message_of("system", parts, name, images), *messages)


def _taking_turns(messages: tuple[Message, ...], merges: bool) -> Iterator[Message]:
    """The messages, with those of one role that follow one another joined where the recipe says so."""
    before: Message | None = None
    for number, here in enumerate(messages, 1):
        if before is None or before.role != here.role:
            yield from [before] if before else []
            before = here
        elif merges:
            before = _joined(before, here, number)
        else:
            raise RowError(
                "two turns of one role",
                f"message {number} is from {here.role!r}, as the one before it is; user and assistant take turns: "
                "prepare.merge_turns: true joins such messages",
            )
    yield from [before] if before else []


def _joined(before: Message, after: Message, number: int) -> Message:
    """Two messages as one, the second on a new line."""
    if before.trained != after.trained:
        detail = "says otherwise than the one before it whether it is trained; they cannot be one"
        raise RowError("unclear field", f"message {number} {detail}")
    *head, last = before.parts or (None,)
    first, *tail = after.parts or (None,)
    texts = [part.text for part in (last, first) if part and part.text is not None]
    middle = [replace(last, text="\n".join(texts))] if last and len(texts) == 2 else [p for p in (last, first) if p]
    return replace(before, parts=(*(part for part in head if part), *middle, *tail))


def _up_to_the_last_trained(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages without what follows the last trained answer, which teaches nothing."""
    if not messages or messages[-1].trained:
        return messages
    last = max((n for n, m in enumerate(messages, 1) if m.role == "assistant" and m.trained), default=0)
    if not last:
        raise RowError("not trained", "every answer is marked as one that is not trained")
    return messages[:last]


def _list_in(column: str) -> Turns:
    def read(row: Row, images: RowImages, reading: Reading) -> Iterator[Message]:
        _refuse_history(row, column)
        value = unpacked(_column(row, column))
        if reading.asks and isinstance(value, list) and value and role_of(unpacked(value[-1])) == "assistant":
            value = value[:-1]
        yield from turns(value, column, images, reading)

    return read


def _refuse_history(row: Row, column: str) -> None:
    for name, value in values_of(row, "history").items():
        if unpacked(value):
            raise RowError("unclear field", f"`{name}` beside the messages of `{column}`; {ignoring(name)}")


def _pair_of(pairs: tuple[Pair, ...]) -> Turns:
    def read(row: Row, images: RowImages, reading: Reading) -> Iterator[Message]:
        with_prompt = [pair for pair in pairs if pair.prompt in row] or pairs
        pair = next((pair for pair in with_prompt if pair.answer in row), with_prompt[0])
        prompt, answer = _column(row, pair.prompt), "" if reading.asks else _column(row, pair.answer)
        if _are_messages(prompt) and (reading.asks or _are_messages(answer)):  # in text: TRL's form in a CSV
            prompt, answer = unpacked(prompt), unpacked(answer)
        if isinstance(prompt, list):  # TRL's conversational form
            _refuse_history(row, pair.prompt)
            yield from turns(prompt, pair.prompt, images, reading)
        else:
            yield from _history(row, images, reading)
            yield message_of("user", _question(row, pair), pair.prompt, images)
        if reading.asks:
            return
        if isinstance(answer, list):
            yield from turns(answer, pair.answer, images, reading)
        else:
            yield message_of("assistant", answer, pair.answer, images)

    return read


def _are_messages(value: object) -> bool:
    value = unpacked(value)
    return isinstance(value, list) and bool(value) and all(role_of(turn) for turn in value)


def _history(row: Row, images: RowImages, reading: Reading) -> Iterator[Message]:
    """The [question, answer] pairs, or the messages, that come before the question."""
    for name, written in values_of(row, "history").items():
        history = unpacked(written)
        if isinstance(history, list) and all(isinstance(turn, dict) for turn in history):
            yield from turns(history, name, images, reading)
            continue
        if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
            found = kind_of(history)
            raise RowError("bad message", f"{name} is {found}; wanted a list of [question, answer] pairs")
        for number, (question, answer) in enumerate(history, 1):
            yield message_of("user", question, f"{name}[{number}]", images)
            yield message_of("assistant", answer, f"{name}[{number}]", images)


def _question(row: Row, pair: Pair) -> str:
    """The prompt's columns that are not empty, each on a line of its own."""
    question = _optional_text(row, pair.prompt)
    if not pair.repeats and "instruction" in row:  # whose `input` it is
        return question
    more = (_optional_text(row, name, f"; {ignoring(name)}") for name in pair.more)
    return "\n".join(line for line in (question, *(m for m in more if pair.repeats or m not in question)) if line)


def _column(row: Row, name: str) -> object:
    if name not in row:
        raise RowError(
            "bad message",
            f"column {name!r} is missing; found {listed(row)}; set data.layout: auto, or name it in data.columns",
        )
    return row[name]


def _optional_text(row: Row, name: str, move: str = "") -> str:
    value = row.get(name)
    is_nothing = value is None or value != value or value == NO_INPUT
    return "" if is_nothing else text_in(value, name, move)


def _of_pairs(pairs: tuple[Pair, ...], holds: str) -> Layout:
    asks = dict.fromkeys(pair.prompt for pair in pairs)
    return Layout(tuple((pair.prompt, pair.answer) for pair in pairs), tuple(asks), _pair_of(pairs), holds)


def _of_list(column: str, holds: str) -> Layout:
    return Layout(((column,),), (column,), _list_in(column), holds)


LAYOUTS: dict[str, Layout] = {
    "messages": _of_list("messages", "OpenAI's: a list of `role` and `content`"),
    "sharegpt": _of_list("conversations", "ShareGPT's: a list of `from` and `value`"),
    "alpaca": _of_pairs(ALPACA, "texts; `input` and `context` follow the instruction, on lines of their own"),
    "prompt_completion": _of_pairs(
        PAIRS,
        "texts, or lists of messages as TRL has them; `input` and `context` follow the question, on lines of their "
        "own, unless a `prompt` or `query` has their text already",
    ),
    "vertex": _of_list("contents", "Vertex AI's: a list of `role` and `parts`"),
}
