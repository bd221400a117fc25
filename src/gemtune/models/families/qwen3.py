"""Qwen3: dense text models with a norm on queries and keys; trained and asked without thinking."""

from __future__ import annotations

from pathlib import Path

from gemtune.models.families.base import Family


def write_tiny(folder: Path, seed: int = 0) -> Path:
    """Writes a tiny Qwen3, its embedding tied to its head as in the sizes up to 4B."""
    import torch
    from tokenizers import AddedToken
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from gemtune.models.tiny import TEXT, make_tokenizer

    torch.manual_seed(seed)
    tokenizer = make_tokenizer("<|im_start|>", "<|im_end|>", "<|endoftext|>", eos_token="<|im_end|>")
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in ("<think>", "</think>")])
    config = Qwen3Config(
        **TEXT,
        vocab_size=len(tokenizer),
        head_dim=16,
        tie_word_embeddings=True,
        initializer_range=0.2,  # of transformers' 0.02 a tied head would only repeat the last token
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


FAMILY = Family(
    name="qwen3",
    template="qwen3.jinja",
    turn_tokens=("<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
    write_tiny=write_tiny,
)
