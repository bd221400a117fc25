"""The batch contract on a sample of every part, before anything expensive; each finding says what to do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.rendering.renderer import Example, Renderer
from gemtune.rendering.token_table import ExampleTable
from gemtune.runs import PARTS, Run
from gemtune.training.batching import MicroBatch, micro_batch
from gemtune.worker import WorkerError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SAMPLE = 64  # conversations of every part
FAR = 2.0  # times ln(vocabulary): from there on a loss is no language model's

Pairs = Sequence[tuple[Conversation, Example]]
LossOf = Callable[["PreTrainedModel", MicroBatch], tuple[torch.Tensor, torch.Tensor]]  # labelled_loss


@dataclass(frozen=True)
class Finding:
    """One clause of the contract: whether it holds, what was seen, and the next move where it does not hold."""

    clause: str
    holds: bool
    seen: str
    move: str = ""

    def __str__(self) -> str:
        return f"{'ok  ' if self.holds else 'FAIL'} {self.clause}: {self.seen}{'' if self.holds else f'; {self.move}'}"


def check_batches(run: Run, renderer: Renderer, max_length: int, vocab_size: int) -> list[Finding]:
    """The clauses that need no weights."""
    conversations = [c for part in PARTS for c in islice(read_conversations(run.part(part)), SAMPLE)]
    pairs: list[tuple[Conversation, Example]] = []
    for conversation, example in zip(conversations, renderer.examples(conversations), strict=True):
        if isinstance(example, Example):
            pairs.append((conversation, example))
    left_out = len(conversations) - len(pairs)
    clauses: list[tuple[str, Callable[[Conversation, Example], str | None], str]] = [
        ("one BOS, at the start", lambda c, e: _one_bos(c, e, renderer), "this is not the tokenizer of the model"),
        (
            "the trained span is the answer and its stop token",
            lambda c, e: _span_is_answer(c, e, renderer),
            "template and tokenizer disagree; use the model's own tokenizer",
        ),
        ("no row without a label", lambda c, e: None if e.spans else f"{c.where} trains nothing", "give it an answer"),
        (
            "token ids are in the vocabulary",
            lambda c, e: None if max(e.input_ids) < vocab_size else f"{c.where} has id {max(e.input_ids)}",
            f"use the model's own tokenizer: the model has {vocab_size} rows",
        ),
    ]
    return [
        Finding(
            "rows render", bool(pairs), f"{len(pairs)} rows, {left_out} left out", "every row spells a control token"
        ),
        *(_every(clause, pairs, fault, move) for clause, fault, move in clauses),
        _stock_template(pairs, renderer),
        *_images(pairs, renderer),
        _lengths(run, max_length),
        _special_tokens(renderer, vocab_size),
    ]


def check_forward(run: Run, model: PreTrainedModel, loss_of: LossOf) -> Finding:
    """The base model runs one forward over a few training rows, and its loss is that of a language model.

    A model that gives every token of its vocabulary the same chance has a loss of ln(vocabulary). A base model that has
    never seen a chat is somewhat above that (Gemma 3 270M on emoji: 14.9, ln(262,144) = 12.5); twice as much is no
    language model: its weights are damaged, or not of this architecture.
    """
    table = ExampleTable(run.table("train"))
    examples = [table[row] for row in range(min(4, len(table)))]
    with torch.no_grad():
        batch = micro_batch(examples).to(model.device)
        loss = float(loss_of(model, batch)[0]) / batch.labelled
    chance = math.log(model.config.get_text_config().vocab_size)
    seen = f"{loss:.2f} nats a token over {len(examples)} rows, ln(vocabulary) is {chance:.2f}"
    if not math.isfinite(loss):
        return Finding("the base model's loss is finite", False, seen, "set train.precision: fp32")
    move = "its weights are damaged or of another model: fetch it again"
    return Finding("the base model's loss is that of a language model", loss < FAR * chance, seen, move)


def _every(clause: str, pairs: Pairs, fault: Callable[[Conversation, Example], str | None], move: str) -> Finding:
    faults = [text for conversation, example in pairs if (text := fault(conversation, example))]
    if faults:
        return Finding(clause, False, f"not in {len(faults)} of {len(pairs)} rows, first {faults[0]}", move)
    return Finding(clause, True, f"{len(pairs)} rows")


def _images(pairs: Pairs, renderer: Renderer) -> list[Finding]:
    """Every image has all of its tokens, and a model sees it at a size at which it can be seen."""
    if renderer.image_tokenizer is None:
        return []
    tokenizer, sizes = renderer.image_tokenizer, Counter[str]()
    wrong = []
    for conversation, example in pairs:
        tokens = sum(end - start for start, end in example.image_spans)
        expected = tokenizer.count(conversation.images)
        if tokens != expected:
            wrong.append(f"{conversation.where} has {tokens} image tokens, its images are {expected}")
        sizes.update(tokenizer.sizes(conversation.images))
    most = ", ".join(f"{what} ({count})" for what, count in sizes.most_common(3))
    seen = wrong[0] if wrong else f"{sum(sizes.values())} images, source to model: {most or 'none'}"
    return [Finding("every image has all of its tokens", not wrong, seen, "the processor is not this model's")]


def _one_bos(conversation: Conversation, example: Example, renderer: Renderer) -> str | None:
    bos, expected = renderer.tokenizer.bos_token_id, int("bos_token" in renderer.template)  # Qwen's writes none
    count = example.input_ids.count(bos)
    holds = count == expected and (not expected or example.input_ids[0] == bos)
    return None if holds else f"{conversation.where} with {count}"


def _span_is_answer(conversation: Conversation, example: Example, renderer: Renderer) -> str | None:
    decoded = [renderer.tokenizer.decode(example.input_ids[start:end]) for start, end in example.spans]
    answers = renderer.answers(conversation)
    if [text.lstrip() for text in decoded] == answers:  # some tokenizers begin a word with its space
        return None
    return f"{conversation.where}: trains {decoded!r}, the answer is {answers!r}"


def _stock_template(pairs: Pairs, renderer: Renderer) -> Finding:
    """Our template marks the trained span; its ids must be those of the template that came with the model."""
    clause = "ids equal the model's own chat template"
    if not renderer.tokenizer.chat_template:
        return Finding(
            clause, True, f"the model brings no template (a -pt model); gemtune's {renderer.family.template} is used"
        )
    try:
        stock = iter(renderer.stock_ids([conversation for conversation, _ in pairs]))
    except WorkerError as error:
        return Finding(clause, False, f"it cannot be rendered: {error}", "mend the model's chat template or remove it")
    return _every(clause, pairs, lambda c, e: _differs(c, e, next(stock)), "use the model's own tokenizer")


def _differs(conversation: Conversation, example: Example, stock: list[int]) -> str | None:
    ours = example.input_ids
    return None if ours == stock else f"{conversation.where}: {len(ours)} tokens, by the model's template {len(stock)}"


def _lengths(run: Run, max_length: int) -> Finding:
    longest = max(ExampleTable(run.table(part)).longest for part in PARTS)
    seen = f"the longest row has {longest} tokens of {max_length}"
    return Finding("nothing is cut", longest <= max_length, seen, "prepare again")


def _special_tokens(renderer: Renderer, vocab_size: int) -> Finding:
    tokenizer = renderer.tokenizer
    clause = "stop and padding tokens are in the vocabulary and differ"
    ids = {"pad": tokenizer.pad_token_id, **dict(zip(renderer.family.stop_tokens, renderer.stop_ids, strict=True))}
    holds = all(i is not None and 0 <= i < vocab_size for i in ids.values()) and len(set(ids.values())) == len(ids)
    return Finding(clause, holds, ", ".join(f"{name} {i}" for name, i in ids.items()), "repair tokenizer_config.json")
