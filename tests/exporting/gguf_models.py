"""Tiny Gemma 3 models that llama.cpp can compute: each sixth layer sees the whole text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gemtune.exporting.runtime import Choice, Runtime
from gemtune.models.families import gemma3
from gemtune.models.tiny import BREAKS, make_tokenizer, save_tiny

NEAR = 0.03  # nats
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
}


def write_text_model(folder: Path, **sizes: Any) -> Path:
    """With norms that differ from none, since a model's +1 must not get lost, and a tokenizer of whole merges."""
    from transformers import Gemma3ForCausalLM

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = Gemma3ForCausalLM(gemma3.tiny_text_config(len(tokenizer), **{**SIZES, **sizes}))
    _spread_norms(model)
    save_tiny(folder, model, tokenizer)
    _complete_merges(folder / "tokenizer.json")
    return folder


def write_vision_model(folder: Path, tower: int = 64, **sizes: Any) -> Path:
    from transformers import Gemma3ForConditionalGeneration

    tower_sizes = {"hidden_size": tower, "intermediate_size": 2 * tower}
    gemma3.write_tiny_vision(folder, text_sizes={**SIZES, **sizes}, vision_sizes=tower_sizes)
    model = Gemma3ForConditionalGeneration.from_pretrained(folder)
    torch.manual_seed(1)
    _spread_norms(model)
    model.save_pretrained(folder)
    _complete_merges(folder / "tokenizer.json")
    return folder


def _spread_norms(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))


def _complete_merges(path: Path) -> None:
    """Adds every way to make a piece of two, as Gemma's own tokenizer has them: SentencePiece knows no other kind.

    First those of the runs of white space, the longest before all others.
    """
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocab, merges = tokenizer["model"]["vocab"], []
    runs = [run for run in BREAKS if set(run) in ({"\n"}, {"\u2581"})]
    for piece in [*runs, *("".join(merge) for merge in tokenizer["model"]["merges"])]:
        cuts = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        merges += [list(pair) for pair in cuts if set(pair) <= vocab.keys()]
    first = sorted((merge for merge in merges if "".join(merge) in runs), key=lambda merge: -len(merge[0]))
    tokenizer["model"]["merges"] = first + [merge for merge in merges if "".join(merge) not in runs]
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def same_tokens(runtime: Runtime, reference: Runtime, prompts: Sequence[Sequence[int]], limit: int) -> int:
    """How many greedy tokens two runtimes both choose before they part, which they may at a near tie alone."""
    pairs = [(runtime.decode(prompt, limit), reference.decode(prompt, limit)) for prompt in prompts]
    return sum(alike(*pair) for pair in pairs)


def alike(choices: Sequence[Choice], reference: Sequence[Choice]) -> int:
    """How many choices are the same before a near tie of the reference.

    llama.cpp keeps keys and values in fp16, so margins differ by some thousandths.

    >>> alike([Choice(5, 1.0), Choice(6, 0.1)], [Choice(5, 1.01), Choice(7, 0.01)])
    1
    """
    for number, (choice, other) in enumerate(zip(choices, reference, strict=False)):
        if choice.token != other.token:
            assert other.margin < NEAR, f"token {number}: {choice} and {other}"
            return number
        assert not abs(choice.margin - other.margin) > NEAR, f"token {number}: {choice} and {other}"
    assert len(choices) == len(reference)
    return len(choices)
