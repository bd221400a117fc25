"""Every row of FAMILIES beside stock transformers, without images: ids, losses, replies and packing."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from gemtune.data.conversation import Conversation, Message
from gemtune.errors import ModelError, RowError
from gemtune.evaluation.generate import replies
from gemtune.models.adapters import attach_adapters
from gemtune.models.families import FAMILIES, TINY, chat_template, family_of, write_tiny
from gemtune.models.loading import load_model, load_tokenizer
from gemtune.models.patching import install_kernels
from gemtune.recipe.schema import Evaluate, Lora
from gemtune.rendering.renderer import IGNORE, Example, Renderer
from gemtune.training.batching import micro_batch
from gemtune.training.loss import labelled_loss
from models.stock_templates import STOCK

WORDS = ("beach", "❤️", "👨‍👩‍👧", "مرحبا", "SELECT *", "\n\n", "<b>", "{{x}}", "coffee time", "eat pizza with the dog")
# Their stock templates want a list of parts; they end an answer with a space, or begin it in another way than the
# prompt for it ends.
ANSWERS_DIFFER = ("llava", "llava_onevision")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[request.param].write_tiny(tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def renderer(folder: Path) -> Renderer:
    return Renderer(load_tokenizer(folder), family_of(folder))


def stock_model(folder: Path) -> Any:
    auto = AutoModelForImageTextToText if family_of(folder).vision else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def conversations(count: int, turns: int | None = None, system: bool = True) -> list[Conversation]:
    """Seeded conversations of one to three turns, every third with a system message where `system`."""
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 6))).strip() or "rain"

    rows = []
    for number in range(count):
        head = [Message.of("system", text())] if system and number % 3 == 0 else []
        roles = ("user", "assistant") * (turns or rng.randint(1, 3))
        rows.append(Conversation((*head, *(Message.of(role, text()) for role in roles)), "t", "k", "g", "w"))
    return rows


def stock_ids(folder: Path, renderer: Renderer, messages: tuple[Message, ...], **settings: Any) -> list[int]:
    in_parts = folder.name in ANSWERS_DIFFER
    plain = [{"role": m.role, "content": [{"type": "text", "text": m.text}] if in_parts else m.text} for m in messages]
    settings |= {"chat_template": STOCK[folder.name], "tokenize": True, "return_dict": True}
    return list(renderer.tokenizer.apply_chat_template(plain, **settings)["input_ids"])


def test_prompts_have_the_ids_of_the_stock_template(folder: Path, renderer: Renderer) -> None:
    turns = 1 if folder.name in ANSWERS_DIFFER else None
    for c in conversations(100, turns, system=folder.name != "llava"):  # whose stock template names a role for it
        settings = {"add_generation_prompt": True, "enable_thinking": False}
        assert renderer.prompt_ids(c) == stock_ids(folder, renderer, c.messages[:-1], **settings)


def test_conversations_have_the_ids_of_the_stock_template_and_train_the_answers(
    folder: Path, renderer: Renderer
) -> None:
    rows = conversations(100)
    for c, example in zip(rows, renderer.examples(rows), strict=True):
        assert isinstance(example, Example)
        if folder.name not in ANSWERS_DIFFER:
            assert example.input_ids == stock_ids(folder, renderer, c.messages)
        texts = [renderer.tokenizer.decode(example.input_ids[start:end]).strip() for start, end in example.spans]
        assert texts == renderer.answers(c)
        if folder.name != "llava":  # its prompt ends before the space of the answer
            assert renderer.prompt_ids(c) == example.input_ids[: example.spans[-1][0]]


def test_a_masked_answer_leaves_the_tokens_and_the_other_spans(renderer: Renderer) -> None:
    for number, c in enumerate(row for row in conversations(100) if len(row.messages) > 3):
        answers = [n for n, message in enumerate(c.messages) if message.role == "assistant"][:-1]
        masked = {answers[number % len(answers)]}
        messages = tuple(replace(message, trained=n not in masked) for n, message in enumerate(c.messages))
        plain, example = renderer.example(c), renderer.example(replace(c, messages=messages))
        assert example.input_ids == plain.input_ids
        assert example.spans == tuple(s for n, s in enumerate(plain.spans) if n != number % len(answers))


def test_the_template_is_shipped_and_its_tokens_are_the_tokenizers(folder: Path, renderer: Renderer) -> None:
    family, vocab = family_of(folder), renderer.tokenizer.get_vocab()
    assert "{%- generation -%}" in chat_template(family)
    assert all(token in vocab for token in (*family.turn_tokens, *family.stop_tokens))
    spelled = Conversation((Message.of("user", f"a {family.stop_tokens[0]}"), Message.of("assistant", "b")), *"tkgw")
    with pytest.raises(RowError, match="control token"):
        renderer.example(spelled)


def test_losses_equal_the_stock_model(folder: Path, renderer: Renderer) -> None:
    stock, model = stock_model(folder), install_kernels(load_model(folder))
    for c in conversations(24):
        example = renderer.example(c)
        with torch.no_grad():
            ours, right = labelled_loss(model, micro_batch([example]))
            logits = stock(input_ids=torch.tensor([example.input_ids])).logits[0, :-1].float()
        labels = torch.tensor(example.labels[1:])
        theirs = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
        assert int(right) == int((logits.argmax(-1) == labels).sum())


def test_adapters_compute_what_plain_peft_computes(folder: Path, renderer: Renderer) -> None:
    tuned = attach_adapters(load_model(folder), Lora(r=4), family_of(folder), [], 0)
    adapters = {name: p for name, p in tuned.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in adapters.values():
            parameter.normal_(std=0.1)
    example = renderer.example(conversations(1)[0])
    logits = tuned(input_ids=torch.tensor([example.input_ids])).logits[0, :-1].float()
    plain = F.cross_entropy(logits, torch.tensor(example.labels[1:]), ignore_index=IGNORE, reduction="sum")
    expected = torch.autograd.grad(plain, list(adapters.values()))
    ours, _ = labelled_loss(install_kernels(tuned), micro_batch([example]))
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    for one, other in zip(torch.autograd.grad(ours, list(adapters.values())), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))


def test_packed_equals_unpacked_with_gradients(folder: Path, renderer: Renderer) -> None:
    model = install_kernels(load_model(folder))
    text = getattr(model.model, "language_model", model.model).requires_grad_(True)
    examples = [renderer.example(c) for c in conversations(12)]

    def step(batches: list[list[Example]]) -> tuple[float, list[torch.Tensor]]:
        text.zero_grad()
        losses = [labelled_loss(model, micro_batch(batch))[0] for batch in batches]
        sum(losses).backward()  # type: ignore[union-attr]
        return sum(loss.item() for loss in losses), [p.grad.clone() for p in text.parameters() if p.grad is not None]

    packed, apart = step([examples]), step([[example] for example in examples])
    assert packed[0] == pytest.approx(apart[0], rel=1e-5)
    for one, other in zip(packed[1], apart[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_greedy_replies_equal_the_stock_model(folder: Path, renderer: Renderer) -> None:
    stock, rows = stock_model(folder), conversations(8)
    answered = replies(install_kernels(load_model(folder)), renderer, rows, Evaluate(max_new_tokens=8))
    for c, reply in zip(rows, answered, strict=True):
        ids = torch.tensor([renderer.prompt_ids(c)])
        settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": renderer.stop_ids, "pad_token_id": 0}
        out = stock.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
        assert renderer.reply(out[0, ids.shape[1] :].tolist()) == (reply.text, reply.cut)
    assert any(reply.text for reply in answered)


def test_thinking_in_a_row_is_refused_where_the_model_thinks(tmp_path: Path) -> None:
    """The stock template of Qwen3 would move it, or drop it from earlier answers."""
    folder = write_tiny("qwen3", tmp_path / "model")
    row = Conversation((Message.of("user", "a"), Message.of("assistant", "<think>x</think>b")), *"tkgw")
    with pytest.raises(RowError, match="the control token </think>"):
        Renderer(load_tokenizer(folder), family_of(folder)).example(row)


def test_a_tiny_model_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"no tiny model 'gemma'; there are {', '.join(TINY)}"):
        write_tiny("gemma", tmp_path / "model")
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ModelError, match="not empty; name another folder"):
        write_tiny("qwen3", tmp_path)


def test_a_tiny_model_of_a_killed_process_is_written_again(tmp_path: Path) -> None:
    (tmp_path / ".model.tmp").mkdir()
    (tmp_path / ".model.tmp" / "config.json").write_text("{")
    (tmp_path / "model").mkdir()
    assert (write_tiny("qwen3", tmp_path / "model") / "config.json").stat().st_size > 100
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
