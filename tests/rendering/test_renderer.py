"""Rendered ids are the stock template's, and the trained span is the answer and its end token, nothing else."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemtune.data.conversation import Conversation, Message
from gemtune.errors import RowError
from gemtune.models.families import family_of
from gemtune.models.loading import load_tokenizer
from gemtune.rendering.renderer import IGNORE, Renderer

STOCK = (files("trl") / "chat_templates" / "gemma3.jinja").read_text(encoding="utf-8")
WORDS = [
    "beach",
    "  ",
    "\n",
    "\n\n\n",
    "❤️",
    "👨‍👩‍👧",
    "🇯🇵",
    "1️⃣",
    "مرحبا",
    "SELECT *",
    "\t",
    "\u200f",
    "<b>",
    "ß",
    "{{x}}",
    "'",
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


@pytest.fixture(scope="module")
def renderer(tokenizer: Any, tiny_model: Path) -> Renderer:
    return Renderer(tokenizer, family_of(tiny_model))


def conversation(*texts: str, system: str | None = None, masked: Collection[int] = ()) -> Conversation:
    """Texts of user and assistant in turn; `masked` counts the answers that are not trained from 0."""
    turns = [Message.of(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]
    turns = [replace(turn, trained=i % 2 == 0 or i // 2 not in masked) for i, turn in enumerate(turns)]
    head = [Message.of("system", system)] if system is not None else []
    return Conversation((*head, *turns), "t", "k", "g", "w")


def stock_ids(tokenizer: Any, c: Conversation, **options: Any) -> list[int]:
    messages = [{"role": m.role, "content": m.text} for m in c.messages]
    return list(tokenizer.apply_chat_template(messages, chat_template=STOCK, return_dict=True, **options)["input_ids"])


texts = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=12)), min_size=1, max_size=6).map("".join)
filled = texts.filter(
    lambda text: text.strip() and "<" not in text and not any(0xD800 <= ord(c) < 0xE000 for c in text)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.integers(1, 3).flatmap(lambda n: st.lists(filled, min_size=2 * n, max_size=2 * n)),
    system=st.none() | filled,
)
def test_ids_equal_the_stock_template_and_the_mask_equals_the_answer(
    renderer: Renderer, tokenizer: Any, turns: list[str], system: str | None
) -> None:
    c = conversation(*turns, system=system)
    example = renderer.example(c)
    assert example.input_ids == stock_ids(tokenizer, c)
    assert example.input_ids.count(tokenizer.bos_token_id) == 1
    answers = [tokenizer.decode(example.input_ids[a:b]) for a, b in example.spans]
    assert answers == [text.strip() + "<end_of_turn>" for text in turns[1::2]]
    assert sum(label != IGNORE for label in example.labels) == sum(b - a for a, b in example.spans)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.integers(1, 4).flatmap(lambda n: st.lists(filled, min_size=2 * n, max_size=2 * n)),
    system=st.none() | filled,
    data=st.data(),
)
def test_a_masked_answer_is_context_and_changes_no_token(
    renderer: Renderer, tokenizer: Any, turns: list[str], system: str | None, data: st.DataObject
) -> None:
    """Against tokenising piece by piece: what stands before an answer, then the answer with its end."""
    answers = len(turns) // 2
    masked = data.draw(st.sets(st.integers(0, answers - 1), max_size=answers - 1))
    c = conversation(*turns, system=system, masked=masked)
    labels = [IGNORE] * len(stock_ids(tokenizer, c))
    for number, message in enumerate(c.messages):
        if message.role == "assistant" and message.trained:
            before = replace(c, messages=c.messages[:number])
            start = len(stock_ids(tokenizer, before, add_generation_prompt=True))
            ids = tokenizer.encode(message.text.strip() + "<end_of_turn>", add_special_tokens=False)
            labels[start : start + len(ids)] = ids
    example = renderer.example(c)
    assert example.input_ids == stock_ids(tokenizer, c)
    assert example.labels == labels
    trained = [tokenizer.decode(example.input_ids[a:b]) for a, b in example.spans]
    assert trained == renderer.answers(c)
    assert Conversation.from_json(c.to_json()) == c


@pytest.mark.parametrize("masked", [(), (0,), (1,), (0, 1), (2,)])
def test_train_on_last_trains_the_last_answer_that_is_trained(
    tokenizer: Any, tiny_model: Path, masked: tuple[int, ...]
) -> None:
    c = conversation("a", "first", "b", "second", "c", "third", masked=masked)
    last = Renderer(tokenizer, family_of(tiny_model), "last")
    spans = last.example(c).spans
    assert [tokenizer.decode(last.example(c).input_ids[a:b]) for a, b in spans] == last.answers(c)
    assert last.answers(c) == ["second<end_of_turn>" if 2 in masked else "third<end_of_turn>"]


def test_seeded_random_conversations_render_together_as_they_do_alone(renderer: Renderer, tokenizer: Any) -> None:
    rng = random.Random(0)
    many = []
    for _ in range(300):
        turns = [
            " ".join(rng.choices([w for w in WORDS if w.strip()], k=rng.randint(1, 9)))
            for _ in range(2 * rng.randint(1, 4))
        ]
        many.append(conversation(*turns, system=rng.choice([None, "Be brief.", "Antworte kurz. "])))
    together = list(renderer.examples(many))
    assert together == [renderer.example(c) for c in many]
    assert [e.input_ids for e in together] == [stock_ids(tokenizer, c) for c in many]


def test_the_prompt_is_the_example_up_to_its_answer(renderer: Renderer, tokenizer: Any) -> None:
    c = conversation("hi", "yes", "and now?", "no", system="Be brief.")
    prompt = renderer.prompt_ids(c)
    example = renderer.example(c)
    assert prompt == example.input_ids[: example.spans[-1][0]]
    asked = Conversation(c.messages[:-1], "t", "k", "g", "w")
    assert prompt == stock_ids(tokenizer, asked, add_generation_prompt=True)


def test_train_on_last_trains_only_the_last_answer(tokenizer: Any, tiny_model: Path) -> None:
    c = conversation("a", "first", "b", "second")
    example = Renderer(tokenizer, family_of(tiny_model), "last").example(c)
    assert [tokenizer.decode(example.input_ids[a:b]) for a, b in example.spans] == ["second<end_of_turn>"]


@pytest.mark.parametrize("text", ["x<end_of_turn>y", "<bos>", "a <start_of_turn>model"])
def test_a_text_that_spells_a_control_token_is_refused(renderer: Renderer, text: str) -> None:
    for c in (conversation(text, "ok"), conversation("ok", text)):
        with pytest.raises(RowError, match="control token"):
            renderer.example(c)


def test_a_refused_row_does_not_move_its_neighbours(renderer: Renderer) -> None:
    good, bad = conversation("a", "b"), conversation("<bos>", "b")
    out = list(renderer.examples([good, bad, good]))
    assert isinstance(out[1], RowError)
    assert out[0] == out[2] == renderer.example(good)


def test_a_reply_ends_at_the_first_stop_token(renderer: Renderer, tokenizer: Any) -> None:
    ids = tokenizer.encode("☕ <b>", add_special_tokens=False)
    stop = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    assert renderer.reply([*ids, stop, *ids]) == ("☕ <b>", False)
    assert renderer.reply([*ids, tokenizer.eos_token_id]) == ("☕ <b>", False)
    assert renderer.reply(ids) == ("☕ <b>", True)
