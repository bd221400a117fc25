"""Conversation -> Example: the only file that knows the chat template, BOS, the trained span and control tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from gemtune.data.conversation import MOST_TEXT, Conversation, Message
from gemtune.errors import ModelError, RowError
from gemtune.models.families import chat_template
from gemtune.models.families.base import Family
from gemtune.models.image_tokens import ImageTokenizer
from gemtune.rendering.stock_template import stock_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100  # the label of a position that is not trained
_BYTE = re.compile("<0x[0-9A-F]{2}>")
TOGETHER = 256  # conversations tokenised at once; a call costs as much as ten of them


@dataclass(frozen=True)
class Example:
    """Token ids of one conversation and its trained spans, as (start, end) token positions.

    `images` are its images' paths in the data directory, `image_spans` the runs of tokens where their features go.
    """

    input_ids: list[int]
    spans: tuple[tuple[int, int], ...]
    images: tuple[str, ...] = ()
    image_spans: tuple[tuple[int, int], ...] = ()

    @property
    def labels(self) -> list[int]:
        """input_ids where trained, IGNORE elsewhere.

        >>> Example([2, 105, 7, 8, 106], ((3, 5),)).labels
        [-100, -100, -100, 8, 106]
        """
        labels = [IGNORE] * len(self.input_ids)
        for start, end in self.spans:
            labels[start:end] = self.input_ids[start:end]
        return labels


class Renderer:
    """Turns conversations into token ids for one tokenizer: the same for training, evaluation and serving."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        family: Family,
        train_on: Literal["all", "last"] = "all",
        image_tokenizer: ImageTokenizer | None = None,
        max_length: int | None = None,
    ):
        """`max_length`: a text that must have more tokens, by its characters, is left out unread."""
        self.tokenizer = tokenizer
        self.image_tokenizer = image_tokenizer
        self.family = family
        self.train_on = train_on
        self.template = chat_template(family)
        vocab = tokenizer.get_vocab()
        missing = [token for token in (*family.turn_tokens, *family.stop_tokens) if token not in vocab]
        if missing:
            raise ModelError(f"the tokenizer has no {missing[0]}; this is not the tokenizer of this model family")
        self.stop_ids = [vocab[token] for token in family.stop_tokens]
        self.control_tokens = sorted({*tokenizer.all_special_tokens, *family.turn_tokens, *family.stop_tokens})
        self.image_token = image_tokenizer.token_id if image_tokenizer else None
        self.most_text = (
            (max_length * max(map(len, vocab))) if max_length else MOST_TEXT
        )  # characters; Gemma's longest token has 31

    def example(self, conversation: Conversation) -> Example:
        """One conversation rendered; RowError when it holds a control token."""
        (rendered,) = self.examples([conversation])
        if isinstance(rendered, RowError):
            raise rendered
        return rendered

    def examples(self, conversations: Iterable[Conversation]) -> Iterator[Example | RowError]:
        """Yields an Example for every conversation, or the RowError that keeps it out, in order."""
        stream = iter(conversations)
        while block := list(islice(stream, TOGETHER)):
            faults = [self._fault(c) for c in block]
            clean = [c for c, fault in zip(block, faults, strict=True) if fault is None]
            rendered = iter(self._render(clean) if clean else [])
            for fault in faults:
                yield fault or next(rendered)

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """The ids a model sees before it answers: all but the last message, and the answer's header."""
        return list(self._prompt(conversation, tokenize=True, return_dict=True)["input_ids"])

    def prompt_text(self, conversation: Conversation) -> str:
        """The same as the text that the template writes, special tokens spelt out."""
        return str(self._prompt(conversation, tokenize=False))

    def _prompt(self, conversation: Conversation, **settings: bool) -> Any:
        fault = self._fault(conversation)
        if fault:
            raise fault
        return self.tokenizer.apply_chat_template(
            self._messages(conversation.messages[:-1]),
            chat_template=self.template,
            add_generation_prompt=True,
            **settings,
        )

    def reply(self, ids: Sequence[int]) -> tuple[str, bool]:
        """The text of generated ids up to the first stop token, and whether it was cut before one."""
        for index, token in enumerate(ids):
            if token in self.stop_ids:
                return self.text(ids[:index]).strip(), False
        return self.text(ids).strip(), True

    def text(self, ids: Sequence[int]) -> str:
        """The text of generated ids; control tokens have none."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def is_open(self, token: int) -> bool:
        """Whether the text of ids that end in this token may change with the next: bytes are read in a row.

        A byte is of a character that has no token; a control token ends no row.
        """
        name = self.tokenizer.convert_ids_to_tokens(token) or ""
        return name in self.control_tokens or _BYTE.fullmatch(name) is not None

    def answers(self, conversation: Conversation) -> list[str]:
        """What the trained spans must decode to: every trained answer and the token that ends it."""
        answers = (message for message in conversation.messages if message.role == "assistant" and message.trained)
        texts = [message.text.strip() + self.family.stop_tokens[0] for message in answers]
        return texts if self.train_on == "all" else texts[-1:]

    def stock_ids(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """The ids of conversations by the template that came with the model; WorkerError when it does not render."""
        return stock_ids(self.tokenizer, [self._messages(conversation.messages) for conversation in conversations])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """One printable text a token."""
        return [self.tokenizer.decode([token]) for token in ids]

    def _render(self, conversations: list[Conversation]) -> Iterator[Example]:
        rendered = self.tokenizer.apply_chat_template(
            [self._messages(conversation.messages) for conversation in conversations],
            chat_template=self.template,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        masks = zip(conversations, rendered["input_ids"], rendered["assistant_masks"], strict=True)
        for conversation, ids, mask in masks:
            spans = _trained(_spans(mask), conversation)
            images = tuple(conversation.image_paths)
            runs = _spans([token == self.image_token for token in ids]) if images else ()
            yield Example(list(ids), spans if self.train_on == "all" else spans[-1:], images, runs)

    def _messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        images = [part for message in messages for part in message.parts if part.image is not None]
        texts = iter(self.image_tokenizer.texts(images) if self.image_tokenizer else [])
        return [{"role": message.role, "content": self._content(message, texts)} for message in messages]

    def _content(self, message: Message, texts: Iterator[str]) -> str | list[dict[str, str]]:
        """Text as it is, or as a list in which an image has the text that stands for it, the next of `texts`."""
        if self.image_tokenizer is None or all(part.image is None for part in message.parts):
            return message.text
        return [
            {"type": "text", "text": part.text or ""} if part.image is None else {"type": "image", "text": next(texts)}
            for part in message.parts
        ]

    def _fault(self, conversation: Conversation) -> RowError | None:
        """Why a conversation cannot be rendered: a text that spells a control token would end its own turn."""
        if self.image_tokenizer is None and conversation.images:
            raise ModelError(
                f"{conversation.where}: the row has images, and this model takes none; choose one that does, such as "
                "model: gemma-3-4b-it"
            )
        length = sum(len(message.text.strip()) for message in conversation.messages)
        if length > self.most_text:
            return RowError("over length", f"{length:,} characters: more tokens than train.max_length in any case")
        for message in conversation.messages:
            for token in self.control_tokens:
                if token in message.text:
                    return RowError("control token", f"the {message.role} message spells the control token {token}")
        return None


def _trained(spans: Sequence[tuple[int, int]], conversation: Conversation) -> tuple[tuple[int, int], ...]:
    """Of the answers' spans those of the answers that are trained."""
    answers = (message for message in conversation.messages if message.role == "assistant")
    return tuple(span for span, answer in zip(spans, answers, strict=True) if answer.trained)


def _spans(mask: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The runs of ones.

    >>> _spans([0, 1, 1, 0, 1])
    ((1, 3), (4, 5))
    """
    edges = [
        i for i, (before, here) in enumerate(zip([0, *mask], [*mask, 0], strict=True)) if bool(before) != bool(here)
    ]
    return tuple(zip(edges[::2], edges[1::2], strict=True))
