"""A model folder's tokenizer as the fields of a GGUF: its pieces, what each of them is, and how they are joined."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gemtune.errors import ModelError
from gemtune.exporting.gguf_file import Fields
from gemtune.files import READING, JsonObject, os_errors
from gemtune.models.boundary import loading
from gemtune.models.families.base import Family

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # what a piece is, as GGUF numbers it
SPACE = "\u2581"  # stands for a space in SentencePiece's pieces
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACES_REPLACED = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
# Qwen's split of a text into words, which llama.cpp has built in as "qwen2".
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def vocabulary(folder: Path, family: Family, rows: int) -> tuple[Fields, int]:
    """The `tokenizer.ggml` fields for the tokens that have one of the embedding's `rows`, and how many these are.

    Gemma's text models have no row for `<image_soft_token>`, and llama.cpp wants as many tokens as rows.
    """
    path = folder / "tokenizer.json"
    with os_errors(path, READING), loading(path):
        tokenizer = json.loads(path.read_text(encoding="utf-8"))
        model, added = tokenizer["model"], {entry["content"]: entry["special"] for entry in tokenizer["added_tokens"]}
        ids = model["vocab"] | {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    pieces = {index: piece for piece, index in ids.items() if index < rows}
    names = [pieces.get(index, f"[UNUSED{index}]") for index in range(max(pieces) + 1)]
    if tokenizer["normalizer"] == _SPACES_REPLACED and model.get("byte_fallback"):
        fields = _sentencepiece(names, added, merges)
    elif _words(tokenizer) == QWEN_WORDS:
        fields = _byte_level(names, added, merges)
    else:
        raise ModelError(f"{path}: neither Gemma's kind of tokenizer nor Qwen's, and gemtune writes no other to a GGUF")
    return fields | _special(folder, family, ids), len(names)


def _sentencepiece(names: list[str], added: Mapping[str, bool], merges: Sequence[tuple[str, ...]]) -> Fields:
    """Gemma's: llama.cpp joins the two neighbours whose piece has the best score, so a score is the rank of a merge.

    What is no special token is looked for in the text itself, which has spaces where the pieces have U+2581.
    """
    scores = {left + right: -float(rank) for rank, (left, right) in reversed(list(enumerate(merges)))}
    kinds = [
        BYTE if _BYTE_PIECE.fullmatch(name) else kind for name, kind in zip(names, _kinds(names, added), strict=True)
    ]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [
            name.replace(SPACE, " ") if kind == USER_DEFINED else name for name, kind in zip(names, kinds, strict=True)
        ],
        "tokenizer.ggml.scores": [scores.get(name, 0.0) for name in names],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.add_space_prefix": False,
    }


def _byte_level(names: list[str], added: Mapping[str, bool], merges: Sequence[tuple[str, ...]]) -> Fields:
    """Qwen's: bytes as letters, joined in the order of the merges."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": _kinds(names, added),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
    }


def _kinds(names: Sequence[str], added: Mapping[str, bool]) -> list[int]:
    """What each piece is; `added` says of the added tokens whether they are special."""
    kind_of = {None: NORMAL, True: CONTROL, False: USER_DEFINED}
    return [kind_of[added.get(name)] for name in names]


def _words(tokenizer: JsonObject) -> str | None:
    """The pattern by which a byte-level tokenizer splits a text, where it has one."""
    steps = (tokenizer["pre_tokenizer"] or {}).get("pretokenizers", [])
    patterns = [step["pattern"].get("Regex") for step in steps if step["type"] == "Split"]
    return patterns[0] if patterns and any(step["type"] == "ByteLevel" for step in steps) else None


def _special(folder: Path, family: Family, ids: Mapping[str, int]) -> Fields:
    """The ids of the tokens that begin a text, end a turn and a text, and fill up."""
    path = folder / "tokenizer_config.json"
    with os_errors(path, READING), loading(path):
        config = json.loads(path.read_text(encoding="utf-8"))
    fields: Fields = {
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_bos_token": bool(config.get("bos_token")),
    }
    tokens = {
        "bos": config.get("bos_token"),
        "eos": family.stop_tokens[-1],
        "eot": family.stop_tokens[0],
        "unknown": config.get("unk_token"),
        "padding": config.get("pad_token"),
    }
    for name, token in tokens.items():
        if token is not None:
            content = token["content"] if isinstance(token, dict) else token
            fields[f"tokenizer.ggml.{name}_token_id"] = ids[content]
    return fields
