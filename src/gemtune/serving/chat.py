"""What a chat request may say, field by field, and what it asks: a conversation, as the run's task writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from gemtune.data.conversation import Conversation, Message, Part, validate
from gemtune.errors import RequestError, RowError, did_you_mean
from gemtune.recipe.loader import wanted_and_found

MOST_CHOICES = 8  # replies to one request
MOST_KEYS = 64  # of an object
MOST_STOP = 1_000  # characters of a stop
MOST_FIELD = 100  # characters of a field's name that an error repeats
ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_PART_TYPES = ("text", "image_url")


class Given(BaseModel):
    """A JSON object of a request: no unknown fields, no silent conversions; null is as good as nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if len(value) > MOST_KEYS:  # else each that is unknown is an error of its own
            raise ValueError(f"an object of {len(value):,} keys; wanted {MOST_KEYS} at most")
        return {name: field for name, field in value.items() if field is not None}


class TextPart(Given):
    """A piece of text in a message."""

    type: Literal["text"]
    text: str


class ImageUrl(Given):
    """An image as a data: URL; the model's own processor decides the detail."""

    url: str
    detail: Literal["auto"] = "auto"

    @field_validator("url")
    @classmethod
    def _is_data(cls, value: str) -> str:
        if not value.startswith("data:"):
            raise ValueError("wanted a data: URL with the image in base64; this server opens no address")
        return value


class ImagePart(Given):
    """An image in a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Turn(Given):
    """A message of the request; plain text is a list of one piece of text."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Annotated[TextPart | ImagePart, Field(discriminator="type")]], FailFast()] = Field(
        min_length=1
    )

    @field_validator("content", mode="before")
    @classmethod
    def _text_is_one_part(cls, value: Any) -> Any:
        return [{"type": "text", "text": value}] if isinstance(value, str) else value

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(
            Part(text=part.text) if isinstance(part, TextPart) else Part(image=part.image_url.url)
            for part in self.content
        )


class StreamOptions(Given):
    """What a stream says beside the reply."""

    include_usage: bool = False


class NamedSchema(Given):
    """A JSON schema that the reply must hold to."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool = True


class ResponseFormat(Given):
    """The form of the reply."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("wanted json_schema with type json_schema, and with no other")
        return self


NoPenalty = Annotated[float, Field(ge=0, le=0)]  # many clients always send it


class ChatRequest(Given):
    """The body of POST /v1/chat/completions. What is not given is as the run's recipe says under `evaluate`."""

    model: str
    messages: Annotated[list[Turn], FailFast()] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    stop: list[Annotated[str, Field(min_length=1, max_length=MOST_STOP)]] = Field(default=[], max_length=4)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    response_format: ResponseFormat = ResponseFormat(type="text")
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    presence_penalty: NoPenalty = 0.0
    frequency_penalty: NoPenalty = 0.0

    @field_validator("stop", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fields_agree(self) -> ChatRequest:
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; give one of them")
        if self.stream_options and not self.stream:
            raise ValueError("stream_options needs stream: true")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.stop and self.response_format.type != "text":
            raise ValueError("stop with response_format: the reply could end inside its JSON; give one of them")
        return self

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def limit(self) -> int | None:
        """How many tokens the reply may have."""
        return self.max_tokens or self.max_completion_tokens


def parsed(body: bytes) -> ChatRequest:
    """A request's body; RequestError names the field that is wrong, and says what was wanted.

    >>> parsed(b'{"model": "emoji", "messages": [{"role": "user", "content": "hi"}], "top_k": 4}')
    Traceback (most recent call last):
    gemtune.errors.RequestError: top_k: unknown or unsupported field; did you mean 'top_p'? leave it out
    """
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
        field = ".".join(str(place)[:MOST_FIELD] for place in _path(finding)) or None
        raise RequestError(_fault(finding, field), field, code=_code(finding)) from error


def _path(finding: ErrorDetails) -> Iterator[str | int]:
    """Keys and indices, without the label that pydantic puts in for a part of a type."""
    before: str | int = ""
    for place in finding["loc"]:
        if not (isinstance(before, int) and place in _PART_TYPES):
            yield place
        before = place


def _fault(finding: ErrorDetails, field: str | None) -> str:
    place = f"{field}: " if field else ""
    if finding["type"] == "extra_forbidden":
        known = ChatRequest.model_fields if len(finding["loc"]) == 1 else ()
        move = did_you_mean(str(finding["loc"][-1])[:MOST_FIELD], known, "leave it out")
        return f"{place}unknown or unsupported field{move}"
    if finding["type"] == "missing":
        return f"{place}missing; this server needs it"
    if finding["type"] == "json_invalid":
        return f"the body is no JSON: {finding['ctx']['error']}"
    return f"{place}{wanted_and_found(finding)}"


def _code(finding: ErrorDetails) -> str | None:
    codes = {"extra_forbidden": "unknown_parameter", "missing": "missing_required_parameter", "json_invalid": None}
    return codes.get(finding["type"], "invalid_value")


def conversation_of(turns: Sequence[Turn], asked: Callable[[str], Conversation]) -> Conversation:
    """What a request asks, ending in an answer that nobody reads; RequestError where it cannot be asked.

    One user message alone is asked as `gemtune generate` asks a prompt: in the words of the run's task, given by
    `asked`. Anything else is asked as it stands.
    """
    if turns[-1].role != "user":
        raise RequestError("messages: the last one must be the user's: there is nothing to answer", "messages")
    try:
        if len(turns) == 1:
            return _question(turns[0].parts, asked)
        messages = tuple(Message(ROLES[turn.role], turn.parts) for turn in turns)
        return Conversation(_answerable(messages), "chat", key="", group="", where="request")
    except RowError as error:
        raise RequestError(f"messages: {error}", "messages") from error


def _question(parts: tuple[Part, ...], asked: Callable[[str], Conversation]) -> Conversation:
    text = "".join(part.text or "" for part in parts)
    images = tuple(part for part in parts if part.image is not None)
    _answerable((Message("user", parts),))
    if images and not text.strip():
        raise RowError("empty prompt", "images, and no question about them")
    conversation = asked(text)
    *before, question, answer = conversation.messages
    is_as_it_was = question.text.strip() == text.strip()  # then images stay where they are between its words
    question = Message("user", parts if is_as_it_was and images else (*images, *question.parts))
    return Conversation((*before, question, answer), conversation.task, key="", group="", where="request")


def _answerable(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return validate((*messages, Message.of("assistant", "?")))
