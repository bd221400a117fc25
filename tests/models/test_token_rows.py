"""Which rows of the embedding are trained: those of the template's tokens that a base model never saw."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gemtune.errors import ModelError
from gemtune.models.families import family_of, write_tiny
from gemtune.models.loading import load_model, load_tokenizer
from gemtune.models.token_rows import choose_token_rows, known_tokens, untrained_tokens
from gemtune.recipe.schema import Lora


def test_untrained_rows_are_told_from_trained_ones(tiny_model: Path) -> None:
    """The tiny model has the turn tokens of a -pt model; one that is trained points elsewhere."""
    model, family = load_model(tiny_model), family_of(tiny_model)
    ids = known_tokens(load_tokenizer(tiny_model), family)
    start, end = family.turn_tokens
    assert untrained_tokens(model, ids, family)[0] == [start, end]
    rows = model.get_input_embeddings().weight
    with torch.no_grad():
        rows[ids[end]] = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0))
    untrained, why = untrained_tokens(model, ids, family)
    cosine = torch.nn.functional.cosine_similarity(
        rows[ids[end]], rows[[ids[f"<unused{i}>"] for i in range(99)]].mean(0), dim=0
    )
    assert untrained == [start] and f"{end} {cosine:.2f}" in why


def test_without_unused_tokens_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    folder = write_tiny("qwen3", tmp_path / "model")
    ids = {token: i for token, i in load_tokenizer(folder).get_vocab().items() if not token.startswith("<unused")}
    assert untrained_tokens(load_model(folder), ids, family_of(folder))[0] == []


def test_the_recipe_may_choose_rows_none_or_those_that_need_it(tiny_model: Path) -> None:
    model, family = load_model(tiny_model), family_of(tiny_model)
    ids = load_tokenizer(tiny_model).get_vocab()
    chosen = {str(rows): choose_token_rows(Lora(token_rows=rows), model, ids, family) for rows in ("none", ["<eos>"])}
    assert chosen == {"none": ([], "the recipe says so"), "['<eos>']": (["<eos>"], "the recipe says so")}
    assert choose_token_rows(Lora(), model, ids, family) == untrained_tokens(model, ids, family)
    with pytest.raises(ModelError, match="'<end_of_trun>' is not a token of this model"):
        choose_token_rows(Lora(token_rows=["<eos>", "<end_of_trun>"]), model, ids, family)
