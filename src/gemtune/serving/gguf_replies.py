"""Replies of GGUF files by llama.cpp, which makes several side by side as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.errors import GemtuneError, RequestError

if TYPE_CHECKING:
    from gemtune.exporting.llama_cpp import LlamaCpp
    from gemtune.serving.engine import Ticket
    from gemtune.serving.replies import Finish, Reply

# Fields of a request that are refused: JSON would be another program's reading of a schema, and llama.cpp tells no
# probability of a token that ends within a character.
LACKS = ("response_format", "logprobs")
SAMPLERS = ["temperature", "top_p"]  # no others, and in this order, as `gemtune generate` draws
ENDS: dict[str, Finish] = {"eos": "stop", "limit": "length"}
MOST_SEED = 2**32 - 1  # which stands for none


def generate(models: Mapping[str, LlamaCpp], images: Path, say: Callable[[str], None], batch: Sequence[Ticket]) -> None:
    """Tells the replies to a batch of tickets their text, until all are over; `models` by the names they are served as.

    `images` is the folder that a ticket's images are named from.
    """
    rows = [(ticket, reply) for ticket in batch for reply in ticket.replies]
    with ThreadPoolExecutor(len(rows)) as pool:
        for _ in pool.map(partial(_answer, models, images, say), *zip(*rows, strict=True)):
            pass


def _answer(
    models: Mapping[str, LlamaCpp], images: Path, say: Callable[[str], None], ticket: Ticket, reply: Reply
) -> None:
    sampling, text = reply.sampling, ""
    settings = {
        "n_predict": sampling.limit,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed % MOST_SEED,
        "samplers": SAMPLERS,
    }
    paths = [images / name for name in ticket.images]
    try:
        with closing(models[ticket.served.name].stream(ticket.prompt, paths, **settings)) as pieces:
            for piece in pieces:
                if reply.is_over:
                    return
                text += piece["content"]
                reply.tokens = piece["tokens_predicted"]
                reply.grow(text, ENDS[piece["stop_type"]] if piece["stop"] else None)
    except GemtuneError as error:
        if reply.is_over:
            return
        say(str(error))
        reply.is_left = True
        reply.tell(RequestError("llama.cpp failed at this request; the server goes on", status=503))
