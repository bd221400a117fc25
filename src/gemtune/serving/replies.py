"""One reply while it is generated: the next token, the text that is certain so far, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from gemtune.errors import RequestError

if TYPE_CHECKING:
    from gemtune.rendering.renderer import Renderer

Finish = Literal["stop", "length"]


class Grammar(Protocol):
    """What the tokens of a reply must follow; of one reply, as it remembers them."""

    def mask(self, scores: torch.Tensor) -> torch.Tensor:
        """The scores (1, V), -inf for each token that may not come next; RequestError where that is too much work."""
        ...

    def accept(self, token: int) -> None:
        """Remembers the token that came."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: as `gemtune generate` does with the same numbers."""

    temperature: float
    top_p: float
    seed: int
    limit: int  # tokens of the reply
    stops: Sequence[str] = ()
    top_logprobs: int | None = None  # how many tokens beside the drawn one have theirs told; None: not even that one


@dataclass(frozen=True)
class TokenLogprob:
    """A drawn token with its log-probability by the model, before temperature, and the likeliest others'."""

    token: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """What a step adds to a reply: text, the tokens' log-probabilities, and at the end why it ended."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None


@dataclass(kw_only=True)
class Reply:
    """A reply in the making. `tell` gets its pieces, whose texts together are the reply, or why it cannot go on."""

    renderer: Renderer
    sampling: Sampling
    tell: Callable[[Piece | RequestError], None]
    grammar: Grammar | None = None
    is_left: bool = False  # nobody waits for it any more
    finish: Finish | None = None
    ids: list[int] = field(default_factory=list)  # where they come one by one
    tokens: int = 0  # generated so far
    _told: int = 0  # characters
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    _generator: torch.Generator | None = None

    @property
    def is_over(self) -> bool:
        return self.is_left or self.finish is not None

    @property
    def is_plain(self) -> bool:
        """Whether the next token is the likeliest one, and nothing else is asked about it."""
        sampling = self.sampling
        return not sampling.temperature and self.grammar is None and sampling.top_logprobs is None

    def draw(self, scores: torch.Tensor) -> int:
        """The next token by its scores (1, V)."""
        allowed = self.grammar.mask(scores) if self.grammar else scores
        token = self._sampled(allowed) if self.sampling.temperature else int(allowed.argmax())
        if self.sampling.top_logprobs is not None:
            self._logprobs.append(logprob_of(scores[0], token, self.sampling.top_logprobs))
        return token

    def _sampled(self, scores: torch.Tensor) -> int:
        if self._generator is None:
            self._generator = torch.Generator(scores.device).manual_seed(self.sampling.seed)
        warpers = LogitsProcessorList()
        if self.sampling.temperature != 1:
            warpers.append(TemperatureLogitsWarper(float(self.sampling.temperature)))
        if self.sampling.top_p < 1:
            warpers.append(TopPLogitsWarper(float(self.sampling.top_p)))
        chances = warpers(None, scores).softmax(-1)
        return int(torch.multinomial(chances, 1, generator=self._generator))

    def put(self, token: int) -> None:
        """Adds a token, and tells what is certain by now."""
        self.ids.append(token)
        self.tokens += 1
        if self.grammar:
            self.grammar.accept(token)
        is_stopped = token in self.renderer.stop_ids
        is_cut = len(self.ids) == self.sampling.limit
        if not (is_stopped or is_cut) and self.renderer.is_open(token):
            return
        logprobs = tuple(self._logprobs[:-1] if is_stopped else self._logprobs)
        self._logprobs.clear()
        finish: Finish | None = "stop" if is_stopped else "length" if is_cut else None
        self.grow(self.renderer.text(self.ids[:-1] if is_stopped else self.ids), finish, logprobs)

    def grow(self, text: str, finish: Finish | None, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """Takes the text that all tokens make so far, and tells what of it is certain; a stop in it ends the reply."""
        text = text.lstrip()
        place = stop_in(text, self.sampling.stops)
        if place is not None:
            finish, text = "stop", text[:place]
        self.finish = finish
        certain = text.rstrip() if finish else certain_part(text, self.sampling.stops)
        if certain[self._told :] or logprobs or finish:
            self.tell(Piece(certain[self._told :], logprobs, finish))
        self._told = max(self._told, len(certain))


def stop_in(text: str, stops: Sequence[str]) -> int | None:
    """Where the stop begins that is complete first, so that a reply ends alike however it is cut into tokens.

    >>> stop_in("#aa", ["#aa", "a"]), stop_in("#aa", ["#aa", "aa"]), stop_in("a", ["b"])
    (1, 0, None)
    """
    found = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
    return min(found)[1] if found else None


def certain_part(text: str, stops: Sequence[str]) -> str:
    """The beginning of a growing text that whatever follows will not change, nor cut off.

    White space at its end may be the reply's, a replacement sign half of a character, and more a stop's beginning.

    >>> certain_part("a dog. ", []), certain_part("a dog\ufffd", []), certain_part("a dog#", ["##"])
    ('a dog.', 'a dog', 'a dog')
    """
    begun = [length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length])]
    return (text[: len(text) - max(begun)] if begun else text).rstrip("\ufffd").rstrip()


def logprob_of(scores: torch.Tensor, token: int, count: int) -> TokenLogprob:
    """The log-probability of a token by the scores (V,) of all, and those of the likeliest `count`.

    >>> logprob_of(torch.tensor([0.0, 0.0]), 1, 0).logprob == torch.tensor(0.5).log().item()
    True
    """
    logprobs = scores.float().log_softmax(-1)
    values, ids = logprobs.topk(count)
    return TokenLogprob(token, logprobs[token].item(), tuple(zip(ids.tolist(), values.tolist(), strict=True)))


class Drawing(LogitsProcessor):
    """Leaves to each reply of a batch one token to choose: the one that it draws."""

    def __init__(self, replies: Sequence[Reply]):
        self.replies = replies

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) of which the best is what the reply of the row has drawn."""
        for row, reply in enumerate(self.replies):
            if not (reply.is_over or reply.is_plain):
                try:
                    token = reply.draw(scores[row : row + 1])
                except RequestError as error:  # the others of the batch go on
                    reply.is_left = True
                    reply.tell(error)
                    continue
                scores[row] = -torch.inf
                scores[row, token] = 0
        return scores


class Putting(StoppingCriteria):
    """Gives each reply of a batch its token, and says which are over."""

    def __init__(self, replies: Sequence[Reply]):
        self.replies = replies

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        """Whether each row of the ids (B, T) is done: (B,)."""
        for reply, token in zip(self.replies, input_ids[:, -1].tolist(), strict=True):
            if not reply.is_over:
                reply.put(token)
        return torch.tensor([reply.is_over for reply in self.replies], device=input_ids.device)
