"""The batch contract on a sample of every part, before anything expensive; each finding says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from gemtune.batch import micro_batch
from gemtune.conversation import Conversation, read_conversations
from gemtune.errors import RowError
from gemtune.render import Example, Renderer
from gemtune.runs import PARTS, Run
from gemtune.table import ExampleTable

SAMPLE = 64  # conversations of every part


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
    findings = [_every("rows render", conversations, lambda c: _renders(c, renderer), "the rows are left out; clean their text")]
    findings.append(_every("one BOS, at the start", pairs, lambda p: _one_bos(p[1], renderer), "the tokenizer or template is not Gemma's"))
    findings.append(_every("trained span is the answer and its stop token", pairs, lambda p: _span_is_answer(*p, renderer), "report this: the template and the tokenizer disagree"))
    findings.append(_every("no row without a label", pairs, lambda p: None if p[1].spans else f"{p[0].where} trains nothing", "give it an answer"))
    findings.append(_every("token ids are in the vocabulary", pairs, lambda p: None if max(p[1].input_ids) < vocab_size else f"{p[0].where} has id {max(p[1].input_ids)}, the model {vocab_size} rows", "use the model's own tokenizer"))
    findings.append(_stock_template([c for c, _ in pairs], renderer))
    findings.append(_lengths(run, max_length))
    findings.append(_special_tokens(renderer, vocab_size))
    return findings


def check_forward(run: Run, model: Any, loss_of: Any, pad_id: int) -> Finding:
    """The base model runs one forward over a few training rows and its loss is finite."""
    table = ExampleTable(run.table("train"))
    examples = [table[row] for row in range(min(4, len(table)))]
    with torch.no_grad():
        batch = micro_batch(examples, pad_id).to(model.device)
        loss = float(loss_of(model, batch)[0]) / len(batch.targets)
    seen = f"{loss:.2f} nats a token over {len(examples)} rows"
    return Finding("the base model's loss is finite", bool(torch.isfinite(torch.tensor(loss))), seen, "set train.precision: fp32")


def _every(clause: str, things: Sequence[Any], fault: Any, move: str) -> Finding:
    faults = [found for thing in things if (found := fault(thing))]
    if faults:
        return Finding(clause, False, f"{len(faults)} of {len(things)} rows do not, first {faults[0]}", move)
    return Finding(clause, True, f"{len(things)} rows")


def _renders(conversation: Conversation, renderer: Renderer) -> str | None:
    try:
        renderer.prompt_ids(conversation)
    except RowError as error:
        return f"{conversation.where}: {error}"
    return None


def _one_bos(example: Example, renderer: Renderer) -> str | None:
    bos = renderer.tokenizer.bos_token_id
    count = example.input_ids.count(bos)
    return None if count == 1 and example.input_ids[0] == bos else f"a row with {count}"


def _span_is_answer(conversation: Conversation, example: Example, renderer: Renderer) -> str | None:
    decoded = [renderer.tokenizer.decode(example.input_ids[start:end]) for start, end in example.spans]
    wanted = renderer.answers(conversation)
    if decoded == wanted:
        return None
    return f"{conversation.where}: trains {decoded!r}, the answer is {wanted!r}"


def _stock_template(conversations: Sequence[Conversation], renderer: Renderer) -> Finding:
    """Our template marks the trained span; its ids must be those of the template that came with the model."""
    clause, stock = "ids equal the model's own chat template", renderer.tokenizer.chat_template
    if not stock:
        return Finding(clause, True, "the model brings no template (a -pt model); gemtune's Gemma 3 template is used")
    return _every(clause, conversations, lambda c: renderer.differs_from(c, stock), "report this with the model's name")


def _lengths(run: Run, max_length: int) -> Finding:
    over = {part: int((ExampleTable(run.table(part)).lengths > max_length).sum()) for part in PARTS}
    return Finding("nothing is longer than train.max_length", not any(over.values()), f"{max_length} tokens", f"prepare again; {over}")


def _special_tokens(renderer: Renderer, vocab_size: int) -> Finding:
    tokenizer = renderer.tokenizer
    clause = "stop and padding tokens are in the vocabulary and differ"
    ids = {"pad": tokenizer.pad_token_id, **dict(zip(renderer.family.stop_tokens, renderer.stop_ids, strict=True))}
    holds = all(i is not None and 0 <= i < vocab_size for i in ids.values()) and len(set(ids.values())) == len(ids)
    return Finding(clause, holds, ", ".join(f"{name} {i}" for name, i in ids.items()), "repair tokenizer_config.json")
