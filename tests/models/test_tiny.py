"""The tiny models are like the real ones where it matters: control tokens, ids, and nothing lost of a text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from gemtune.models.families import FAMILIES, gemma3
from gemtune.models.loading import load_tokenizer
from gemtune.models.tiny import make_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return make_tokenizer()


def test_control_tokens_have_gemmas_ids(tokenizer: PreTrainedTokenizerBase) -> None:
    names = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2, 105, 106]
    assert tokenizer("<start_of_turn>user\n")["input_ids"][:2] == [2, 105]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<[")))
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_a_seed_gives_the_same_model(tmp_path: Path) -> None:
    one, same, other = (gemma3.write_tiny_text(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, same, other)]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_a_template_writes_is_one_token_each(model_type: str, tmp_path: Path) -> None:
    family = FAMILIES[model_type]
    tokenizer = load_tokenizer(family.write_tiny(tmp_path / "model"))
    for token in (*family.turn_tokens, *family.stop_tokens):
        assert len(tokenizer(token, add_special_tokens=False)["input_ids"]) == 1, token


def test_of_a_corpus_what_is_said_often_is_a_token_and_the_rest_is_letters() -> None:
    letters = make_tokenizer(corpus=["q", "ش", *["Read."] * 50])
    assert letters.tokenize("Read.qqش") == ["Read.", "q", "q", "ش"]
