"""The chat template that came with a model: a program of somebody else's, rendered in a child process within limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

from gemtune.worker import Worker, WorkerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 20.0  # for the conversations of one check
MEMORY = 256 * 2**20
MOST_TEXT = 10_000_000  # characters of all conversations together

Messages = Sequence[dict[str, Any]]  # as transformers' templates take them


def stock_ids(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Messages]) -> list[list[int]]:
    """The ids of conversations by the tokenizer's own chat template; WorkerError when it cannot be rendered."""
    request = {
        "template": tokenizer.chat_template,
        "conversations": conversations,
        "special_tokens": tokenizer.special_tokens_map,
    }
    with Worker(f"{__name__}:render", seconds=SECONDS, memory=MEMORY) as worker:
        answer = worker(request)
    if "fault" in answer:
        raise WorkerError(answer["fault"])
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in answer["texts"]]


def render(request: dict[str, Any]) -> dict[str, object]:
    """In the child: the conversations' texts, or the template's fault in one line."""
    try:
        texts, _ = render_jinja_template(
            conversations=request["conversations"], chat_template=request["template"], **request["special_tokens"]
        )
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        return {"fault": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]}
    if sum(map(len, texts)) > MOST_TEXT:
        return {"fault": f"it writes more than {MOST_TEXT:,} characters"}
    return {"texts": texts}
